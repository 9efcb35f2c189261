# sh array.sh FS KIND: a disk is pulled while fio writes and verifies; it is replaced, as volume
# managers do, and the new one rebuilt. Then another is pulled.
. "$(dirname "$0")/common.sh"
kind=$2

count=2 data=$sectors
case $kind in
raid5_ls) count=3 data=$((sectors / 2)) ;;
raid10) count=4 data=$((sectors / 2)) ;;
esac
chunk=128
if [ "$kind" = raid1 ]; then chunk=0; fi

# new_disk NAME: a part of it for what an array knows of itself, and one for data.
new_disk() {
    new_loop "$1.img" $((4 + data / 2048))
    dmsetup create "$1-meta" --table "0 8192 linear $loop 0"
    dmsetup create "$1-data" --table "0 $data linear $loop 8192"
}

pull() {
    swap "$1-data" "0 $data error"
    swap "$1-meta" "0 8192 error"
}

forget() {
    dmsetup remove "$1-data"
    dmsetup remove "$1-meta"
}

# table PARAMETERS DISK...: those are the level's own, or those of a mirror's log.
table() {
    parameters=$1
    shift
    if [ "$kind" = mirror ]; then
        parameters="disk $(set -- $parameters && echo $#) $parameters"
        tail=" 1 handle_errors"
    else
        parameters="$kind $(set -- $parameters && echo $#) $parameters"
        tail=
    fi
    words="0 $sectors ${kind%%[0-9]*} $parameters $#"
    for disk; do
        if [ "$kind" = mirror ]; then
            words="$words $nodes/$disk-data 0"
        else
            words="$words $nodes/$disk-meta $nodes/$disk-data"
        fi
    done
    echo "$words$tail"
}

health() {
    if [ "$kind" = mirror ]; then
        dmsetup status array | cut -d' ' -f9
    else
        dmsetup status array | cut -d' ' -f6
    fi
}

# How much is in sync, of how much, and what it is doing.
progress() { dmsetup status array | cut -d' ' -f7; }
is_in_sync() { [ "$(progress | cut -d/ -f1)" = "$(progress | cut -d/ -f2)" ]; }

# until_so COMMAND...
until_so() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || fail "it has not come to: $* ($(dmsetup status array))"
        sleep 0.1
    done
}

all_are_well() {
    case $(health) in *[!A]*) return 1 ;; esac
    is_in_sync
}
second_is_failed() { case $(health) in ?D*) ;; *) return 1 ;; esac }
first_is_failed() { case $(health) in D*) ;; *) return 1 ;; esac }

traffic() {
    while [ ! -e stop ]; do
        timeout 60 fio --name=traffic --directory=mnt --size=2m --bsrange=4k-64k --rw=randwrite \
            --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --end_fsync=1 \
            --randseed="$(wc -l <rounds)" >fio.log 2>&1 || { touch failed && exit 1; }
        echo >>rounds
    done
}

# Until a whole round of it has begun and ended.
more_traffic() {
    seen=$(wc -l <rounds)
    until [ "$(wc -l <rounds)" -gt $((seen + 1)) ]; do
        [ ! -e failed ] || fail "fio: $(cat fio.log)"
        sleep 0.1
    done
}

members=$(echo a b c d | cut -d' ' -f1-$count)
for disk in $members; do new_disk $disk; done
if [ "$kind" = mirror ]; then
    new_loop log.img 1
    dmsetup create array --table "$(table "$loop 1024 nosync" $members)"
    # A new log says that nothing is in sync but the first.
    new_loop new-log.img 1
    renewed="$loop 1024"
else
    dmsetup create array --table "$(table "$chunk nosync region_size 1024" $members)"
    renewed="$chunk rebuild 1 region_size 1024"
fi
all_are_well || fail "it begins with $(dmsetup status array)"
make_fs "$nodes/array"
mount_fs "$nodes/array" mnt
write_durably mnt/old 700
: >rounds
traffic &
waiting=$!
more_traffic

# Degraded, it serves; a mirror holds what is written until it is repaired.
pull b
until_so second_is_failed
if [ "$kind" != mirror ]; then
    write_durably mnt/degraded 300
    more_traffic
fi
new_disk new
members=$(echo "$members" | sed s/b/new/)
swap array "$(table "$renewed" $members)"
write_durably mnt/rebuilding 300
until_so all_are_well
forget b
if [ "$kind" != mirror ]; then swap array "$(table "$chunk region_size 1024" $members)"; fi
more_traffic

# What the first held is where the new one is, or is had by means of it.
pull a
until_so first_is_failed
if [ "$kind" = mirror ]; then
    swap array "0 $sectors linear $nodes/new-data 0"
fi
write_durably mnt/later 300
more_traffic
touch stop
wait $waiting || fail "fio: $(cat fio.log)"
waiting=

names="old rebuilding later"
if [ "$kind" != mirror ]; then names="$names degraded"; fi
for name in $names; do same mnt/$name; done
umount mnt
check_fs "$nodes/array"
mount_fs "$nodes/array" mnt
for name in $names; do same mnt/$name; done
umount mnt
dmsetup remove array
for disk in $members; do forget $disk; done
