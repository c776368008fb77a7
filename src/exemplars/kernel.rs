//! One read of a batch of activation maps on the CPU: extremes, sketch and candidates of every unit.

use super::sketch::Tally;
use super::state::UnitState;
use rayon::prelude::*;

/// A NaN or an infinity: which unit (by its place among those looked at), which image of the batch, what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bad {
    pub unit: usize,
    pub image: usize,
    pub value: f32,
}

/// The activations of one batch at one site.
#[derive(Clone, Copy)]
pub(super) struct Maps<'a> {
    /// `[images, channels, positions]`.
    pub values: &'a [f32],
    pub channels: usize,
    pub positions: usize,
    /// The number of each image.
    pub numbers: &'a [usize],
}

impl<'a> Maps<'a> {
    /// The map of one channel on the `image`-th image; empty if there is no such map.
    fn plane(&self, image: usize, channel: usize) -> &'a [f32] {
        let start = (image * self.channels + channel) * self.positions;
        self.values.get(start..start + self.positions).unwrap_or_default()
    }
}

/// Reads `maps` into `states`, one per unit of `units` (channels). The spatial maxima go to `maxima`, `[units, images]`.
/// The result does not depend on the number of threads.
///
/// # Errors
/// The first activation (by image, then unit) that is not finite; `states` are then not to be used.
pub(super) fn scan(maps: Maps<'_>, units: &[usize], states: &mut [UnitState], maxima: &mut [f32]) -> Result<(), Bad> {
    let images = maps.numbers.len();
    if images == 0 {
        return Ok(());
    }
    let bad = states
        .par_iter_mut()
        .zip(units)
        .zip(maxima.par_chunks_mut(images))
        .enumerate()
        .map_init(Tally::new, |tally, (unit, ((state, &channel), maxima))| {
            let (mut least, mut smallest) = (f32::INFINITY, f32::INFINITY);
            for (image, maximum) in maxima.iter_mut().enumerate() {
                let plane = maps.plane(image, channel);
                let seen = extremes(plane);
                if !seen.finite {
                    let value = plane.iter().copied().find(|x| !x.is_finite()).unwrap_or(f32::NAN);
                    // Nothing of this unit may be left behind in the thread's counters.
                    *tally = Tally::new();
                    return Some(Bad { unit, image, value });
                }
                *maximum = seen.most;
                least = least.min(seen.least);
                smallest = smallest.min(seen.smallest);
                tally.add(plane);
            }
            let most = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            tally.drain(least, most, smallest, &mut state.sketch);
            state.minimum = state.minimum.min(least);
            state.maximum = state.maximum.max(most);
            state.offer(maps.numbers, maxima, |image| maps.plane(image, channel));
            None
        })
        .flatten()
        .min_by_key(|b| (b.image, b.unit));
    bad.map_or(Ok(()), Err)
}

struct Extremes {
    least: f32,
    most: f32,
    /// The smallest magnitude but 0; infinite if all are 0.
    smallest: f32,
    finite: bool,
}

/// In lanes, so that the compiler uses vector instructions.
fn extremes(plane: &[f32]) -> Extremes {
    const LANES: usize = 16;
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    // Magnitudes as integers, which are in the same order; that of 0 counts as infinite.
    let mut smallest = [INFINITE; LANES];
    let mut zero = [0f32; LANES];
    let mut add = |j: usize, x: f32| {
        least[j] = if x < least[j] { x } else { least[j] };
        most[j] = if x > most[j] { x } else { most[j] };
        // NaN and infinity times 0 are NaN.
        zero[j] += x * 0.0;
        let bits = (x.to_bits() & 0x7fff_ffff) as i32;
        let bits = if bits == 0 { INFINITE } else { bits };
        smallest[j] = if bits < smallest[j] { bits } else { smallest[j] };
    };
    let (chunks, rest) = plane.as_chunks::<LANES>();
    for chunk in chunks {
        for (j, x) in chunk.iter().enumerate() {
            add(j, *x);
        }
    }
    for x in rest {
        add(0, *x);
    }
    Extremes {
        least: least.into_iter().fold(f32::INFINITY, f32::min),
        most: most.into_iter().fold(f32::NEG_INFINITY, f32::max),
        smallest: f32::from_bits(smallest.into_iter().fold(INFINITE, i32::min) as u32),
        finite: zero.into_iter().all(|z| z == 0.0),
    }
}

/// The bits of infinity.
const INFINITE: i32 = 0x7f80_0000;
