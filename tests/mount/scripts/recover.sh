# sh recover.sh FS IMAGE COUNT: the journal of an image is replayed by mounting it; then the files 1
# to COUNT must be there, and the file system must be clean.
. "$(dirname "$0")/common.sh"

attach_loop "$2"
if [ "$fs" = btrfs ]; then btrfs device scan --forget "$loop" >/dev/null 2>&1 || true; fi
mount_fs "$loop" mnt
number=1
while [ $number -le "$3" ]; do
    same mnt/file$number
    number=$((number + 1))
done
umount mnt
check_fs "$loop"
