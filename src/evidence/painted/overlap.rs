//! How much the pixels that excite a unit and the pixels of a concept have in common.

use crate::exemplars::{Compat, mask::Upsampler};
use crate::{Error, Region, Result};
use serde::{Deserialize, Serialize};

/// Pixels that a unit's regions and a concept's regions share, and pixels that either has, summed over images.
///
/// **Source:** Bau et al., Network Dissection, 2017, arXiv 1704.05796: total intersection over total union, not the mean
/// of the images' own ratios.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Overlap {
    /// Pixels in both.
    pub intersection: u64,
    /// Pixels in at least one.
    pub union: u64,
}

impl Overlap {
    /// Adds one image: its activation `map` (`rows x columns`, row order), upsampled to the size of `concept`, counts where
    /// it is strictly above `level`.
    ///
    /// Upsampling is bilinear with half-pixel centres, the map's edge continued outwards, as for the regions of
    /// [`crate::exemplars`].
    ///
    /// **Errors:** [`Error::Shape`] unless the map has `rows x columns` values, at least one.
    pub fn add(&mut self, map: &[f32], rows: usize, columns: usize, level: f32, concept: &Region) -> Result<()> {
        if map.is_empty() || rows.checked_mul(columns) != Some(map.len()) {
            let expected = format!("[{rows}, {columns}], not empty");
            return Err(Error::Shape { what: "activation map".into(), received: vec![map.len() as i64], expected });
        }
        let mut upsampler = Upsampler::new((rows, columns), (concept.height(), concept.width()), Compat::Fixed);
        self.add_upsampled(&mut upsampler, map, level, concept, concept.area());
        Ok(())
    }

    /// [`add`](Self::add) with what is the same for many units computed once; `area` is the concept's.
    pub(super) fn add_upsampled(
        &mut self,
        upsampler: &mut Upsampler,
        map: &[f32],
        level: f32,
        concept: &Region,
        area: u64,
    ) {
        let (mut active, mut both) = (0, 0);
        upsampler.above(map, level, |y, x| {
            active += 1;
            both += u64::from(concept.contains(y, x));
        });
        self.intersection += both;
        self.union += active + area - both;
    }

    /// Intersection over union, 0 to 1; 0 when the union is empty.
    pub fn iou(&self) -> f64 {
        if self.union == 0 { 0.0 } else { self.intersection as f64 / self.union as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counting_is_the_same_as_comparing_regions(
            (rows, columns) in (1..7usize, 1..7usize),
            (height, width) in (1..20usize, 1..20usize),
            seed in 0..u64::MAX,
        ) {
            let mut rng = fastrand::Rng::with_seed(seed);
            // Coarse values, so that ties with the level are frequent.
            let map: Vec<f32> = (0..rows * columns).map(|_| rng.i32(-4..5) as f32 * 0.25).collect();
            let level = rng.i32(-3..4) as f32 * 0.25;
            let concept = Region::from_fn(height, width, |_, _| rng.bool());
            let region = Upsampler::new((rows, columns), (height, width), Compat::Fixed).region(&map, level);
            let mut overlap = Overlap::default();
            overlap.add(&map, rows, columns, level, &concept).unwrap();
            prop_assert_eq!(overlap.intersection, region.intersection(&concept));
            prop_assert_eq!(overlap.union, region.union(&concept));
        }
    }

    #[test]
    fn a_map_of_another_size_is_refused() {
        let concept = Region::empty(4, 4);
        assert!(Overlap::default().add(&[1.0; 5], 2, 3, 0.0, &concept).is_err());
        assert!(Overlap::default().add(&[], 0, 0, 0.0, &concept).is_err());
    }

    #[test]
    fn nothing_over_nothing_is_0() {
        let mut overlap = Overlap::default();
        overlap.add(&[0.0], 1, 1, 0.0, &Region::empty(2, 2)).unwrap();
        assert_eq!(overlap.iou(), 0.0);
    }
}
