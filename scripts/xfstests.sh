#!/usr/bin/env bash
# The tests of xfstests that want device mapper, unmodified, with fusedm's dmsetup in place of the
# kernel's: XFSTESTS=/path/of/xfstests scripts/xfstests.sh [-l] [FILE-SYSTEM...] [-- TEST...]
#
# Needs root, and a tree of xfstests that is built. File systems: ext4, xfs, btrfs (all three unless
# told). Tests: generic/034 and the like (all that ask for a target, but for thin-pool and lvm); -l
# only lists them. Devices are loop devices over sparse files below TMPDIR; nothing is left behind
# but the results, which are in RESULTS (./xfstests-results).
# Exit codes: 0 nothing failed, 1 something did, 2 asked for wrongly or something is missing.
set -euo pipefail

missing() {
    printf 'xfstests: %s\n' "$@" >&2
    exit 2
}

here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fusedm=${FUSEDM:-$here/.venv/bin/fusedm}
tree=${XFSTESTS:-}
results=$(realpath -m "${RESULTS:-xfstests-results}")
size=${SIZE:-12G}

only_list=false systems=() wanted=()
while [ $# -gt 0 ]; do
    case $1 in
        -l) only_list=true ;;
        --) shift && wanted=("$@") && break ;;
        ext4 | xfs | btrfs) systems+=("$1") ;;
        *) missing "$1: is not -l, ext4, xfs, btrfs or --" ;;
    esac
    shift
done
[ ${#systems[@]} -gt 0 ] || systems=(ext4 xfs btrfs)
[ -n "$tree" ] || missing "XFSTESTS is not set: it names a tree of xfstests, built with make"
[ -x "$tree/check" ] || missing "XFSTESTS=$tree: has no check to run"
tree=$(realpath "$tree")

# The tests of a file system that ask for a target that is there.
tests_of() {
    if [ ${#wanted[@]} -gt 0 ]; then
        printf '%s\n' "${wanted[@]}"
        return
    fi
    (cd "$tree/tests" && grep -lE '_require_(dm_target|log_writes)' generic/[0-9]* "$1"/[0-9]* 2>/dev/null |
        grep -E '/[0-9]+$' | xargs -r grep -LE 'thin-pool|dmthin|LVM_PROG|_require_dm_target era') || true
}

if $only_list; then
    for system in "${systems[@]}"; do tests_of "$system"; done | sort -u
    exit
fi
[ "$(id -u)" = 0 ] || missing "xfstests needs root"
[ -x "$fusedm" ] || missing "$fusedm: is not there: run make setup, or name another one with FUSEDM"
for system in "${systems[@]}"; do
    command -v "mkfs.$system" >/dev/null || missing "mkfs.$system: is not installed"
done
devices=$("$fusedm" dmsetup ls)
[ "$devices" = "No devices found" ] || missing "dmsetup has devices, which tests would remove:" "$devices"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/fusedm-xfstests.XXXXXX")
loops=()

unmount_all() {
    local where
    for where in "$work/test" "$work/scratch"; do
        while mountpoint -q "$where"; do umount "$where" || break; done
    done
}

detach_all() {
    "$work/shim/dmsetup" remove_all --force >/dev/null 2>&1 || true
    [ ${#loops[@]} -eq 0 ] || losetup --detach "${loops[@]}"
    loops=()
    rm -f "$work"/*.img
}

clean_up() {
    set +e
    trap '' INT TERM HUP
    unmount_all
    detach_all
    "$fusedm" shim --remove "$work/shim"
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

mkdir -p "$results" "$work/test" "$work/scratch"
PATH=$work/shim:$PATH

# A loop device over a new file of holes; its node is in $loop.
new_loop() {
    truncate -s "$size" "$work/$1.img"
    loop=$(losetup --find --show "$work/$1.img")
    loops+=("$loop")
}

make_config() {
    local pool=() number
    new_loop test
    echo "export FSTYP=$1 TEST_DEV=$loop TEST_DIR=$work/test SCRATCH_MNT=$work/scratch"
    case $1 in
        btrfs)
            "mkfs.$1" -q -f "$loop" >/dev/null
            for number in 1 2 3 4 5 6; do new_loop "pool$number" && pool+=("$loop"); done
            echo "export SCRATCH_DEV_POOL='${pool[*]}'"
            ;;
        *)
            if [ "$1" = xfs ]; then mkfs.xfs -q -f "$loop"; else mkfs.ext4 -q -F "$loop"; fi
            new_loop scratch
            echo "export SCRATCH_DEV=$loop"
            ;;
    esac
    new_loop log
    echo "export LOGWRITES_DEV=$loop RESULT_BASE=$results/$1"
    # Where no udevd runs, udevadm wait never ends; nodes are there when dmsetup returns.
    [ -e /run/udev/control ] || echo "export UDEV_WAIT_PROG= UDEV_SETTLE_PROG=true"
}

# The words of a line of check's summary, one a line.
summary() {
    sed -n "s/^$1: *//p" "$2" | tr ' ' '\n' | sed '/^$/d' | sort -u
}

status=0
table="file system | tests | passed | failed | not run"$'\n'"--- | --- | --- | --- | ---"
for system in "${systems[@]}"; do
    # xfs is looked for below /sys/fs/xfs by the name that a node leads to; btrfs compares names.
    links=()
    [ "$system" = xfs ] && links=(--links)
    "$fusedm" shim "${links[@]}" "$work/shim" >/dev/null
    make_config "$system" >"$work/config"
    mapfile -t tests < <(tests_of "$system")
    [ ${#tests[@]} -gt 0 ] || missing "$tree: has no tests that ask for device mapper"
    said=$results/$system.out
    (cd "$tree" && HOST_OPTIONS=$work/config ./check "${tests[@]}") 2>&1 | tee "$said" || true
    unmount_all
    detach_all
    summary Ran "$said" >"$work/ran"
    summary Failures "$said" >"$work/failed"
    summary 'Not run' "$said" >"$work/notrun"
    passed=$(sort -u "$work/failed" "$work/notrun" | comm -23 "$work/ran" - | wc -l)
    failed=$(wc -l <"$work/failed") notrun=$(wc -l <"$work/notrun")
    # One that is none of these was never begun: check itself has ended.
    [ "$failed" = 0 ] && [ $((passed + notrun)) -ge ${#tests[@]} ] || status=1
    table+=$'\n'"$system | ${#tests[@]} | $passed | $failed | $notrun"
done
printf '\n%s\n' "$table" | tee "$results/table"
exit $status
