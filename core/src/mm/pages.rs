//! A sparse array of pages that is copied in constant time.
//!
//! A radix tree of 64-way nodes in `Arc`s: a copy shares the root; the first change below a shared node copies the nodes on the way
//! down, and no others. So fork costs nothing for each page, and a child that touches ten pages copies the nodes of ten pages.
//!
//! Invariants: nodes are charged to the quota of the one who makes them; depth is fixed, so recursion is bounded.

use crate::errno;
use crate::error::Result;
use crate::platform::{Frame, Frames};
use crate::quota::{Charge, Quota};
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

const BITS: u32 = 6;
const FAN: usize = 1 << BITS;
/// Pages of one leaf, which begins at a multiple of that.
pub(super) const LEAF_PAGES: u64 = FAN as u64;
/// Levels of inner nodes above the leaves: 6 * 6 bits are the 2^36 pages of a 48-bit space.
const TOP: u32 = 5;
/// The first page number that does not fit.
const LIMIT: u64 = 1 << (BITS * (TOP + 1));
/// What a page is charged as.
const OWNED_BYTES: u64 = super::PAGE_SIZE + 64;

/// A frame that one or more address spaces own copy-on-write, with what it was charged.
pub(super) struct OwnedPage<F> {
    pub(super) frame: F,
    _charge: Charge,
}

/// Shared ownership of an [`OwnedPage`]; may be written by a holder that is the only one.
pub(super) struct Owned<P: Frames>(Arc<OwnedPage<P::Frame>>);

impl<P: Frames> Clone for Owned<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: Frames> core::ops::Deref for Owned<P> {
    type Target = OwnedPage<P::Frame>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<P: Frames> Owned<P> {
    /// A page of zeros, charged first.
    pub(super) fn zeroed(quota: &Arc<Quota>) -> Result<Self> {
        let charge = quota.charge(OWNED_BYTES)?;
        let frame = P::zeroed_frame().ok_or(errno!(NOMEM, "the host has no memory"))?;
        Ok(Self(Arc::new(OwnedPage { frame, _charge: charge })))
    }

    /// Puts pages of zeros into `slots`, which are empty, from the front and charged first: as many as there is memory for.
    pub(super) fn zeroed_run(slots: &mut [Option<Slot<P>>], quota: &Arc<Quota>) {
        let Ok(mut charge) = quota.charge(OWNED_BYTES.saturating_mul(slots.len() as u64)) else { return };
        let count = slots.len();
        let mut slots = slots.iter_mut();
        P::zeroed_frames(count, |frame| {
            if let (Some(slot), Some(charge)) = (slots.next(), charge.part(OWNED_BYTES)) {
                *slot = Some(Slot::Own(Self(Arc::new(OwnedPage { frame, _charge: charge }))));
            }
        });
    }

    /// A copy of `from`, charged first.
    pub(super) fn copy_of(from: &P::Frame, quota: &Arc<Quota>) -> Result<Self> {
        let page = Self::zeroed(quota)?;
        page.frame.copy_from(from);
        Ok(page)
    }

    /// Whether nobody else owns it. Meaningful only when reached through nodes that are not shared.
    pub(super) fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// What an address space has at a page.
pub(super) enum Slot<P: Frames> {
    /// A page that belongs to guests: to this one, or to several copy-on-write.
    Own(Owned<P>),
    /// A page of a source that an entry may show. Entries keep no frame alive; this does, until the entry is gone.
    Shown(P::Frame),
}

impl<P: Frames> Clone for Slot<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Own(page) => Self::Own(page.clone()),
            Self::Shown(frame) => Self::Shown(frame.clone()),
        }
    }
}

impl<P: Frames> Slot<P> {
    /// The page, if it is the guests' own.
    pub(super) fn own(&self) -> Option<&Owned<P>> {
        match self {
            Self::Own(page) => Some(page),
            Self::Shown(_) => None,
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "a leaf is at most twice an inner node, and there are more leaves")]
enum Slots<V> {
    Inner([Option<Arc<Node<V>>>; FAN]),
    Leaf([Option<V>; FAN]),
}

struct Node<V> {
    slots: Slots<V>,
    _charge: Option<Charge>,
}

impl<V: Clone> Node<V> {
    /// Not inlined, as [`Self::copy`]: a node is a kilobyte on the stack while it is made, and the callers recurse.
    #[inline(never)]
    fn empty(level: u32, quota: &Arc<Quota>) -> Result<Arc<Self>> {
        let charge = quota.charge(node_bytes::<V>())?;
        let slots = if level == 0 { Slots::Leaf([const { None }; FAN]) } else { Slots::Inner([const { None }; FAN]) };
        Ok(Arc::new(Self { slots, _charge: Some(charge) }))
    }

    #[inline(never)]
    fn copy(&self, charge: Option<Charge>) -> Arc<Self> {
        let slots = match &self.slots {
            Slots::Inner(slots) => Slots::Inner(slots.clone()),
            Slots::Leaf(slots) => Slots::Leaf(slots.clone()),
        };
        Arc::new(Self { slots, _charge: charge })
    }

    /// Makes `this` the only owner of its node, by copying the node if it is shared.
    fn own(this: &mut Arc<Self>, charge: impl FnOnce() -> Result<Option<Charge>>) -> Result<&mut Self> {
        if Arc::get_mut(this).is_none() {
            *this = this.copy(charge()?);
        }
        Arc::get_mut(this).ok_or(errno!(NOMEM, "a node made now is not shared"))
    }
}

/// What a node is charged as: itself, and what an allocation costs beside it.
fn node_bytes<V>() -> u64 {
    (size_of::<Node<V>>() as u64).saturating_add(32)
}

/// By how many bits a page number is shifted at `level`. The highest is [`TOP`], so these are far fewer than a word has, and no shift by
/// them needs a check that could panic.
#[inline]
fn bits(level: u32) -> u32 {
    BITS.saturating_mul(level)
}

/// Position of `page` among the slots of a node at `level`.
#[inline]
fn place(page: u64, level: u32) -> usize {
    let index = page.wrapping_shr(bits(level)) & (FAN as u64).saturating_sub(1);
    usize::try_from(index).unwrap_or(0)
}

/// Pages under one slot of a node at `level`.
#[inline]
fn span(level: u32) -> u64 {
    1u64.wrapping_shl(bits(level))
}

/// A sparse array from page number to `V`.
pub(super) struct Pages<V> {
    root: Option<Arc<Node<V>>>,
}

impl<V> Clone for Pages<V> {
    /// Shares everything; O(1).
    fn clone(&self) -> Self {
        Self { root: self.root.clone() }
    }
}

impl<V> fmt::Debug for Pages<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl<V: Clone> Pages<V> {
    pub(super) const fn new() -> Self {
        Self { root: None }
    }

    /// How many there are. Walks all of them.
    pub(super) fn count(&self) -> u64 {
        self.root.as_ref().map_or(0, count_below)
    }

    /// Whether it certainly holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// What is at `page`.
    pub(super) fn get(&self, page: u64) -> Option<&V> {
        if page >= LIMIT {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut level = TOP;
        loop {
            match &node.slots {
                Slots::Inner(slots) => node = slots.get(place(page, level))?.as_ref()?,
                Slots::Leaf(slots) => return slots.get(place(page, 0))?.as_ref(),
            }
            level = level.saturating_sub(1);
        }
    }

    /// The leaf that `page` is in, and whether it is reached through nodes that nobody shares.
    ///
    /// It takes the tree for itself, so that nobody can come to share a node that is found to be sole.
    pub(super) fn leaf(&mut self, page: u64) -> Option<(Leaf<'_, V>, bool)> {
        if page >= LIMIT {
            return None;
        }
        let mut node = self.root.as_ref()?;
        let mut level = TOP;
        let mut is_sole = true;
        loop {
            // Nodes have no weak references.
            is_sole &= Arc::strong_count(node) == 1;
            match &node.slots {
                Slots::Inner(slots) => node = slots.get(place(page, level))?.as_ref()?,
                Slots::Leaf(slots) => {
                    // What the last other owner did to the pages comes before what is done to them now.
                    fence(Ordering::Acquire);
                    return Some((Leaf { first: page.saturating_sub(place(page, 0) as u64), slots }, is_sole));
                }
            }
            level = level.saturating_sub(1);
        }
    }

    /// The place for `page`, under nodes that nobody shares.
    ///
    /// # Errors
    /// `NOMEM`: past the quota; nothing that can be seen changed.
    pub(super) fn slot(&mut self, page: u64, quota: &Arc<Quota>) -> Result<&mut Option<V>> {
        if page >= LIMIT {
            return Err(errno!(NOMEM, "past the last page"));
        }
        let slots = leaf_below(&mut self.root, TOP, page, quota)?;
        slots.get_mut(place(page, 0)).ok_or(errno!(NOMEM, "no such slot"))
    }

    /// The places for the pages of `range` from its start on to the end of the leaf that this is in, as [`Self::slot`] gives one.
    ///
    /// # Errors
    /// As [`Self::slot`].
    pub(super) fn run(&mut self, range: Range<u64>, quota: &Arc<Quota>) -> Result<&mut [Option<V>]> {
        if range.start >= LIMIT {
            return Err(errno!(NOMEM, "past the last page"));
        }
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(FAN);
        let slots = leaf_below(&mut self.root, TOP, range.start, quota)?;
        let run = slots.get_mut(place(range.start, 0)..).unwrap_or_default();
        let count = count.min(run.len());
        Ok(run.get_mut(..count).unwrap_or_default())
    }

    /// The first page at or after `from` and before `end` that is present.
    pub(super) fn next(&self, from: u64, end: u64) -> Option<(u64, &V)> {
        next_below(self.root.as_ref()?, TOP, 0, from..end.min(LIMIT))
    }

    /// Drops what is in `range`. Cannot fail: nodes that must be copied for it are charged only if the quota has room; there are
    /// at most two for each level.
    pub(super) fn remove(&mut self, range: Range<u64>, quota: &Arc<Quota>) {
        remove_below(&mut self.root, TOP, 0, &range, quota);
    }
}

/// Pages beside each other, from `first` on.
pub(super) struct Leaf<'a, V> {
    first: u64,
    slots: &'a [Option<V>; FAN],
}

impl<'a, V> Leaf<'a, V> {
    /// What is at `page`, if that is one of them.
    pub(super) fn get(&self, page: u64) -> Option<&'a V> {
        let index = usize::try_from(page.checked_sub(self.first)?).ok()?;
        self.slots.get(index)?.as_ref()
    }
}

fn leaf_below<'a, V: Clone>(
    place_of_node: &'a mut Option<Arc<Node<V>>>,
    level: u32,
    page: u64,
    quota: &Arc<Quota>,
) -> Result<&'a mut [Option<V>; FAN]> {
    let node = match place_of_node {
        Some(node) => node,
        None => place_of_node.insert(Node::empty(level, quota)?),
    };
    match &mut Node::own(node, || quota.charge(node_bytes::<V>()).map(Some))?.slots {
        Slots::Inner(slots) => {
            let below = slots.get_mut(place(page, level)).ok_or(errno!(NOMEM, "no such slot"))?;
            leaf_below(below, level.saturating_sub(1), page, quota)
        }
        Slots::Leaf(slots) => Ok(slots),
    }
}

fn count_below<V>(node: &Arc<Node<V>>) -> u64 {
    match &node.slots {
        Slots::Leaf(slots) => slots.iter().flatten().count() as u64,
        Slots::Inner(slots) => slots.iter().flatten().map(count_below).fold(0, u64::saturating_add),
    }
}

fn next_below<V>(node: &Arc<Node<V>>, level: u32, base: u64, range: Range<u64>) -> Option<(u64, &V)> {
    let first = if range.start <= base { 0 } else { place_in(base, range.start, level)? };
    for index in first..FAN {
        let start = base.saturating_add(span(level).saturating_mul(index as u64));
        if start >= range.end {
            return None;
        }
        let found = match &node.slots {
            Slots::Leaf(slots) => slots.get(index).and_then(Option::as_ref).map(|value| (start, value)),
            Slots::Inner(slots) => slots
                .get(index)
                .and_then(Option::as_ref)
                .and_then(|below| next_below(below, level.saturating_sub(1), start, range.clone())),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Slot of `page` in a node at `level` that begins at `base`, or `None` if it lies behind that node.
#[inline]
fn place_in(base: u64, page: u64, level: u32) -> Option<usize> {
    let index = page.saturating_sub(base).wrapping_shr(bits(level));
    usize::try_from(index).ok().filter(|index| *index < FAN)
}

fn remove_below<V: Clone>(slot: &mut Option<Arc<Node<V>>>, level: u32, base: u64, range: &Range<u64>, quota: &Arc<Quota>) {
    let end = base.saturating_add(span(level.saturating_add(1)));
    if range.end <= base || end <= range.start {
        return;
    }
    if range.start <= base && end <= range.end {
        *slot = None;
        return;
    }
    let Some(node) = slot else { return };
    if next_below(node, level, base, range.clone()).is_none() {
        return;
    }
    let Ok(node) = Node::own(node, || Ok(quota.charge(node_bytes::<V>()).ok())) else { return };
    let first = if range.start <= base { 0 } else { place_in(base, range.start, level).unwrap_or(FAN) };
    let mut left = false;
    match &mut node.slots {
        Slots::Leaf(slots) => {
            for (index, value) in slots.iter_mut().enumerate() {
                if range.contains(&base.saturating_add(index as u64)) {
                    *value = None;
                }
                left |= value.is_some();
            }
        }
        Slots::Inner(slots) => {
            for (index, below) in slots.iter_mut().enumerate() {
                if index >= first && below.is_some() {
                    let start = base.saturating_add(span(level).saturating_mul(index as u64));
                    remove_below(below, level.saturating_sub(1), start, range, quota);
                }
                left |= below.is_some();
            }
        }
    }
    if !left {
        *slot = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(quota: &Arc<Quota>, pages: &[u64]) -> Pages<u64> {
        let mut tree = Pages::new();
        for page in pages {
            *tree.slot(*page, quota).expect("quota") = Some(*page);
        }
        tree
    }

    fn all(tree: &Pages<u64>) -> Vec<u64> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some((page, value)) = tree.next(from, LIMIT) {
            assert_eq!(page, *value);
            found.push(page);
            from = page + 1;
        }
        found
    }

    use alloc::vec::Vec;

    #[test]
    fn what_was_put_is_found_in_order() {
        let quota = Quota::new(1 << 20);
        let tree = filled(&quota, &[LIMIT - 1, 0, 63, 64, 4096, 1 << 30]);
        assert_eq!(all(&tree), [0, 63, 64, 4096, 1 << 30, LIMIT - 1]);
        assert_eq!(tree.get(64), Some(&64));
        assert_eq!(tree.get(65), None);
        assert_eq!(tree.get(LIMIT), None);
        assert_eq!((tree.count(), Pages::<u64>::new().count()), (6, 0));
        drop(tree);
        assert_eq!(quota.used(), 0);
    }

    #[test]
    fn a_copy_shares_until_changed() {
        let quota = Quota::new(1 << 20);
        let mut tree = filled(&quota, &[1, 2, 1 << 20]);
        let before = quota.used();
        let sole =
            |tree: &mut Pages<u64>, page| tree.leaf(page).is_some_and(|(leaf, is_sole)| is_sole && leaf.get(page).is_some());
        assert!(sole(&mut tree, 2));
        let copy = tree.clone();
        assert_eq!(quota.used(), before);
        assert!(!sole(&mut tree, 2));
        *tree.slot(2, &quota).expect("quota") = None;
        assert_eq!(quota.used(), before + 6 * node_bytes::<u64>());
        assert_eq!(all(&tree), [1, 1 << 20]);
        assert_eq!(all(&copy), [1, 2, 1 << 20]);
        assert!(sole(&mut tree, 1));
        assert!(!sole(&mut tree, 1 << 20));
    }

    #[test]
    fn removing_a_range_keeps_the_rest() {
        let quota = Quota::new(1 << 20);
        let mut tree = filled(&quota, &[10, 63, 64, 65, 200, 5000, 1 << 30]);
        let copy = tree.clone();
        tree.remove(63..200, &quota);
        assert_eq!(all(&tree), [10, 200, 5000, 1 << 30]);
        tree.remove(0..LIMIT, &quota);
        assert!(tree.is_empty());
        assert_eq!(all(&copy).len(), 7);
    }

    #[test]
    fn past_the_quota_nothing_is_put() {
        let quota = Quota::new(3 * node_bytes::<u64>());
        let mut tree: Pages<u64> = Pages::new();
        assert!(tree.slot(7, &quota).is_err());
        assert_eq!(tree.get(7), None);
    }
}
