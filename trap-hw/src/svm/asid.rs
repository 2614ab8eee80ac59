//! Tags of translations (ASIDs), which are each processor's own.
//!
//! A guest takes a new tag when it comes to another processor, and when that has started over. A processor that has no tag left forgets all of its translations
//! and starts over with another generation. A new tag has no translations, so a guest that moved needs no flush.
//! Source: APM vol. 2, 15.16.

use super::vmcb::Flush;

/// One processor's tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    next: u32,
    end: u32,
    generation: u64,
}

/// The tag that a guest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    processor: u32,
    generation: u64,
    number: u32,
}

impl Tag {
    /// Its number; 0 before the guest has one.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }
}

/// What came of asking for a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The guest's is good.
    Kept,
    /// It is another one, and the entry is to flush this first.
    New(Flush),
}

impl Tags {
    /// Those of a processor that has `count`, the host's 0 among them, so two at least. The first entry flushes everything: who had the
    /// processor before is unknown.
    #[must_use]
    pub const fn new(count: u32) -> Self {
        Self { next: count, end: count, generation: 1 }
    }

    /// Has every guest take a new tag: the processor was away, or another's.
    pub fn start_over(&mut self) {
        self.next = self.end;
        self.generation = self.generation.wrapping_add(1);
    }

    /// Sees to it that `tag`, of a guest that is about to enter on this processor, `processor`, is good.
    pub fn renew(&mut self, processor: u32, tag: &mut Tag) -> Renewed {
        if tag.processor == processor && tag.generation == self.generation {
            return Renewed::Kept;
        }
        let mut flush = Flush::Nothing;
        if self.next >= self.end {
            self.generation = self.generation.wrapping_add(1);
            self.next = 1;
            flush = Flush::Everything;
        }
        *tag = Tag { processor, generation: self.generation, number: self.next };
        self.next = self.next.wrapping_add(1);
        Renewed::New(flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    #[test]
    fn a_guest_keeps_its_tag_while_it_stays() {
        let (mut tags, mut tag) = (Tags::new(8), Tag::default());
        assert_eq!(tags.renew(0, &mut tag), Renewed::New(Flush::Everything), "who was here before is unknown");
        assert_eq!((tag.number(), tags.renew(0, &mut tag)), (1, Renewed::Kept));
        assert_eq!(Tags::new(8).renew(1, &mut tag), Renewed::New(Flush::Everything));
    }

    #[test]
    fn a_processor_that_was_away_gives_new_tags_after_a_flush() {
        let (mut tags, mut tag) = (Tags::new(4), Tag::default());
        tags.renew(0, &mut tag);
        tags.start_over();
        assert_eq!(tags.renew(0, &mut tag), Renewed::New(Flush::Everything));
        assert_eq!(tags.renew(0, &mut tag), Renewed::Kept);
    }

    /// A model of two processors: what each has cached, by tag, must be of the guest that enters with it.
    #[test]
    fn no_guest_ever_finds_another_s_translations() {
        let mut processors: [(Tags, HashMap<u32, usize>); 2] = [(Tags::new(4), HashMap::new()), (Tags::new(3), HashMap::new())];
        let mut guests: Vec<Tag> = [Tag::default(); 5].into();
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (at, guest) = ((seed >> 30 & 1) as usize, (seed >> 16) as usize % guests.len());
            let (tags, cached) = &mut processors[at];
            if seed >> 8 & 0xff == 0 {
                // Away, and somebody else used every tag meanwhile.
                cached.extend((1..4).map(|tag| (tag, usize::MAX)));
                tags.start_over();
            }
            if tags.renew(at as u32, &mut guests[guest]) == Renewed::New(Flush::Everything) {
                cached.clear();
            }
            let tag = guests[guest].number();
            assert_ne!(tag, 0, "the host's");
            assert_eq!(*cached.entry(tag).or_insert(guest), guest, "tag {tag} of processor {at}");
        }
    }
}
