//! The distribution of one unit's activations, in a few kilobytes, from which a quantile is read.
//!
//! A sparse histogram over the upper 17 bits of the activation (sign, exponent, eight bits of mantissa): bins are 0.4 %
//! wide, their middles at most 0.2 % off. Counts are exact, so sketches of parts add up to the sketch of the whole.

const DROPPED_BITS: u32 = 15;
const BINS: usize = 1 << (32 - DROPPED_BITS);

/// A histogram of finite `f32`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sketch {
    /// Bin and count, by bin.
    bins: Vec<(u32, u64)>,
    count: u64,
}

/// Scratch memory of one thread: one counter per possible bin, and which of them are not 0.
pub(super) struct Tally {
    counters: Vec<u32>,
    touched: Vec<u32>,
}

impl Tally {
    pub fn new() -> Self {
        Self { counters: vec![0; BINS], touched: Vec::new() }
    }

    #[inline]
    pub fn add(&mut self, x: f32) {
        let bin = bin(x);
        let counter = &mut self.counters[bin as usize];
        if *counter == 0 {
            self.touched.push(bin);
        }
        *counter += 1;
    }
}

impl Sketch {
    /// Moves what `tally` has counted into the sketch.
    pub fn absorb(&mut self, tally: &mut Tally) {
        tally.touched.sort_unstable();
        let mut merged = Vec::with_capacity(self.bins.len() + tally.touched.len());
        let mut old = self.bins.iter().copied().peekable();
        for &bin in &tally.touched {
            let added = u64::from(std::mem::take(&mut tally.counters[bin as usize]));
            self.count += added;
            while let Some(before) = old.next_if(|(b, _)| *b < bin) {
                merged.push(before);
            }
            let here = old.next_if(|(b, _)| *b == bin).map_or(0, |(_, n)| n);
            merged.push((bin, here + added));
        }
        merged.extend(old);
        self.bins = merged;
        tally.touched.clear();
    }

    /// The value at quantile `q` (0 to 1), with sample `i` of `n` at position `(i + 0.5) / n` and straight lines between
    /// (Hazen's definition); 0 for an empty sketch.
    pub fn quantile(&self, q: f64) -> f32 {
        let last = self.count.saturating_sub(1) as f64;
        let position = (q * self.count as f64 - 0.5).clamp(0.0, last);
        let (below, above) = (self.at(position.floor() as u64), self.at(position.ceil() as u64));
        (f64::from(below) + (f64::from(above) - f64::from(below)) * position.fract()) as f32
    }

    /// The middle of the bin that holds the sample of this rank.
    fn at(&self, rank: u64) -> f32 {
        let mut seen = 0;
        for &(bin, n) in &self.bins {
            seen += n;
            if rank < seen {
                return middle(bin);
            }
        }
        self.bins.last().map_or(0.0, |(bin, _)| middle(*bin))
    }
}

/// Bins are in the order of the numbers.
fn bin(x: f32) -> u32 {
    let bits = x.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    ordered >> DROPPED_BITS
}

fn middle(bin: u32) -> f32 {
    let ordered = bin << DROPPED_BITS | 1 << (DROPPED_BITS - 1);
    let x = f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered });
    // The bins around 0 hold 0 itself and numbers too small to be activations.
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sketch(parts: &[&[f32]]) -> Sketch {
        let (mut sketch, mut tally) = (Sketch::default(), Tally::new());
        for part in parts {
            part.iter().for_each(|x| tally.add(*x));
            sketch.absorb(&mut tally);
        }
        sketch
    }

    fn exact(values: &[f32], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let p = (q * sorted.len() as f64 - 0.5).clamp(0.0, (sorted.len() - 1) as f64);
        let (a, b) = (f64::from(sorted[p.floor() as usize]), f64::from(sorted[p.ceil() as usize]));
        a + (b - a) * p.fract()
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_half_a_percent(values in prop::collection::vec(-1e6f32..1e6, 1..500), q in 0.0..1.0f64) {
            let (got, want) = (f64::from(sketch(&[&values]).quantile(q)), exact(&values, q));
            let scale = values.iter().fold(0f32, |m, x| m.max(x.abs()));
            // Between a negative and a positive neighbour only the neighbours are relative.
            prop_assert!((got - want).abs() <= 0.005 * want.abs().max(f64::from(scale) * 0.4), "{got} {want}");
        }

        #[test]
        fn parts_add_up(values in prop::collection::vec(-10f32..10.0, 0..300), cut in 0..300usize) {
            let cut = cut.min(values.len());
            prop_assert_eq!(sketch(&[&values]), sketch(&[&values[..cut], &values[cut..]]));
        }
    }

    #[test]
    fn a_constant_keeps_its_value_nearly_and_zero_exactly() {
        assert_eq!(sketch(&[&[0.0; 9]]).quantile(0.99), 0.0);
        assert!((sketch(&[&[3.0; 9]]).quantile(0.5) - 3.0).abs() < 0.01);
        assert_eq!(Sketch::default().quantile(0.5), 0.0);
    }
}
