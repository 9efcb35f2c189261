# A snapshot of a mounted file system, made as volume managers do; then it becomes full.
. "$(dirname "$0")/common.sh"

# The kernel knows a btrfs by its UUID, so only one of two with the same may be mounted.
forget() { if [ "$fs" = btrfs ]; then btrfs device scan --forget >/dev/null 2>&1 || true; fi; }

new_loop disk.img $mib
disk=$loop
new_loop cow.img 16
dmsetup create vol --table "0 $sectors linear $disk 0"
make_fs "$nodes/vol"
mount_fs "$nodes/vol" mnt
write_durably mnt/old 700
write_durably mnt/removed 100

dmsetup create vol-real --table "0 $sectors linear $disk 0"
dmsetup create vol-cow --table "0 32768 linear $loop 0"
dmsetup create snap --notable
dmsetup load snap --table "0 $sectors snapshot $nodes/vol-real $nodes/vol-cow P 64"
dmsetup load vol --table "0 $sectors snapshot-origin $nodes/vol-real"
dmsetup suspend vol
dmsetup resume snap
dmsetup resume vol
is "4 4 snapshot 1" "$(dmsetup ls | wc -l) $(dmsetup info -c --noheadings | wc -l) \
$(dmsetup table snap | cut -d' ' -f3) $(dmsetup table vol | grep -c snapshot-origin)"

# The origin goes on; the snapshot does not.
cp old.copy kept.copy
write_durably mnt/old 900
rm mnt/removed
write_durably mnt/new 300
sync -f mnt
if [ "$fs" = btrfs ]; then umount mnt; forget; fi
options=rw
if [ "$fs" = xfs ]; then options=nouuid; fi
mount_fs "$nodes/snap" mnt2 $options
cmp mnt2/old kept.copy
same mnt2/removed
[ ! -e mnt2/new ] || fail "new is in the snapshot"
write_durably mnt2/own 100
umount mnt2
check_fs "$nodes/snap"
if [ "$fs" = btrfs ]; then forget; mount_fs "$nodes/vol" mnt; fi
for file in mnt/old mnt/new; do same $file; done
[ ! -e mnt/own ] || fail "own is in the origin"
dmsetup status snap | grep -Eq "^0 $sectors snapshot [0-9]+/32768 [0-9]+\$" ||
    fail "status is $(dmsetup status snap)"

# More than 16 MiB change.
number=$(dmsetup info -c --noheadings -o events snap)
timeout 60 dmsetup wait snap "$number" &
waiting=$!
sleep 0.5
kill -0 $waiting || fail "wait did not wait"
dd if=/dev/urandom of="$nodes/snap" bs=64k count=288 seek=64 oflag=direct conv=notrunc,fsync \
    status=none 2>/dev/null || true
wait $waiting || fail "wait failed"
waiting=
is "0 $sectors snapshot Invalid" "$(dmsetup status snap)"
[ "$(dmsetup info -c --noheadings -o events snap)" -gt "$number" ] || fail "no event was counted"
fails_with "Input/output error" read_block "$nodes/snap" 4096 0
write_durably mnt/later 200
umount mnt
check_fs "$nodes/vol"

# The snapshot is dropped, and the origin becomes what it was.
dmsetup remove snap
swap vol "0 $sectors linear $disk 0"
dmsetup remove vol-cow
dmsetup remove vol-real
mount_fs "$nodes/vol" mnt
for file in mnt/old mnt/new mnt/later; do same $file; done
umount mnt
dmsetup remove vol
check_fs "$disk"
