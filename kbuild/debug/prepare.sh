#!/bin/sh
# Builds the debug kernel: one kernel with every checker (KASAN, lockdep, kmemleak, UBSAN, fault injection, coverage).
#
#   usage: prepare.sh SRC_TARBALL OUT
#
# SRC_TARBALL  the distribution's kernel source (package linux-source: /usr/src/linux-source-VERSION.tar.xz)
# OUT          the output directory: vmlinux to boot, and what kbuild/Makefile takes as KERNEL_OUT. The unpacked source lies beside
#              it, in OUT.src.
# Needs what a kernel build needs, with clang: Kconfig drops Rust when KASAN is compiled by gcc.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tarball=$1
mkdir -p "$2"
out=$(cd "$2" && pwd)
src=$out.src
log=$out/prepare.log

mkdir -p "$src"
tar -C "$src" --strip-components=1 -xf "$tarball"
# Options without a prompt have no other way to be turned on.
sed -i '/^config MAPPING_DIRTY_HELPERS/{n;s/bool$/def_bool y/}' "$src/mm/Kconfig"
sed -i '/^config VIRT_XFER_TO_GUEST_WORK/{n;s/bool$/def_bool y/}' "$src/virt/kvm/Kconfig"

make -s -C "$src" O="$out" CC=clang KCONFIG_ALLCONFIG="$here/config" allnoconfig > "$log" 2>&1
lost=$(grep '^CONFIG' "$here/config" | grep -vxFf "$out/.config" || true)
[ -z "$lost" ] || { echo "prepare.sh: the source does not take these options:" >&2; echo "$lost" >&2; exit 1; }
make -C "$src" O="$out" CC=clang -j"$(nproc)" vmlinux modules_prepare modules >> "$log" 2>&1 ||
    { tail -n 30 "$log" >&2; echo "prepare.sh: the kernel does not build (whole log: $log)" >&2; exit 1; }

# Objects are of no use to modules, and most of the size.
find "$out" -name '*.o' ! -path '*/scripts/*' ! -path '*/tools/*' ! -path "$out/vmlinux.o" -delete
find "$out" -name '*.a' ! -path '*/tools/*' -delete
rm -f "$out/vmlinux.o" "$out/vmlinux.unstripped"
echo "prepare.sh: $out is ready"
