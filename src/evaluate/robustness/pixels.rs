//! What corruptions do to pixels.

use crate::probe::seed::normal;
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};

/// Normal noise of standard deviation `sigma`, in units of 0-1 pixels, independent on every value.
pub(super) fn noise(image: &RgbImage, sigma: f32, seed: u64) -> RgbImage {
    let mut rng = fastrand::Rng::with_seed(seed);
    each(image, |pixel| pixel.map(|v| v + 255.0 * sigma * normal(&mut rng)))
}

/// The value of HSV raised by `by`, 0 to 1; hue and saturation stay, and so black becomes grey.
pub(super) fn brighten(image: &RgbImage, by: f32) -> RgbImage {
    each(image, |pixel| {
        let value = pixel.into_iter().fold(0.0, f32::max);
        let raised = (value + 255.0 * by).min(255.0);
        if value == 0.0 { [raised; 3] } else { pixel.map(|v| v * raised / value) }
    })
}

/// Distances from the image's mean colour multiplied by `keep`.
pub(super) fn flatten(image: &RgbImage, keep: f32) -> RgbImage {
    let mut sums = [0u64; 3];
    for pixel in image.pixels() {
        sums.iter_mut().zip(pixel.0).for_each(|(s, v)| *s += u64::from(v));
    }
    let count = f64::from(image.width()) * f64::from(image.height());
    let mean = sums.map(|s| (s as f64 / count) as f32);
    each(image, |pixel| std::array::from_fn(|c| mean[c] + (pixel[c] - mean[c]) * keep))
}

/// Compressed at `quality`, 1 to 100, and read again; as it was if JPEG cannot hold it.
pub(super) fn jpeg(image: &RgbImage, quality: u8) -> RgbImage {
    let mut bytes = Vec::new();
    let written = JpegEncoder::new_with_quality(&mut bytes, quality).encode_image(image);
    match written.and_then(|()| image::load_from_memory_with_format(&bytes, image::ImageFormat::Jpeg)) {
        Ok(read) => read.into_rgb8(),
        Err(_) => image.clone(),
    }
}

/// A normal blur of standard deviation `sigma` in pixels, cut off at four of them; the outermost pixels go on beyond
/// the rim.
pub(super) fn blur(image: &RgbImage, sigma: f32) -> RgbImage {
    let radius = (4.0 * sigma + 0.5) as i64;
    let kernel: Vec<f32> = (-radius..=radius).map(|d| (-0.5 * (d as f32 / sigma).powi(2)).exp()).collect();
    let total: f32 = kernel.iter().sum();
    let taps = |length: u32| -> Vec<Taps> {
        let last = i64::from(length) - 1;
        let around = |at: i64| {
            let start = (at - radius).max(0);
            let mut weights = vec![0.0; ((at + radius).min(last) - start + 1) as usize];
            for (d, w) in (-radius..=radius).zip(&kernel) {
                weights[((at + d).clamp(0, last) - start) as usize] += w / total;
            }
            Taps { start: start as usize, weights }
        };
        (0..=last).map(around).collect()
    };
    filter(image, &taps(image.width()), &taps(image.height()))
}

/// Scaled down to `share` of its size, above 0 and at most 1, and up again, with a box filter as Pillow's.
pub(super) fn pixelate(image: &RgbImage, share: f32) -> RgbImage {
    let (width, height) = image.dimensions();
    let less = |length: u32| ((length as f32 * share) as u32).clamp(1, length);
    let small = filter(image, &boxes(width, less(width)), &boxes(height, less(height)));
    filter(&small, &boxes(less(width), width), &boxes(less(height), height))
}

/// Where an output pixel takes its value from, along one axis.
struct Taps {
    start: usize,
    /// They add up to 1.
    weights: Vec<f32>,
}

/// Each of `to` pixels is the mean of those of `from` whose centres it covers; the nearest one when enlarging.
fn boxes(from: u32, to: u32) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let half = scale.max(1.0) / 2.0;
    let taps = |i: u32| {
        let centre = (i as f32 + 0.5) * scale;
        let inside = |j: &u32| (centre - half..centre + half).contains(&(*j as f32 + 0.5));
        let near = (centre - half).max(0.0) as u32..((centre + half) as u32 + 1).min(from);
        let covered: Vec<u32> = near.filter(inside).collect();
        // Rounding may leave none.
        let start = covered.first().copied().unwrap_or((centre as u32).min(from - 1));
        let count = covered.len().max(1);
        Taps { start: start as usize, weights: vec![1.0 / count as f32; count] }
    };
    (0..to).map(taps).collect()
}

/// Filters columns, then rows; the result has a pixel per taps.
fn filter(image: &RgbImage, across: &[Taps], down: &[Taps]) -> RgbImage {
    let (width, out) = (image.width() as usize, across.len());
    let mut rows: Vec<[f32; 3]> = Vec::with_capacity(out * image.height() as usize);
    for row in image.as_raw().chunks_exact(3 * width) {
        for taps in across {
            let pixels = row[3 * taps.start..].chunks_exact(3).zip(&taps.weights);
            let mut sum = [0.0; 3];
            pixels.for_each(|(p, w)| sum.iter_mut().zip(p).for_each(|(s, v)| *s += w * f32::from(*v)));
            rows.push(sum);
        }
    }
    RgbImage::from_fn(out as u32, down.len() as u32, |x, y| {
        let taps = &down[y as usize];
        let mut sum = [0.0; 3];
        for (i, w) in taps.weights.iter().enumerate() {
            let pixel = rows[(taps.start + i) * out + x as usize];
            sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += w * v);
        }
        Rgb(sum.map(byte))
    })
}

/// Every pixel replaced, row by row.
pub(super) fn each(image: &RgbImage, mut f: impl FnMut([f32; 3]) -> [f32; 3]) -> RgbImage {
    let mut out = image.clone();
    out.pixels_mut().for_each(|p| p.0 = f(p.0.map(f32::from)).map(byte));
    out
}

fn byte(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blur_keeps_flat_images_and_spreads_a_point_evenly() {
        let flat = RgbImage::from_pixel(5, 3, Rgb([7, 100, 255]));
        assert_eq!(blur(&flat, 2.5), flat);
        let mut point = RgbImage::new(21, 21);
        point.put_pixel(10, 10, Rgb([255; 3]));
        let spread = blur(&point, 1.0);
        assert_eq!(spread.get_pixel(10, 10).0, [41; 3], "255 / (2 pi)");
        assert_eq!(spread.get_pixel(9, 10), spread.get_pixel(10, 11));
    }

    #[test]
    fn boxes_take_the_mean_when_shrinking_and_the_nearest_when_enlarging() {
        let image = RgbImage::from_fn(4, 1, |x, _| Rgb([[0, 100, 50, 150][x as usize]; 3]));
        let row = |image: &RgbImage| image.pixels().map(|p| p[0]).collect::<Vec<_>>();
        assert_eq!(row(&pixelate(&image, 0.5)), [50, 50, 100, 100]);
        assert_eq!(row(&pixelate(&image, 1.0)), [0, 100, 50, 150]);
    }

    #[test]
    fn brightness_keeps_hue_and_saturation() {
        let image = RgbImage::from_pixel(1, 1, Rgb([100, 50, 0]));
        assert_eq!(brighten(&image, 0.2).get_pixel(0, 0).0, [151, 76, 0]);
        assert_eq!(brighten(&RgbImage::new(1, 1), 0.2).get_pixel(0, 0).0, [51; 3]);
    }
}
