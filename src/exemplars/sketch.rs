//! The distribution of one unit's activations, in a few kilobytes, from which a quantile is read.

use std::ops::Range;

/// Bins kept besides that of zero, so that a sketch stays within 16 KiB: 10 bytes each.
pub(super) const MAX_BINS: usize = 1600;
/// As many codes as `u16` has.
const CODES: usize = 1 << 16;
/// The code of 0.
const ZERO: u16 = 0x8000;

/// A histogram of finite `f32` over their upper 16 bits (those of a bfloat16): bins are at most 0.8 % wide, their middles
/// at most 0.4 % off.
///
/// Counts are exact, so sketches of parts add up to the sketch of the whole, in any order. Of more than 1,600 non-empty bins
/// those of the smallest magnitudes are counted as 0: of a unit that is never negative, everything below about 1/7000 of
/// its maximum, of a unit with both signs, below about 1/80. Bins are kept or not by what all parts together hold, so that
/// this too does not depend on the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// The bins' codes, ascending, which is the order of their numbers; without that of 0.
    pub(super) codes: Vec<u16>,
    /// How many activations lie in each.
    pub(super) counts: Vec<u64>,
    /// How many are 0, or too small to be told from it.
    pub(super) zeros: u64,
}

impl Sketch {
    /// An empty sketch that has all the memory it will ever take, so that a run takes no more later on.
    pub(super) fn with_room() -> Self {
        // Written to, as memory that was never touched is not there yet.
        let (mut codes, mut counts) = (vec![1; MAX_BINS], vec![1; MAX_BINS]);
        codes.clear();
        counts.clear();
        Self { codes, counts, zeros: 0 }
    }

    /// The same without the memory for more.
    pub(super) fn trimmed(mut self) -> Self {
        self.codes.shrink_to_fit();
        self.counts.shrink_to_fit();
        self
    }

    /// From its fields; `None` unless the bins ascend and none is that of 0.
    pub(super) fn from_parts(codes: Vec<u16>, counts: Vec<u64>, zeros: u64) -> Option<Self> {
        let ascending = codes.windows(2).all(|w| w[0] < w[1]);
        let sound = ascending && codes.len() == counts.len() && codes.iter().all(|c| magnitude(*c) > 0);
        sound.then_some(Self { codes, counts, zeros })
    }

    /// How many activations were counted.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// The bins with anything in them, ascending: least and largest activation (both included), and how many.
    pub fn bins(&self) -> impl Iterator<Item = (f32, f32, u64)> + '_ {
        self.entries().map(|(code, n)| {
            let (low, high) = edges(code);
            (low, high, n)
        })
    }

    /// The value at quantile `q` (0 to 1), with sample `i` of `n` at position `(i + 0.5) / n` and straight lines between
    /// (Hazen's definition), every activation taken as the middle of its bin; 0 for an empty sketch.
    pub fn quantile(&self, q: f64) -> f32 {
        let count = self.count();
        let last = count.saturating_sub(1) as f64;
        let position = (q * count as f64 - 0.5).clamp(0.0, last);
        let (below, above) = (self.at(position.floor() as u64), self.at(position.ceil() as u64));
        (f64::from(below) + (f64::from(above) - f64::from(below)) * position.fract()) as f32
    }

    /// Adds another part.
    pub(super) fn merge(&mut self, other: &Sketch) {
        self.zeros += other.zeros;
        self.add(other.codes.iter().copied().zip(other.counts.iter().copied()));
    }

    /// Adds counts by upper bits, in any order.
    pub(super) fn count_upper(&mut self, counted: Vec<(u16, u64)>) {
        let (zeros, mut rest): (Vec<_>, Vec<_>) = counted.into_iter().partition(|(bits, _)| bits & !SIGN == 0);
        self.zeros += zeros.iter().map(|(_, n)| n).sum::<u64>();
        rest.iter_mut().for_each(|(bits, _)| *bits = ordered(*bits));
        rest.sort_unstable();
        self.add(rest.into_iter());
    }

    /// Adds bins, given in ascending order.
    fn add(&mut self, new: impl ExactSizeIterator<Item = (u16, u64)>) {
        if new.len() == 0 {
            return;
        }
        let mut merged: Vec<(u16, u64)> = Vec::with_capacity(self.codes.len() + new.len());
        let mut old = self.codes.iter().copied().zip(self.counts.iter().copied()).peekable();
        for (code, count) in new {
            while let Some(before) = old.next_if(|(c, _)| *c < code) {
                merged.push(before);
            }
            let here = old.next_if(|(c, _)| *c == code).map_or(0, |(_, n)| n);
            merged.push((code, here + count));
        }
        merged.extend(old);
        let dropped = superfluous(&merged);
        self.zeros += merged[dropped.clone()].iter().map(|(_, n)| n).sum::<u64>();
        merged.drain(dropped);
        // Into the room that is there.
        self.codes.clear();
        self.codes.extend(merged.iter().map(|(code, _)| *code));
        self.counts.clear();
        self.counts.extend(merged.iter().map(|(_, count)| *count));
    }

    /// All bins, that of 0 in its place.
    fn entries(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let zero = self.codes.partition_point(|c| *c < ZERO);
        let bins =
            move |r: std::ops::Range<usize>| self.codes[r.clone()].iter().copied().zip(self.counts[r].iter().copied());
        let middle = (self.zeros > 0).then_some((ZERO, self.zeros));
        bins(0..zero).chain(middle).chain(bins(zero..self.codes.len()))
    }

    /// The middle of the bin that holds the sample of this rank.
    fn at(&self, rank: u64) -> f32 {
        let mut seen = 0;
        let mut last = 0.0;
        for (code, n) in self.entries() {
            seen += n;
            last = middle(code);
            if rank < seen {
                break;
            }
        }
        last
    }
}

/// Which bins are too many: those of the smallest magnitudes, which are next to where 0 would be.
fn superfluous(bins: &[(u16, u64)]) -> Range<usize> {
    let zero = bins.partition_point(|(code, _)| *code < ZERO);
    let (mut low, mut high) = (zero, zero);
    for _ in MAX_BINS..bins.len() {
        let below = low.checked_sub(1).map(|i| magnitude(bins[i].0));
        let above = bins.get(high).map(|(code, _)| magnitude(*code));
        // Of equal magnitudes the negative goes first.
        if above.is_none() || below.is_some_and(|b| above.is_some_and(|a| b <= a)) {
            low -= 1;
        } else {
            high += 1;
        }
    }
    low..high
}

/// Scratch memory of one thread: counters for the upper 16 bits of every `f32`.
///
/// Neighbours are counted in different tables, so that equal ones do not wait for each other.
pub(super) struct Tally {
    even: Box<[u32; CODES]>,
    odd: Box<[u32; CODES]>,
    found: Vec<(u16, u64)>,
}

impl Tally {
    pub fn new() -> Self {
        let table = || Box::new([0; CODES]);
        Self { even: table(), odd: table(), found: Vec::new() }
    }

    /// Counts finite numbers.
    #[inline]
    pub fn add(&mut self, values: &[f32]) {
        let (pairs, rest) = values.as_chunks::<2>();
        for [a, b] in pairs {
            self.even[usize::from(upper(*a))] += 1;
            self.odd[usize::from(upper(*b))] += 1;
        }
        for x in rest {
            self.even[usize::from(upper(*x))] += 1;
        }
    }

    /// Moves what was counted into `sketch`. No number counted may lie outside of `least..=most`, and none but 0 may have
    /// a smaller magnitude than `smallest`.
    pub fn drain(&mut self, least: f32, most: f32, smallest: f32, sketch: &mut Sketch) {
        let Self { even, odd, found } = self;
        let mut take = |bits: u16| {
            let i = usize::from(bits);
            u64::from(std::mem::take(&mut even[i])) + u64::from(std::mem::take(&mut odd[i]))
        };
        sketch.zeros += take(0) + take(SIGN);
        found.clear();
        // Numbers so small that they share the bin of 0 are in it already.
        let first = upper(smallest).max(1);
        if least < 0.0 {
            let negative = (first..=upper(-least)).rev().map(|m| m | SIGN);
            found.extend(negative.map(|bits| (ordered(bits), take(bits))).filter(|(_, n)| *n > 0));
        }
        if most > 0.0 {
            found.extend((first..=upper(most)).map(|bits| (ordered(bits), take(bits))).filter(|(_, n)| *n > 0));
        }
        sketch.add(found.iter().copied());
    }
}

const SIGN: u16 = 0x8000;

/// The sign, the exponent and seven bits of the mantissa.
#[inline]
fn upper(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

/// Upper bits to a code: codes are in the order of the numbers.
fn ordered(bits: u16) -> u16 {
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

/// A code back to upper bits.
fn bits(code: u16) -> u16 {
    if code & SIGN == 0 { !code } else { code & !SIGN }
}

fn magnitude(code: u16) -> u16 {
    bits(code) & !SIGN
}

/// The least and the largest number of a bin.
fn edges(code: u16) -> (f32, f32) {
    if code == ZERO {
        return (0.0, 0.0);
    }
    let at = |low: u32| f32::from_bits(u32::from(bits(code)) << 16 | low);
    let (inner, outer) = (at(0), at(0xffff));
    if inner < outer { (inner, outer) } else { (outer, inner) }
}

fn middle(code: u16) -> f32 {
    if code == ZERO { 0.0 } else { f32::from_bits(u32::from(bits(code)) << 16 | 0x8000) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(parts: &[&[f32]]) -> Sketch {
        let (mut sketch, mut tally) = (Sketch::default(), Tally::new());
        for part in parts {
            tally.add(part);
            let extreme = |pick: fn(f32, f32) -> f32| part.iter().copied().fold(0.0, pick);
            let smallest = part.iter().map(|x| x.abs()).filter(|x| *x > 0.0).fold(f32::INFINITY, f32::min);
            tally.drain(extreme(f32::min), extreme(f32::max), smallest, &mut sketch);
        }
        sketch
    }

    fn merged(parts: &[Sketch]) -> Sketch {
        parts.iter().fold(Sketch::default(), |mut sum, part| {
            sum.merge(part);
            sum
        })
    }

    fn exact(values: &[f32], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let p = (q * sorted.len() as f64 - 0.5).clamp(0.0, (sorted.len() - 1) as f64);
        let (a, b) = (f64::from(sorted[p.floor() as usize]), f64::from(sorted[p.ceil() as usize]));
        a + (b - a) * p.fract()
    }

    /// Any bits that are a finite number: all magnitudes, so that there are more bins than are kept.
    fn any_finite() -> impl Strategy<Value = f32> {
        any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |x| x.is_finite())
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_half_a_percent(values in prop::collection::vec(-1e6f32..1e6, 1..500), q in 0.0..1.0f64) {
            let (got, want) = (f64::from(sketch(&[&values]).quantile(q)), exact(&values, q));
            let scale = values.iter().fold(0f32, |m, x| m.max(x.abs()));
            // Between a negative and a positive neighbour only the neighbours are relative.
            prop_assert!((got - want).abs() <= 0.005 * want.abs().max(f64::from(scale) * 0.8), "{got} {want}");
        }

        #[test]
        fn merging_is_the_sketch_of_the_union_in_any_order(
            values in prop::collection::vec(any_finite(), 0..6000),
            cuts in (0..6000usize, 0..6000usize),
        ) {
            let n = values.len();
            let (a, b) = (cuts.0.min(cuts.1).min(n), cuts.0.max(cuts.1).min(n));
            let parts: Vec<&[f32]> = vec![&values[..a], &values[a..b], &values[b..]];
            let [x, y, z] = [0, 1, 2].map(|i| sketch(&[parts[i]]));
            let whole = sketch(&[&values]);
            prop_assert_eq!(&whole, &sketch(&parts));
            prop_assert_eq!(&whole, &merged(&[x.clone(), y.clone(), z.clone()]));
            prop_assert_eq!(&whole, &merged(&[z.clone(), x.clone(), y.clone()]));
            prop_assert_eq!(&whole, &merged(&[x, merged(&[z, y])]));
            prop_assert_eq!(whole.count(), n as u64);
            prop_assert!(whole.codes.len() <= MAX_BINS);
        }

        #[test]
        fn every_number_lies_within_its_bin(x in any_finite()) {
            let one = sketch(&[&[x]]);
            let (low, high, n) = one.bins().next().unwrap();
            prop_assert_eq!(n, 1);
            // A subnormal may be counted as 0.
            prop_assert!((low <= x && x <= high) || (low == 0.0 && x.abs() < f32::MIN_POSITIVE));
        }
    }

    #[test]
    fn a_constant_keeps_its_value_nearly_and_zero_exactly() {
        assert_eq!(sketch(&[&[0.0; 9]]).quantile(0.99), 0.0);
        assert_eq!(sketch(&[&[-0.0; 9]]).quantile(0.99), 0.0);
        assert!((sketch(&[&[3.0; 9]]).quantile(0.5) - 3.0).abs() < 0.02);
        assert_eq!(Sketch::default().quantile(0.5), 0.0);
    }

    #[test]
    fn a_sketch_takes_16_kib_and_never_more() {
        let mut sketch = Sketch::with_room();
        let bytes = |s: &Sketch| 2 * s.codes.capacity() + 8 * s.counts.capacity();
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let values: Vec<(u16, u64)> = (0..3000).map(|_| (rng.u16(..0x7f80), 1)).collect();
            let values: std::collections::BTreeMap<u16, u64> = values.into_iter().collect();
            sketch.count_upper(values.into_iter().collect());
            assert!(bytes(&sketch) <= 16 << 10);
        }
        assert_eq!(sketch.codes.len(), MAX_BINS);
    }

    #[test]
    fn of_too_many_bins_the_smallest_magnitudes_become_zero() {
        let values: Vec<f32> = (0..2000u32).map(|i| f32::from_bits((0x3000 + i) << 16)).collect();
        let sketch = sketch(&[&values]);
        assert_eq!((sketch.codes.len(), sketch.zeros), (MAX_BINS, 400));
        assert_eq!(sketch.bins().last(), Some((values[1999], f32::from_bits((0x3000 + 1999) << 16 | 0xffff), 1)));
    }
}
