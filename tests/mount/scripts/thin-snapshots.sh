# sh thin-snapshots.sh: thin devices under plain reads and writes, in steps as a test suite of device
# mapper's makers takes them: every device is created empty, loaded from a file, and resumed.
. "$(dirname "$0")/common.sh"

new_loop data.img 64
data=$loop
new_loop meta.img 4
meta=$loop
mib=16
sectors=$((mib * 2048))

# activate NAME TABLE
activate() {
    echo "$2" >table
    dmsetup create "$1" --notable
    dmsetup load "$1" table
    dmsetup resume "$1"
}
thin() { activate "thin$1" "0 $sectors thin $nodes/pool $1"; }

# pause NAME COMMAND...
pause() {
    name=$1
    shift
    dmsetup suspend "$name"
    "$@"
    dmsetup resume "$name"
}

# fill DEVICE FILE: FILE is what it holds from then on.
fill() {
    dd if=/dev/urandom of="$2" bs=1M count=$mib status=none
    dd if="$2" of="$1" bs=1M oflag=direct conv=notrunc,fsync status=none
}
used() { dmsetup status pool | cut -d' ' -f6; }

dd if=/dev/zero of="$meta" bs=4096 count=1 oflag=direct status=none
activate pool "0 131072 thin-pool $meta $data 128 0"
is "0/1024 rw" "$(used) $(dmsetup status pool | cut -d' ' -f8)"

# A device that is written whole takes its size; a snapshot of it that is, too.
dmsetup message pool 0 create_thin 0
thin 0
fill "$nodes/thin0" first
is 256/1024 "$(used)"
pause thin0 dmsetup message pool 0 create_snap 1 0
is 256/1024 "$(used)"
thin 1
cmp "$nodes/thin1" first
fill "$nodes/thin1" second
is 512/1024 "$(used)"
cmp "$nodes/thin0" first
is "$sectors $((sectors - 1))" "$(dmsetup status thin1 | cut -d' ' -f4,5)"

# Snapshots of a snapshot, many at a time, and of an origin that goes on.
many() { for id in $(seq 2 40); do dmsetup message pool 0 create_snap "$id" 1; done; }
pause thin1 many
is 512/1024 "$(used)"
fill "$nodes/thin1" third
thin 40
cmp "$nodes/thin40" second
for id in $(seq 2 39); do dmsetup message pool 0 delete "$id"; done
cmp "$nodes/thin40" second
cmp "$nodes/thin1" third
is 768/1024 "$(used)"

# What is discarded is free again, and reads as zeros.
blkdiscard -o 0 -l 8M "$nodes/thin40"
is 640/1024 "$(used)"
head -c 8M /dev/zero | cmp -n 8388608 - "$nodes/thin40"
dmsetup message pool 0 set_transaction_id 0 5
fails_with "failed: Invalid argument" dmsetup message pool 0 set_transaction_id 0 6
is 5 "$(dmsetup status pool | cut -d' ' -f4)"

# All of it is there again in another pool over the same devices.
for id in 0 1 40; do dmsetup remove thin$id; done
dmsetup remove pool
if command -v thin_check >/dev/null; then thin_check -q "$meta"; fi
activate pool "0 131072 thin-pool $meta $data 128 0"
is "5 640/1024" "$(dmsetup status pool | cut -d' ' -f4) $(used)"
thin 0
thin 1
cmp "$nodes/thin0" first
cmp "$nodes/thin1" third
for name in thin0 thin1 pool; do dmsetup remove $name; done
