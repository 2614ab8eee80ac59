//! The vDSO in an address space, with frames that only say which they are.

use litebox_core::mm::{AddressSpace, Backing, GuestAddr, PAGE_SIZE, PageRange, Prot, RemapPlace, UserBytes, UserOut};
use litebox_core::platform::{Frame, Frames};
use litebox_core::quota::Quota;
use litebox_platform_hosted::{Hosted, HostedFrame, enter};
use litebox_shim_linux::vdso::Vdso;
use std::sync::Arc;

const RX: Prot = Prot::READ.union(Prot::EXEC);

fn frame(byte: u8) -> HostedFrame {
    let frame = Hosted::zeroed_frame().unwrap();
    assert_eq!(frame.write(0, &[byte]), 1);
    frame
}

struct Shown {
    mm: Arc<AddressSpace<Hosted>>,
    data: HostedFrame,
    image: [HostedFrame; 2],
    at: u64,
}

fn shown() -> Shown {
    let (data, image) = (frame(1), [frame(2), frame(3)]);
    let mm = Arc::new(AddressSpace::new(&Quota::new(1 << 20)).unwrap());
    let at = Vdso::new(vec![data.clone()], image.to_vec()).map(&mm).unwrap();
    Shown { mm, data, image, at }
}

fn load(mm: &Arc<AddressSpace<Hosted>>, addr: u64) -> Option<u8> {
    enter(mm, || UserBytes::<Hosted, 1>::new(GuestAddr::new(addr)).read().ok().map(|[byte]| byte))
}

fn store(mm: &Arc<AddressSpace<Hosted>>, addr: u64, byte: u8) -> bool {
    enter(mm, || UserOut::new(GuestAddr::new(addr), 1).writer::<Hosted>().write(&[byte]).is_ok())
}

fn page(addr: u64, count: u64) -> PageRange {
    PageRange::new(GuestAddr::new(addr), count * PAGE_SIZE).unwrap()
}

fn first(frame: &HostedFrame) -> u8 {
    let mut byte = [0];
    assert_eq!(frame.read(0, &mut byte), 1);
    byte[0]
}

#[test]
fn the_data_lies_right_before_the_image() {
    let Shown { mm, at, .. } = shown();
    let name = |backing: &Backing<Hosted>| match backing {
        Backing::Source { source, .. } => String::from_utf8(source.name().path).unwrap(),
        Backing::Anonymous => String::new(),
    };
    let areas: Vec<_> = mm.vmas().map(|area| (area.range, area.prot, name(&area.backing))).collect();
    let vvar = (page(at - PAGE_SIZE, 1), Prot::READ, "[vvar]".to_owned());
    assert_eq!(areas, [vvar, (page(at, 2), RX, "[vdso]".to_owned())]);
    assert_eq!([-1, 0, 1].map(|n| load(&mm, at.wrapping_add_signed(n * 4096))), [Some(1), Some(2), Some(3)]);
}

#[test]
fn nobody_writes_to_the_data() {
    let Shown { mm, at, data, .. } = shown();
    let vvar = at - PAGE_SIZE;
    assert!(!store(&mm, vvar, 9));
    for prot in [Prot::WRITE, Prot::READ | Prot::WRITE, RX] {
        assert!(mm.protect(page(vvar, 1), prot).is_err());
    }
    // Elsewhere it is what it was here.
    let moved = mm.remap(page(vvar, 1), PAGE_SIZE, RemapPlace::Fixed(GuestAddr::new(0x5000_0000))).unwrap();
    assert!(mm.protect(page(moved.get(), 1), Prot::WRITE).is_err() && !store(&mm, moved.get(), 9));
    let _: litebox_core::error::Result<usize> = mm.poke(moved, &[9]);
    assert_eq!(first(&data), 1);
}

#[test]
fn whoever_changes_the_code_has_a_copy() {
    let Shown { mm, at, image, .. } = shown();
    assert!(!store(&mm, at, 9));
    mm.protect(page(at, 1), Prot::all()).unwrap();
    assert!(store(&mm, at, 9));
    assert_eq!((load(&mm, at), first(&image[0])), (Some(9), 2));
    assert_eq!(mm.poke(GuestAddr::new(at + PAGE_SIZE), &[8]).unwrap(), 1);
    assert_eq!((load(&mm, at + PAGE_SIZE), first(&image[1])), (Some(8), 3));
}

#[test]
fn children_have_it_and_it_can_go() {
    let Shown { mm, at, .. } = shown();
    let child = Arc::new(mm.fork().unwrap());
    mm.unmap(page(at - PAGE_SIZE, 3)).unwrap();
    assert_eq!((load(&mm, at), load(&mm, at - PAGE_SIZE)), (None, None));
    assert_eq!((load(&child, at), load(&child, at - PAGE_SIZE)), (Some(2), Some(1)));
}
