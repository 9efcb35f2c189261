# dmsetup table --showkeys | dmsetup load, for every target there is.
. "$(dirname "$0")/common.sh"

key=$(seq -w 10 73 | tr -d '\n' | cut -c1-128)
new_loop disk.img 16
disk=$loop
new_loop other.img 16
other=$loop
new_loop meta.img 16
meta=$loop
new_loop data.img 16
dmsetup create pool --table "0 32768 thin-pool $meta $loop 128 0"
dmsetup message pool 0 create_thin 0

lines() {
    cat <<END
crypt 0 2048 crypt aes-xts-plain64 $key 8 $disk 16
crypt 0 2048 crypt aes-cbc-essiv:sha256 $(echo "$key" | cut -c1-64) 0 $disk 0 1 allow_discards
crypt 0 2048 crypt capi:xts(aes)-plain64 $key 0 $disk 0 2 sector_size:4096 iv_large_sectors
default-key 0 2048 default-key aes-xts-plain64 $key 0 $disk 0
delay 0 2048 delay $disk 0 5
delay 0 2048 delay $disk 0 5 $other 8 7 $disk 16 9
dust 0 2048 dust $disk 8 512
ebs 0 2048 ebs $disk 8 1 8
error 0 2048 error
flakey 0 2048 flakey $disk 0 5 6
flakey 0 2048 flakey $disk 0 5 6 1 drop_writes
flakey 0 2048 flakey $disk 0 5 6 5 corrupt_bio_byte 32 r 1 0
inlinecrypt 0 2048 inlinecrypt aes-xts-plain64 $key 0 $disk 0
linear 0 2048 linear $disk 8
log-writes 0 2048 log-writes $disk $other
mirror 0 2048 mirror core 2 64 nosync 2 $disk 0 $other 8
mirror 0 2048 mirror disk 2 $other 1024 2 $disk 0 $other 2048 1 handle_errors
raid 0 2048 raid raid1 2 0 nosync 2 - $disk - $other
snapshot 0 2048 snapshot $disk $other P 8
snapshot 0 2048 snapshot $disk $other N 16
snapshot-origin 0 2048 snapshot-origin $disk
striped 0 2048 striped 2 16 $disk 0 $other 8
switch 0 2048 switch 2 64 0 $disk 0 $other 8
thin 0 2048 thin $nodes/pool 0
thin-pool 0 2048 thin-pool $other $disk 128 0
unstriped 0 2048 unstriped 2 16 1 $disk 0
zero 0 2048 zero
END
}

for target in $(dmsetup targets | awk '{ print $1 }'); do
    # A snapshot is merged by one table at a time.
    [ "$target" = snapshot-merge ] && continue
    lines | grep -q "^$target " || fail "$target has no line here"
done
# While there is a device, whatever serves dmsetup need not start anew.
dmsetup create kept --table "0 8 zero"
lines | while read -r target line; do
    dd if=/dev/zero of="$other" bs=1M count=1 conv=notrunc,fsync status=none
    dmsetup create one --table "$line" || fail "not created: $line"
    before=$(dmsetup table --showkeys one)
    case $(dmsetup table one) in *"$(echo "$key" | cut -c1-32)"*) fail "$target shows its key" ;; esac
    dmsetup table --showkeys one | dmsetup load one || fail "not loaded: $before"
    dmsetup resume one
    is "$before" "$(dmsetup table --showkeys one)"
    dmsetup remove one
done
# A masked key is refused, whatever it is.
dmsetup create one --table "$(lines | head -n1 | cut -d' ' -f2-)"
dmsetup table one >masked
fails_with "" dmsetup load one masked
dmsetup remove one
dmsetup remove kept
dmsetup remove pool
