//! docs/compatibility.md says what the table says. `UPDATE_DOCS=1 cargo test -p litebox-shim-linux` rewrites it.

use litebox_shim_linux::errno;
use litebox_shim_linux::table::{ROWS, Row, Support};
use std::fmt::Write;
use std::path::Path;

fn line(row: &Row) -> String {
    let args: Vec<_> = row.args.iter().map(|arg| arg.name).collect();
    let (level, note) = match row.support {
        Support::Full => ("full", String::new()),
        Support::Partial(gap) => ("partial", gap.to_owned()),
        Support::None(errno, why) => ("none", format!("{}: {why}", errno::name(errno))),
    };
    format!("| {} | <a id=\"{1}\"></a>`{1}({2})` | {level} | {note} |\n", row.number, row.name, args.join(", "))
}

fn document() -> String {
    let count = |level: fn(&Support) -> bool| ROWS.iter().filter(|row| level(&row.support)).count();
    let mut text = String::from("# Which system calls work\n\n");
    text +=
        "Made from the table in shim-linux/src/table.rs by `UPDATE_DOCS=1 cargo test -p litebox-shim-linux`; a test fails when\n";
    text += "it is stale. A call that is not supported is named once in the sandbox's log.\n\n";
    let full = count(|support| matches!(support, Support::Full));
    let partial = count(|support| matches!(support, Support::Partial(_)));
    let none = count(|support| matches!(support, Support::None(..)));
    writeln!(text, "Of {} calls, {full} are full, {partial} partial, {none} not supported.\n", ROWS.len())
        .expect("a string grows");
    text += "| number | call | support | what differs from Linux |\n|---|---|---|---|\n";
    text.extend(ROWS.iter().map(line));
    text
}

#[test]
fn the_page_is_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compatibility.md");
    let wanted = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("docs/ can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/compatibility.md is stale; run UPDATE_DOCS=1 cargo test -p litebox-shim-linux");
}
