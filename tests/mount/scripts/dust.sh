# Bad blocks are met exactly where they are, and writes heal them.
. "$(dirname "$0")/common.sh"

tell() { dmsetup message dusty 0 "$@"; }

new_loop disk.img $mib
dmsetup create dusty --table "0 $sectors dust $loop 0 4096"
for block in 60 67 72; do tell addbadblock $block; done
is "countbadblocks: 3 badblock(s) found" "$(tell countbadblocks)"
is "dust_query_block: block 67 found in badblocklist" "$(tell queryblock 67)"
read_block "$nodes/dusty" 4096 60
tell enable
is "0 $sectors dust $(dmsetup table dusty | cut -d' ' -f4) fail_read_on_bad_block verbose" \
    "$(dmsetup status dusty)"
for block in $(seq 56 75); do
    case $block in
    60 | 67 | 72) fails_with "Input/output error" read_block "$nodes/dusty" 4096 "$block" ;;
    *) read_block "$nodes/dusty" 4096 "$block" ;;
    esac
done
dd if=/dev/zero of="$nodes/dusty" bs=4096 seek=60 count=1 oflag=direct conv=notrunc status=none
read_block "$nodes/dusty" 4096 60
is "countbadblocks: 2 badblock(s) found" "$(tell countbadblocks)"
tell removebadblock 67
tell clearbadblocks >/dev/null
is "countbadblocks: 0 badblock(s) found" "$(tell countbadblocks)"
tell quiet
tell disable

# The same through a file: where it is on the disk, what is in it tells.
make_fs "$nodes/dusty"
mount_fs "$nodes/dusty" mnt
touch mnt/file
if [ "$fs" = btrfs ]; then chattr +C mnt/file; fi
yes here-is-the-file-of-dust | tr '\n' ' ' | dd of=mnt/file bs=4096 count=16 iflag=fullblock \
    conv=fsync status=none
umount mnt
place=$(tr '\0' '\n' <disk.img | grep -abo -m1 here-is-the-file-of-dust | head -n1 | cut -d: -f1)
is 0 $((place % 4096))
bad=$((place / 4096 + 5))
tell addbadblock $bad
tell enable
mount_fs "$nodes/dusty" mnt
fails_with "Input/output error" read_block mnt/file 4096 5
read_block mnt/file 4096 4
read_block mnt/file 4096 6 10
dd if=/dev/zero of=mnt/file bs=4096 seek=5 count=1 oflag=direct conv=notrunc,fsync status=none
is "countbadblocks: 0 badblock(s) found" "$(tell countbadblocks)"
read_block mnt/file 4096 0 16
umount mnt
check_fs "$nodes/dusty"
fails_with "Invalid argument" tell addbadblock $((sectors * 8))
dmsetup remove dusty
