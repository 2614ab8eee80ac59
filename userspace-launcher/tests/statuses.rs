//! What a shell sees when there is no sandbox to be had. Whoever has the device tests more, in a VM.

use std::path::Path;
use std::process::{Command, Output};

fn launch(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_litebox-launch")).args(args).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn help_is_no_failure() {
    let (status, out, err) = launch(&["--help"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    for option in ["--root", "--bind", "--ro-bind", "--tmpfs", "--mem", "--chdir", "--trace", "125"] {
        assert!(out.contains(option), "{option}");
    }
}

#[test]
fn wrong_words_are_a_set_up_fault() {
    for args in [&[][..], &["--no-such-option"], &["--mem", "much", "--", "true"]] {
        let (status, out, err) = launch(args);
        assert_eq!((status, out.as_str()), (Some(125), ""), "{args:?}");
        assert!(err.starts_with("error: "), "{err}");
    }
}

#[test]
fn a_missing_module_is_named_with_its_cure() {
    if Path::new("/dev/litebox").exists() {
        return;
    }
    let (status, out, err) = launch(&["--", "true"]);
    assert_eq!((status, out.as_str()), (Some(125), ""));
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines[0], "litebox-launch: cannot open /dev/litebox: no such file or directory");
    assert_eq!(lines.len(), 3);
    assert!(lines[1].starts_with("  ") && lines[2].starts_with("  try: "));
}
