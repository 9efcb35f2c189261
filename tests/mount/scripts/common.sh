# Read by each script here: sh SCRIPT.sh FS, in an empty folder, as root. They know dmsetup by its
# manual only, so that they run as well where the kernel has device mapper.

set -eu
fs=${1:-ext4}
nodes=${DM_DEV_DIR:-/dev}/mapper
loops=
waiting=

for tool in btrfs cmp dd debugfs dmsetup e2fsck losetup mkfs.btrfs mkfs.ext4 mkfs.xfs mount sync \
    umount xfs_repair; do
    case $tool in
    *.*) ;;
    *) eval "$tool() { timeout -k 5 40 $tool \"\$@\"; }" ;;
    esac
done

fail() {
    echo "$*" >&2
    exit 1
}

tidy_up() {
    code=$?
    trap - EXIT
    set +e
    for name in $(dmsetup ls 2>/dev/null | grep "($(printf '[0-9]*'):" | cut -f1); do
        dmsetup resume "$name" 2>/dev/null
    done
    for where in mnt mnt2; do
        if mountpoint -q $where 2>/dev/null; then umount $where || umount -l $where; fi
    done
    if [ -n "$waiting" ]; then kill "$waiting" 2>/dev/null; fi
    if [ $code != 0 ]; then dmsetup table >&2; dmsetup remove_all --force >/dev/null 2>&1; fi
    for loop in $loops; do losetup -d "$loop"; done
    exit $code
}
trap tidy_up EXIT

# The least that mkfs makes without being asked for something special.
case $fs in
ext4) mib=48 ;;
btrfs) mib=128 ;;
xfs) mib=320 ;;
esac
sectors=$((mib * 2048))

# attach_loop FILE: a loop device over it, whose name is in $loop.
attach_loop() {
    # Others may take the free one first, or just be letting go of it.
    tries=0
    until loop=$(losetup -f --show "$1"); do
        tries=$((tries + 1))
        [ $tries -lt 20 ] || fail "no loop device for $1"
        sleep 0.2
    done
    loops="$loops $loop"
}

# new_loop FILE MIB: a file of holes on a loop device.
new_loop() {
    truncate -s "$2M" "$1"
    attach_loop "$1"
}

make_fs() {
    case $fs in
    ext4) timeout 60 mkfs.ext4 -q -F -b 4096 "$1" ;;
    xfs) timeout 60 mkfs.xfs -q -f "$1" ;;
    btrfs) timeout 60 mkfs.btrfs -q -f "$1" >mkfs.log ;;
    esac
}

# mount_fs DEVICE FOLDER [OPTIONS]
mount_fs() {
    mkdir -p "$2"
    mount -t "$fs" -o "${3:-rw}" "$1" "$2"
}

# A file system is closed with the last mount of it, in whatever namespace that is.
umount() {
    source=$(findmnt -n -o SOURCE "$1") || source=
    timeout -k 5 40 umount "$@"
    [ -z "$source" ] || until_closed "$source" || fail "$source is still in use"
}

until_closed() {
    timeout 30 python3 - "$1" <<'PYTHON'
import os, sys, time
while True:
    try:
        sys.exit(os.close(os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)))
    except FileNotFoundError:
        sys.exit()  # It was to go with its last user.
    except OSError:
        time.sleep(0.1)
PYTHON
}

check_fs() {
    until_closed "$1" || fail "$1 is still in use"
    case $fs in
    ext4) e2fsck -fn "$1" ;;
    xfs) xfs_repair -n "$1" ;;
    btrfs) btrfs check "$1" ;;
    esac >check.log 2>&1 || {
        cat check.log >&2
        fail "$fs on $1 is not clean"
    }
}

# remount_and_check DEVICE: the journal is replayed first.
remount_and_check() {
    mount_fs "$1" mnt
    umount mnt
    check_fs "$1"
}

# swap NAME TABLE: as test suites do it under a mounted file system, without freezing it.
swap() {
    dmsetup suspend --nolockfs "$1"
    dmsetup load "$1" --table "$2"
    dmsetup resume "$1"
}

# write_durably FILE KIB: and keep a copy beside the file system.
write_durably() {
    dd if=/dev/urandom of="$(basename "$1").copy" bs=1k count="$2" status=none
    dd if="$(basename "$1").copy" of="$1" bs=64k conv=fsync status=none
}

same() {
    cmp "$1" "$(basename "$1").copy" || fail "$1 is not what was written"
}

# fails_with TEXT COMMAND...: a command must fail, and say so.
fails_with() {
    text=$1
    shift
    if "$@" >said.log 2>&1; then fail "did not fail: $*"; fi
    grep -qF "$text" said.log || fail "$*: $(cat said.log)"
}

read_block() {
    dd if="$1" of=/dev/null bs="$2" skip="$3" count="${4:-1}" iflag=direct status=none
}

# is WANTED GOT
is() {
    [ "$1" = "$2" ] || fail "wanted '$1', got '$2'"
}
