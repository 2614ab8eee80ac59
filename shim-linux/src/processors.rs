//! Sets of processors, by the numbers that the host gives them. See `CPU_SET(3)`.

use core::fmt;

/// 64-bit words of a set.
const WORDS: usize = 16;

/// A set of processors 0 to 1023; a host's further ones are not for guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processors([u64; WORDS]);

impl Processors {
    /// One more than the highest number.
    pub const MOST: u32 = 64 * 16;

    /// Those of these numbers; what is too high is left out.
    #[must_use]
    pub fn of(numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::default();
        for number in numbers {
            if let Some(word) = usize::try_from(number / 64).ok().and_then(|at| set.0.get_mut(at)) {
                *word |= 1u64.rotate_left(number % 64);
            }
        }
        set
    }

    /// What the bytes of a mask say, lowest number first; further bytes are left out.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        for (word, bytes) in set.0.iter_mut().zip(bytes.chunks(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        set
    }

    /// Those of a mask's words.
    #[must_use]
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
    }

    /// Its words, lowest numbers first.
    #[must_use]
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// Whether `number` is in it.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let word = usize::try_from(number / 64).ok().and_then(|at| self.0.get(at));
        word.is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Those that are in both.
    #[must_use]
    pub fn intersection(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).fold(0, u32::saturating_add)
    }

    /// Their numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        (0..Self::MOST).filter(|number| self.contains(*number))
    }
}

/// A set as a list of ranges, `0-3,7`. See cpuset(7), "List format".
#[derive(Debug)]
pub(crate) struct List<'a>(pub(crate) &'a Processors);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for first in self.0.numbers().filter(|number| number.checked_sub(1).is_none_or(|before| !self.0.contains(before))) {
            let last = (first..Processors::MOST).take_while(|number| self.0.contains(*number)).last().unwrap_or(first);
            if last == first {
                write!(f, "{comma}{first}")?
            } else {
                write!(f, "{comma}{first}-{last}")?
            }
            comma = ",";
        }
        Ok(())
    }
}

/// A set as a mask of as many digits as processors up to `highest` take. See cpuset(7), "Mask format".
#[derive(Debug)]
pub(crate) struct Mask<'a> {
    pub(crate) set: &'a Processors,
    pub(crate) highest: u32,
}

impl fmt::Display for Mask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for half in (0..=self.highest / 32).rev() {
            let word = usize::try_from(half / 2).ok().and_then(|at| self.set.0.get(at)).copied().unwrap_or_default();
            let bits = if half % 2 == 0 { word & 0xffff_ffff } else { word >> 32 };
            if half == self.highest / 32 {
                let digits = usize::try_from(self.highest % 32 / 4).unwrap_or(7).saturating_add(1);
                write!(f, "{bits:0digits$x}")?;
            } else {
                write!(f, ",{bits:08x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn a_mask_has_its_lowest_number_first() {
        let set = Processors::from_bytes(&[0b101, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(set.numbers().collect::<Vec<_>>(), [0, 2, 65]);
        assert_eq!((set.words()[0], set.words()[1], set.count()), (5, 2, 3));
        assert_eq!(set, Processors::of([65, 2, 0, 5000]));
        assert_eq!(set.intersection(&Processors::of([2, 3])), Processors::of([2]));
        assert!(set.intersection(&Processors::of([1])).is_empty() && !set.contains(1) && !set.contains(5000));
    }

    #[test]
    fn sets_are_shown_as_lists_and_masks() {
        let set = Processors::of([0, 1, 2, 7, 33]);
        assert_eq!(format!("{} {}", List(&set), Mask { set: &set, highest: 35 }), "0-2,7,33 2,00000087");
        assert_eq!(format!("{}{}", List(&Processors::default()), Mask { set: &set, highest: 7 }), "87");
    }
}
