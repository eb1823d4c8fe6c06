#!/bin/sh
# Makes the sample images of this folder with buildah, as root: an image of two layers, saved in three ways.
# Run here; what it makes is checked in, so tests need no buildah.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
b() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }

mkdir -p "$work/rootfs/etc" "$work/rootfs/bin" "$work/rootfs/tmp"
cd "$work/rootfs"
echo hi > etc/motd
ln -s motd etc/link
ln etc/motd etc/hard
printf x > bin/tool
chmod 4755 bin/tool
chown 1000:1000 etc/motd
chmod 1777 tmp
truncate -s 1M sparse
echo tail >> sparse
cd - > /dev/null

base=$(b from scratch)
b copy -q "$base" "$work/rootfs" /
b config --entrypoint '["/bin/tool"]' --cmd 'a b' --env X=y --user 1000:1000 --workingdir /etc \
    --stop-signal SIGINT --port 80 "$base"
b commit -q "$base" localhost/demo/sample:base > "$work/log"
top=$(b from --pull=never localhost/demo/sample:base)
root=$(b mount "$top")
rm "$root/etc/link"
rm -r "$root/bin"
mkdir "$root/bin"
echo new > "$root/bin/other"
b commit -q "$top" localhost/demo/sample:1 > "$work/log"

b umount "$top" > "$work/log"
b push -q localhost/demo/sample:1 "oci-archive:$work/oci.tar:demo/sample:1"
b push -q localhost/demo/sample:1 "docker-archive:$work/docker.tar:demo/sample:1"
skopeo copy -q "oci-archive:$work/oci.tar" "oci-archive:$work/zstd.tar:demo/sample:zstd" --dest-compress-format zstd
for name in oci docker zstd; do gzip -9nc "$work/$name.tar" > "$name.tar.gz"; done
