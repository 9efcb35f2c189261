# A mounted file system becomes what its snapshot was while it is in use: lvconvert --merge.
. "$(dirname "$0")/common.sh"

new_loop disk.img $mib
disk=$loop
new_loop cow.img 32
make_fs "$disk"
dmsetup create vol-real --table "0 $sectors linear $disk 0"
dmsetup create vol-cow --table "0 65536 linear $loop 0"
dmsetup create vol --table "0 $sectors linear $nodes/vol-real 0"
mount_fs "$nodes/vol" mnt
write_durably mnt/old 700
write_durably mnt/removed 100

# lvcreate --snapshot
dmsetup create snap --notable
dmsetup load snap --table "0 $sectors snapshot $nodes/vol-real $nodes/vol-cow P 8"
dmsetup load vol --table "0 $sectors snapshot-origin $nodes/vol-real"
dmsetup suspend vol
dmsetup resume snap
dmsetup resume vol
cp old.copy kept.copy
write_durably mnt/old 900
rm mnt/removed
write_durably mnt/new 300
umount mnt

# What is written to the snapshot is merged too.
mount_fs "$nodes/snap" mnt2
write_durably mnt2/own 200
umount mnt2

# lvconvert --merge: the snapshot's device fails from now on, and goes.
dmsetup load vol --table "0 $sectors snapshot-merge $nodes/vol-real $nodes/vol-cow P 8"
dmsetup load snap --table "0 $sectors error"
dmsetup suspend vol
dmsetup suspend snap
dmsetup resume vol
dmsetup resume snap
fails_with "Input/output error" read_block "$nodes/snap" 4096 0
dmsetup remove snap

# It is the snapshot at once, and stays so while what was copied is on its way and when it is there.
mount_fs "$nodes/vol" mnt
cmp mnt/old kept.copy
same mnt/removed
same mnt/own
[ ! -e mnt/new ] || fail "new is still there"
write_durably mnt/later 400
for _ in $(seq 200); do
    set -- $(dmsetup status vol)
    case "$4 ${5:-}" in "16/65536 16") break ;; esac
    sleep 0.1
done
is "0 $sectors snapshot-merge 16/65536 16" "$(dmsetup status vol)"
dmsetup table vol | grep -q " snapshot-merge .* P 8\$" || fail "another table: $(dmsetup table vol)"

# The COW device goes.
swap vol "0 $sectors linear $nodes/vol-real 0"
dmsetup remove vol-cow
cmp mnt/old kept.copy
for file in mnt/removed mnt/own mnt/later; do same $file; done
umount mnt
check_fs "$nodes/vol"
dmsetup remove vol
dmsetup remove vol-real
check_fs "$disk"
