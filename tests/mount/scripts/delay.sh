# A slow disk: slow as its table says, told by its status, and at once fast with another table.
. "$(dirname "$0")/common.sh"

# How many milliseconds ten reads take, one after another.
milliseconds() {
    before=$(date +%s%N)
    for number in 0 1 2 3 4 5 6 7 8 9; do read_block "$nodes/slow" 4096 $((number * 100)); done
    echo $((($(date +%s%N) - before) / 1000000))
}

# eventually STATUS: the counts of reads, writes and flushes that wait.
eventually() {
    for _ in $(seq 50); do
        if [ "$(dmsetup status slow | cut -d' ' -f4-6)" = "$1" ]; then return; fi
        sleep 0.1
    done
    fail "status is $(dmsetup status slow), not $1"
}

new_loop disk.img $mib
dmsetup create slow --table "0 $sectors delay $loop 0 50"
slow=$(milliseconds)
[ "$slow" -ge 500 ] || fail "10 reads of 50 ms took $slow ms"
swap slow "0 $sectors delay $loop 0 0"
fast=$(milliseconds)
[ "$fast" -lt "$slow" ] || fail "10 reads without delay took $fast ms, with it $slow ms"

swap slow "0 $sectors delay $loop 0 0 $loop 0 5 $loop 0 1"
make_fs "$nodes/slow"
mount_fs "$nodes/slow" mnt
write_durably mnt/file 500
same mnt/file
umount mnt
check_fs "$nodes/slow"

swap slow "0 $sectors delay $loop 0 20000 $loop 0 20000"
read_block "$nodes/slow" 4096 1 &
reading=$!
eventually "1 0 0"
dd if=check.log of="$nodes/slow" bs=512 count=1 seek=$((sectors - 8)) oflag=direct conv=notrunc,sync \
    status=none &
writing=$!
case $(dmsetup table slow) in *" 20000 "*" 20000") ;; *) fail "$(dmsetup table slow)" ;; esac
eventually "1 1 0"
# A suspend waits for I/O, so it sends off at once what is held back.
before=$(date +%s)
dmsetup suspend --nolockfs slow
[ $(($(date +%s) - before)) -lt 15 ] || fail "the suspend waited for the delay"
dmsetup load slow --table "0 $sectors delay $loop 0 0"
dmsetup resume slow
wait $reading
wait $writing
eventually "0 0 0"
dmsetup remove slow
check_fs "$loop"
