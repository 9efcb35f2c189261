# A file system at work on log-writes, with marks. Whoever runs this walks the log afterwards: at
# each mark "file N" the files 1 to N are durable, and so they are at each flush after it.
. "$(dirname "$0")/common.sh"

tell() { dmsetup message logged 0 "$@"; }

new_loop disk.img $mib
disk=$loop
new_loop log.img 1024
dmsetup create logged --table "0 $sectors log-writes $disk $loop"
tell mark begin
make_fs "$nodes/logged"
tell mark mkfs
mount_fs "$nodes/logged" mnt
for number in 1 2 3 4; do
    write_durably mnt/file$number $((number * 70))
    tell mark file$number
    dd if=/dev/urandom of=mnt/gone$number bs=1k count=100 status=none
    mv mnt/gone$number mnt/moved
done
rm mnt/moved
sync -f mnt
umount mnt
tell mark unmounted
dmsetup status logged | grep -Eq "^0 $sectors log-writes [0-9]+ [0-9]+\$" ||
    fail "status is $(dmsetup status logged)"
fails_with "Invalid argument" tell nonsense
dmsetup remove logged
check_fs "$disk"
