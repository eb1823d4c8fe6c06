#!/bin/sh
# Downloads the packages of BERTH_PACKAGES and unpacks each into a folder of its own, /packages/NAME. Versions go to
# /packages.tsv: name, version, source package, file name.
set -eu
[ "$1" = final ] || exit 0

depends() {
    apt-cache show --no-all-versions "$1" | sed -n 's/^Depends: \(linux-image-[0-9][^ ,]*\).*/\1/p'
}

mkdir -p "$BUILDROOT/packages" "$BUILDROOT/debs" "$BUILDROOT/usr/lib"
echo ID=berth >"$BUILDROOT/usr/lib/os-release" # mkosi insists on one
cd "$BUILDROOT/debs"
for name in $BERTH_PACKAGES; do
    real=$name
    # A kernel's name without a version depends on one with it.
    case $name in linux-image-*) real=$(depends "$name") ;; esac
    apt-get download "$real"
    deb=$(ls "$real"_*.deb)
    mkdir "$BUILDROOT/packages/$name"
    dpkg-deb -x "$deb" "$BUILDROOT/packages/$name"
    # shellcheck disable=SC2016
    dpkg-deb --show --showformat "$name\t"'${Package}\t${Version}\t${source:Package}\t${source:Version}\n' "$deb" \
        >>"$BUILDROOT/packages.tsv"
done
cd /
rm -r "$BUILDROOT/debs"
