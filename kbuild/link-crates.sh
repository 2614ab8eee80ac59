#!/bin/sh
# Builds the workspace's kernel crates with cargo and links them and alloc into one object.
#
#   usage: link-crates.sh OUTPUT.o ALLOC.o     (run by Kbuild, which sets the LITEBOX_ variables)
#
# Archives are extracted rather than linked as a whole: an rlib carries metadata besides objects, and --whole-archive would
# choke on it. Only what cargo reports for this build is linked, so a stale rlib of an older version never comes along.
set -eu
output=$1
alloc=$2

if [ -z "$LITEBOX_CRATES" ]; then
    cp "$alloc" "$output"
    exit 0
fi

packages=
for crate in $LITEBOX_CRATES; do packages="$packages -p litebox-$crate"; done

work=$LITEBOX_OUT/cargo
mkdir -p "$work"
# The flags and packages are lists of words; none has a space in it.
# shellcheck disable=SC2086
RUSTFLAGS=$LITEBOX_RUSTFLAGS cargo build --release $LITEBOX_CARGO_FLAGS --manifest-path "$LITEBOX_REPO/Cargo.toml" \
    --target "$LITEBOX_TARGET" --target-dir "$work" --message-format json-render-diagnostics $packages > "$work/messages"

# Archives of the target only: build scripts and procedural macros are the host's.
tr ',[]' '\n\n\n' < "$work/messages" | sed -n 's/.*"\(.*\/target\/release\/.*\.rlib\)".*/\1/p' | sort -u > "$work/rlibs"
[ -s "$work/rlibs" ] || { echo "link-crates.sh: cargo built no library" >&2; exit 1; }

rm -rf "$work/objects"
while read -r rlib; do
    dir=$work/objects/$(basename "$rlib" .rlib)
    mkdir -p "$dir"
    (cd "$dir" && ar x "$rlib" && rm -f ./*.rmeta)
done < "$work/rlibs"
find "$work/objects" -name '*.o' | sort > "$work/objects.list"
$LITEBOX_LD -m elf_x86_64 -r -o "$output" "@$work/objects.list" "$alloc"
