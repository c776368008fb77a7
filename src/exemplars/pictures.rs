//! Units with the pixels of their exemplars, some at a time, so that memory is bounded.

use super::UnitExemplars;
use crate::Result;
use crate::probe::{Images, pixels};
use image::RgbImage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many bytes of pixels are in memory at once.
const BUDGET: usize = 8 << 20;
/// At the least so many images are, however large.
const FEWEST: usize = 64;

/// Hands the units, in their order, to `each`: groups of them, with the images of their exemplars by number. Every image
/// is read once per group; one that cannot be read is missing.
pub(crate) fn with_pictures(
    units: &[UnitExemplars],
    source: &dyn Images,
    mut each: impl FnMut(&[UnitExemplars], &BTreeMap<usize, Arc<RgbImage>>) -> Result<()>,
) -> Result<()> {
    let preprocess = source.preprocess();
    let room = (BUDGET / (3 * preprocess.height * preprocess.width).max(1)).max(FEWEST);
    groups(units, room).into_iter().try_for_each(|group| {
        let numbers = group.iter().flat_map(|u| &u.top).map(|e| e.image);
        each(group, &pixels(source, numbers)?)
    })
}

/// Runs of units that have at most `room` different exemplars; a single unit may have more.
fn groups(units: &[UnitExemplars], room: usize) -> Vec<&[UnitExemplars]> {
    let (mut groups, mut start, mut known) = (Vec::new(), 0, BTreeSet::new());
    for (i, unit) in units.iter().enumerate() {
        known.extend(unit.top.iter().map(|e| e.image));
        if known.len() > room && i > start {
            groups.push(&units[start..i]);
            start = i;
            known = unit.top.iter().map(|e| e.image).collect();
        }
    }
    groups.extend(Some(&units[start..]).filter(|rest| !rest.is_empty()));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exemplars::{Exemplar, Sketch};
    use crate::{Region, UnitId};

    fn unit(number: usize, images: &[usize]) -> UnitExemplars {
        let exemplar =
            |image: &usize| Exemplar { image: *image, activation: 1.0, map: vec![1.0], region: Region::empty(4, 4) };
        UnitExemplars {
            id: UnitId::new("conv", number),
            level: 0.5,
            minimum: 0.0,
            maximum: 1.0,
            dead: false,
            top: images.iter().map(exemplar).collect(),
            weakest: Vec::new(),
            random: Vec::new(),
            sketch: Sketch::default(),
        }
    }

    #[test]
    fn groups_keep_the_order_and_the_room() {
        let units = [unit(0, &[1, 2]), unit(1, &[2, 3]), unit(2, &[]), unit(3, &[4, 1]), unit(4, &[5, 6, 7, 8])];
        let sizes = |room| groups(&units, room).iter().map(|g| g.len()).collect::<Vec<_>>();
        assert_eq!(sizes(3), [3, 1, 1]);
        assert_eq!(sizes(4), [4, 1]);
        assert_eq!(sizes(1), [1, 1, 1, 1, 1]);
        assert_eq!(sizes(100), [5]);
        assert!(groups(&[], 3).is_empty());
    }

    #[test]
    fn every_unit_gets_its_pictures() {
        let probe = crate::probe::drawn(1, 16, 3).unwrap();
        let units = [unit(0, &[1, 2]), unit(1, &[9, 1])];
        let mut seen = 0;
        with_pictures(&units, &probe, |units, pictures| {
            for e in units.iter().flat_map(|u| &u.top) {
                assert_eq!(pictures[&e.image].as_ref(), probe.image(e.image));
                seen += 1;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 4);
    }
}
