# A disk that loses what is written to it: what was made durable before is there after a crash.
. "$(dirname "$0")/common.sh"

new_loop disk.img $mib
working="0 $sectors flakey $loop 0 180 0"
losing="0 $sectors flakey $loop 0 0 180 1 drop_writes"
dmsetup create flaky --table "$working"
make_fs "$nodes/flaky"
mount_fs "$nodes/flaky" mnt
for number in 1 2 3; do write_durably mnt/kept$number 300; done
sync mnt
swap flaky "$losing"
case $(dmsetup table flaky) in
*" 1 drop_writes") ;;
*) fail "the table is $(dmsetup table flaky)" ;;
esac
write_durably mnt/lost 300
rm mnt/kept3
sync -f mnt
umount mnt
swap flaky "$working"

mount_fs "$nodes/flaky" mnt
for number in 1 2 3; do same mnt/kept$number; done
[ ! -e mnt/lost ] || fail "lost is there"
write_durably mnt/later 100
umount mnt
check_fs "$nodes/flaky"

# Now power fails without an unmount: the journal has to be replayed.
mount_fs "$nodes/flaky" mnt
write_durably mnt/journalled 200
mkdir mnt/folder
write_durably mnt/folder/inner 50
swap flaky "$losing"
umount mnt
swap flaky "$working"
mount_fs "$nodes/flaky" mnt
for file in mnt/kept1 mnt/kept2 mnt/later mnt/journalled mnt/folder/inner; do same $file; done
umount mnt
check_fs "$nodes/flaky"
dmsetup remove flaky
check_fs "$loop"
