//! From an activation map to a region of the image.

use super::options::Compat;
use crate::Region;

/// Finds the pixels where an upsampled map exceeds a level, without looking where it cannot.
///
/// Upsampling is bilinear with half-pixel centres. Beyond its border the map goes on as at its border; as in the code of
/// Network Dissection (Bau et al. 2017, arXiv 1704.05796) and MILAN (Hernandez et al. 2022, arXiv 2201.11114), which loses
/// regions there, it is 0 with [`Compat::Official`].
#[derive(Debug, Clone)]
pub(crate) struct Upsampler {
    rows: usize,
    columns: usize,
    height: usize,
    width: usize,
    /// Samples beyond each border: 1 if they count as 0.
    margin: usize,
    ys: Vec<Tap>,
    xs: Vec<Run>,
    line: Vec<f32>,
}

/// The two samples between which a pixel lies, and how far along.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    fraction: f32,
}

/// Neighbouring pixels that lie between the same samples.
#[derive(Debug, Clone)]
struct Run {
    low: usize,
    high: usize,
    first: usize,
    fractions: Vec<f32>,
}

impl Upsampler {
    /// From maps of `(rows, columns)` to images of `(height, width)`, at least one each.
    pub fn new(map: (usize, usize), image: (usize, usize), compat: Compat) -> Self {
        let margin = usize::from(compat == Compat::Official);
        let (ys, taps) = (taps(map.0, image.0, margin), taps(map.1, image.1, margin));
        let mut xs: Vec<Run> = Vec::new();
        for (x, tap) in taps.iter().enumerate() {
            match xs.last_mut() {
                Some(run) if (run.low, run.high) == (tap.low, tap.high) => run.fractions.push(tap.fraction),
                _ => xs.push(Run { low: tap.low, high: tap.high, first: x, fractions: vec![tap.fraction] }),
            }
        }
        let line = vec![0.0; map.1 + 2 * margin];
        Self { rows: map.0, columns: map.1, height: image.0, width: image.1, margin, ys, xs, line }
    }

    /// The pixels where `map` lies above `level`.
    pub fn region(&mut self, map: &[f32], level: f32) -> Region {
        let mut region = Region::empty(self.height, self.width);
        self.above(map, level, |y, x| region.insert(y, x));
        region
    }

    /// Calls `found(y, x)` for every pixel where `map` lies above `level`, in row order.
    pub fn above(&mut self, map: &[f32], level: f32, mut found: impl FnMut(usize, usize)) {
        // Between two samples nothing is higher than both, rounding aside.
        let (low, high) = map.iter().fold((0f32, f32::NEG_INFINITY), |(l, h), x| (l.min(*x), h.max(*x)));
        let slack = 4.0 * f32::EPSILON * high.max(-low);
        let high = if self.margin > 0 { high.max(0.0) } else { high };
        if high + slack <= level {
            return;
        }
        let Self { rows, columns, margin, ys, xs, line, .. } = self;
        let zeros = vec![0f32; *columns];
        let row = |r: usize| match r.checked_sub(*margin) {
            Some(r) if r < *rows => map.get(r * *columns..(r + 1) * *columns).unwrap_or(&zeros),
            _ => zeros.as_slice(),
        };
        for (y, tap) in ys.iter().enumerate() {
            let mut peak = if *margin > 0 { 0.0 } else { f32::NEG_INFINITY };
            let inner = line.iter_mut().skip(*margin).zip(row(tap.low).iter().zip(row(tap.high)));
            for (out, (a, b)) in inner {
                *out = a + (b - a) * tap.fraction;
                peak = peak.max(*out);
            }
            if peak + slack <= level {
                continue;
            }
            for run in xs.iter() {
                let (Some(&a), Some(&b)) = (line.get(run.low), line.get(run.high)) else { continue };
                if a.max(b) + slack <= level {
                    continue;
                }
                for (x, fraction) in run.fractions.iter().enumerate() {
                    if a + (b - a) * fraction > level {
                        found(y, run.first + x);
                    }
                }
            }
        }
    }
}

/// For each of `to` pixels the samples of `from` around it, with `margin` samples more at either end.
fn taps(from: usize, to: usize, margin: usize) -> Vec<Tap> {
    let last = from.saturating_sub(1) as f64;
    (0..to)
        .map(|t| {
            // A single sample goes on beyond its border in either code.
            if from == 1 {
                return Tap { low: margin, high: margin, fraction: 0.0 };
            }
            let at = (t as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let at = if margin == 0 { at.clamp(0.0, last) } else { at + margin as f64 };
            let low = at.floor() as usize;
            let high = (low + 1).min((from + 2 * margin).saturating_sub(1));
            Tap { low, high, fraction: (at - low as f64) as f32 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn region(map: &[f32], size: (usize, usize), level: f32, image: (usize, usize)) -> Region {
        Upsampler::new(size, image, Compat::Fixed).region(map, level)
    }

    /// Pixel by pixel, by the definition.
    fn plain(map: &[f32], size: (usize, usize), image: (usize, usize), compat: Compat, y: usize, x: usize) -> f64 {
        let at = |t: usize, from: usize, to: usize| (t as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let value = |r: f64, c: f64| {
            let within = |v: f64, n: usize| n == 1 || (v >= 0.0 && v < n as f64);
            if compat == Compat::Official && !(within(r, size.0) && within(c, size.1)) {
                return 0.0;
            }
            let clamped = |v: f64, n: usize| v.clamp(0.0, (n - 1) as f64) as usize;
            f64::from(map[clamped(r, size.0) * size.1 + clamped(c, size.1)])
        };
        let (r, c) = (at(y, size.0, image.0), at(x, size.1, image.1));
        let (r0, c0) = (r.floor(), c.floor());
        let across = |r: f64| value(r, c0) + (value(r, c0 + 1.0) - value(r, c0)) * (c - c0);
        across(r0) + (across(r0 + 1.0) - across(r0)) * (r - r0)
    }

    proptest! {
        #[test]
        fn equals_the_definition_at_every_pixel(
            size in (1..6usize, 1..6usize),
            image in (1..20usize, 1..20usize),
            official in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            let map: Vec<f32> = (0..size.0 * size.1).map(|_| rng.f32() * 4.0 - 2.0).collect();
            let level = rng.f32() * 3.0 - 1.5;
            let compat = if official { Compat::Official } else { Compat::Fixed };
            let region = Upsampler::new(size, image, compat).region(&map, level);
            for (y, x) in (0..image.0).flat_map(|y| (0..image.1).map(move |x| (y, x))) {
                let want = plain(&map, size, image, compat, y, x);
                if (want - f64::from(level)).abs() > 1e-5 {
                    prop_assert_eq!(region.contains(y, x), want > f64::from(level), "({}, {}) {} {}", y, x, want, level);
                }
            }
        }
    }

    #[test]
    fn the_region_is_the_map_itself_at_its_own_size() {
        let map = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let r = region(&map, (2, 3), 2.5, (2, 3));
        assert_eq!(r, Region::from_fn(2, 3, |y, x| map[y * 3 + x] > 2.5));
    }

    #[test]
    fn a_corner_unit_keeps_its_corner_unless_as_in_the_official_code() {
        let map = [1.5, 0.0, 0.0, 0.0];
        let r = region(&map, (2, 2), 1.0, (8, 8));
        assert!(r.contains(0, 0) && !r.contains(7, 7));
        let official = Upsampler::new((2, 2), (8, 8), Compat::Official).region(&map, 1.0);
        assert!(!official.contains(0, 0) && official.contains(1, 1) && official.area() < r.area());
    }

    #[test]
    fn one_position_covers_the_whole_image_or_nothing() {
        assert_eq!(region(&[2.0], (1, 1), 1.0, (5, 7)).area(), 35);
        assert_eq!(region(&[1.0], (1, 1), 1.0, (5, 7)).area(), 0);
    }
}
