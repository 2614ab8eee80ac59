//! The tree that the images were made of.
//!
//! Besides the files: `dir` (mode 1750) with 300 further names of `hello` and a directory `below`; `link` to `dir/../text`, `long-link`
//! with a target of 2,001 bytes; `fifo`; `null` (c 1 3); `big` (b 259 70000). `text` belongs to 7:8, `noise` to 100000:200000. Attributes:
//! `user.own` of `hello`, `user.shared` of `text`, `mixed`, `page` and `dir`, `trusted.t` and `user.empty` of `text`. All files were
//! changed 7 ns after 2020 began. The options of `mkfs.erofs -T 1577836800 --mkfs-time -U …`, for each image:
//! plain: none; small: -b512; chunks: --chunksize=4096; lz4: -zlz4hc; small-lz4: -b1024 -zlz4; big: -zlz4hc -C32768;
//! full: -zlz4hc -Elegacy-compress; tail: -zlz4hc -Eztailpacking; fragments: -zlz4hc -Efragments; dedupe: -zlz4hc -C8192 -Ededupe;
//! all: -zlz4hc -C16384 -Eall-fragments,dedupe,ztailpacking. The first three have no `zeros`.

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|line| format!("line {line:06}\n").into_bytes()).take(len).collect()
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The regular files of `image`, and what is in them.
pub(crate) fn files(image: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = vec![
        ("hello", b"hello, image".to_vec()),
        ("page", text(4096)),
        ("text", text(20_000)),
        ("noise", noise(5000, 1)),
        ("mixed", [text(9000), noise(5000, 2), text(9000)].concat()),
        ("empty", Vec::new()),
        ("short-1", text(5000)),
        ("short-2", noise(700, 3)),
        ("dir/below/deep", b"deep".to_vec()),
    ];
    if !["plain", "small", "chunks"].contains(&image) {
        files.push(("zeros", vec![0; 200_000]));
    }
    files
}
