# A disk that is gone for a while under a mounted file system.
. "$(dirname "$0")/common.sh"

new_loop disk.img $mib
working="0 $sectors linear $loop 0"
dmsetup create fails --table "$working"
make_fs "$nodes/fails"
options=rw
if [ "$fs" = ext4 ]; then options=errors=remount-ro; fi
mount_fs "$nodes/fails" mnt $options
write_durably mnt/kept 500
sync -f mnt
# What cannot be read directly, btrfs takes from its cache; so nothing may be in it.
dd if=mnt/kept iflag=nocache count=0 status=none
swap fails "0 $sectors error"
is "0 $sectors error " "$(dmsetup table fails)"
fails_with "Input/output error" read_block "$nodes/fails" 4096 0
fails_with "Input/output error" read_block mnt/kept 4096 3
# A write must not be said to be durable, and nothing may hang.
fails_with "or" dd if=/dev/zero of=mnt/new bs=64k count=4 conv=fsync status=none
sync -f mnt 2>/dev/null || true
if touch mnt/after 2>/dev/null && sync mnt/after 2>/dev/null; then
    fail "the file system did not notice"
fi
swap fails "$working"
umount mnt
mount_fs "$nodes/fails" mnt
same mnt/kept
umount mnt
check_fs "$nodes/fails"

# Only a part fails: what is elsewhere can be read.
dmsetup suspend fails
half=$((sectors / 2))
dmsetup load fails <<END
0 $half linear $loop 0
$half 8 error
$((half + 8)) $((sectors - half - 8)) linear $loop $((half + 8))
END
dmsetup resume fails
is 3 "$(dmsetup table fails | wc -l)"
fails_with "Input/output error" read_block "$nodes/fails" 4096 $((half / 8))
read_block "$nodes/fails" 4096 $((half / 8 - 1))
read_block "$nodes/fails" 4096 $((half / 8 + 1))
dmsetup remove fails
