//! Building for Windows on Linux: this machine's Rust with Windows's libcore, and the linker that comes with Rust.
//!
//! No import library, SDK or WDK is needed: the crates name what they import (`raw-dylib`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::imports;
use crate::paths;
use crate::setup::{Log, Setup, which};

/// The target.
const TARGET: &str = "x86_64-pc-windows-msvc";
/// The workspace of what is built for it.
const WORKSPACE: &str = "platform-windows-driver/Cargo.toml";

/// One image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    /// The package.
    package: &'static str,
    /// What cargo calls the file, and what we do.
    files: (&'static str, &'static str),
    features: &'static [&'static str],
    /// How it is linked, beside what all are.
    link: &'static [&'static str],
}

/// How drivers are linked. `/INTEGRITYCHECK` is for release signing.
const DRIVER: &[&str] = &["/DRIVER", "/SUBSYSTEM:NATIVE,10.0", "/MERGE:.CRT=.rdata", "/ENTRY:FxDriverEntry"];

/// What users get.
const PRODUCT: [Image; 2] = [
    Image { package: "litebox-platform-windows", files: ("litebox.dll", "litebox.sys"), features: &[], link: DRIVER },
    Image {
        package: "litebox-launch-windows",
        files: ("litebox-launch.exe", "litebox-launch.exe"),
        features: &[],
        link: &["/SUBSYSTEM:CONSOLE", "/ENTRY:mainCRTStartup"],
    },
];

/// What tests under Wine need: the driver with the engine that only they have, and the framework's double.
pub(super) const TEST: [Image; 3] = [
    Image { features: &["wine-double"], ..PRODUCT[0] },
    Image {
        package: "litebox-wdfldr-double",
        files: ("wdfldr.dll", "wdfldr.sys"),
        features: &[],
        link: &["/DRIVER", "/SUBSYSTEM:NATIVE,10.0", "/MERGE:.CRT=.rdata", "/ENTRY:DriverEntry"],
    },
    PRODUCT[1],
];

/// Builds what users get, and checks its imports.
///
/// # Errors
/// What is missing on this machine, with the cure; the compiler's or the linker's failure; an import that is not listed.
pub(super) fn product() -> Result<Vec<PathBuf>> {
    let builder = Builder::new("windows")?;
    let files = PRODUCT.iter().map(|image| builder.build(image)).collect::<Result<Vec<_>>>()?;
    for file in &files {
        imports::check(file)?;
    }
    Ok(files)
}

/// What builds images into a folder of the cache.
pub(super) struct Builder {
    linker: PathBuf,
    work: PathBuf,
    out: PathBuf,
    log: PathBuf,
}

impl Builder {
    /// For the folder `name`.
    ///
    /// # Errors
    /// What is missing on this machine, with the cure.
    pub(super) fn new(name: &str) -> Result<Self> {
        let setup = Setup::new(paths::cache());
        have_target()?;
        let out = setup.work(name)?;
        Ok(Self { linker: linker()?, work: setup.work("windows-target")?, log: setup.work("logs")?.join("windows.log"), out })
    }

    /// Builds one image.
    ///
    /// # Errors
    /// The compiler's or the linker's failure.
    pub(super) fn build(&self, image: &Image) -> Result<PathBuf> {
        eprintln!("litebox: building {} (log: {})", image.files.1, self.log.display());
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(paths::repository());
        command.args(["rustc", "--locked", "--release", "--target", TARGET, "--manifest-path", WORKSPACE]);
        command.args(["--package", image.package, "--features", &image.features.join(",")]).arg("--");
        let all = ["/NODEFAULTLIB", "/RELEASE", "/DYNAMICBASE", "/NXCOMPAT", "/HIGHENTROPYVA", "/OPT:REF", "/OPT:ICF", "/BREPRO"];
        for argument in all.iter().chain(image.link) {
            command.arg("-C").arg(format!("link-arg={argument}"));
        }
        let linker = self.linker.display();
        command.env("RUSTFLAGS", format!("-C linker={linker} -C linker-flavor=lld-link"));
        command.env("CARGO_TARGET_DIR", &self.work).env_remove("CARGO_ENCODED_RUSTFLAGS");
        let mut log = Log::create(&self.log)?;
        log.run(&mut command).with_context(|| format!("cannot build {}\n{}", image.files.1, log.tail()))?;
        let made = self.work.join(TARGET).join("release").join(image.files.0);
        let file = self.out.join(image.files.1);
        fs::copy(&made, &file).with_context(|| format!("the build left no {}", made.display()))?;
        Ok(file)
    }
}

/// Makes sure that Rust has Windows's libcore.
fn have_target() -> Result<()> {
    let libraries = rustc(&["--print", "target-libdir", "--target", TARGET])?;
    if Path::new(&libraries).is_dir() {
        return Ok(());
    }
    if which("rustup").is_some() {
        let status = Command::new("rustup").args(["target", "add", TARGET]).current_dir(paths::repository()).status()?;
        if status.success() {
            return Ok(());
        }
    }
    bail!("this machine's Rust cannot build for Windows\n  try: rustup target add {TARGET}")
}

/// Rust's own linker, or the machine's.
fn linker() -> Result<PathBuf> {
    let host = format!("lib/rustlib/{}-unknown-linux-gnu/bin/rust-lld", std::env::consts::ARCH);
    let own = PathBuf::from(rustc(&["--print", "sysroot"])?).join(host);
    match which("lld-link") {
        _ if own.is_file() => Ok(own),
        Some(machines) => Ok(machines),
        None => bail!("no linker for Windows: Rust came without rust-lld\n  try: sudo apt-get install lld"),
    }
}

/// What rustc answers.
fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(arguments).current_dir(paths::repository()).output().context("cannot run rustc")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
