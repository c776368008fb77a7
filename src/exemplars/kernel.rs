//! One read of a batch of activation maps: maximum, minimum, sketch and candidates of every unit.

use super::sketch::{Sketch, Tally};
use super::topk::TopK;
use rayon::prelude::*;

/// What is kept of one unit.
#[derive(Debug, Clone)]
pub(super) struct UnitState {
    pub sketch: Sketch,
    pub minimum: f32,
    pub maximum: f32,
    pub top: TopK,
}

/// A NaN or an infinity: which unit, which image of the batch, what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bad {
    pub unit: usize,
    pub image: usize,
    pub value: f32,
}

impl UnitState {
    pub fn new(k: usize) -> Self {
        Self { sketch: Sketch::default(), minimum: f32::INFINITY, maximum: f32::NEG_INFINITY, top: TopK::new(k) }
    }
}

/// Reads `activations`, `[images, units, positions]`, into `states`, one per unit. `first` is the number of the batch's
/// first image. The result does not depend on the number of threads.
///
/// # Errors
/// The first activation (by image, then unit) that is not finite; `states` are then not to be used.
pub(super) fn scan(activations: &[f32], positions: usize, first: usize, states: &mut [UnitState]) -> Result<(), Bad> {
    let units = states.len();
    let bad = states
        .par_iter_mut()
        .enumerate()
        .map_init(Tally::new, |tally, (unit, state)| {
            let mut bad = None;
            for (image, planes) in activations.chunks_exact(units * positions).enumerate() {
                let plane = &planes[unit * positions..(unit + 1) * positions];
                let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
                for &x in plane {
                    if !x.is_finite() {
                        bad = bad.or(Some(Bad { unit, image, value: x }));
                        break;
                    }
                    low = low.min(x);
                    high = high.max(x);
                    tally.add(x);
                }
                if bad.is_some() {
                    break;
                }
                state.minimum = state.minimum.min(low);
                state.maximum = state.maximum.max(high);
                state.top.offer(first + image, high, plane);
            }
            state.sketch.absorb(tally);
            bad
        })
        .flatten()
        .min_by_key(|b| (b.image, b.unit));
    bad.map_or(Ok(()), Err)
}
