//! A static Rust program: collections, formatting, files, a caught panic, the environment.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};

fn main() {
    let words = "the quick brown fox jumps over the lazy dog the end";
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for word in words.split(' ') {
        *counts.entry(word).or_default() += 1;
    }
    println!("{:?}", counts.iter().collect::<BTreeMap<_, _>>());

    fs::create_dir_all("/tmp/a/b").unwrap();
    let mut file = fs::File::create("/tmp/a/b/c").unwrap();
    for i in 0..1000_u32 {
        writeln!(file, "{i}").unwrap();
    }
    drop(file);
    let mut text = String::new();
    fs::File::open("/tmp/a/b/c").unwrap().read_to_string(&mut text).unwrap();
    println!("{} lines, {} bytes", text.lines().count(), fs::metadata("/tmp/a/b/c").unwrap().len());
    println!("{}", fs::read("/no/such/file").unwrap_err());
    // The usual message names the thread's number, which is another one each time.
    std::panic::set_hook(Box::new(|_| eprintln!("panicking")));
    println!("{:?}", std::panic::catch_unwind(|| panic!("caught")).is_err());
    println!("{:?}", std::env::var("HOME"));
    std::process::exit(i32::try_from(text.len() % 256).unwrap());
}
