//! What the program finds where: the options that mount or make something, in the order in which they stood.

use crate::cli::Cli;
use clap::{ArgMatches, CommandFactory};
use litebox_ioctl_abi::Permissions;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// What a place shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// A directory or file of this machine.
    Host(PathBuf),
    /// An image of a file system, in a file of this machine.
    Image(PathBuf),
    /// A directory of this machine or an image, and what the program changes in it.
    Overlay {
        /// The directory, or the file with the image.
        lower: PathBuf,
        /// Most bytes of changes.
        size: Option<NonZeroU64>,
    },
    /// A directory of this machine or an image, and what the program changes in it, kept in another directory.
    Lasting {
        /// The directory, or the file with the image.
        lower: PathBuf,
        /// The directory with the changes.
        upper: PathBuf,
    },
    /// A new file system in memory.
    Memory {
        /// Most bytes.
        size: Option<NonZeroU64>,
        /// Most files.
        files: Option<NonZeroU64>,
        /// Its root's permissions.
        mode: Option<Permissions>,
    },
    /// A procfs.
    Proc,
    /// The sandbox's devices.
    Dev,
    /// A directory, made unless it is there.
    Directory(Option<Permissions>),
    /// A symbolic link to this.
    Symlink(PathBuf),
    /// A file with what can be read of this descriptor.
    Copy(u32, Option<Permissions>),
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Where in the guest.
    pub(crate) at: PathBuf,
    /// What.
    pub(crate) show: Show,
    /// Whether the guest cannot change it.
    pub(crate) read_only: bool,
    /// Whether it is left out where the root has no such directory.
    pub(crate) optional: bool,
}

impl Place {
    /// One of the places that are there without being asked for.
    pub(crate) fn usual(at: &str, show: Show) -> Self {
        Self { at: at.into(), show, read_only: false, optional: true }
    }
}

impl Place {
    /// Whether it is a mount.
    pub(crate) fn is_shown(&self) -> bool {
        !matches!(self.show, Show::Directory(_) | Show::Symlink(_) | Show::Copy(..))
    }
}

/// What one option says.
enum Said {
    Place(Place),
    Size(NonZeroU64),
    Files(NonZeroU64),
    Mode(Permissions),
}

/// What was said of the place that comes next.
#[derive(Default)]
struct Next {
    size: Option<NonZeroU64>,
    files: Option<NonZeroU64>,
    mode: Option<Permissions>,
}

impl Next {
    /// Gives a place what was said of it; whether something is left that it cannot have.
    fn give(&mut self, show: &mut Show) {
        match show {
            Show::Memory { size, files, mode } => {
                (*size, *files, *mode) = (self.size.take(), self.files.take(), self.mode.take())
            }
            Show::Overlay { size, .. } => *size = self.size.take(),
            Show::Directory(mode) | Show::Copy(_, mode) => *mode = self.mode.take(),
            Show::Host(_) | Show::Image(_) | Show::Lasting { .. } | Show::Proc | Show::Dev | Show::Symlink(_) => {}
        }
    }

    /// The option that nothing has used.
    fn unused(&self) -> Option<&'static str> {
        let said = [(self.size.is_some(), "--size"), (self.files.is_some(), "--inodes"), (self.mode.is_some(), "--perms")];
        said.into_iter().find_map(|(said, name)| said.then_some(name))
    }
}

fn wrong(text: String) -> clap::Error {
    Cli::command().error(clap::error::ErrorKind::ValueValidation, text)
}

/// The image that is to be the root: of `--image` without a place. The last one counts.
pub(crate) fn root_image(matches: &ArgMatches) -> Option<PathBuf> {
    let occurrences = matches.get_occurrences::<PathBuf>("image").into_iter().flatten();
    let mut alone = occurrences.filter_map(|mut values| values.next().filter(|_| values.next().is_none()));
    alone.next_back().cloned()
}

/// The places that were asked for.
pub(crate) fn asked(matches: &ArgMatches, cli: &Cli) -> Result<Vec<Place>, clap::Error> {
    let mut said: Vec<(usize, Said)> = Vec::new();
    let at = |name| matches.indices_of(name).into_iter().flatten();
    let place = |at: &PathBuf, show| Said::Place(Place { at: at.clone(), show, read_only: false, optional: false });
    let pairs = [
        ("bind", &cli.bind),
        ("ro_bind", &cli.ro_bind),
        ("tmp_overlay", &cli.tmp_overlay),
        ("symlink", &cli.symlink),
        ("file", &cli.file),
    ];
    for (name, values) in pairs {
        for (index, pair) in at(name).step_by(2).zip(values.chunks_exact(2)) {
            let source = pair[0].clone();
            let show = match name {
                "tmp_overlay" => Show::Overlay { lower: source, size: None },
                "symlink" => Show::Symlink(source),
                "file" => {
                    let fd = source.to_str().and_then(|text| text.parse().ok());
                    Show::Copy(fd.ok_or_else(|| wrong(format!("'{}' is no number of a descriptor", source.display())))?, None)
                }
                _ => Show::Host(source),
            };
            let place = Place { at: pair[1].clone(), show, read_only: name == "ro_bind", optional: false };
            said.push((index, Said::Place(place)));
        }
    }
    for (index, three) in at("overlay").step_by(3).zip(cli.overlay.chunks_exact(3)) {
        let show = Show::Lasting { lower: three[0].clone(), upper: three[1].clone() };
        said.push((index, Said::Place(Place { at: three[2].clone(), show, read_only: false, optional: false })));
    }
    let occurrences = matches.get_occurrences::<PathBuf>("image").into_iter().flatten();
    let mut indices = at("image");
    for values in occurrences {
        let values: Vec<&PathBuf> = values.collect();
        let index = indices.next();
        indices.by_ref().take(values.len() - 1).for_each(drop);
        // Without a place it is the root, which is no further one.
        if let (Some(index), [image, at]) = (index, &values[..]) {
            let show = Show::Image((*image).clone());
            said.push((index, Said::Place(Place { at: (*at).clone(), show, read_only: true, optional: false })));
        }
    }
    let memory = Show::Memory { size: None, files: None, mode: None };
    let singles = [
        ("tmpfs", &cli.tmpfs, memory),
        ("dev", &cli.dev, Show::Dev),
        ("proc", &cli.proc, Show::Proc),
        ("dir", &cli.dir, Show::Directory(None)),
    ];
    for (name, values, show) in singles {
        said.extend(at(name).zip(values).map(|(index, path)| (index, place(path, show.clone()))));
    }
    said.extend(at("size").zip(&cli.size).map(|(index, size)| (index, Said::Size(*size))));
    said.extend(at("inodes").zip(&cli.inodes).map(|(index, files)| (index, Said::Files(*files))));
    said.extend(at("perms").zip(&cli.perms).map(|(index, mode)| (index, Said::Mode(*mode))));
    said.sort_by_key(|(index, _)| *index);

    let (mut places, mut next) = (Vec::new(), Next::default());
    for (_, said) in said {
        let twice = match said {
            Said::Size(size) => next.size.replace(size).map(|_| "--size"),
            Said::Files(files) => next.files.replace(files).map(|_| "--inodes"),
            Said::Mode(mode) => next.mode.replace(mode).map(|_| "--perms"),
            Said::Place(mut place) => {
                next.give(&mut place.show);
                if let Some(name) = next.unused() {
                    return Err(wrong(format!("{name} stands before {}, which cannot have it", place.at.display())));
                }
                places.push(place);
                None
            }
        };
        if let Some(name) = twice {
            return Err(wrong(format!("{name} stands twice before one place")));
        }
    }
    match next.unused() {
        Some(name) => Err(wrong(format!("nothing comes behind {name} that could have it"))),
        None => Ok(places),
    }
}
