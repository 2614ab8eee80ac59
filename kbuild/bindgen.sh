#!/bin/sh
# Runs bindgen over a header of ours with the kernel's own flags.
#
#   usage: bindgen.sh KERNEL_OUT HEADER PARAMS OUTPUT     (run by Kbuild)
#
# kbuild saved the command that made the kernel crate's bindings. Only its header and its output are exchanged, and the
# allow lists of PARAMS added, so layouts and types are the kernel's by construction.
set -eu
kernel=$1
header=$2
params=$3
output=$4

saved=$kernel/rust/bindings/.bindings_generated.rs.cmd
[ -r "$saved" ] || { echo "bindgen.sh: $saved is missing; was the kernel prepared with kbuild/prepare.sh?" >&2; exit 1; }
# In a saved command make has its own quoting of # and $; what follows the first ; edits the kernel's output.
command=$(sed -n '1{s/^savedcmd_[^ ]* := *//;s/\$(pound)/#/g;s/\$\$/$/g;p;}' "$saved" | sed 's/ ; sed .*//')
flags=$(echo "$command" | sed 's/^[^ ]* [^ ]*bindings_helper\.h //; s/ -o [^ ]* -- / -- /; s/ -Wp,-MMD,[^ ]*//')
tool=${command%% *}
ours=$(grep -v -e '^#' -e '^$' "$params" | tr '\n' ' ')
cd "$kernel"
eval "$tool '$header' --formatter none $ours -o '$output' $flags"
# Constants which are macros with casts are declared under a name that bindgen can see.
sed -i -E 's/pub const LITEBOX_CONST_([A-Za-z0-9_]*)/pub const \1/g' "$output"
