#!/usr/bin/env bash
# Runs the README's two commands in fresh systems: test-roots.sh [debian12|debian13|ubuntu24.04]...
# As root. Each system is a root of debootstrap (minbase), entered as a container is: with mounts,
# processes and a /dev of its own, and without /etc/mtab.
#   ROOTS_FOLDER   where the roots are kept, and worked in (/var/tmp/fusedm-roots)
#   ROOTS_VARIANTS of: root read-only-run user (all of them)
#   ROOTS_COMMANDS what is run in each, one command a line (make demo, make test)
#   DEBIAN_MIRROR, UBUNTU_MIRROR   where their packages come from (as debootstrap knows it)
#   SSL_CERT_FILE  certificates to be believed in the roots too, as behind a proxy
# Exits with 0 if all commands did, 1 if one did not, 2 if a root cannot be made.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${ROOTS_FOLDER:-/var/tmp/fusedm-roots}
variants=${ROOTS_VARIANTS:-root read-only-run user}
commands=${ROOTS_COMMANDS:-$'make demo\nmake test'}
debian_mirror=${DEBIAN_MIRROR:-}
ubuntu_mirror=${UBUNTU_MIRROR:-}
user=tester
certificates=/etc/ssl/certs/ca-certificates.crt

say() { printf 'roots: %s\n' "$*"; }

# Sets suite, mirror, keyring, components, and whether /tmp is a tmpfs, for a system.
describe() {
    mirror=$debian_mirror keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    components=main tmpfs=no
    case $1 in
        debian12) suite=bookworm ;;
        debian13) suite=trixie tmpfs=yes ;;
        ubuntu24.04)
            suite=noble mirror=$ubuntu_mirror components=main,universe
            keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
            ;;
        *)
            say "$1: not one of debian12, debian13, ubuntu24.04" >&2
            return 2
            ;;
    esac
}

# The root of a system as debootstrap leaves it, made once; a mirror that cannot be reached is told.
make_base() {
    [[ -e $folder/$suite/etc/os-release ]] && return
    if [[ ! -e $keyring ]]; then
        say "$1: no root: $keyring is missing (apt-get install $(basename "$keyring" -archive-keyring.gpg)-keyring)"
        return 1
    fi
    say "$1: making a root${mirror:+ from $mirror}"
    rm -rf --one-file-system "$folder/$suite.new"
    if ! debootstrap --variant=minbase --components="$components" --keyring="$keyring" \
        "$suite" "$folder/$suite.new" ${mirror:+"$mirror"} >"$folder/$suite.log" 2>&1; then
        say "$1: no root: $(tail -n 1 "$folder/$suite.log") (see $folder/$suite.log)"
        return 1
    fi
    rm -rf "$folder/$suite.new/etc/mtab" "$folder/$suite.new"/var/cache/apt/archives/*.deb
    mv "$folder/$suite.new" "$folder/$suite"
}

# What runs as process 1 of a root: mounts what a container has, then waits for its input to end.
# shellcheck disable=SC2016  # It is expanded there.
first='set -eu
root=$1 tmpfs=$2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 none "$root/dev"
mount -t tmpfs -o mode=755 none "$root/run"
[ "$tmpfs" = no ] || mount -t tmpfs -o mode=1777 none "$root/tmp"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 none "$root/dev/pts"
mount -t tmpfs -o mode=1777 none "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229; do
    name=${node%%:*} number=${node#*:}
    mknod -m 666 "$root/dev/$name" c "${number%:*}" "${number#*:}"
done
i=0; while [ $i -lt 32 ]; do mknod -m 660 "$root/dev/loop$i" b 7 $i; i=$((i + 1)); done
mknod -m 660 "$root/dev/loop-control" c 10 237
echo ready
exec cat'

# Enters the root: process 1 stays until this script ends, however it does.
enter() {
    coproc ROOT { exec unshare --mount --propagation=private --pid --fork --kill-child \
        sh -c "$first" sh "$work/root" "$tmpfs" 2>/dev/null; }
    read -r answer <&"${ROOT[0]}" && [[ $answer == ready ]]
    init=$(pgrep -P "$ROOT_PID")
}

# Ends every process of the root, and so its mounts; loop devices over its files first.
leave() {
    [[ -n ${init:-} ]] || return 0
    local own
    own=$(awk 'NR == FNR { outside[$3]; next } !($3 in outside) { print $3 }' \
        /proc/self/mountinfo "/proc/$init/mountinfo" || true)
    losetup --noheadings --list --output NAME,BACK-MAJ:MIN,BACK-FILE |
        while read -r node device file; do
            if grep -qxF "$device" <<<"$own" || [[ $file == "$work"/* ]]; then
                losetup --detach "$node" || true
            fi
        done
    kill -KILL "$init" 2>/dev/null || true
    wait "$ROOT_PID" 2>/dev/null || true
    init=
}

# Runs a command in the root as it is now.
inside() {
    nsenter --target "$init" --mount --pid chroot "$work/root" \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 TERM=dumb PIP_CERT="$certificates" "$@" </dev/null
}

# Has the two commands ready to be run: git and make, as the README says, and a clone for each user.
furnish() {
    local home
    cp -L /etc/resolv.conf "$work/root/etc/resolv.conf"
    printf 'Acquire::Retries "3";\n' >"$work/root/etc/apt/apt.conf.d/99roots"
    inside sh -euc "apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends make git sudo ca-certificates
        useradd --create-home $user
        echo '$user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/$user" >"$work/log" 2>&1
    for home in root "home/$user"; do
        mkdir -p "$work/root/$home/fusedm"
        git ls-files -z --cached --others --exclude-standard |
            tar --create --null --files-from=- | tar --extract -C "$work/root/$home/fusedm"
    done
    # Last, since installing ca-certificates makes that file anew.
    [[ -z ${SSL_CERT_FILE:-} ]] || cp -L "$SSL_CERT_FILE" "$work/root$certificates"
    inside chown -R "$user:$user" "/home/$user/fusedm"
}

# Runs every command in one variant of the root.
try() {
    local system=$1 variant=$2 command log began home=/root as=()
    case $variant in
        root) ;;
        read-only-run) inside mount -o remount,bind,ro /run ;;
        user) home=/home/$user as=(setpriv --reuid="$user" --regid="$user" --init-groups) ;;
        *) say "$variant: not one of root, read-only-run, user" >&2 && return 2 ;;
    esac
    while read -r command; do
        log=$folder/$system-$variant-${command//[^a-z0-9]/-}.log
        began=$SECONDS
        say "$system, $variant: $command"
        if inside "${as[@]}" sh -c "cd $home/fusedm && HOME=$home exec $command" >"$log" 2>&1; then
            say "$system, $variant: $command: done in $((SECONDS - began)) s"
        else
            say "$system, $variant: $command: failed, see $log, which ends with:"
            tail -n 15 "$log" | sed 's/^/    /'
            failed=1
        fi
    done <<<"$commands"
    [[ $variant != read-only-run ]] || inside mount -o remount,bind,rw /run
}

cleanup() {
    leave
    [[ -z ${work:-} ]] || rm -rf --one-file-system "$work"
}

[[ $(id -u) -eq 0 ]] || { say "run it as root" >&2; exit 2; }
command -v debootstrap >/dev/null || { say "needed: apt-get install debootstrap" >&2; exit 2; }
mkdir -p "$folder"
exec 9>"$folder/lock"
flock --nonblock 9 || { say "another run works in $folder" >&2; exit 2; }
# Of a run that was killed: its mounts went with its processes.
rm -rf --one-file-system "$folder"/work.*
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
failed=0 missing=0
[[ $# -gt 0 ]] || set -- debian12 debian13 ubuntu24.04
for system; do
    describe "$system" || exit 2
    make_base "$system" || { missing=1 && continue; }
    work=$(mktemp -d "$folder/work.XXXXXX")
    cp -a "$folder/$suite" "$work/root"
    enter
    furnish || { say "$system: $(tail -n 1 "$work/log")" && exit 2; }
    for variant in $variants; do
        try "$system" "$variant"
    done
    cleanup
    work=
done
[[ $failed -eq 0 ]] || exit 1
[[ $missing -eq 0 ]] || exit 2
