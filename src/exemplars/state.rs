//! What is kept while images go by: per unit a few candidates and a sketch, whatever the number of images.
//!
//! States of disjoint sets of images merge, in any order, to the state of all of them.

use super::options::Options;
use super::sketch::Sketch;
use super::tape::Tape;
use super::topk::{Order, TopK};
use crate::probe::{Digest, Skipped};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What is kept of one unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct UnitState {
    pub minimum: f32,
    pub maximum: f32,
    pub sketch: Sketch,
    pub strongest: TopK,
    pub weakest: TopK,
    pub random: TopK,
}

impl UnitState {
    pub fn new(options: &Options) -> Self {
        Self {
            minimum: f32::INFINITY,
            maximum: f32::NEG_INFINITY,
            sketch: Sketch::with_room(),
            strongest: TopK::new(options.candidates(), Order::Strongest),
            weakest: TopK::new(options.weakest, Order::Weakest),
            random: TopK::new(options.random, Order::Random(options.seed)),
        }
    }

    /// Considers the images of a batch: their numbers, their spatial maxima, and where their maps are.
    pub fn offer<'a>(&mut self, numbers: &[usize], maxima: &[f32], plane: impl Fn(usize) -> &'a [f32]) {
        // The best first, so that no map is copied that does not stay.
        let mut order: Vec<usize> = (0..maxima.len()).collect();
        order.sort_by(|&a, &b| maxima[b].total_cmp(&maxima[a]).then(a.cmp(&b)));
        for &i in &order {
            self.strongest.offer(numbers[i] as u64, maxima[i], plane(i));
        }
        if self.weakest.has_room() {
            order.sort_by(|&a, &b| maxima[a].total_cmp(&maxima[b]).then(a.cmp(&b)));
            for &i in &order {
                self.weakest.offer(numbers[i] as u64, maxima[i], plane(i));
            }
        }
        if self.random.has_room() {
            for (i, &number) in numbers.iter().enumerate() {
                self.random.offer(number as u64, maxima[i], plane(i));
            }
        }
    }

    /// Which images of a batch would stay.
    pub fn wanted(&self, numbers: &[usize], maxima: &[f32]) -> Vec<usize> {
        let lists = [&self.strongest, &self.weakest, &self.random];
        let wanted = |i: &usize| lists.iter().any(|list| list.wants(numbers[*i] as u64, maxima[*i]));
        (0..maxima.len()).filter(wanted).collect()
    }

    fn merge(&mut self, other: UnitState) {
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
        self.sketch.merge(&other.sketch);
        self.strongest.merge(other.strongest);
        self.weakest.merge(other.weakest);
        self.random.merge(other.random);
    }
}

/// What is kept of one site.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SiteState {
    pub name: String,
    /// How many channels the site has.
    pub channels: usize,
    /// The units (channels) that are looked at, ascending.
    pub units: Vec<usize>,
    /// Height and width of the maps; `(0, 0)` before the first batch.
    pub map: (usize, usize),
    /// One per unit.
    pub states: Vec<UnitState>,
}

impl SiteState {
    pub fn new(name: &str, channels: usize, units: Vec<usize>, options: &Options) -> Self {
        let states = units.iter().map(|_| UnitState::new(options)).collect();
        Self { name: name.to_string(), channels, units, map: (0, 0), states }
    }
}

/// What is kept of one pass: some sites, some batches.
#[derive(Debug)]
pub(super) struct State {
    pub sites: Vec<SiteState>,
    /// The batches that were looked at, by number.
    pub done: Numbers,
    /// The images that were looked at, by number.
    pub rows: Numbers,
    pub digest: Digest,
    /// Images that could not be read, sorted by path.
    pub skipped: Vec<Skipped>,
    /// What was written down of every image.
    pub tape: Tape,
}

impl State {
    pub fn new(sites: Vec<SiteState>, tape: Tape) -> Self {
        let (done, rows) = (Numbers::default(), Numbers::default());
        Self { sites, done, rows, digest: Digest::default(), skipped: Vec::new(), tape }
    }

    /// How many units there are, at all sites together.
    pub fn units(&self) -> usize {
        self.sites.iter().map(|s| s.units.len()).sum()
    }

    /// Takes over what another part saw: of the same sites, on other batches.
    pub fn merge(&mut self, other: State) {
        for (mine, theirs) in self.sites.iter_mut().zip(other.sites) {
            mine.map = if mine.map == (0, 0) { theirs.map } else { mine.map };
            mine.states.iter_mut().zip(theirs.states).for_each(|(a, b)| a.merge(b));
        }
        self.done.merge(&other.done);
        self.rows.merge(&other.rows);
        self.digest = self.digest.and(other.digest);
        self.skipped.extend(other.skipped);
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        self.tape.merge(other.tape);
    }

    /// The numbers of all images that are candidates, ascending.
    pub fn candidates(&self) -> Vec<u64> {
        let units = self.sites.iter().flat_map(|s| &s.states);
        let lists = units.flat_map(|u| [&u.strongest, &u.weakest, &u.random]);
        let mut numbers: Vec<u64> = lists.flat_map(|list| list.best().iter().map(|c| c.image)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// Ascending numbers, as ranges apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Numbers(Vec<Range<u64>>);

impl Numbers {
    /// Adds a number above all others.
    pub fn push(&mut self, number: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => self.0.push(number..number + 1),
        }
    }

    /// Adds numbers that are others.
    fn merge(&mut self, other: &Numbers) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(other.0.iter().cloned());
        all.sort_by_key(|r| r.start);
        for range in all {
            match self.0.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.0.push(range),
            }
        }
    }

    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    pub fn len(&self) -> u64 {
        self.0.iter().map(|r| r.end.saturating_sub(r.start)).fold(0, u64::saturating_add)
    }

    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().flat_map(|r| r.clone())
    }
}

impl FromIterator<Range<u64>> for Numbers {
    /// From ranges that ascend, apart from each other.
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_parts_become_those_of_the_whole() {
        let of = |numbers: &[u64]| {
            let mut all = Numbers::default();
            numbers.iter().for_each(|n| all.push(*n));
            all
        };
        let (mut a, b) = (of(&[0, 1, 5, 9]), of(&[2, 3, 4, 7]));
        a.merge(&b);
        assert_eq!(a, of(&[0, 1, 2, 3, 4, 5, 7, 9]));
        assert_eq!((a.len(), a.ranges()), (8, [0..6, 7..8, 9..10].as_slice()));
    }
}
