//! Where the content of a compressed file lies: which cluster of the image holds which bytes.
//!
//! A file is cut into *logical clusters* of one size, each with an index. Where a compressed cluster begins in one, that is a head, and
//! its index has the place in the image and the offset in the logical cluster; the others count the way to their head. Invariants: an
//! [`Extent`] holds the offset that was asked for, and its two lengths are within Linux's limits. Hostile input: every index. Each walk
//! is bounded by [`LENGTH_MAX`]. Source: Linux fs/erofs/zmap.c, `erofs_fs.h`.

use super::layout::{Layout, Node, SuperBlock, align, product, sum, u8_at, u16_at, u32_at, u64_at};
use super::store::Store;
use crate::platform::Platform;
use crate::{errno, error::Error, error::Result};

/// Most bytes of a compressed cluster.
const PACKED_MAX: u64 = 1 << 20;
/// Most bytes that one holds when it is decompressed.
const LENGTH_MAX: u64 = 12 << 20;

/// Set in a distance of the index behind a head: the rest of it counts the cluster's blocks.
const COUNTS_BLOCKS: u16 = 1 << 11;

/// How bytes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Plain,
    /// As they are, each at the place in its block that it has in the file's: the first ones are the last.
    Rotated,
    /// An LZ4 block, at the end of the cluster; from tools of before 2019 at its start, which makes no difference to who decodes it.
    Lz4,
}

/// Where an extent's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// They are zeros.
    Hole,
    /// In a cluster of the image, of `len` bytes.
    Cluster { at: u64, len: u64, form: Form },
    /// From this offset on in the file of fragments.
    Fragment(u64),
}

/// Bytes of a file that come from one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first one's offset.
    pub(super) start: u64,
    /// How many.
    pub(super) len: u64,
    pub(super) held: Held,
}

/// What the head of a file's indices says.
struct Index<'a, P: Platform> {
    store: &'a Store<P>,
    node: &'a Node,
    /// Where the indices begin.
    at: u64,
    /// log2 of a logical cluster's bytes.
    bits: u32,
    advice: u16,
    tail: Option<Tail>,
}

mod advice {
    /// Compact indices of two bytes; with indices of eight, extents instead.
    pub(super) const SHORT: u16 = 1;
    pub(super) const BIG_1: u16 = 1 << 1;
    pub(super) const BIG_2: u16 = 1 << 2;
    pub(super) const INLINE: u16 = 1 << 3;
    pub(super) const ROTATED: u16 = 1 << 4;
    pub(super) const FRAGMENT: u16 = 1 << 5;
}

/// The last extent of a file, if it lies elsewhere.
struct Tail {
    /// The logical cluster that its head is in.
    head: u64,
    held: Held,
}

/// What an index says.
struct Cluster {
    kind: Kind,
    /// Where the indices that this one is packed with end.
    end: u64,
}

#[derive(Clone, Copy)]
enum Kind {
    Head(Head),
    /// Distance to the head, unless it `counts` the blocks of the cluster, and then that is the one before.
    Other {
        back: u64,
        counts: Option<u64>,
    },
}

#[derive(Clone, Copy)]
struct Head {
    /// Offset in the logical cluster.
    within: u64,
    block: u64,
    sort: Sort,
    is_hole: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Plain,
    First,
    Second,
}

fn damaged() -> Error {
    errno!(UCLEAN, "the index of a compressed file is damaged")
}

/// The extent of `node` that holds `offset`, which is before its end.
///
/// # Errors
/// `OPNOTSUPP`: in a form that is not built. `UCLEAN`: damaged. Those of the host.
pub(super) fn find<P: Platform>(store: &Store<P>, node: &Node, offset: u64) -> Result<Extent> {
    let index = match Index::open(store, node)? {
        Opened::Whole(fragment) => return Ok(Extent { start: 0, len: node.size, held: Held::Fragment(fragment) }),
        Opened::Index(index) => index,
    };
    let (number, head, _) = index.head_of(offset)?;
    let start = index.start(number, &head)?;
    let end = index.end_of(number, start)?;
    let len = end.checked_sub(start).filter(|_| start <= offset && offset < end).ok_or_else(damaged)?;
    let (held, is_tail) = match &index.tail {
        Some(tail) if tail.head == number => (tail.held, true),
        _ => (index.held(number, &head)?, false),
    };
    let held = match held {
        Held::Cluster { at, len: packed, .. } => {
            Held::Cluster { at, len: packed, form: index.form(head.sort, packed, len, is_tail)? }
        }
        Held::Hole | Held::Fragment(_) => held,
    };
    Ok(Extent { start, len, held })
}

enum Opened<'a, P: Platform> {
    Index(Index<'a, P>),
    /// The whole file is a fragment, at this offset.
    Whole(u64),
}

impl<'a, P: Platform> Index<'a, P> {
    fn open(store: &'a Store<P>, node: &'a Node) -> Result<Opened<'a, P>> {
        let header_at = align(node.end, 8)?;
        let mut header = [0; 8];
        store.read(header_at, &mut header)?;
        let cluster_bits = u8_at(&header, 7)?;
        if cluster_bits & 0x80 != 0 {
            return Ok(Opened::Whole(u64_at(&header, 0)? & !(1 << 63)));
        }
        let advice = u16_at(&header, 4)?;
        let is_compact = node.layout == Layout::PackedCompact;
        if !is_compact && advice & advice::SHORT != 0 {
            return Err(errno!(OPNOTSUPP, "a compressed file with a list of extents"));
        }
        let algorithms = u8_at(&header, 6)?;
        if algorithms != 0 {
            return Err(errno!(OPNOTSUPP, "a file compressed with another algorithm than LZ4"));
        }
        let bits = store.about.block_bits.saturating_add((cluster_bits & 15).into());
        let big = advice & (advice::BIG_1 | advice::BIG_2);
        let most_bits = if advice & advice::SHORT != 0 { 12 } else { 14 };
        let is_odd = is_compact && (bits > most_bits || (big != 0 && big != advice::BIG_1 | advice::BIG_2));
        if is_odd || (big != 0 && !store.about.has_big_clusters) {
            return Err(damaged());
        }
        let at = sum(header_at, if is_compact { 8 } else { 16 })?;
        let mut index = Self { store, node, at, bits, advice, tail: None };
        let packed = u64::from(u16_at(&header, 2)?);
        let fragment = u64::from(u32_at(&header, 0)?);
        if advice & advice::FRAGMENT != 0 {
            let (number, head, _) = index.head_of(node.size.saturating_sub(1))?;
            let high = if is_compact { 0 } else { head.block << 32 };
            index.tail = Some(Tail { head: number, held: Held::Fragment(fragment | high) });
        } else if advice & advice::INLINE != 0 && packed != 0 {
            let (number, _, at) = index.head_of(node.size.saturating_sub(1))?;
            if store.about.within_block(at).saturating_add(packed) > store.about.block() {
                return Err(errno!(UCLEAN, "the tail of a file crosses a block"));
            }
            index.tail = Some(Tail { head: number, held: Held::Cluster { at, len: packed, form: Form::Plain } });
        }
        Ok(Opened::Index(index))
    }

    fn about(&self) -> &SuperBlock {
        &self.store.about
    }

    /// The head of the extent that holds `offset` and the logical cluster it is in; and where the indices end that are packed with that
    /// of `offset`.
    fn head_of(&self, offset: u64) -> Result<(u64, Head, u64)> {
        let mut number = offset.wrapping_shr(self.bits);
        let within = offset & 1u64.wrapping_shl(self.bits).wrapping_sub(1);
        let Cluster { mut kind, end } = self.load(number)?;
        let mut walked = 0u64;
        loop {
            let back = match kind {
                Kind::Head(head) if walked > 0 || within >= head.within => return Ok((number, head, end)),
                Kind::Head(_) => 1,
                Kind::Other { back, .. } => back,
            };
            walked = walked.saturating_add(back);
            number = number.checked_sub(back).filter(|_| back > 0 && walked <= self.most()).ok_or_else(damaged)?;
            kind = self.load(number)?.kind;
        }
    }

    /// Most logical clusters that an extent has a part of.
    fn most(&self) -> u64 {
        LENGTH_MAX.wrapping_shr(self.bits).saturating_add(2)
    }

    /// The offset of the extent with this head.
    fn start(&self, number: u64, head: &Head) -> Result<u64> {
        sum(product(number, 1u64.wrapping_shl(self.bits))?, head.within)
    }

    /// Where the extent ends that starts at `start`, in the logical cluster `number`: at the next head, or with the file.
    fn end_of(&self, number: u64, start: u64) -> Result<u64> {
        let mut next = number;
        for _ in 0..self.most() {
            next = sum(next, 1)?;
            let at = product(next, 1u64.wrapping_shl(self.bits))?;
            let end = if at >= self.node.size {
                self.node.size
            } else if let Kind::Head(head) = self.load(next)?.kind {
                sum(at, head.within)?.min(self.node.size)
            } else {
                continue;
            };
            if end.saturating_sub(start) > LENGTH_MAX {
                break;
            }
            return Ok(end);
        }
        Err(errno!(OPNOTSUPP, "a compressed cluster of more than 12 MiB"))
    }

    /// Where the cluster of this head is, whose form is not looked at.
    fn held(&self, number: u64, head: &Head) -> Result<Held> {
        if head.is_hole {
            return Ok(Held::Hole);
        }
        let is_big = self.advice & if head.sort == Sort::First { advice::BIG_1 } else { advice::BIG_2 } != 0;
        let next = sum(number, 1)?;
        let blocks = if !is_big || product(next, 1u64.wrapping_shl(self.bits))? >= self.node.size {
            1
        } else {
            match self.load(next)?.kind {
                Kind::Head(_) => 1,
                Kind::Other { counts: Some(blocks), .. } => blocks,
                Kind::Other { counts: None, .. } => return Err(damaged()),
            }
        };
        if blocks == 0 {
            return Ok(Held::Hole);
        }
        let len = self.about().block_at(blocks)?;
        if len > PACKED_MAX {
            return Err(errno!(OPNOTSUPP, "a compressed cluster of more than 1 MiB"));
        }
        Ok(Held::Cluster { at: self.about().block_at(head.block)?, len, form: Form::Plain })
    }

    /// How `len` bytes are kept in a cluster of `packed`, which is the tail behind the index or lies in blocks of its own.
    fn form(&self, sort: Sort, packed: u64, len: u64, is_tail: bool) -> Result<Form> {
        match sort {
            Sort::First | Sort::Second => Ok(Form::Lz4),
            Sort::Plain if len > packed => Err(damaged()),
            Sort::Plain if self.advice & advice::ROTATED != 0 && !is_tail => Ok(Form::Rotated),
            Sort::Plain => Ok(Form::Plain),
        }
    }

    fn load(&self, number: u64) -> Result<Cluster> {
        let cluster = if self.node.layout == Layout::PackedCompact { self.load_compact(number) } else { self.load_full(number) }?;
        match cluster.kind {
            Kind::Head(head) if head.within >= 1u64.wrapping_shl(self.bits) => Err(damaged()),
            Kind::Other { counts: Some(_), .. } if self.advice & (advice::BIG_1 | advice::BIG_2) == 0 => Err(damaged()),
            Kind::Head(_) | Kind::Other { .. } => Ok(cluster),
        }
    }

    fn load_full(&self, number: u64) -> Result<Cluster> {
        let at = sum(self.at, product(number, 8)?)?;
        let mut bytes = [0; 8];
        self.store.read(at, &mut bytes)?;
        let what = u16_at(&bytes, 0)?;
        let kind = match sort(what.into()) {
            Some(sort) => {
                let within = u16_at(&bytes, 2)?.into();
                Kind::Head(Head { within, block: u32_at(&bytes, 4)?.into(), sort, is_hole: what & 1 << 14 != 0 })
            }
            None => other(u16_at(&bytes, 4)?),
        };
        Ok(Cluster { kind, end: sum(at, 8)? })
    }

    /// Indices of two or four bytes lie in packs of 32 or 8: bits for each of them, then the block before the first one's.
    fn load_compact(&self, number: u64) -> Result<Cluster> {
        let total = self.node.size.div_ceil(self.about().block());
        if number >= total {
            return Err(damaged());
        }
        // Long ones up to where a pack of short ones can begin, then short ones, long ones again.
        let first = (32u64.saturating_sub(self.at % 32) / 4) & 7;
        let has_short = self.advice & advice::SHORT != 0;
        let short = if has_short { total.saturating_sub(first) & !15 } else { 0 };
        let (skipped, left) = match number.checked_sub(first) {
            None => (0, number),
            Some(left) if left < short => (first.saturating_mul(4), left),
            Some(left) => (sum(first.saturating_mul(4), product(short, 2)?)?, left.saturating_sub(short)),
        };
        let is_short = number >= first && number.saturating_sub(first) < short;
        let (shift, count, pack_bytes) = if is_short { (1, 16, 32u64) } else { (2, 2, 8) };
        let at = sum(sum(self.at, skipped)?, product(left, 1 << shift)?)?;
        let pack_at = at & !(pack_bytes.wrapping_sub(1));
        let mut pack = [0; 32];
        let pack = pack.get_mut(..usize::try_from(pack_bytes).unwrap_or(0)).unwrap_or_default();
        self.store.read(pack_at, pack)?;
        let pack = Pack {
            bytes: pack,
            count,
            // A distance needs twelve bits.
            low_bits: self.bits.max(12),
            is_big: self.advice & advice::BIG_1 != 0,
        };
        let which = usize::try_from(at.saturating_sub(pack_at) >> shift).unwrap_or(0);
        Ok(Cluster { kind: pack.read(which)?, end: sum(pack_at, pack_bytes)? })
    }
}

/// The head that the two bits of a kind stand for.
fn sort(bits: u32) -> Option<Sort> {
    match bits & 3 {
        0 => Some(Sort::Plain),
        1 => Some(Sort::First),
        3 => Some(Sort::Second),
        _ => None,
    }
}

fn other(low: u16) -> Kind {
    if low & COUNTS_BLOCKS != 0 {
        Kind::Other { back: 1, counts: Some((low & !COUNTS_BLOCKS).into()) }
    } else {
        Kind::Other { back: low.into(), counts: None }
    }
}

/// Compact indices that share a block number.
struct Pack<'a> {
    bytes: &'a [u8],
    count: usize,
    low_bits: u32,
    is_big: bool,
}

impl Pack<'_> {
    /// The low part of index `which`, and its kind.
    fn entry(&self, which: usize) -> Result<(u16, Option<Sort>)> {
        let bits = self.bytes.len().saturating_sub(4).saturating_mul(8).checked_div(self.count).unwrap_or(0);
        let at = bits.saturating_mul(which);
        let word = u32_at(self.bytes, at / 8)?.checked_shr(u32::try_from(at % 8).unwrap_or(0)).unwrap_or(0);
        let low = word & 1u32.checked_shl(self.low_bits).unwrap_or(0).wrapping_sub(1);
        let low = u16::try_from(low).map_err(|_long| damaged())?;
        Ok((low, sort(word.checked_shr(self.low_bits).unwrap_or(0))))
    }

    fn read(&self, which: usize) -> Result<Kind> {
        let (low, sort) = self.entry(which)?;
        let Some(sort) = sort else {
            let is_last = which.saturating_add(1) == self.count;
            if low & COUNTS_BLOCKS != 0 || !is_last {
                return Ok(other(low));
            }
            // The last one has the way to the next head instead; the way back is the one before's, and one more.
            let back = match which.checked_sub(1).map(|before| self.entry(before)).transpose()? {
                Some((low, None)) if low & COUNTS_BLOCKS != 0 => 2,
                Some((low, None)) => u64::from(low).saturating_add(1),
                Some((_, Some(_))) | None => 1,
            };
            return Ok(Kind::Other { back, counts: None });
        };
        let base = u32_at(self.bytes, self.bytes.len().saturating_sub(4))?;
        let block = u64::from(base).saturating_add(self.blocks_before(which)?);
        Ok(Kind::Head(Head { within: low.into(), block, sort, is_hole: false }))
    }

    /// How many blocks the clusters have whose heads stand before `which`, and the one from before this pack.
    fn blocks_before(&self, which: usize) -> Result<u64> {
        let mut blocks = u64::from(!self.is_big);
        let mut at = which;
        while let Some(before) = at.checked_sub(1) {
            at = before;
            match self.entry(at)? {
                (_, Some(_)) => blocks = blocks.saturating_add(1),
                (low, None) if self.is_big && low & COUNTS_BLOCKS != 0 => {
                    // It stands behind its head.
                    at = at.saturating_sub(1);
                    blocks = blocks.saturating_add((low & !COUNTS_BLOCKS).into());
                }
                (low, None) if self.is_big => {
                    let skipped = low.checked_sub(2).filter(|_| low > 1).ok_or_else(damaged)?;
                    match at.checked_sub(skipped.into()) {
                        Some(head) => at = head,
                        None => break,
                    }
                }
                (low, None) => match at.checked_sub(low.into()) {
                    // The head that it counts the way to.
                    Some(head) => {
                        at = head;
                        blocks = blocks.saturating_add(1);
                    }
                    None => break,
                },
            }
        }
        Ok(blocks)
    }
}
