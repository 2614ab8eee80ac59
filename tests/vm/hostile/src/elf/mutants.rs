//! Spoiled program files: every field with every odd value, files that end too early, several faults at once. The seed is fixed.

use super::image::{self, DYN, EXEC, HEADER_BYTES, Image, LOAD, SEGMENT_BYTES, SEGMENT_FIELDS};
use crate::check::Numbers;

/// A spoiled file.
#[derive(Debug)]
pub(super) struct Mutant {
    /// In which way.
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
    /// Whether it is to be an interpreter rather than a program.
    pub(super) is_interpreter: bool,
}

/// Values at which sums and differences of addresses, sizes and offsets go wrong, and values that mean something.
const VALUES: [u64; 34] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    16,
    56,
    63,
    64,
    0x3ff,
    0xfff,
    0x1000,
    0x1001,
    0x1fff,
    0x2000,
    0x1_0000,
    0x40_0000,
    0x40_1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_e000,
    0x7fff_ffff_f000,
    0x8000_0000_0000,
    0x7fff_ffff_ffff_f000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_8000_0000_0000,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

/// The mutant whose segments are at the end of Linux's addresses.
pub(super) const HIGHEST: &str = "the type and the highest addresses";

/// Files with several faults.
const RANDOM: usize = 800;

/// A place in an [`Image`] that holds a number.
#[derive(Clone, Copy, Debug)]
enum Field {
    Ident(usize),
    Header(usize),
    Segment(usize, usize),
}

impl Field {
    fn all(image: &Image) -> Vec<Self> {
        let segments = 0..image.segments.len();
        let of_segments = segments.flat_map(|segment| (0..SEGMENT_FIELDS.len()).map(move |field| Self::Segment(segment, field)));
        let of_header = (0..image.header.fields.len()).map(Self::Header);
        (0..8).map(Self::Ident).chain(of_header).chain(of_segments).collect()
    }

    fn name(self, image: &Image) -> String {
        match self {
            Self::Ident(at) => format!("e_ident[{at}]"),
            Self::Header(at) => image.header.fields[at].0.to_owned(),
            Self::Segment(segment, field) => format!("{}[{segment}]", SEGMENT_FIELDS[field].0),
        }
    }

    fn width(self, image: &Image) -> u8 {
        match self {
            Self::Ident(_) => 1,
            Self::Header(at) => image.header.fields[at].1,
            Self::Segment(_, field) => SEGMENT_FIELDS[field].1,
        }
    }

    fn get(self, image: &Image) -> u64 {
        match self {
            Self::Ident(at) => image.header.ident[at].into(),
            Self::Header(at) => image.header.fields[at].2,
            Self::Segment(segment, field) => image.segments[segment][field],
        }
    }

    fn set(self, image: &mut Image, value: u64) {
        match self {
            Self::Ident(at) => image.header.ident[at] = value as u8,
            Self::Header(at) => image.header.fields[at].2 = value,
            Self::Segment(segment, field) => image.segments[segment][field] = value,
        }
    }
}

/// Every mutant, always the same ones in the same order.
pub(super) fn all() -> Vec<Mutant> {
    let bases = [
        ("program", image::program(), false),
        ("movable", image::movable(), false),
        ("user", image::with_interpreter(b"/interpreter"), false),
        ("interpreter", image::interpreter(), true),
    ];
    let mut mutants = Vec::new();
    for (phase, (name, base, is_interpreter)) in bases.iter().enumerate() {
        let mut add = |what: String, bytes: Vec<u8>| {
            mutants.push(Mutant { what: format!("{name}: {what}"), bytes, is_interpreter: *is_interpreter });
        };
        // One base after the other takes other values: all of them for each would be twice as long and tell little more.
        fields(base, phase, &mut add);
        shapes(base, &mut add);
        lengths(base, &mut add);
    }
    let mut numbers = Numbers::from_seed(0x1173_b0c5);
    for _ in 0..RANDOM {
        let (name, base, is_interpreter) = &bases[numbers.below(bases.len())];
        let (what, bytes) = random(base, &mut numbers);
        mutants.push(Mutant { what: format!("{name}: {what}"), bytes, is_interpreter: *is_interpreter });
    }
    mutants
}

/// One field, one value: of the values that the field can hold every fourth, from `phase` on.
fn fields(base: &Image, phase: usize, add: &mut impl FnMut(String, Vec<u8>)) {
    for field in Field::all(base) {
        let (width, right) = (field.width(base), field.get(base));
        let fits = |value: &u64| width == 8 || *value < 1 << (8 * u32::from(width));
        let near = [right.wrapping_add(1), right.wrapping_sub(1), right ^ 0x1000];
        let mut values: Vec<u64> = VALUES.into_iter().chain(near).filter(|value| fits(value) && *value != right).collect();
        values.sort_unstable();
        values.dedup();
        for value in values.into_iter().skip(phase).step_by(4) {
            let mut image = base.clone();
            field.set(&mut image, value);
            add(format!("{} = {value:#x}", field.name(base)), image.bytes());
        }
    }
}

/// Segments that are twice there, in another order, on each other, or of another kind than the file's.
fn shapes(base: &Image, add: &mut impl FnMut(String, Vec<u8>)) {
    let mut change = |what: &str, change: fn(&mut Image)| {
        let mut image = base.clone();
        change(&mut image);
        add(what.to_owned(), image.bytes());
    };
    fn count(image: &mut Image) {
        image.header.fields[9].2 = image.segments.len() as u64;
    }
    fn loads(image: &mut Image) -> Vec<&mut image::Segment> {
        image.segments.iter_mut().filter(|segment| segment[0] == LOAD).collect()
    }
    change("no segments", |image| {
        image.segments.clear();
        count(image);
    });
    change("segments backwards", |image| image.segments.reverse());
    change("every segment twice", |image| {
        image.segments.extend(image.segments.clone());
        count(image);
    });
    change("the first segment twenty times", |image| {
        image.segments.extend(vec![image.segments[0]; 20]);
        count(image);
    });
    change("segments on each other", |image| {
        let mut loads = loads(image);
        loads[1][3] = loads[0][3];
    });
    change("segments that share a page", |image| {
        let mut loads = loads(image);
        loads[1][3] = loads[0][3] + 0x800;
        loads[1][2] = 0x800;
    });
    change("a segment in the other's zeroes", |image| {
        let mut loads = loads(image);
        loads[0][6] = 0x10_0000;
    });
    change("no segment may be read", |image| loads(image).into_iter().for_each(|segment| segment[1] = 0));
    change("segments may only be executed", |image| loads(image).into_iter().for_each(|segment| segment[1] = 1));
    change("zeroes in a segment that may not be written", |image| loads(image)[1][1] = 4);
    change("code that may not be executed", |image| loads(image)[0][1] = 4);
    change("only zeroes", |image| loads(image).into_iter().for_each(|segment| segment[5] = 0));
    change("nothing in memory", |image| {
        for segment in loads(image) {
            (segment[5], segment[6]) = (0, 0);
        }
    });
    change("the other type", |image| {
        let kind = &mut image.header.fields[0].2;
        *kind = if *kind == EXEC { DYN } else { EXEC };
    });
    change(HIGHEST, |image| {
        image.header.fields[0].2 = EXEC;
        for (index, segment) in loads(image).into_iter().enumerate() {
            segment[3] = 0x7fff_ffff_0000 + 0x1000 * index as u64;
        }
    });
    change("program headers at the file's end", |image| image.header.fields[4].2 = image.length as u64 - 64);
    change("program headers behind the file's end", |image| image.header.fields[4].2 = image.length as u64);
    change("program headers that wrap around", |image| image.header.fields[4].2 = u64::MAX - 63);
    change("65535 program headers", |image| image.header.fields[9].2 = 0xffff);
    change("an interpreter's path without its end", |image| {
        image.segments.iter_mut().filter(|segment| segment[0] == 3).for_each(|segment| segment[5] -= 1);
    });
    change("two interpreters", |image| {
        if let Some(segment) = image.segments.iter().find(|segment| segment[0] == 3).copied() {
            image.segments.insert(0, segment);
            count(image);
        }
    });
}

/// Files that end early: within the headers at each length that matters, then in steps.
fn lengths(base: &Image, add: &mut impl FnMut(String, Vec<u8>)) {
    let bytes = base.bytes();
    let headers = HEADER_BYTES + SEGMENT_BYTES * base.segments.len();
    let early = (0..20).chain((20..headers).step_by(11)).chain([HEADER_BYTES - 1, HEADER_BYTES, headers - 1, headers]);
    for length in early.chain([0x3ff, 0x400, 0x410, 0x417, 0x600, 0x605, 0xfff, 0x1000, 0x1001, 0x100f]) {
        add(format!("only {length} bytes"), bytes[..length.min(bytes.len())].to_vec());
    }
    let mut longer = bytes;
    longer.resize(0x3000, 0xcc);
    add("with more behind it".to_owned(), longer);
}

/// Two to five faults, and sometimes an early end.
fn random(base: &Image, numbers: &mut Numbers) -> (String, Vec<u8>) {
    let (mut image, mut what) = (base.clone(), Vec::new());
    let fields = Field::all(base);
    for _ in 0..2 + numbers.below(4) {
        // The identification is checked first, and alone: more about it tells nothing.
        let field = fields[8 + numbers.below(fields.len() - 8)];
        let value = match numbers.below(4) {
            0 => numbers.next(),
            1 => field.get(base).wrapping_add(numbers.next() % 0x2000),
            2 => field.get(base).wrapping_sub(numbers.next() % 0x2000),
            _ => numbers.one_of(&VALUES),
        };
        let width = u32::from(field.width(base));
        let value = if width == 8 { value } else { value % (1 << (8 * width)) };
        field.set(&mut image, value);
        what.push(format!("{} = {value:#x}", field.name(base)));
    }
    let mut bytes = image.bytes();
    if numbers.below(8) == 0 {
        bytes.truncate(numbers.below(bytes.len()));
        what.push(format!("only {} bytes", bytes.len()));
    }
    (what.join(", "), bytes)
}
