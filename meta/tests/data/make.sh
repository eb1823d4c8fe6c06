#!/bin/sh
# Makes the sample volumes of this folder with other people's programs: dosfstools, mtools, genisoimage, xorriso.
# Run here; what it makes is checked in, so tests need none of these.
set -eu
export MTOOLS_SKIP_CHECK=1 SOURCE_DATE_EPOCH=1700000000
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/seed"
printf 'format = 1\nhostname = "sample"\n' > "$work/seed/user-data"
printf 'instance-id: sample\n' > "$work/seed/meta-data"
# Ten clusters and more of comment, for files that lie in pieces.
{ cat "$work/seed/user-data"; yes '# A comment that makes this file longer.' | head -n 200; } > "$work/long"

fat() { # name, KiB, mkfs.vfat options
    name=$1; size=$2; shift 2
    rm -f "$work/$name"
    mkfs.vfat -C "$@" -i 12345678 "$work/$name" "$size" > "$work/log"
    printf 'x%.0s' $(seq 1500) > "$work/filler"
    mcopy -i "$work/$name" "$work/filler" ::filler
    mcopy -i "$work/$name" "$work/seed/meta-data" ::meta-data
    mdel -i "$work/$name" ::filler
    # Now the free clusters begin with a hole before meta-data: user-data lies in two pieces.
    mcopy -i "$work/$name" "$work/long" ::user-data
    # What follows is zero.
    head -c 700000 "$work/$name" | gzip -9n > "$name.gz"
}
fat fat12.img 100 -F 12 -s 1 -n CIDATA
fat fat16.img 2300 -F 16 -s 1 -n cidata
fat fat32.img 34000 -F 32 -s 1 -n CIDATA
fat other.img 100 -F 12 -s 1 -n DATA
fat big-sectors.img 400 -F 12 -s 1 -S 2048 -n CIDATA

mformat -C -i "$work/mtools.img" -v cidata -f 160 -N 12345678 ::
mcopy -i "$work/mtools.img" "$work/seed/user-data" ::USER-DATA
gzip -9nc "$work/mtools.img" > mtools.img.gz

mformat -C -i "$work/empty.img" -v CIDATA -f 160 -N 12345678 ::
gzip -9nc "$work/empty.img" > empty.img.gz

iso() { # name, mkisofs options
    name=$1; shift
    genisoimage -quiet "$@" -o "$work/$name" "$work/seed"
    gzip -9nc "$work/$name" > "$name.gz"
}
iso rock-joliet.iso -V cidata -J -r
iso rock.iso -V cidata -r
iso joliet.iso -V CIDATA -J
iso plain.iso -V CIDATA -l -allow-lowercase -allow-multidot -relaxed-filenames
xorriso -as mkisofs -quiet -V cidata -J -r -o "$work/xorriso.iso" "$work/seed" 2> "$work/log"
gzip -9nc "$work/xorriso.iso" > xorriso.iso.gz

# OpenStack's.
mkdir -p "$work/drive/openstack/latest"
printf '{"uuid": "83679162-1378-4288-a2d4-70e13ec132aa", "hostname": "drive.novalocal", "public_keys": {"k": "%s"}, "admin_pass": "x"}' \
    'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEwQ4tDwulNo2vvMqchJU4ecFsayvNuUgcOC5Hj2KoVC k' > "$work/drive/openstack/latest/meta_data.json"
printf '{"links": [{"id": "a", "type": "phy", "ethernet_mac_address": "52:54:00:12:34:56"}], "networks": [{"link": "a", "type": "ipv4", "ip_address": "192.0.2.5", "netmask": "255.255.255.0"}]}' \
    > "$work/drive/openstack/latest/network_data.json"
printf '{}' > "$work/drive/openstack/latest/vendor_data.json"
cp "$work/seed/user-data" "$work/drive/openstack/latest/user_data"
genisoimage -quiet -V config-2 -J -r -o "$work/drive.iso" "$work/drive"
gzip -9nc "$work/drive.iso" > drive.iso.gz
mformat -C -i "$work/drive.img" -v CONFIG-2 -f 160 -N 12345678 ::
mcopy -s -i "$work/drive.img" "$work/drive/openstack" ::openstack
gzip -9nc "$work/drive.img" > drive.img.gz
