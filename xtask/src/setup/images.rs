//! Images that sandboxes run from in tests: a small tree with busybox and Python, plain and compressed, on a disk of their own.

use anyhow::{Context, Result};

use super::tree::OUT;
use super::{Built, Key, Setup, Tree, need_root};

/// Makes the tree out of the Debian tree's own programs, the two images of it, and the image of the disk with both.
const SCRIPT: &str = "
mkdir -p root/usr/bin root/usr/lib root/usr/lib64 root/etc root/dev root/proc root/tmp root/root disk
for name in bin lib lib64; do ln -s usr/$name root/$name; done
cp /usr/bin/busybox root/usr/bin/
for name in sh ls cat sha256sum stat find readlink grep sort wc head touch rm mkdir mv chmod; do ln -s busybox root/usr/bin/$name; done
cp -a /usr/bin/python3 /usr/bin/python3.13 root/usr/bin/
lib=root/usr/lib/python3.13
mkdir $lib
cd /usr/lib/python3.13
cp -a *.py encodings collections re json importlib lib-dynload $OLDPWD/$lib/
cd $OLDPWD
find root -name __pycache__ -prune -exec rm -r {} +
ldd /usr/bin/python3.13 $lib/lib-dynload/*.so | grep -o '/[^ :]*\\.so[^ :]*' | grep -v dynload | sort -u | while read -r path; do
    mkdir -p root/$(dirname $(readlink -f $(dirname $path)))
    mkdir -p root$(readlink -f $(dirname $path))
    cp -L $path root$(readlink -f $(dirname $path))/$(basename $path)
done
find root -exec touch -h -d @1577836800 {} +
mkfs.erofs --quiet -T1577836800 -x-1 disk/plain.erofs root
mkfs.erofs --quiet -T1577836800 -x-1 -zlz4hc -C16384 disk/lz4.erofs root
mkfs.erofs --quiet -T1577836800 -x-1 -zlz4hc -Eztailpacking,fragments,dedupe disk/small.erofs root
mkfs.erofs --quiet -T1577836800 -x-1 -zdeflate disk/deflate.erofs root/etc
head -c 4096 /dev/zero > disk/none.erofs
mkfs.erofs --quiet -T1577836800 -x-1 images.erofs disk
rm -r root disk
";

/// Makes the disk's image.
pub(super) fn step(setup: &Setup, tree: &Tree) -> Result<Built> {
    let key = Key::default().text(tree.key()).text(SCRIPT);
    setup.step("images", key, |out, log| {
        need_root("making the images")?;
        tree.inside().bind(out, OUT).run(&format!("cd {OUT}\n{SCRIPT}"), log).context("cannot make the images")
    })
}
