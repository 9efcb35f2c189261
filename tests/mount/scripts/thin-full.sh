# A pool over two linear devices of one disk fills up under a file system and grows, as test suites of
# file systems do it: the data device first, on its own, then the pool.
. "$(dirname "$0")/common.sh"

reload() {
    dmsetup suspend "$1"
    dmsetup load "$1" --table "$2"
    dmsetup resume "$1"
}
pool_table() { echo "0 $1 thin-pool $nodes/meta $nodes/data 1024 20 ${2:-}"; }

new_loop disk.img 2048
disk=$loop
blocks=$((mib * 2048 + 65536))
dmsetup create meta --table "0 4096 linear $disk 10240"
dmsetup create data --table "0 $blocks linear $disk 14336"
dd if=/dev/zero of="$nodes/meta" bs=4096 count=1 status=none
dmsetup create pool --table "$(pool_table $blocks)"
dmsetup message "$nodes/pool" 0 "create_thin 17"
dmsetup create vol --table "0 $((sectors * 4)) thin $nodes/pool 17"
make_fs "$nodes/vol"
mount_fs "$nodes/vol" mnt
number=$(dmsetup info -c --noheadings -o events pool)

# More than there is room for: it waits, and goes on when there is some.
dd if=/dev/urandom of=big.copy bs=1M count=$((mib + 64)) status=none
(dd if=big.copy of=mnt/big bs=1M conv=fsync status=none) &
waiting=$!
timeout 60 dmsetup wait pool "$number"
tries=0
while ! dmsetup status pool | grep -q out_of_data_space; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || fail "it is not full: $(dmsetup status pool)"
    sleep 0.1
done
kill -0 $waiting || fail "the write did not wait"
reload data "0 $((blocks * 4)) linear $disk 14336"
reload pool "$(pool_table $((blocks * 4)))"
wait $waiting || fail "the write failed"
waiting=
same mnt/big
umount mnt
remount_and_check "$nodes/vol"

# Without room that comes, and with error_if_no_space, writes fail, and what was there stays.
reload pool "$(pool_table $((blocks * 4)) "1 error_if_no_space")"
mount_fs "$nodes/vol" mnt
same mnt/big
umount mnt
for name in vol pool meta data; do dmsetup remove $name; done
