#!/bin/sh
# Finds the kernel source of RELEASE and prepares it under /var/cache/litebox.
#
#   usage: dkms-prepare.sh RELEASE     (run by DKMS)
set -eu
release=$1
# 7.3.4+deb13-amd64 belongs to linux-source-7.3.tar.xz
series=$(echo "$release" | sed 's/^\([0-9]*\.[0-9]*\).*/\1/')
for tarball in "/usr/src/linux-source-$series".tar.*; do
    [ -r "$tarball" ] || {
        echo "dkms-prepare.sh: no source of $series in /usr/src; try: apt-get install linux-source-$series" >&2
        exit 1
    }
    exec "$(dirname "$0")/prepare.sh" "$tarball" "/var/cache/litebox/$release" "$release"
done
