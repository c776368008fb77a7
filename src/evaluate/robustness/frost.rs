//! Ice over an image: irregular patches, translucent, with a grain.

use crate::probe::seed::mix;
use image::{Rgb, RgbImage};

/// How much of the image lies under ice, per severity.
pub(super) const COVERAGE: [f32; 5] = [0.2, 0.3, 0.4, 0.5, 0.6];
/// How opaque the ice is where it is thick, per severity.
pub(super) const OPACITY: [f32; 5] = [0.5, 0.6, 0.7, 0.8, 0.9];
const ICE: [f32; 3] = [222.0, 234.0, 245.0];
/// How much the grain brightens and darkens the ice.
const GRAIN: f32 = 20.0;
/// Over which difference of heights ice goes from nothing to thick.
const EDGE: f32 = 0.06;

/// Covers a share of the image, 0 to 1, with ice of an opacity, 0 to 1.
///
/// Patches are where a random landscape is highest: of one seed, a larger share contains every smaller one.
pub(super) fn cover(image: &RgbImage, share: f32, opacity: f32, seed: u64) -> RgbImage {
    let (width, height) = image.dimensions();
    let scale = width.min(height).max(1) as f32;
    let heights: Vec<f32> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .map(|(x, y)| landscape(x as f32 / scale, y as f32 / scale, seed))
        .collect();
    let mut sorted = heights.clone();
    sorted.sort_unstable_by(f32::total_cmp);
    let Some(&level) = sorted.get(((sorted.len() as f32 * (1.0 - share)) as usize).min(sorted.len().saturating_sub(1)))
    else {
        return image.clone();
    };
    RgbImage::from_fn(width, height, |x, y| {
        let thick = ((heights[(y * width + x) as usize] - level) / EDGE).clamp(0.0, 1.0);
        let grain = GRAIN * (2.0 * lattice(i64::from(x), i64::from(y), mix(seed, 99)) - 1.0);
        let pixel = image.get_pixel(x, y).0;
        Rgb(std::array::from_fn(|c| {
            let ice = (ICE[c] + grain).min(255.0);
            (f32::from(pixel[c]) + (ice - f32::from(pixel[c])) * opacity * thick).round().clamp(0.0, 255.0) as u8
        }))
    })
}

/// Four octaves of value noise, about 0 to 1; the coarsest has three hills along the image's shorter side.
fn landscape(x: f32, y: f32, seed: u64) -> f32 {
    let octave = |k: i32| smooth(x * 3.0 * 2f32.powi(k), y * 3.0 * 2f32.powi(k), mix(seed, k as u64)) * 0.5f32.powi(k);
    (0..4).map(octave).sum::<f32>() / 1.875
}

/// Value noise: smooth between random values at whole coordinates.
fn smooth(x: f32, y: f32, seed: u64) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - left), ease(y - top));
    let at = |dx: i64, dy: i64| lattice(left as i64 + dx, top as i64 + dy, seed);
    let row = |dy: i64| at(0, dy) + (at(1, dy) - at(0, dy)) * u;
    row(0) + (row(1) - row(0)) * v
}

/// A random number from 0 to 1 for every whole place.
fn lattice(x: i64, y: i64, seed: u64) -> f32 {
    (mix(mix(seed, x as u64), y as u64) >> 40) as f32 / (1u64 << 24) as f32
}
