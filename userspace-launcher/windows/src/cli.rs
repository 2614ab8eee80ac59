//! The command line: Windows gives one string, which is split as Microsoft's run-time library does.
#![cfg_attr(not(any(windows, test)), expect(dead_code, reason = "used on Windows"))]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How to call it.
pub(crate) const USAGE: &str =
    "usage: litebox-launch --root DIRECTORY [--cwd PATH] [--env NAME=VALUE]... -- PROGRAM [ARGUMENTS...]
  --root DIRECTORY  a folder with the program's files, shown as /; what the program changes is kept in memory
  --cwd PATH        the program's working directory, / unless given
  --env NAME=VALUE  a variable of the program's environment, which is empty but for PATH, HOME and these
";

/// What to run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) root: String,
    pub(crate) cwd: String,
    pub(crate) env: Vec<String>,
    pub(crate) program: Vec<String>,
}

/// Splits a command line: spaces separate, quotes join, backslashes count before a quote only.
pub(crate) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut inside, mut started) = (Vec::new(), String::new(), false, false);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                let mut count = 1_usize;
                while rest.next_if_eq(&'\\').is_some() {
                    count += 1;
                }
                let quoted = rest.peek() == Some(&'"');
                let kept = if quoted { count / 2 } else { count };
                word.extend(core::iter::repeat_n('\\', kept));
                if quoted && count % 2 == 1 {
                    rest.next();
                    word.push('"');
                }
                started = true;
            }
            '"' if inside && rest.peek() == Some(&'"') => {
                rest.next();
                word.push('"');
            }
            '"' => {
                inside = !inside;
                started = true;
            }
            ' ' | '\t' if !inside => {
                if started {
                    words.push(core::mem::take(&mut word));
                    started = false;
                }
            }
            c => {
                word.push(c);
                started = true;
            }
        }
    }
    if started {
        words.push(word);
    }
    words
}

/// Reads the options of a command line, the launcher's own name first.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(line: &str) -> Result<Options, String> {
    let mut options = Options { cwd: "/".to_owned(), ..Options::default() };
    let mut words = split(line).into_iter().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--root" => options.root = value()?,
            "--cwd" => options.cwd = value()?,
            "--env" => options.env.push(value()?),
            "--" => {
                options.program = words.collect();
                break;
            }
            _ => return Err(format!("{word}: not an option; the program comes after --")),
        }
    }
    if options.root.is_empty() {
        return Err("no --root: there is nothing to run a program from".to_owned());
    }
    if options.program.is_empty() {
        return Err("no program: give one after --".to_owned());
    }
    for (name, value) in [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/")] {
        let is_set = |variable: &String| variable.strip_prefix(name).is_some_and(|rest| rest.starts_with('='));
        if !options.env.iter().any(is_set) {
            options.env.push(format!("{name}={value}"));
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_windows_does() {
        let cases: [(&str, &[&str]); 9] = [
            ("a b  c", &["a", "b", "c"]),
            ("\"a b\" c", &["a b", "c"]),
            (r#"a\\b "c\\" d"#, &[r"a\\b", r"c\", "d"]),
            (r#"a\"b c"#, &["a\"b", "c"]),
            (r#""a""b" c"#, &["a\"b", "c"]),
            (r#"\\server\x"#, &[r"\\server\x"]),
            ("\"\" x", &["", "x"]),
            ("  x ", &["x"]),
            ("", &[]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line), words, "{line}");
        }
    }

    #[test]
    fn usage_names_every_option() {
        for option in ["--root", "--cwd", "--env"] {
            assert!(USAGE.lines().any(|line| line.trim_start().starts_with(option)), "{option}");
        }
    }

    #[test]
    fn options_come_before_the_program() {
        let options = parse("launch --root C:\\debian --env A=1 -- sh -c \"exit 1\" --root").unwrap();
        assert_eq!((options.root.as_str(), options.cwd.as_str()), ("C:\\debian", "/"));
        assert_eq!(options.program, ["sh", "-c", "exit 1", "--root"]);
        assert_eq!(options.env, ["A=1", "PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/"]);
        for bad in ["launch", "launch --root x", "launch --root x --", "launch --root", "launch -- sh", "launch --root x sh"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
