//! Which part of the batches a process looks at.

use crate::{Error, Result};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// One of several equal parts of a run: `3/16` is the third of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Default for Shard {
    /// The whole.
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl Shard {
    /// Part `number` of `of`, from 1.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `1 <= number <= of`.
    pub fn new(number: usize, of: usize) -> Result<Self> {
        if number == 0 || number > of {
            return Err(Error::invalid("shard", format!("{number}/{of}"), "1/N to N/N"));
        }
        Ok(Self { number, of })
    }

    /// Whether this is the only part.
    pub fn is_whole(self) -> bool {
        self.of == 1
    }

    /// Its batches, of `batches`: parts differ by at most one.
    pub(super) fn batches(self, batches: usize) -> Range<usize> {
        let start = |n: usize| (n as u128 * batches as u128 / self.of as u128) as usize;
        start(self.number - 1)..start(self.number)
    }

    /// The file that holds its state in pass `pass`, from 0.
    pub(super) fn file(self, pass: usize) -> String {
        format!("shard-{}-of-{}.pass-{}.state", self.number, self.of, pass + 1)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid("shard", format!("`{text}`"), "NUMBER/OF, from 1/16 to 16/16");
        let (number, of) = text.split_once('/').ok_or_else(bad)?;
        let (number, of) = (number.trim().parse().map_err(|_| bad())?, of.trim().parse().map_err(|_| bad())?);
        Self::new(number, of).map_err(|_| bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_batch_once() {
        for (of, batches) in [(1, 5), (2, 5), (7, 5), (16, 100), (3, 0)] {
            let parts: Vec<Range<usize>> = (1..=of).map(|n| Shard::new(n, of).unwrap().batches(batches)).collect();
            assert!(parts.windows(2).all(|w| w[0].end == w[1].start));
            assert_eq!((parts[0].start, parts[of - 1].end), (0, batches));
        }
        assert!(["0/2", "3/2", "1", "a/b", "1/0", "-1/2"].iter().all(|t| t.parse::<Shard>().is_err()));
        assert_eq!("3/16".parse::<Shard>().unwrap().to_string(), "3/16");
    }
}
