# sh thin-grow.sh FS: a pool on parts of one disk that becomes full under a file system, and is grown.
. "$(dirname "$0")/common.sh"

new_loop scratch.img 600
scratch=$loop
cluster=1024
meta_length=4096
meta_offset=10240
data_offset=$((meta_offset + meta_length))
# The log of an xfs takes 64 MiB.
too_much=24
data_length=$((too_much * 2048))
if [ "$fs" = xfs ]; then data_length=$((data_length + 64 * 2048)); fi
virtual=$((sectors > 10 * data_length ? sectors : 10 * data_length))

reload() {
    dmsetup suspend "$1"
    dmsetup load "$1" --table "$2"
    dmsetup resume "$1"
}

# pool [FEATURES]: its table over as much data as there is now.
pool() { echo "0 $data_length thin-pool $nodes/thin-meta $nodes/thin-data $cluster 16${1:+ $1}"; }

# grow SECTORS
grow() {
    data_length=$((data_length + $1))
    reload thin-data "0 $data_length linear $scratch $data_offset"
    reload thin-pool "$(pool)"
}

mode() { dmsetup status thin-pool | cut -d' ' -f8; }

dmsetup create thin-meta --table "0 $meta_length linear $scratch $meta_offset"
dmsetup create thin-data --table "0 $data_length linear $scratch $data_offset"
dd if=/dev/zero of="$nodes/thin-meta" bs=4096 count=1 oflag=direct conv=notrunc status=none
dmsetup create thin-pool --table "$(pool)"
dmsetup message "$nodes/thin-pool" 0 "create_thin 4711"
dmsetup create thin-vol --table "0 $virtual thin $nodes/thin-pool 4711"
reload thin-pool "$(pool)"
make_fs "$nodes/thin-vol"
mount_fs "$nodes/thin-vol" mnt
write_durably mnt/old 700

# More than there is room for: it waits, and goes on when the pool has been grown.
events=$(dmsetup info -c --noheadings -o events thin-pool)
timeout 60 dmsetup wait thin-pool "$events" >/dev/null &
waiting=$!
dd if=/dev/urandom of=big.copy bs=1M count=$too_much status=none
dd if=big.copy of=mnt/big bs=1M conv=fsync status=none &
writer=$!
wait $waiting || fail "wait failed: $(dmsetup status thin-pool)"
waiting=$writer
tries=0
until [ "$(mode)" = out_of_data_space ]; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "it is not full: $(dmsetup status thin-pool)"
    sleep 0.1
done
kill -0 $writer || fail "the writer did not wait"
grow $((64 * 2048))
wait $writer || fail "the writer failed"
waiting=
is rw "$(mode)"
for file in mnt/old mnt/big; do same $file; done

# What is deleted and trimmed is room again; then the metadata are grown as well.
full=$(dmsetup status thin-pool | cut -d' ' -f6 | cut -d/ -f1)
rm mnt/big
sync -f mnt
fstrim mnt
[ "$(dmsetup status thin-pool | cut -d' ' -f6 | cut -d/ -f1)" -lt "$full" ] ||
    fail "nothing was trimmed: $(dmsetup status thin-pool)"
dmsetup create more-meta --table "0 8192 linear $scratch 1204224"
meta=$(dmsetup status thin-pool | cut -d' ' -f5 | cut -d/ -f2)
reload thin-meta "0 $meta_length linear $scratch $meta_offset
$meta_length 8192 linear $nodes/more-meta 0"
reload thin-pool "$(pool)"
[ "$(dmsetup status thin-pool | cut -d' ' -f5 | cut -d/ -f2)" -gt "$meta" ] ||
    fail "the metadata did not grow: $(dmsetup status thin-pool)"
write_durably mnt/later 300
umount mnt
check_fs "$nodes/thin-vol"

# Where one is not to wait, what does not fit is an error.
reload thin-pool "$(pool "1 error_if_no_space")"
fails_with "No space left on device" dd if=/dev/urandom of="$nodes/thin-vol" bs=1M \
    count=$((data_length / 2048 + 1)) seek=8 oflag=direct conv=notrunc
dmsetup remove thin-vol
dmsetup remove thin-pool
if command -v thin_check >/dev/null; then thin_check -q "$nodes/thin-meta"; fi
for name in thin-data thin-meta more-meta; do dmsetup remove $name; done
