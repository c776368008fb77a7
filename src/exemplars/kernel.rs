//! One read of a batch of activation maps on the CPU: extremes, means, sketch and candidates of every unit.

use super::sketch::Tally;
use super::state::UnitState;
use crate::pass::{Bad, Planes, sweep};
use rayon::prelude::*;

/// Reads the maps of `units` (channels) on the images with these numbers into `states`, one per unit. The spatial maxima
/// go to `maxima`, the spatial means to `means`, both `[units, images]`. The result does not depend on the number of
/// threads.
///
/// # Errors
/// The first activation (by image, then unit) that is not finite; `states` are then not to be used.
pub(super) fn scan(
    maps: Planes<'_>,
    numbers: &[usize],
    units: &[usize],
    states: &mut [UnitState],
    maxima: &mut [f32],
    means: &mut [f32],
) -> Result<(), Bad> {
    let images = numbers.len();
    if images == 0 {
        return Ok(());
    }
    let bad = states
        .par_iter_mut()
        .zip(units)
        .zip(maxima.par_chunks_mut(images).zip(means.par_chunks_mut(images)))
        .map_init(Tally::new, |tally, ((state, &unit), (maxima, means))| {
            let (mut least, mut smallest) = (f32::INFINITY, f32::INFINITY);
            for (image, (maximum, mean)) in maxima.iter_mut().zip(means).enumerate() {
                let plane = maps.plane(image, unit);
                let seen = match sweep(plane) {
                    Ok(seen) => seen,
                    Err(value) => {
                        // Nothing of this unit may be left behind in the thread's counters.
                        *tally = Tally::new();
                        return Some(Bad { unit, image, value });
                    }
                };
                (*maximum, *mean) = (seen.most, seen.mean);
                least = least.min(seen.least);
                smallest = smallest.min(seen.smallest);
                tally.add(plane);
            }
            let most = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            tally.drain(least, most, smallest, &mut state.sketch);
            state.minimum = state.minimum.min(least);
            state.maximum = state.maximum.max(most);
            state.offer(numbers, maxima, |image| maps.plane(image, unit));
            None
        })
        .reduce(|| None, Bad::first);
    bad.map_or(Ok(()), Err)
}
