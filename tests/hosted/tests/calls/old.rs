//! sysfs(2), ustat(2), syslog(2).

use crate::guest::{Guest, NOWHERE, errno};
use linux_raw_sys::general as nr;
use litebox_shim_linux::task::Ids;

#[test]
fn kinds_of_file_system_have_numbers_and_names() {
    let mut guest = Guest::new();
    let (name, none, room) = (guest.path("tmpfs"), guest.path("nofs"), guest.room(16));
    let number = guest.ok(nr::__NR_sysfs, &[1, name]);
    assert_eq!(guest.ok(nr::__NR_sysfs, &[2, number, room]), 0);
    assert_eq!(guest.peek(room, 6), b"tmpfs\0");
    let count = guest.ok(nr::__NR_sysfs, &[3]);
    assert!(number < count);
    guest.fails(errno::EINVAL, nr::__NR_sysfs, &[1, none]);
    guest.fails(errno::EINVAL, nr::__NR_sysfs, &[2, count, room]);
    guest.fails(errno::EFAULT, nr::__NR_sysfs, &[2, number, NOWHERE]);
    guest.fails(errno::EINVAL, nr::__NR_sysfs, &[4]);
}

#[test]
fn a_device_says_how_much_is_free() {
    let mut guest = Guest::new();
    let (root, stat, room) = (guest.path("/"), guest.room(144), guest.room(32));
    guest.ok(nr::__NR_stat, &[root, stat]);
    let device = u64::from_le_bytes(guest.peek(stat, 8).try_into().unwrap());
    assert_eq!(guest.ok(nr::__NR_ustat, &[device, room]), 0);
    guest.fails(errno::EFAULT, nr::__NR_ustat, &[device, NOWHERE]);
    guest.fails(errno::EINVAL, nr::__NR_ustat, &[0xffff_ffff, room]);
}

#[test]
fn the_log_is_empty_and_roots() {
    let mut guest = Guest::new();
    let room = guest.room(16);
    assert_eq!(guest.ok(nr::__NR_syslog, &[3, room, 16]), 0);
    assert!(guest.ok(nr::__NR_syslog, &[10, 0, 0]) > 0);
    assert_eq!(guest.ok(nr::__NR_syslog, &[8, 0, 7]), 0);
    for (action, buf, len) in [(99, room, 1), (3, 0, 1), (3, room, u64::MAX), (8, 0, 9), (8, 0, 0)] {
        guest.fails(errno::EINVAL, nr::__NR_syslog, &[action, buf, len]);
    }
    let mut user = Guest::with_ids(Ids { users: [1000; 3], groups: [1000; 3] });
    user.fails(errno::EPERM, nr::__NR_syslog, &[10, 0, 0]);
}
