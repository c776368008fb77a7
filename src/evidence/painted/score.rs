//! From responses to numbers: shares, effects, areas under the curve.

use super::measure::Response;
use super::{ConceptEvidence, NAME, Options, PLAIN};
use crate::probe::paint::Concept;
use crate::stats;

/// The evidence for every concept of the bank, in its order; then the shares of the controls and of the plain images.
pub(super) fn evidence(
    bank: &[Concept],
    controls: &[Concept],
    response: &Response,
    options: &Options,
) -> Vec<ConceptEvidence> {
    let names = bank.iter().chain(controls).map(Concept::name).chain([PLAIN]);
    let shared = |(name, share)| ConceptEvidence { share: Some(share), ..ConceptEvidence::new(NAME, name) };
    let mut all: Vec<ConceptEvidence> = names.zip(set_shares(response, options)).map(shared).collect();
    for (i, (evidence, (maxima, overlap))) in all.iter_mut().zip(&response.painted).take(bank.len()).enumerate() {
        // The same resamples for every unit, so that nothing depends on which units share a call.
        let seed = options.seed.wrapping_add(i as u64);
        let (low, high) = stats::auc_interval(maxima, &response.clean, options.bootstrap, seed);
        evidence.iou = Some(overlap.iou());
        evidence.effect = Some(stats::standardised_difference(maxima, &response.clean));
        evidence.auc = Some(stats::auc(maxima, &response.clean));
        (evidence.auc_low, evidence.auc_high) = (Some(low), Some(high));
    }
    all
}

/// The share of every set: the paints in their order, then the plain images.
///
/// An activation counts for a paint where the paint raised it. Where it did not, it is what the image excites by itself,
/// which is counted once, as plain, and not again for every paint that leaves it as it was.
fn set_shares(response: &Response, options: &Options) -> Vec<f64> {
    let raised = |maxima: &[f32]| -> Vec<f32> {
        maxima.iter().zip(&response.clean).filter(|(with, without)| with > without).map(|(with, _)| *with).collect()
    };
    let mut sets: Vec<Vec<f32>> = response.painted.iter().map(|(maxima, _)| raised(maxima)).collect();
    sets.push(response.clean.clone());
    shares(&sets, response.clean.len(), options.pseudo_count)
}

/// The share of each set among the `n` highest values of all; they add up to 1.
///
/// Values that tie at the end of these `n` share the remaining places evenly. `pseudo_count` values are added that belong
/// to all sets alike. The shares are equal where there are fewer than `n` values, or `n` is 0.
fn shares(sets: &[Vec<f32>], n: usize, pseudo_count: f64) -> Vec<f64> {
    let even = 1.0 / sets.len().max(1) as f64;
    let mut pool: Vec<f32> = sets.iter().flatten().copied().collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shares_add_up_to_1(values in prop::collection::vec(-3i8..3, 1..60), k in 1..6usize, pseudo in 0.0..9.0f64) {
            let set = |s: usize| values.iter().map(|v| f32::from(v.wrapping_mul(s as i8 + 1) % 5)).collect();
            let sets: Vec<Vec<f32>> = (0..k).map(set).collect();
            let total: f64 = shares(&sets, values.len(), pseudo).iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-9, "{total}");
        }
    }

    #[test]
    fn the_set_with_the_highest_values_has_all_places() {
        assert_eq!(shares(&[vec![5.0, 6.0], vec![1.0, 2.0]], 2, 0.0), [1.0, 0.0]);
        assert_eq!(shares(&[vec![5.0, 1.0], vec![1.0, 2.0]], 2, 0.0), [0.5, 0.5]);
    }

    #[test]
    fn ties_are_shared() {
        assert_eq!(shares(&[vec![1.0, 1.0], vec![1.0, 1.0]], 2, 0.0), [0.5, 0.5]);
        assert_eq!(shares(&[vec![2.0, 1.0], vec![1.0, 0.0]], 2, 0.0), [0.75, 0.25]);
    }

    #[test]
    fn one_image_gives_no_share_to_speak_of() {
        let share = shares(&[vec![9.0], vec![0.0], vec![0.0], vec![0.0]], 1, 4.0)[0];
        assert!(share < 0.5, "{share}");
        assert_eq!(shares(&[vec![], vec![]], 0, 1.0), [0.5, 0.5]);
    }

    #[test]
    fn what_an_image_has_by_itself_counts_once() {
        // The second image excites the unit whatever is painted; only the first paint does so on the first image.
        let painted = vec![(vec![5.0, 7.0], Default::default()), (vec![0.0, 7.0], Default::default())];
        let options = Options { pseudo_count: 0.0, ..Options::default() };
        let shares = set_shares(&Response { clean: vec![0.0, 7.0], painted }, &options);
        assert_eq!(shares, [0.5, 0.0, 0.5]);
    }
}
