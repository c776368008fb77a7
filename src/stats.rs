//! Intervals, paired tests and effect sizes: pure functions of counts and activations.
//!
//! Nothing here looks at a clock or at global randomness: where chance is needed, a seed is asked for.
//! **NaN:** activations that reach this module are finite (the passes refuse others by name). Should a NaN come all the
//! same, [`auc`], [`auc_interval`], [`mean_and_std`] and [`standardised_difference`] return NaN instead of ranking it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The 97.5 % point of the normal distribution: two-sided 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// How many of how many were right.
///
/// Displayed as `81.1 % [78.6, 83.4]`. Serialised with the rate and the interval for whoever reads the file; only the
/// counts are read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(into = "Written", try_from = "Written")]
#[schemars(with = "Written")]
pub struct Accuracy {
    /// Right answers, at most `total`.
    pub correct: u64,
    /// Questions.
    pub total: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Written {
    correct: u64,
    total: u64,
    #[serde(default)]
    rate: Option<f64>,
    #[serde(default)]
    low: Option<f64>,
    #[serde(default)]
    high: Option<f64>,
}

impl From<Accuracy> for Written {
    fn from(a: Accuracy) -> Self {
        let (low, high) = a.wilson();
        let rate = (a.total > 0).then(|| a.rate());
        Self { correct: a.correct, total: a.total, rate, low: Some(low), high: Some(high) }
    }
}

impl TryFrom<Written> for Accuracy {
    type Error = String;

    fn try_from(w: Written) -> Result<Self, String> {
        if w.correct > w.total {
            return Err(format!("correct: received {}, allowed at most total = {}", w.correct, w.total));
        }
        Ok(Self { correct: w.correct, total: w.total })
    }
}

impl Accuracy {
    /// `correct` of `total`.
    pub fn new(correct: u64, total: u64) -> Self {
        Self { correct, total }
    }

    /// The share of right answers, 0 to 1; NaN when nothing was asked.
    pub fn rate(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    /// The 95 % Wilson score interval of [`rate`](Self::rate), within 0 to 1; `(0, 1)` when nothing was asked.
    ///
    /// **Source:** Wilson, "Probable inference, the law of succession, and statistical inference", 1927,
    /// JASA 22 (158). Without continuity correction.
    pub fn wilson(&self) -> (f64, f64) {
        if self.total == 0 {
            return (0.0, 1.0);
        }
        let (n, p, z2) = (self.total as f64, self.rate(), Z * Z);
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt();
        // Exact at the ends, where rounding would leave 1e-17 or 0.9999999999999999.
        let low = if self.correct == 0 { 0.0 } else { (centre - half).clamp(0.0, 1.0) };
        let high = if self.correct >= self.total { 1.0 } else { (centre + half).clamp(0.0, 1.0) };
        (low, high)
    }
}

impl fmt::Display for Accuracy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.pad("not measured");
        }
        let (low, high) = self.wilson();
        f.pad(&format!("{:.1} % [{:.1}, {:.1}]", 100.0 * self.rate(), 100.0 * low, 100.0 * high))
    }
}

/// The exact two-sided McNemar test: whether two answers to the same questions differ in how often they are right.
///
/// Under the null hypothesis each of the questions that only one side got right is a fair coin; the result is
/// `min(1, 2 P(X <= min(a, b)))` with `X ~ Binomial(a + b, 1/2)`, 0 to 1, and 1 when there is no such question.
/// **Source:** McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
/// 1947, Psychometrika 12 (2), in its exact form.
pub fn mcnemar(before_only_right: u64, after_only_right: u64) -> f64 {
    let (few, n) = (before_only_right.min(after_only_right), before_only_right + after_only_right);
    if n == 0 || before_only_right == after_only_right {
        return 1.0;
    }
    // ln C(n, few) - n ln 2, then downwards by ratios: no number is ever too small or too large.
    let largest: f64 =
        (1..=few).map(|j| ((n - few + j) as f64 / j as f64).ln()).sum::<f64>() - n as f64 * std::f64::consts::LN_2;
    let (mut sum, mut term) = (1.0, 1.0);
    for i in (1..=few).rev() {
        term *= i as f64 / (n - i + 1) as f64;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (2.0 * (largest + f64::ln(sum)).exp()).min(1.0)
}

/// The probability that a random value of `positive` exceeds a random one of `negative`, ties counting half: the area
/// under the ROC curve, 0 to 1.
///
/// 0.5 when either side is empty; NaN when any value is NaN. `O(n log n)`.
/// **Source:** Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
/// other", 1947, Annals of Mathematical Statistics 18 (1).
pub fn auc(positive: &[f32], negative: &[f32]) -> f64 {
    match Ranks::of(positive, negative) {
        Some(ranks) => {
            let mut tally = Tally::new(ranks.distinct);
            ranks.with.iter().for_each(|&r| tally.with[r as usize] += 1);
            ranks.without.iter().for_each(|&r| tally.without[r as usize] += 1);
            tally.auc()
        }
        None => f64::NAN,
    }
}

/// The percentile bootstrap 95 % interval of `auc(with, without)`, by resampling images.
///
/// **Shapes:** `with[i]` and `without[i]` belong to the same image `i`; a drawn image brings both, so that what differs
/// between images does not widen the interval. `draws` resamples from `seed`; the same seed gives the same interval.
/// The interval has no width when the two sides do not overlap. `(0, 1)` without images or without draws; `(NaN, NaN)`
/// when any value is NaN. Values are ranked once; a draw costs `O(images)`.
///
/// **Panics:** if the lengths differ.
/// **Source:** Efron, "Bootstrap methods: another look at the jackknife", 1979, Annals of Statistics 7 (1).
pub fn auc_interval(with: &[f32], without: &[f32], draws: usize, seed: u64) -> (f64, f64) {
    assert_eq!(with.len(), without.len(), "one value with and one without the concept per image");
    let Some(ranks) = Ranks::of(with, without) else { return (f64::NAN, f64::NAN) };
    if with.is_empty() || draws == 0 {
        return (0.0, 1.0);
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut tally = Tally::new(ranks.distinct);
    let mut areas: Vec<f64> = (0..draws)
        .map(|_| {
            tally.clear();
            for _ in 0..with.len() {
                let image = rng.usize(..with.len());
                tally.with[ranks.with[image] as usize] += 1;
                tally.without[ranks.without[image] as usize] += 1;
            }
            tally.auc()
        })
        .collect();
    areas.sort_by(f64::total_cmp);
    (quantile(&areas, 0.025), quantile(&areas, 0.975))
}

/// `mean(with - without) / std(without)`: how far a concept moves a unit, in standard deviations of its baseline.
///
/// **Shapes:** `with[i]` and `without[i]` belong to the same image. The deviation is that of a sample (`n - 1`).
/// A baseline that does not vary has no scale of its own; then the deviation of both sides taken together is used (a
/// unit that jumps from one constant to another has about ±2), and a unit that nothing moves has 0, as have no images.
/// NaN when any value is NaN; otherwise finite for finite values.
///
/// **Panics:** if the lengths differ.
pub fn standardised_difference(with: &[f32], without: &[f32]) -> f64 {
    assert_eq!(with.len(), without.len(), "one value with and one without the concept per image");
    if with.is_empty() {
        return 0.0;
    }
    let difference =
        with.iter().zip(without).map(|(a, b)| f64::from(*a) - f64::from(*b)).sum::<f64>() / with.len() as f64;
    let (_, own) = mean_and_std(without);
    let scale = if own == 0.0 { moments(with.iter().chain(without)).1 } else { own };
    if difference == 0.0 && scale == 0.0 { 0.0 } else { difference / scale }
}

/// Mean and sample standard deviation (`n - 1`); the deviation of fewer than two values is 0, the mean of none NaN.
///
/// Values that are all equal have a deviation of exactly 0.
pub fn mean_and_std(values: &[f32]) -> (f64, f64) {
    moments(values.iter())
}

fn moments<'a>(values: impl Iterator<Item = &'a f32> + Clone) -> (f64, f64) {
    let n = values.clone().count();
    let mean = values.clone().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
    let mut rest = values.clone();
    let first = rest.next();
    if n < 2 || rest.all(|v| Some(v) == first) {
        return (first.map_or(f64::NAN, |v| f64::from(*v)), 0.0);
    }
    let squares: f64 = values.map(|v| (f64::from(*v) - mean).powi(2)).sum();
    (mean, (squares / (n - 1) as f64).sqrt())
}

/// The `q` quantile of sorted values, linear between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(a), Some(b)) => a + (b - a) * place.fract(),
        _ => f64::NAN,
    }
}

/// Both sides' values as numbers of distinct values, smallest first.
struct Ranks {
    with: Vec<u32>,
    without: Vec<u32>,
    distinct: usize,
}

impl Ranks {
    /// None when a value is NaN.
    fn of(with: &[f32], without: &[f32]) -> Option<Self> {
        let value = |i: usize| if i < with.len() { with[i] } else { without[i - with.len()] };
        let mut order: Vec<usize> = (0..with.len() + without.len()).collect();
        if order.iter().any(|&i| value(i).is_nan()) {
            return None;
        }
        // `+ 0.0` makes -0 equal to 0, in the order of `total_cmp` as well.
        order.sort_unstable_by(|&a, &b| (value(a) + 0.0).total_cmp(&(value(b) + 0.0)));
        let mut ranks = vec![0; order.len()];
        let mut distinct = 0;
        for (place, &i) in order.iter().enumerate() {
            if place > 0 && value(order[place - 1]) != value(i) {
                distinct += 1;
            }
            ranks[i] = distinct;
        }
        let without_ranks = ranks.split_off(with.len());
        Some(Self { with: ranks, without: without_ranks, distinct: distinct as usize + 1 })
    }
}

/// How often each distinct value occurs on either side.
struct Tally {
    with: Vec<u32>,
    without: Vec<u32>,
}

impl Tally {
    fn new(distinct: usize) -> Self {
        Self { with: vec![0; distinct], without: vec![0; distinct] }
    }

    fn clear(&mut self) {
        self.with.fill(0);
        self.without.fill(0);
    }

    fn auc(&self) -> f64 {
        let (mut twice_wins, mut below, mut above) = (0u64, 0u64, 0u64);
        for (&w, &o) in self.with.iter().zip(&self.without) {
            twice_wins += u64::from(w) * (2 * below + u64::from(o));
            below += u64::from(o);
            above += u64::from(w);
        }
        if below == 0 || above == 0 { 0.5 } else { twice_wins as f64 / 2.0 / (below as f64 * above as f64) }
    }
}

#[cfg(test)]
mod tests;
