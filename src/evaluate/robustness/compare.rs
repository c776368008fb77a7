//! Two measurements of the same images, before and after.

use super::{Measured, Robustness};
use crate::stats::{Accuracy, mcnemar};
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One way of making images worse, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// See [`Measured::name`].
    pub name: String,
    /// Of a corruption at one severity: 1 to 5.
    pub severity: Option<u8>,
    /// Whether this is the mean of a corruption over its severities.
    ///
    /// Then accuracies are those of as many images as there are, with the mean number of right ones, rounded: pooling
    /// all severities would make intervals too narrow, because the images are the same. Worst classes are those of the
    /// severity where they are worst.
    pub mean: bool,
    /// Before.
    pub before: Accuracy,
    /// After.
    pub after: Accuracy,
    /// After less before, in points; of a mean before rounding.
    pub change: f64,
    /// McNemar's exact two-sided p, over images. Of a mean: the exact sign test of images that are right at more
    /// severities against those that are right at fewer, which is the same for one severity.
    pub p: f64,
    /// See [`Measured::worst_class`].
    pub worst_class_before: Option<(String, Accuracy)>,
    /// It may be another class.
    pub worst_class_after: Option<(String, Accuracy)>,
    /// The accuracies of the controls (of random edits, say), in their order.
    pub controls: Vec<Accuracy>,
}

/// Holds two measurements of the same images against each other, with measurements of controls beside them.
///
/// A row per evaluation, in their order, and after the severities of each corruption a row for their mean.
///
/// # Errors
/// [`Error::Invalid`] unless all are of the same images and have the same evaluations.
pub fn compare(before: &Robustness, after: &Robustness, control: Option<&[Robustness]>) -> Result<Vec<Row>> {
    let controls = control.unwrap_or_default();
    matching("measurement after", before, after)?;
    for (i, control) in controls.iter().enumerate() {
        matching(&format!("control {i}"), before, control)?;
    }
    let kind = |m: &Measured| m.severity.map(|_| m.name.clone());
    let mut rows = Vec::new();
    let mut start = 0;
    for group in before.evaluations.chunk_by(|a, b| kind(a).is_some() && kind(a) == kind(b)) {
        let places = start..start + group.len();
        let row = |places: std::ops::Range<usize>| {
            let sets: Vec<&[Measured]> = controls.iter().filter_map(|c| c.evaluations.get(places.clone())).collect();
            Row::new(&before.evaluations[places.clone()], &after.evaluations[places], &sets)
        };
        for i in places.clone() {
            rows.push(row(i..i + 1));
        }
        if group.iter().any(|m| m.severity.is_some()) {
            rows.push(Row { severity: None, mean: true, ..row(places) });
        }
        start += group.len();
    }
    Ok(rows)
}

/// An error unless `other` has the images and evaluations of `before`.
fn matching(what: &str, before: &Robustness, other: &Robustness) -> Result<()> {
    if before.images != other.images {
        return Err(Error::invalid(format!("images of the {what}"), "other images", "those of the measurement before"));
    }
    let shape = |m: &Measured| match m.severity {
        Some(severity) => format!("{} {severity} on {} images", m.name, m.right.len()),
        None => format!("{} on {} images", m.name, m.right.len()),
    };
    let of = |r: &Robustness, i: usize| r.evaluations.get(i).map_or("nothing".to_string(), shape);
    match (0..before.evaluations.len().max(other.evaluations.len())).find(|&i| of(before, i) != of(other, i)) {
        None => Ok(()),
        Some(i) => Err(Error::invalid(format!("evaluation {i} of the {what}"), of(other, i), of(before, i))),
    }
}

impl Row {
    /// Of one or several severities.
    fn new(before: &[Measured], after: &[Measured], controls: &[&[Measured]]) -> Self {
        let (old, new) = (times_right(before), times_right(after));
        let pairs = || old.iter().zip(&new);
        let (fewer, more) = (pairs().filter(|(a, b)| a > b).count(), pairs().filter(|(a, b)| a < b).count());
        let total = |times: &[u64]| times.iter().sum::<u64>() as f64;
        let answers = (old.len() * before.len()).max(1) as f64;
        Self {
            name: before.first().map(|m| m.name.clone()).unwrap_or_default(),
            severity: before.first().and_then(|m| m.severity),
            mean: false,
            before: mean(before),
            after: mean(after),
            change: 100.0 * (total(&new) - total(&old)) / answers,
            p: mcnemar(fewer as u64, more as u64),
            worst_class_before: worst(before),
            worst_class_after: worst(after),
            controls: controls.iter().map(|c| mean(c)).collect(),
        }
    }
}

/// At how many of the severities each image is right.
fn times_right(severities: &[Measured]) -> Vec<u64> {
    let mut times = vec![0; severities.first().map_or(0, |m| m.right.len())];
    for measured in severities {
        times.iter_mut().zip(&measured.right).for_each(|(t, right)| *t += u64::from(*right));
    }
    times
}

/// As many images as there are, with the mean number of right ones.
fn mean(severities: &[Measured]) -> Accuracy {
    let times = times_right(severities);
    let correct = times.iter().sum::<u64>() as f64 / severities.len().max(1) as f64;
    Accuracy::new(correct.round() as u64, times.len() as u64)
}

fn worst(severities: &[Measured]) -> Option<(String, Accuracy)> {
    let classes = severities.iter().filter_map(|m| m.worst_class.as_ref());
    classes.min_by(|a, b| a.1.rate().total_cmp(&b.1.rate())).cloned()
}
