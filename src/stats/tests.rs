use super::*;
use proptest::prelude::*;

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

#[test]
fn wilson_agrees_with_known_values() {
    // 81 of 263: the worked example of Newcombe 1998 (Statistics in Medicine 17, table I): 0.2553 to 0.3662.
    let (low, high) = Accuracy::new(81, 263).wilson();
    assert!(near(low, 0.2553, 5e-5) && near(high, 0.3662, 5e-5), "{low} {high}");
    // 0 of 20 and 1 of 29, same table: 0 to 0.1611, and 0.0061 to 0.1718.
    let (low, high) = Accuracy::new(0, 20).wilson();
    assert!(low == 0.0 && near(high, 0.1611, 5e-5), "{low} {high}");
    let (low, high) = Accuracy::new(1, 29).wilson();
    assert!(near(low, 0.0061, 5e-5) && near(high, 0.1718, 5e-5), "{low} {high}");
    assert_eq!(Accuracy::new(20, 20).wilson().1, 1.0);
    assert_eq!(Accuracy::new(0, 0).wilson(), (0.0, 1.0));
}

#[test]
fn accuracy_is_shown_with_its_interval() {
    assert_eq!(Accuracy::new(811, 1000).to_string(), "81.1 % [78.6, 83.4]");
    assert_eq!(Accuracy::default().to_string(), "not measured");
}

#[test]
fn accuracy_survives_json_and_impossible_counts_do_not() {
    let a = Accuracy::new(3, 7);
    let text = serde_json::to_string(&a).unwrap();
    assert!(text.contains("\"rate\":0.42857142857142855"), "{text}");
    assert_eq!(serde_json::from_str::<Accuracy>(&text).unwrap(), a);
    assert_eq!(serde_json::from_str::<Accuracy>(r#"{"correct":1,"total":2}"#).unwrap(), Accuracy::new(1, 2));
    assert!(serde_json::from_str::<Accuracy>(r#"{"correct":3,"total":2}"#).is_err());
}

#[test]
fn mcnemar_agrees_with_hand_computed_values() {
    assert_eq!(mcnemar(0, 0), 1.0);
    assert_eq!(mcnemar(7, 7), 1.0);
    // 2 (1 + 6) / 2^6 and 2 / 2^5.
    assert!(near(mcnemar(1, 5), 14.0 / 64.0, 1e-15));
    assert!(near(mcnemar(5, 0), 1.0 / 16.0, 1e-15));
    // Large counts neither overflow nor vanish to nonsense; the normal approximation is close here.
    let p = mcnemar(50_000, 50_500);
    assert!(near(p, 0.1155, 2e-3), "{p}");
    assert!(mcnemar(0, 5_000) == 0.0 || mcnemar(0, 5_000) < 1e-300);
}

#[test]
fn auc_of_separated_sides_is_one_and_ties_count_half() {
    assert_eq!(auc(&[3.0, 4.0], &[1.0, 2.0]), 1.0);
    assert_eq!(auc(&[1.0, 2.0], &[3.0, 4.0]), 0.0);
    assert_eq!(auc(&[1.0, 1.0], &[1.0]), 0.5);
    assert_eq!(auc(&[0.0], &[-0.0]), 0.5);
    assert_eq!(auc(&[], &[1.0]), 0.5);
    assert!(auc(&[f32::NAN], &[1.0]).is_nan());
    // Wins: 2 beats 1 (1), ties with 2 (1/2); 5 beats both (2): 3.5 of 4.
    assert_eq!(auc(&[2.0, 5.0], &[1.0, 2.0]), 0.875);
}

#[test]
fn auc_interval_is_repeatable_and_covers_the_estimate() {
    let mut rng = fastrand::Rng::with_seed(3);
    let without: Vec<f32> = (0..100).map(|_| rng.f32()).collect();
    let with: Vec<f32> = without.iter().map(|v| v + 0.2 + 0.3 * rng.f32()).collect();
    let (low, high) = auc_interval(&with, &without, 400, 9);
    let area = auc(&with, &without);
    assert!(low < area && area < high && high - low < 0.2, "{low} {area} {high}");
    assert_eq!(auc_interval(&with, &without, 400, 9), (low, high));
    assert_ne!(auc_interval(&with, &without, 400, 10), (low, high));
    assert_eq!(auc_interval(&[], &[], 10, 0), (0.0, 1.0));
    assert_eq!(auc_interval(&[5.0, 6.0], &[1.0, 2.0], 50, 0), (1.0, 1.0));
    assert!(auc_interval(&[f32::NAN], &[1.0], 50, 0).0.is_nan());
}

#[test]
fn standardised_difference_is_in_deviations_of_the_baseline() {
    // Baseline 0, 2, 4: deviation 2; every image rises by 3.
    assert_eq!(standardised_difference(&[3.0, 5.0, 7.0], &[0.0, 2.0, 4.0]), 1.5);
    assert_eq!(standardised_difference(&[1.0, 1.0], &[1.0, 1.0]), 0.0);
    assert_eq!(standardised_difference(&[], &[]), 0.0);
    let jump = standardised_difference(&[0.1; 50], &[0.0; 50]);
    assert!(near(jump, 2.0 * (99.0f64 / 100.0).sqrt(), 1e-9), "{jump}");
    let one = standardised_difference(&[1.0], &[0.0]);
    assert!(one.is_finite() && one > 0.0);
}

#[test]
fn equal_values_have_no_deviation_at_all() {
    assert_eq!(mean_and_std(&[0.1; 7]), (f64::from(0.1f32), 0.0));
    assert_eq!(mean_and_std(&[1.0, 3.0]), (2.0, 2.0f64.sqrt()));
    assert!(mean_and_std(&[]).0.is_nan());
}

/// Values with many ties.
fn values(n: std::ops::Range<usize>) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-4i32..5).prop_map(|v| v as f32 / 2.0), n)
}

proptest! {
    #[test]
    fn auc_equals_counting_all_pairs(a in values(1..30), b in values(1..30)) {
        let wins: f64 = a.iter().flat_map(|x| b.iter().map(move |y| if x > y { 1.0 } else if x == y { 0.5 } else { 0.0 })).sum();
        prop_assert!(near(auc(&a, &b), wins / (a.len() * b.len()) as f64, 1e-12));
        prop_assert!(near(auc(&a, &b) + auc(&b, &a), 1.0, 1e-12));
    }

    #[test]
    fn bootstrap_draws_equal_auc_of_the_drawn_images(pairs in prop::collection::vec((-4i32..5, -4i32..5), 1..20), seed: u64) {
        let with: Vec<f32> = pairs.iter().map(|p| p.0 as f32).collect();
        let without: Vec<f32> = pairs.iter().map(|p| p.1 as f32).collect();
        let mut rng = fastrand::Rng::with_seed(seed);
        let drawn: Vec<usize> = (0..pairs.len()).map(|_| rng.usize(..pairs.len())).collect();
        let pick = |v: &[f32]| drawn.iter().map(|&i| v[i]).collect::<Vec<_>>();
        let area = auc(&pick(&with), &pick(&without));
        prop_assert_eq!(auc_interval(&with, &without, 1, seed), (area, area));
    }

    #[test]
    fn mcnemar_equals_the_sum_of_binomials(a in 0u64..30, b in 0u64..30) {
        let choose = |n: u64, k: u64| (1..=k).fold(1.0, |c, j| c * (n - k + j) as f64 / j as f64);
        let tail: f64 = (0..=a.min(b)).map(|i| choose(a + b, i)).sum::<f64>() / 2f64.powi((a + b) as i32);
        prop_assert!(near(mcnemar(a, b), (2.0 * tail).min(1.0), 1e-12));
    }

    #[test]
    fn wilson_is_where_the_score_test_rejects(correct in 1u64..400, more in 1u64..400) {
        let a = Accuracy::new(correct, correct + more);
        for bound in [a.wilson().0, a.wilson().1] {
            let z = (a.rate() - bound) / (bound * (1.0 - bound) / a.total as f64).sqrt();
            prop_assert!(near(z.abs(), Z, 1e-6));
        }
    }
}
