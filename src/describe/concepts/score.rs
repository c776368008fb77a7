//! From responses to numbers: shares, effects, areas under the curve.

use super::measure::Response;
use super::{ConceptEvidence, Options};
use crate::evaluate::stats;
use crate::probe::paint::Concept;

/// How many sets of images there are: one per paint, and the plain images.
pub(super) fn sets(response: &Response) -> usize {
    response.painted.len() + 1
}

/// The evidence for every concept of the bank, in its order. Paints beyond the bank (controls) take part in the shares only.
pub(super) fn evidence(bank: &[Concept], response: &Response, options: &Options) -> Vec<ConceptEvidence> {
    let mut columns: Vec<&[f32]> = response.painted.iter().map(|(maxima, _)| maxima.as_slice()).collect();
    columns.push(&response.clean);
    let shares = shares(&columns, options.thresholds.pseudo_count);
    bank.iter()
        .zip(&response.painted)
        .zip(shares)
        .enumerate()
        .map(|(i, ((concept, (maxima, overlap)), share))| {
            // The same resamples for every unit, so that a description does not depend on which units share its call.
            let seed = options.seed.wrapping_add(i as u64);
            let (auc_low, auc_high) = stats::auc_interval(maxima, &response.clean, options.bootstrap, seed);
            ConceptEvidence {
                concept: concept.name().to_string(),
                iou: overlap.iou(),
                effect: stats::standardised_difference(maxima, &response.clean),
                auc: stats::auc(maxima, &response.clean),
                auc_low,
                auc_high,
                share,
            }
        })
        .collect()
}

/// The share of each set among the `n` highest values of all, `n` being the size of one set; they add up to 1.
///
/// Values that tie at the end of these `n` share the remaining places evenly. `pseudo_count` values are added that belong
/// to all sets alike. Without values the shares are equal.
fn shares(sets: &[&[f32]], pseudo_count: f64) -> Vec<f64> {
    let n = sets.first().map_or(0, |s| s.len());
    let even = 1.0 / sets.len().max(1) as f64;
    let mut pool: Vec<f32> = sets.iter().flat_map(|s| s.iter().copied()).collect();
    let Some(last) = n.checked_sub(1).filter(|last| *last < pool.len()) else { return vec![even; sets.len()] };
    let (_, &mut end, _) = pool.select_nth_unstable_by(last, |a, b| b.total_cmp(a));
    let count = |keep: &dyn Fn(f32) -> bool| -> Vec<usize> {
        sets.iter().map(|s| s.iter().filter(|x| keep(**x)).count()).collect()
    };
    let (above, tied) = (count(&|x| x > end), count(&|x| x == end));
    let left = n.saturating_sub(above.iter().sum()) as f64;
    let all_tied = tied.iter().sum::<usize>().max(1) as f64;
    let total = n as f64 + pseudo_count;
    above
        .iter()
        .zip(&tied)
        .map(|(above, tied)| (*above as f64 + left * *tied as f64 / all_tied + pseudo_count * even) / total)
        .collect()
}

/// The smallest AUC of the images with concept `i` against those with one rival, a paint for which `rivals` holds; 1
/// without rivals.
pub(super) fn against_rivals(response: &Response, i: usize, rivals: impl Fn(usize) -> bool) -> f64 {
    let Some((own, _)) = response.painted.get(i) else { return 0.0 };
    let others = response.painted.iter().enumerate().filter(|(k, _)| *k != i && rivals(*k));
    others.map(|(_, (maxima, _))| stats::auc(own, maxima)).fold(1.0, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_to_1(values in prop::collection::vec(-3i8..3, 1..60), k in 1..6usize, pseudo in 0.0..9.0f64) {
            let sets: Vec<Vec<f32>> =
                (0..k).map(|s| values.iter().map(|v| f32::from(v.wrapping_mul(s as i8 + 1) % 5)).collect()).collect();
            let sets: Vec<&[f32]> = sets.iter().map(Vec::as_slice).collect();
            let total: f64 = shares(&sets, pseudo).iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-9, "{total}");
        }
    }

    #[test]
    fn the_set_with_the_highest_values_has_all_places() {
        assert_eq!(shares(&[&[5.0, 6.0], &[1.0, 2.0]], 0.0), [1.0, 0.0]);
        assert_eq!(shares(&[&[5.0, 1.0], &[1.0, 2.0]], 0.0), [0.5, 0.5]);
    }

    #[test]
    fn ties_are_shared() {
        assert_eq!(shares(&[&[1.0, 1.0], &[1.0, 1.0]], 0.0), [0.5, 0.5]);
        assert_eq!(shares(&[&[2.0, 1.0], &[1.0, 0.0]], 0.0), [0.75, 0.25]);
    }

    #[test]
    fn one_image_gives_no_share_to_speak_of() {
        let share = shares(&[&[9.0], &[0.0], &[0.0], &[0.0]], 4.0)[0];
        assert!(share < 0.5, "{share}");
        assert_eq!(shares(&[&[], &[]], 1.0), [0.5, 0.5]);
    }
}
