#!/usr/bin/env bash
# Sets up all that make needs: system packages, .venv, and fusedm in it. Does nothing where done.
# Exits with 2 where a person has to do something first, and says what.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
# Where users have put it in front, the Python of the old .venv must not make the new one.
PATH=:$PATH:
PATH=${PATH//":$PWD/.venv/bin:"/:}
PATH=${PATH#:} PATH=${PATH%:}

packages=(python3 python3-venv python3-dev gcc pkg-config libfuse3-dev libssl-dev fuse3
    e2fsprogs xfsprogs btrfs-progs fio util-linux mount cryptsetup-bin)
# What tests compare with: a Linux kernel that runs as a process, which not every system has, others'
# readers of images, and what copies and cuts them.
peer_packages=(user-mode-linux dmsetup qemu-utils qemu-system-common rsync fdisk procps
    thin-provisioning-tools nbdkit libnbd-bin python3-libnbd qemu-block-extra)
stamp=.venv/set-up-stamp
compiled_stamp=.venv/compiled-stamp

say() { printf 'set-up: %s\n' "$*"; }
give_up() {
    say "$1" >&2
    shift
    printf '    %s\n' "$@" >&2
    exit 2
}

# Carries out a step that takes its time, and says so: on a terminal the last line of what it prints
# moves along; all of it is shown if it fails.
step() {
    local line printed=() code=0
    say "$1"
    shift
    while IFS= read -r line; do
        printed+=("$line")
        [[ ! -t 1 ]] || printf '\r\e[K    %s' "${line:0:$((${COLUMNS:-80} - 6))}"
    done < <("$@" 2>&1)
    wait $! || code=$?
    [[ ! -t 1 ]] || printf '\r\e[K'
    [[ $code -eq 0 ]] || printf '    %s\n' "${printed[@]}" >&2
    return $code
}

install_packages() {
    local missing=() package as_root=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        give_up "this is not Debian or Ubuntu. Needed is what these packages of Debian hold:" \
            "${packages[*]}" "and then .venv, made as at the end of scripts/setup.sh"
    fi
    for package in "${packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    find_root || give_up "packages are missing. As root, run:" \
        "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    apt_update
    apt_install "installing packages: ${missing[*]}" "${missing[@]}"
}

# Sets as_root, a local of the caller, to what commands of root begin with; fails without root.
find_root() {
    as_root=()
    if [[ $(id -u) -ne 0 ]]; then
        as_root=(sudo)
        # Without a terminal sudo must not ask for a password.
        [[ -t 0 ]] || as_root=(sudo -n)
        "${as_root[@]}" true 2>/dev/null
    fi
}

apt_update() {
    step "reading the lists of packages" "${as_root[@]}" apt-get update -q
}

# What to say, then the packages.
apt_install() {
    step "$1" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${@:2}"
}

# Tried once for each .venv; without them set-up goes on, and tests are skipped.
install_peers() {
    local missing=() package as_root=()
    for package in "${peer_packages[@]}"; do
        is_installed "$package" || missing+=("$package")
    done
    if [[ ${#missing[@]} -eq 0 ]]; then
        return
    fi
    if find_root; then
        local text="installing packages for tests: ${missing[*]}"
        apt_install "$text" "${missing[@]}" 2>/dev/null && return
        apt_update || true
        apt_install "$text" "${missing[@]}" && return
    fi
    say "tests are skipped without these packages: ${missing[*]}"
}

is_installed() {
    [[ $'\n'$installed$'\n' == *$'\n'"$1 installed"$'\n'* ]]
}

find_python() {
    local python
    for python in python3 python3.{14..11}; do
        if "$python" - 2>/dev/null <<'END'; then
import ensurepip, os, sys, sysconfig, venv
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info < (3, 11) or not os.path.exists(header))
END
            command -v "$python"
            return
        fi
    done
    give_up "Python 3.11 or later is needed, with the module venv and the header Python.h. Tried:" \
        python3 python3.{14..11}
}

# All that .venv was made from; a moved clone and an upgraded Python show too.
state() {
    pwd
    .venv/bin/python -V
    sha256sum pyproject.toml setup.py scripts/setup.sh scripts/constraints.txt
}

# The compiled modules and what they were compiled from.
compiled() {
    (
        shopt -s globstar nullglob
        sha256sum fusedm/**/*.p[xy][xd] fusedm/**/*.h fusedm/dmsetup/client.c fusedm/**/*.{so,bin}
    )
}

is_set_up() {
    [[ -x .venv/bin/fusedm && -f $stamp ]] && state 2>/dev/null | cmp -s - "$stamp"
}

make_venv() {
    local python
    python=$(find_python)
    rm -rf .venv
    step "making .venv with $("$python" -V)" "$python" -m venv .venv
    pip_install "installing fusedm and what it needs in .venv, which takes a minute or two" \
        --constraint scripts/constraints.txt --editable '.[dev]'
    compiled >"$compiled_stamp"
    # Last of all, so that a set-up which was interrupted is begun again.
    state >"$stamp"
    say "done in $SECONDS s"
}

# What to say, then what pip is told.
pip_install() {
    # By a path, not by a finder of setuptools: from the folder of a clone named fusedm, a script or
    # Python itself would take the clone for the package.
    step "$1" .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
        --config-settings editable_mode=compat "${@:2}"
    write_command
}

# The command, by which an interrupt waits until Python has come to our code (fusedm/__main__.py):
# pip's would answer one with a traceback of Python's own start.
write_command() {
    local python=$PWD/.venv/bin/python
    if [[ $python =~ ^[A-Za-z0-9/._\ -]{1,200}$ ]] && env --block-signal=INT bash -c : 2>/dev/null; then
        cat >.venv/bin/fusedm <<END
#!/usr/bin/env -S --block-signal=INT "$python"
import sys
from fusedm.__main__ import main
sys.exit(main())
END
    fi
}

compile_again() {
    pip_install "compiling again" --no-deps --editable .
    compiled >"$compiled_stamp"
}

installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" \
    "${peer_packages[@]}" 2>/dev/null || true)
install_packages
if ! is_set_up; then
    install_peers
    make_venv
fi
compiled | cmp -s - "$compiled_stamp" || compile_again
