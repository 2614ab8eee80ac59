//! What is wrong outside of an ELF file's bytes: no file, no right, scripts that loop, arguments past the limit.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{Case, ROOT, image, write};

/// Bytes of one argument with its NUL at most: `MAX_ARG_STRLEN` (include/uapi/linux/binfmts.h).
const STRING_MAX: usize = 32 * 4096;
/// Bytes of all arguments: a quarter of a stack's usual limit of 8 MiB.
const ALL_MAX: usize = 2 << 20;

/// Writes the files and lists the cases.
pub(super) fn cases() -> io::Result<Vec<Case>> {
    let mut cases: Vec<Case> = ["program", "no/such/file", "no-such-file", "program/below", ".", "program/", "./program"]
        .into_iter()
        .map(|path| Case::plain(format!("the path {path}"), path))
        .collect();
    let mut file = |name: &str, bytes: &[u8]| -> io::Result<()> {
        write(name, bytes)?;
        cases.push(Case::plain(format!("{name}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(80)])), name));
        Ok(())
    };
    file("empty", b"")?;
    file("one-byte", b"x")?;
    file("text", b"echo hello\n")?;
    file("zeroes", &[0; 5000])?;
    file("magic-alone", b"\x7fELF")?;
    for (name, text) in scripts() {
        file(&name, &text)?;
    }
    for (index, path) in interpreters().into_iter().enumerate() {
        let name = format!("asks-{index}");
        write(&name, &image::with_interpreter(&path).bytes())?;
        cases.push(Case::plain(format!("{name}: asks for {:?}", String::from_utf8_lossy(&path[..path.len().min(60)])), &name));
    }
    for (name, mode) in [("no-right", 0o644), ("right-of-others", 0o645), ("no-reading", 0o711)] {
        write(name, &image::program().bytes())?;
        fs::set_permissions(format!("{ROOT}/{name}"), fs::Permissions::from_mode(mode))?;
        cases.push(Case::plain(format!("{name}: mode {mode:o}"), name));
    }
    for (name, target) in [("loop-a", "loop-b"), ("loop-b", "loop-a"), ("dangling", "nowhere"), ("link", "program")] {
        let path = format!("{ROOT}/{name}");
        let _ = fs::remove_file(&path);
        symlink(target, path)?;
        cases.push(Case::plain(format!("a link to {target}"), name));
    }
    let long = "n".repeat(256);
    cases.push(Case::plain("a name of 256 bytes".into(), &long));
    cases.push(Case::plain("a path of 4095 bytes".into(), &"./".repeat(2046)));
    cases.extend(arguments());
    Ok(cases)
}

/// Scripts: their names and texts.
fn scripts() -> Vec<(String, Vec<u8>)> {
    let mut scripts: Vec<(String, Vec<u8>)> = [
        ("script", "#!/program\n"),
        ("script-blank", "#!  /program  \n"),
        ("script-argument", "#!/program a b\n"),
        ("script-no-newline", "#!/program"),
        ("script-of-itself", "#!/script-of-itself\n"),
        ("script-nobody", "#!/nobody\n"),
        ("script-empty", "#!\n"),
        ("script-blanks", "#!   \n"),
        ("script-mark", "#!"),
        ("script-directory", "#!/\n"),
        ("script-relative", "#!program\n"),
        ("script-no-right", "#!/no-right\n"),
        ("script-text", "#!/text\n"),
        ("script-carriage-return", "#!/program\r\n"),
        ("script-ping", "#!/script-pong\n"),
        ("script-pong", "#!/script-ping\n"),
        ("script-nul", "#!/program\0x\n"),
        ("script-tab", "#!\t/program\tx\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .into();
    // A chain: Linux follows so many, and no more.
    for depth in 0..8 {
        let next = if depth == 0 { "/program".to_owned() } else { format!("/chain-{}", depth - 1) };
        scripts.push((format!("chain-{depth}"), format!("#!{next}\n").into_bytes()));
    }
    // Lines about as long as what Linux reads of a file, 256 bytes.
    for length in [250, 253, 254, 255, 256, 257, 300, 5000] {
        let mut text = format!("#!/program {}", "a".repeat(length));
        text.truncate(length);
        scripts.push((format!("line-of-{length}"), format!("{text}\n").into_bytes()));
        let path = format!("#!/{}", "p".repeat(length - 3));
        scripts.push((format!("path-of-{length}"), format!("{path}\n").into_bytes()));
    }
    scripts
}

/// Paths of interpreters that a program asks for.
fn interpreters() -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> =
        ["/interpreter", "/nobody", "", "/", "interpreter", "/text", "/empty", "/script", "/no-right", "/loop-a", "/program"]
            .map(|path| path.as_bytes().to_vec())
            .into();
    // An interpreter's own interpreter is never asked for; this one would ask for itself.
    paths.push(b"/asks-11".to_vec());
    paths.push([b"/".as_slice(), &[b'i'; 300]].concat());
    paths
}

/// Arguments about as many and as long as they may be.
fn arguments() -> Vec<Case> {
    let program = |what: &str, arguments: Vec<Vec<u8>>| Case::with_arguments(what.to_owned(), "program", &arguments);
    let string = |length: usize| vec![b'a'; length];
    let mut no_arguments = Case::plain("a script whose only argument is empty".into(), "script");
    no_arguments.argv = vec![0];
    vec![
        program("the longest argument", vec![string(STRING_MAX - 1)]),
        program("an argument too long", vec![string(STRING_MAX)]),
        program("twice the longest", vec![string(STRING_MAX - 1); 2]),
        program("more empty arguments than fit", vec![Vec::new(); 300_000]),
        program("many empty arguments", vec![Vec::new(); 100_000]),
        program("all that fits", vec![string(STRING_MAX - 1); ALL_MAX / STRING_MAX - 1]),
        program("more than fits", vec![string(STRING_MAX - 1); ALL_MAX / STRING_MAX]),
        program("far more than fits", vec![string(STRING_MAX - 1); ALL_MAX / STRING_MAX + 8]),
        no_arguments,
    ]
}
