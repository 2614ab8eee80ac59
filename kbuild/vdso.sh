#!/bin/sh
# Builds the guests' vDSO: a shared object that the module maps into every process.
#
#   usage: vdso.sh OUTPUT.so     (RUSTC and LD may be set; run by Kbuild and by vdso's tests)
#
# It runs in ring 3, so it is compiled for user space, by the same compiler as the module. What a function needs of libcore must
# be inlined: the linker refuses whatever is left undefined, and image.lds refuses data. Relocations are looked for at the end.
set -eu
output=$1
source=$(dirname "$0")/../vdso

"${RUSTC:-rustc}" --edition 2024 --crate-name vdso --crate-type lib --target x86_64-unknown-linux-gnu \
    -C opt-level=2 -C panic=abort -C relocation-model=pic -C codegen-units=1 -C debuginfo=0 -C force-unwind-tables=yes \
    --emit "obj=$output.o" "$source/src/image.rs"
"${LD:-ld}" -m elf_x86_64 -shared -nostdlib -T "$source/image.lds" -soname linux-vdso.so.1 --hash-style=both -Bsymbolic \
    --no-undefined --gc-sections --eh-frame-hdr --build-id=none -z max-page-size=4096 -z noexecstack --strip-all \
    -o "$output" "$output.o"
rm -f "$output.o"
if readelf --relocs --wide "$output" | grep -q R_X86_64; then
    echo "vdso.sh: the image has relocations" >&2
    exit 1
fi
