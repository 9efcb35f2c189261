# sh thin-containers.sh FS: layers of images as containers have them, each a snapshot of the one below.
. "$(dirname "$0")/common.sh"

new_loop data.img 256
data=$loop
new_loop meta.img 8
meta=$loop
length=$(($(blockdev --getsize64 -q "$data") / 512))

# layer NAME ID: a thin device, by its number in the pool.
layer() { dmsetup create "$1" --table "0 $sectors thin $nodes/pool $2"; }

# A snapshot is as its origin, by its UUID too, which an xfs may have once only.
options=rw
if [ "$fs" = xfs ]; then options=nouuid; fi

# used: blocks of data that the pool has given away.
used() { dmsetup status pool | cut -d' ' -f6 | cut -d/ -f1; }

dmsetup create pool --table "0 $length thin-pool $meta $data 128 32768 1 skip_block_zeroing"
case $(dmsetup table pool) in
"0 $length thin-pool "*" 128 32768 1 skip_block_zeroing"*) ;;
*) fail "the table is $(dmsetup table pool)" ;;
esac
dmsetup message pool 0 "create_thin 0"
fails_with "failed: File exists" dmsetup message pool 0 "create_thin 0"
fails_with "failed: " dmsetup message pool 0 "create_snap 1 7"
layer base 0
make_fs "$nodes/base"
mount_fs "$nodes/base" mnt $options
write_durably mnt/base 900
umount mnt

# A snapshot of the base, and one of that: what is active is suspended meanwhile.
dmsetup suspend base
dmsetup message pool 0 "create_snap 1 0"
dmsetup resume base
dmsetup remove --retry "$nodes/base"
before=$(used)
layer first 1
mount_fs "$nodes/first" mnt $options
same mnt/base
write_durably mnt/first 500
dmsetup suspend first
dmsetup message pool 0 "create_snap 2 1"
dmsetup resume first
rm mnt/base
umount mnt
[ "$(used)" -gt "$before" ] || fail "a layer takes no room: $(dmsetup status pool)"
layer second 2
mount_fs "$nodes/second" mnt $options
for file in mnt/base mnt/first; do same $file; done
write_durably mnt/second 400
fails_with "failed: Device or resource busy" dmsetup message pool 0 "delete 2"
set -- $(dmsetup info --columns --noheadings -o name,attr,open,segments --separator ' ' second)
is "second L--w 1 1" "$*"

# The one between goes; what the others share with it stays.
dmsetup remove --retry "$nodes/first"
dmsetup message pool 0 "delete 1"
same mnt/first
dmsetup remove --deferred "$nodes/second"
umount mnt
tries=0
while dmsetup info second >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ] || fail "second has not gone"
    sleep 0.1
done
for number in 0 2; do
    layer layer$number $number
    mount_fs "$nodes/layer$number" mnt $options
    same mnt/base
    umount mnt
    check_fs "$nodes/layer$number"
    dmsetup remove layer$number
    dmsetup message pool 0 "delete $number"
done
is 0 "$(used)"
dmsetup remove pool
if command -v thin_check >/dev/null; then thin_check -q "$meta"; fi

# Another takes up what is in the metadata: nothing.
dmsetup create pool --table "0 $length thin-pool $meta $data 128 32768 1 skip_block_zeroing"
fails_with "failed: " layer again 0
dmsetup message pool 0 "create_thin 0"
dmsetup remove pool
