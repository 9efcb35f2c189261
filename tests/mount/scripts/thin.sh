# A pool with a device, its snapshot and the snapshot's snapshot, as container stores make them.
. "$(dirname "$0")/common.sh"

# The kernel knows a btrfs by its UUID, so only one of two with the same may be mounted.
forget() { if [ "$fs" = btrfs ]; then btrfs device scan --forget >/dev/null 2>&1 || true; fi; }
mount_copy() {
    forget
    options=rw
    if [ "$fs" = xfs ]; then options=nouuid; fi
    mount_fs "$1" mnt $options
}
say() { dmsetup message pool 0 "$1"; }
snapshot() {
    dmsetup suspend "$1"
    say "create_snap $3 $2"
    dmsetup resume "$1"
    dmsetup create "$4" --table "0 $sectors thin $nodes/pool $3"
}
# data BLOCKS: as many are in use, give or take what file systems do.
used() { dmsetup status pool | cut -d' ' -f6 | cut -d/ -f1; }

new_loop meta.img 16
meta=$loop
new_loop data.img 512
data=$loop
dmsetup create pool --table "0 524288 thin-pool $meta $data 128 32768 1 skip_block_zeroing"
is "0 524288 thin-pool 0 0/4096 - rw" "$(dmsetup status pool | cut -d' ' -f1-4,6-8)"
say "create_thin 0"
fails_with "File exists" say "create_thin 0"
dmsetup create base --table "0 $sectors thin $nodes/pool 0"
make_fs "$nodes/base"
mount_fs "$nodes/base" mnt
write_durably mnt/kept 700
cp kept.copy base.kept

snapshot base 0 1 first
umount mnt
mount_copy "$nodes/first"
same mnt/kept
write_durably mnt/kept 300
write_durably mnt/first 500
umount mnt
snapshot first 1 2 second
mount_copy "$nodes/second"
same mnt/kept
same mnt/first
rm mnt/first
fstrim mnt 2>/dev/null || true
umount mnt

for name in base first second; do
    forget
    remount_and_check "$nodes/$name"
done

# What is removed gives its space up.
fails_with "Device or resource busy" say "delete 1"
dmsetup remove first
before=$(used)
say "delete 1"
[ "$(used)" -lt "$before" ] || fail "nothing was given up: $before, $(used)"

# The pool grows under what is mounted.
mount_copy "$nodes/second"
dmsetup suspend pool
dmsetup load pool --table "0 1048576 thin-pool $meta $data 128 32768 1 skip_block_zeroing"
dmsetup resume pool
is "8192" "$(dmsetup status pool | cut -d' ' -f6 | cut -d/ -f2)"
write_durably mnt/more 900
umount mnt

# All of it is there again.
dmsetup remove second
dmsetup remove base
dmsetup remove pool
dmsetup create pool --table "0 1048576 thin-pool $meta $data 128 32768 1 skip_block_zeroing"
for name in base:0 second:2; do
    dmsetup create "${name%:*}" --table "0 $sectors thin $nodes/pool ${name#*:}"
    forget
    remount_and_check "$nodes/${name%:*}"
done
mount_copy "$nodes/second"
same mnt/more
same mnt/kept
umount mnt
mount_copy "$nodes/base"
cmp mnt/kept base.kept
umount mnt
for name in second base pool; do dmsetup remove $name; done
if command -v thin_check >/dev/null; then thin_check -q "$meta" || fail "thin_check"; fi
