#!/bin/sh
# Prepares a kernel output directory that Rust modules for an installed Debian kernel can be built against.
#
#   usage: prepare.sh SRC_TARBALL OUT [RELEASE]
#
# SRC_TARBALL  the distribution's kernel source (package linux-source: /usr/src/linux-source-VERSION.tar.xz)
# OUT          the output directory to make or refresh; the unpacked source lies beside it, in OUT.src
# RELEASE      the kernel to build for (also from the environment); the newest one in /boot by default
#
# Debian's headers package has no Rust metadata (rust/*.rmeta, target.json, the bindings). They are a function of the source,
# the configuration and the compilers, so this script makes them again and then proves that they are the same: every mangled
# Rust symbol that the installed kernel exports must be defined by what was built here.
# Running it twice does nothing the second time. Needs what a kernel build needs: make, gcc, flex, bison, bc, libelf, libssl,
# python3, and rustc, rust-src, bindgen in the versions that the kernel was built with.
set -eu

die() {
    echo "prepare.sh: $1" >&2
    shift
    for line in "$@"; do echo "  $line" >&2; done
    exit 1
}

[ $# -ge 2 ] && [ $# -le 3 ] || die "usage: prepare.sh SRC_TARBALL OUT [RELEASE]"
tarball=$1
release=${3:-${RELEASE:-}}
if [ -z "$release" ]; then
    release=$(for config in /boot/config-*; do echo "${config#/boot/config-}"; done | sort -V | tail -n 1)
    [ "$release" != "*" ] || die "no kernel is installed: /boot has no config-RELEASE" "try: apt-get install linux-image-amd64 linux-headers-amd64"
fi
config=/boot/config-$release
symvers=/lib/modules/$release/build/Module.symvers
[ -r "$tarball" ] || die "cannot read the kernel source $tarball" "try: apt-get install linux-source"
[ -r "$config" ] || die "cannot read $config" "the kernel $release is not installed here"
[ -r "$symvers" ] || die "cannot read $symvers" "try: apt-get install linux-headers-$release"
grep -q '^CONFIG_RUST=y' "$config" || die "the kernel $release was built without CONFIG_RUST" "litebox.ko needs a kernel with Rust support"
for tool in make gcc flex bison bc python3 rustc bindgen nm tar; do
    command -v "$tool" > /dev/null || die "$tool is not installed"
done

# The compilers must be those of the kernel: metadata of another rustc does not link, and is refused by rustc itself.
wanted=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' "$config")
[ -z "$wanted" ] || [ "$(rustc --version)" = "$wanted" ] ||
    die "rustc differs from the kernel's" "kernel $release: $wanted" "installed: $(rustc --version)"

mkdir -p "$2"
out=$(cd "$2" && pwd)
src=$out.src
stamp=$out/.litebox-prepared
state="$release $(cksum < "$config") $(cksum < "$symvers") $(stat -c '%s %Y' "$tarball")"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$state" ]; then
    echo "prepare.sh: $out is ready for $release"
    exit 0
fi
rm -f "$stamp"

if [ ! -f "$src/.unpacked" ] || [ "$(cat "$src/.unpacked")" != "$(stat -c '%s %Y' "$tarball")" ]; then
    rm -rf "$src"
    mkdir -p "$src"
    tar -C "$src" --strip-components=1 -xf "$tarball"
    stat -c '%s %Y' "$tarball" > "$src/.unpacked"
fi
# Debian's release is VERSION.PATCHLEVEL.SUBLEVEL or without the last, then its own suffix. The source must be the same release's.
version=$(make -s -C "$src" kernelversion)
case $release in
    "$version"[+-]*) ;;
    *) die "the source is of $version, the kernel is $release" "install linux-source of the same version" ;;
esac

# KERNELRELEASE carries the whole name, so nothing may be appended to it.
sed 's/^CONFIG_LOCALVERSION=.*/CONFIG_LOCALVERSION=""/' "$config" > "$out/.config"
log=$out/prepare.log
for target in olddefconfig prepare modules_prepare; do
    make -C "$src" O="$out" KERNELRELEASE="$release" -j"$(nproc)" "$target" > "$log" 2>&1 ||
        { tail -n 20 "$log" >&2; die "make $target failed (whole log: $log)"; }
done
grep -q '^CONFIG_RUST=y' "$out/.config" || {
    make -s -C "$src" O="$out" rustavailable >&2 || true
    die "the configuration lost CONFIG_RUST: a tool for Rust is missing or too old (see above)"
}
cp "$symvers" "$out/Module.symvers"

# The proof that the metadata is the installed kernel's: hashes in the symbols depend on the compiler, its flags and the sources.
awk '$2 ~ /^_R/ && $3 == "vmlinux" { print $2 }' "$symvers" | sort -u > "$out/.rust-exported"
find "$out/rust" -maxdepth 1 -name '*.o' -exec nm --defined-only {} + 2> /dev/null | awk '$3 ~ /^_R/ { print $3 }' | sort -u > "$out/.rust-built"
missing=$(comm -23 "$out/.rust-exported" "$out/.rust-built" | wc -l)
total=$(wc -l < "$out/.rust-exported")
[ "$missing" -eq 0 ] || die "$missing of $total Rust symbols of $release were not reproduced" \
    "source, configuration or a compiler differs from the kernel's build; see $out/.rust-exported and .rust-built"
echo "$state" > "$stamp"
echo "prepare.sh: $out is ready for $release ($total Rust symbols reproduced)"
