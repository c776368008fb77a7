//! What is kept while images go by: per unit a few candidates and a sketch, whatever the number of images.
//!
//! States of disjoint sets of images merge, in any order, to the state of all of them.

use super::options::Options;
use super::sketch::Sketch;
use super::topk::{Order, TopK};
use crate::probe::{Digest, Skipped};
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
    /// The spatial maxima of every image, `[images, units]`, as bits of `f16`; empty unless asked for.
    pub maxima: Vec<u16>,
}

impl SiteState {
    pub fn new(name: &str, channels: usize, units: Vec<usize>, options: &Options) -> Self {
        let states = units.iter().map(|_| UnitState::new(options)).collect();
        Self { name: name.to_string(), channels, units, map: (0, 0), states, maxima: Vec::new() }
    }
}

/// What is kept of one pass: some sites, some batches.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    pub sites: Vec<SiteState>,
    /// The batches that were looked at, by number, ascending, apart from each other.
    pub done: Vec<Range<usize>>,
    /// How many images were looked at.
    pub images: u64,
    pub digest: Digest,
    /// The image of each row of the sites' maxima; empty unless asked for.
    pub rows: Vec<u64>,
    /// Images that could not be read, sorted by path.
    pub skipped: Vec<Skipped>,
}

impl State {
    pub fn new(sites: Vec<SiteState>) -> Self {
        Self { sites, done: Vec::new(), images: 0, digest: Digest::default(), rows: Vec::new(), skipped: Vec::new() }
    }

    /// Notes that batch `number` was looked at.
    pub fn finished(&mut self, number: usize) {
        match self.done.last_mut() {
            Some(last) if last.end == number => last.end += 1,
            _ => self.done.push(number..number + 1),
        }
    }

    /// Takes over what another part saw: of the same sites, on other batches.
    pub fn merge(&mut self, other: State) {
        let order = interleave(&self.rows, &other.rows);
        for (mine, theirs) in self.sites.iter_mut().zip(other.sites) {
            mine.map = if mine.map == (0, 0) { theirs.map } else { mine.map };
            let width = mine.units.len();
            mine.maxima = gather(&order, &mine.maxima, &theirs.maxima, width);
            mine.states.iter_mut().zip(theirs.states).for_each(|(a, b)| a.merge(b));
        }
        self.rows = gather(&order, &self.rows, &other.rows, 1);
        self.images += other.images;
        self.digest = self.digest.and(other.digest);
        self.skipped.extend(other.skipped);
        self.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        let mut done: Vec<Range<usize>> = std::mem::take(&mut self.done);
        done.extend(other.done);
        done.sort_by_key(|r| r.start);
        for range in done {
            match self.done.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.done.push(range),
            }
        }
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

/// In which order rows of two parts come: whether each is of the second, and its place there.
fn interleave(a: &[u64], b: &[u64]) -> Vec<(bool, usize)> {
    let mut order: Vec<(u64, bool, usize)> = a.iter().enumerate().map(|(i, n)| (*n, false, i)).collect();
    order.extend(b.iter().enumerate().map(|(i, n)| (*n, true, i)));
    order.sort_unstable();
    order.into_iter().map(|(_, second, i)| (second, i)).collect()
}

fn gather<T: Copy>(order: &[(bool, usize)], a: &[T], b: &[T], width: usize) -> Vec<T> {
    let row = |(second, i): &(bool, usize)| {
        let of = if *second { b } else { a };
        of.get(i * width..(i + 1) * width).unwrap_or_default()
    };
    order.iter().flat_map(row).copied().collect()
}
