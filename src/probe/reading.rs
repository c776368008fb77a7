//! What is often asked of images, wherever they are: an example, labels, pixels by number, two parts.

use super::{Images, Want, seed};
use crate::{Error, Result};
use image::RgbImage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tch::Tensor;

/// Images that are read at once where only their pixels are wanted.
pub(crate) const PIXEL_BATCH: usize = 64;

/// The first `n` readable images as a model's input: an example to trace or verify with.
///
/// **Shapes:** `[n, C, H, W]`, f32, on the CPU; fewer rows where there are fewer images. The images of a
/// [generator](super::Probe::generated) are represented by its inputs.
///
/// # Errors
/// [`Error::Invalid`] if there is no image that can be read; what reading them returns.
pub fn example(images: &dyn Images, n: usize) -> Result<Tensor> {
    let (mut parts, mut found, mut next) = (Vec::new(), 0, 0);
    while found < n && next < images.len() {
        let numbers: Vec<usize> = (next..images.len().min(next + n - found)).collect();
        next += numbers.len();
        images.read(&numbers, numbers.len(), Want::Inputs, &mut |batch| {
            found += batch.numbers.len();
            parts.push(batch.input);
            Ok(())
        })?;
    }
    if found == 0 {
        let received = if images.is_empty() { "no image" } else { "no readable image" };
        return Err(Error::invalid("images", received, "at least one image"));
    }
    Tensor::f_cat(&parts, 0).map_err(Error::torch("joining images"))
}

/// The classes of some images.
///
/// **Shapes:** `[N]`, i64, on the CPU, in the order of `numbers`.
///
/// # Errors
/// [`Error::Invalid`] where an image has no label.
///
/// # Panics
/// May panic unless every number is below `images.len()`.
pub fn labels(images: &dyn Images, numbers: &[usize]) -> Result<Tensor> {
    let label = |i: &usize| images.label(*i).map(|label| label as i64);
    let labels: Option<Vec<i64>> = numbers.iter().map(label).collect();
    labels.map(|labels| Tensor::from_slice(&labels)).ok_or_else(unlabelled)
}

/// For images that should have classes.
pub(crate) fn unlabelled() -> Error {
    Error::invalid("evaluation", "images without labels", "labelled images")
}

/// The pixels of the images with these numbers, each read once. Those that cannot be read are missing.
pub(crate) fn pixels(
    images: &dyn Images,
    numbers: impl IntoIterator<Item = usize>,
) -> Result<BTreeMap<usize, Arc<RgbImage>>> {
    let distinct: Vec<usize> = numbers.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut pixels = BTreeMap::new();
    images.read(&distinct, PIXEL_BATCH, Want::Pixels, &mut |batch| {
        pixels.extend(batch.numbers.into_iter().zip(batch.pixels));
        Ok(())
    })?;
    Ok(pixels)
}

/// Splits images at random into a share of `fraction` and the rest, the same share of every class (to within one image).
///
/// Returned are the numbers of both parts, ascending, for [`Selected`](super::Selected). Without labels all images count
/// as one class.
///
/// # Errors
/// [`Error::Invalid`] unless `0 < fraction < 1`.
pub fn split(images: &dyn Images, seed: u64, fraction: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::invalid("fraction of a split", fraction, "above 0 and below 1"));
    }
    let mut members = vec![Vec::new(); images.classes().len().max(1)];
    for i in 0..images.len() {
        if let Some(class) = members.get_mut(images.label(i).unwrap_or(0)) {
            class.push(i);
        }
    }
    let mut chosen = vec![false; images.len()];
    let (mut seen, mut taken) = (0usize, 0usize);
    for (class, mut members) in members.into_iter().enumerate() {
        fastrand::Rng::with_seed(seed::mix(seed, class as u64)).shuffle(&mut members);
        seen += members.len();
        // What rounding left over from earlier classes is made up for here, so that the total is right too.
        let share = ((seen as f64 * fraction).round() as usize).saturating_sub(taken).min(members.len());
        taken += share;
        members.iter().take(share).for_each(|&i| chosen[i] = true);
    }
    Ok((0..images.len()).partition(|&i| chosen[i]))
}
