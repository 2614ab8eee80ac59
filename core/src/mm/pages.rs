//! A sparse array of pages that is shared with a copy until one of both changes it.
//!
//! A map of groups of [`GROUP_PAGES`] pages, which are tables of leaves of [`LEAF_PAGES`]; both are nodes in `Arc`s. Sharing copies
//! the map; the first change in a shared group copies the group and one leaf. So fork costs little for a thousand pages, and a child
//! that touches ten pages copies at most ten leaves. (A tree with a common root would cost nothing for each group, but five nodes for
//! the first page of each, which most programs notice more: a host may clear what it allocates, so a node is written twice.)
//!
//! Invariants: nodes are charged to the quota of the one who makes them, and so is a shared map.

use crate::errno;
use crate::error::Result;
use crate::platform::{Frame, Frames};
use crate::quota::{Charge, Quota};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

/// Places in a leaf, and leaves in a group. More would cost a small process more, and a large one not much less.
const FAN: usize = 32;
/// Pages of one leaf, which begins at a multiple of that.
pub(super) const LEAF_PAGES: u64 = FAN as u64;
/// Pages of one group, which begins at a multiple of that.
const GROUP_PAGES: u64 = LEAF_PAGES * FAN as u64;
/// The first page number that does not fit: the 2^36 pages of a 48-bit space.
const LIMIT: u64 = 1 << 36;
/// What a place in the map of groups is charged as.
const PLACE_BYTES: u64 = 48;
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

/// A leaf or a group: shared by address spaces that know the same pages.
///
/// Its values are put into it where it is (the default one is made there, and then filled): a node is half a kilobyte, and would be
/// moved several times otherwise.
trait Node: Default {
    /// Makes an empty node what `other` is, but for its charge.
    fn fill(&mut self, other: &Self);
    fn set_charge(&mut self, charge: Option<Charge>);

    /// What it is charged as: itself, and what an allocation costs beside it.
    fn bytes() -> u64 {
        (size_of::<Self>() as u64).saturating_add(32)
    }

    /// An empty node.
    ///
    /// # Errors
    /// `NOMEM`: past the quota.
    fn empty(quota: &Arc<Quota>) -> Result<Arc<Self>> {
        let charge = quota.charge(Self::bytes())?;
        let mut new = Arc::<Self>::default();
        if let Some(node) = Arc::get_mut(&mut new) {
            node.set_charge(Some(charge));
        }
        Ok(new)
    }

    /// Makes `this` the only owner of its node, by copying the node if it is shared.
    ///
    /// # Errors
    /// Those of `charge`.
    fn own(this: &mut Arc<Self>, charge: impl FnOnce(u64) -> Result<Option<Charge>>) -> Result<&mut Self> {
        if Arc::get_mut(this).is_none() {
            let charge = charge(Self::bytes())?;
            let mut copy = Arc::<Self>::default();
            if let Some(node) = Arc::get_mut(&mut copy) {
                node.fill(this);
                node.set_charge(charge);
            }
            *this = copy;
        }
        Arc::get_mut(this).ok_or(errno!(NOMEM, "a node made now is not shared"))
    }
}

struct LeafNode<V> {
    slots: [Option<V>; FAN],
    _charge: Option<Charge>,
}

struct Group<V> {
    leaves: [Option<Arc<LeafNode<V>>>; FAN],
    _charge: Option<Charge>,
}

impl<V> Default for LeafNode<V> {
    fn default() -> Self {
        Self { slots: [const { None }; FAN], _charge: None }
    }
}

impl<V> Default for Group<V> {
    fn default() -> Self {
        Self { leaves: [const { None }; FAN], _charge: None }
    }
}

/// Clones what is there of `from` to the same places of `to`, which are empty.
fn fill<T: Clone>(to: &mut [Option<T>; FAN], from: &[Option<T>; FAN]) {
    for (to, from) in to.iter_mut().zip(from) {
        if from.is_some() {
            to.clone_from(from);
        }
    }
}

impl<V: Clone> Node for LeafNode<V> {
    #[inline]
    fn fill(&mut self, other: &Self) {
        fill(&mut self.slots, &other.slots);
    }

    fn set_charge(&mut self, charge: Option<Charge>) {
        self._charge = charge;
    }
}

impl<V: Clone> Node for Group<V> {
    #[inline]
    fn fill(&mut self, other: &Self) {
        fill(&mut self.leaves, &other.leaves);
    }

    fn set_charge(&mut self, charge: Option<Charge>) {
        self._charge = charge;
    }
}

/// The number of the group that `page` is in.
#[inline]
const fn group_of(page: u64) -> u64 {
    page / GROUP_PAGES
}

/// The place in its group of the leaf that `page` is in.
#[inline]
fn leaf_of(page: u64) -> usize {
    place(page / LEAF_PAGES)
}

/// The place of `page` in its leaf.
#[inline]
fn place(page: u64) -> usize {
    usize::try_from(page % LEAF_PAGES).unwrap_or_default()
}

/// A sparse array from page number to `V`.
pub(super) struct Pages<V> {
    groups: BTreeMap<u64, Arc<Group<V>>>,
    /// What the map is charged as that was copied.
    _charge: Option<Charge>,
}

impl<V> fmt::Debug for Pages<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

impl<V: Clone> Pages<V> {
    pub(super) const fn new() -> Self {
        Self { groups: BTreeMap::new(), _charge: None }
    }

    /// The same pages, all of them shared.
    ///
    /// # Errors
    /// `NOMEM`: past the quota.
    pub(super) fn share(&self, quota: &Arc<Quota>) -> Result<Self> {
        let charge = quota.charge(PLACE_BYTES.saturating_mul(self.groups.len() as u64))?;
        Ok(Self { groups: self.groups.clone(), _charge: Some(charge) })
    }

    /// How many there are. Walks all of them.
    pub(super) fn count(&self) -> u64 {
        let leaves = self.groups.values().flat_map(|group| group.leaves.iter().flatten());
        leaves.map(|leaf| leaf.slots.iter().flatten().count() as u64).fold(0, u64::saturating_add)
    }

    /// Whether it certainly holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What is at `page`.
    pub(super) fn get(&self, page: u64) -> Option<&V> {
        self.groups.get(&group_of(page))?.leaves.get(leaf_of(page))?.as_ref()?.slots.get(place(page))?.as_ref()
    }

    /// The leaf that `page` is in, and whether it is reached through nodes that nobody shares.
    ///
    /// It takes the tree for itself, so that nobody can come to share a node that is found to be sole.
    pub(super) fn leaf(&mut self, page: u64) -> Option<(Leaf<'_, V>, bool)> {
        self.find_leaf(page)
    }

    /// Each page of `range`, what is there, and whether that is reached through nodes that nobody shares; otherwise as [`Self::leaf`].
    pub(super) fn each(&mut self, range: Range<u64>) -> impl Iterator<Item = (u64, Option<&V>, bool)> + '_ {
        let pages = &*self;
        let mut leaf = pages.find_leaf(range.start);
        range.map(move |page| {
            if place(page) == 0 {
                leaf = pages.find_leaf(page);
            }
            let (value, is_sole) = leaf.as_ref().map_or((None, false), |(leaf, is_sole)| (leaf.get(page), *is_sole));
            (page, value, is_sole)
        })
    }

    #[inline]
    fn find_leaf(&self, page: u64) -> Option<(Leaf<'_, V>, bool)> {
        let group = self.groups.get(&group_of(page))?;
        let leaf = group.leaves.get(leaf_of(page))?.as_ref()?;
        // Nodes have no weak references.
        let is_sole = Arc::strong_count(group) == 1 && Arc::strong_count(leaf) == 1;
        // What the last other owner did to the pages comes before what is done to them now.
        fence(Ordering::Acquire);
        Some((Leaf { first: page.saturating_sub(place(page) as u64), slots: &leaf.slots }, is_sole))
    }

    /// The place for `page`, under nodes that nobody shares.
    ///
    /// # Errors
    /// `NOMEM`: past the quota; nothing that can be seen changed.
    pub(super) fn slot(&mut self, page: u64, quota: &Arc<Quota>) -> Result<&mut Option<V>> {
        self.own_leaf(page, quota)?.get_mut(place(page)).ok_or(errno!(NOMEM, "no such slot"))
    }

    /// The places for the pages of `range` from its start on to the end of the leaf that this is in, as [`Self::slot`] gives one.
    ///
    /// # Errors
    /// As [`Self::slot`].
    pub(super) fn run(&mut self, range: Range<u64>, quota: &Arc<Quota>) -> Result<&mut [Option<V>]> {
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(FAN);
        let slots = self.own_leaf(range.start, quota)?;
        let run = slots.get_mut(place(range.start)..).unwrap_or_default();
        let count = count.min(run.len());
        Ok(run.get_mut(..count).unwrap_or_default())
    }

    /// The places of the leaf that `page` is in, under nodes that nobody shares.
    fn own_leaf(&mut self, page: u64, quota: &Arc<Quota>) -> Result<&mut [Option<V>; FAN]> {
        if page >= LIMIT {
            return Err(errno!(NOMEM, "past the last page"));
        }
        let group = match self.groups.entry(group_of(page)) {
            Entry::Occupied(group) => group.into_mut(),
            Entry::Vacant(place) => place.insert(Group::empty(quota)?),
        };
        let charge = |bytes: u64| quota.charge(bytes).map(Some);
        let leaf = Group::own(group, charge)?.leaves.get_mut(leaf_of(page)).ok_or(errno!(NOMEM, "no such leaf"))?;
        let leaf = match leaf {
            Some(leaf) => leaf,
            None => leaf.insert(LeafNode::empty(quota)?),
        };
        Ok(&mut LeafNode::own(leaf, charge)?.slots)
    }

    /// The first page at or after `from` and before `end` that is present.
    pub(super) fn next(&self, from: u64, end: u64) -> Option<(u64, &V)> {
        if from >= end {
            return None;
        }
        for (group, node) in self.groups.range(group_of(from)..=group_of(end)) {
            let start = group.saturating_mul(GROUP_PAGES);
            let first = if start < from { leaf_of(from) } else { 0 };
            for (index, leaf) in node.leaves.iter().enumerate().skip(first) {
                let Some(leaf) = leaf else { continue };
                let start = start.saturating_add((index as u64).saturating_mul(LEAF_PAGES));
                let first = if start < from { place(from) } else { 0 };
                let found = leaf.slots.iter().enumerate().skip(first).find_map(|(at, value)| Some((at, value.as_ref()?)));
                if let Some((at, value)) = found {
                    let page = start.saturating_add(at as u64);
                    return (page < end).then_some((page, value));
                }
            }
        }
        None
    }

    /// Drops what is in `range`. Cannot fail: nodes that must be copied for it are charged only if the quota has room; there are
    /// at most two of each kind.
    pub(super) fn remove(&mut self, range: Range<u64>, quota: &Arc<Quota>) {
        let charge = |bytes: u64| Ok(quota.charge(bytes).ok());
        let mut from = range.start;
        while let Some((page, _)) = self.next(from, range.end) {
            let group = group_of(page);
            let start = group.saturating_mul(GROUP_PAGES);
            from = start.saturating_add(GROUP_PAGES);
            if range.start <= start && from <= range.end {
                self.groups.remove(&group);
                continue;
            }
            let Some(node) = self.groups.get_mut(&group) else { continue };
            let Ok(node) = Group::own(node, charge) else { continue };
            for (leaf, start) in node.leaves.iter_mut().zip((start..).step_by(FAN)) {
                remove_from_leaf(leaf, start, &range, charge);
            }
            if node.leaves.iter().all(Option::is_none) {
                self.groups.remove(&group);
            }
        }
    }
}

/// Drops what is in `range` of a leaf that begins at `start`, and the leaf if nothing is left.
fn remove_from_leaf<V: Clone>(
    place: &mut Option<Arc<LeafNode<V>>>,
    start: u64,
    range: &Range<u64>,
    charge: impl FnOnce(u64) -> Result<Option<Charge>>,
) {
    let end = start.saturating_add(LEAF_PAGES);
    let is_in = |at: usize| range.contains(&start.saturating_add(at as u64));
    let Some(leaf) = place else { return };
    if range.end <= start || end <= range.start || !leaf.slots.iter().enumerate().any(|(at, slot)| slot.is_some() && is_in(at)) {
        return;
    }
    if leaf.slots.iter().enumerate().all(|(at, slot)| slot.is_none() || is_in(at)) {
        *place = None;
        return;
    }
    let Ok(leaf) = LeafNode::own(leaf, charge) else { return };
    for (at, slot) in leaf.slots.iter_mut().enumerate() {
        if is_in(at) {
            *slot = None;
        }
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
        let tree = filled(&quota, &[LIMIT - 1, 0, 31, 32, 1024, 1 << 30]);
        assert_eq!(all(&tree), [0, 31, 32, 1024, 1 << 30, LIMIT - 1]);
        assert_eq!(tree.get(32), Some(&32));
        assert_eq!(tree.get(33), None);
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
        let copy = tree.share(&quota).expect("quota");
        assert_eq!(quota.used(), before + 2 * PLACE_BYTES);
        let before = quota.used();
        assert!(!sole(&mut tree, 2));
        *tree.slot(2, &quota).expect("quota") = None;
        assert_eq!(quota.used(), before + Group::<u64>::bytes() + LeafNode::<u64>::bytes());
        assert_eq!(all(&tree), [1, 1 << 20]);
        assert_eq!(all(&copy), [1, 2, 1 << 20]);
        assert!(sole(&mut tree, 1));
        assert!(!sole(&mut tree, 1 << 20));
    }

    #[test]
    fn removing_a_range_keeps_the_rest() {
        let quota = Quota::new(1 << 20);
        let mut tree = filled(&quota, &[10, 63, 64, 65, 200, 5000, 1 << 30]);
        let copy = tree.share(&quota).expect("quota");
        tree.remove(63..200, &quota);
        assert_eq!(all(&tree), [10, 200, 5000, 1 << 30]);
        tree.remove(11..5001, &quota);
        assert_eq!(all(&tree), [10, 1 << 30]);
        assert_eq!(tree.next(11, 1 << 30), None);
        tree.remove(0..LIMIT, &quota);
        assert!(tree.is_empty());
        assert_eq!(all(&copy).len(), 7);
    }

    #[test]
    fn a_shared_map_is_charged() {
        let quota = Quota::new(Group::<u64>::bytes() + LeafNode::<u64>::bytes() + PLACE_BYTES);
        let tree = filled(&quota, &[7]);
        let shared = tree.share(&quota).expect("quota");
        assert!(tree.share(&quota).is_err());
        drop((tree, shared));
        assert_eq!(quota.used(), 0);
    }

    #[test]
    fn past_the_quota_nothing_is_put() {
        let quota = Quota::new(Group::<u64>::bytes() + LeafNode::<u64>::bytes() - 1);
        let mut tree: Pages<u64> = Pages::new();
        assert!(tree.slot(7, &quota).is_err());
        assert_eq!(tree.get(7), None);
    }
}
