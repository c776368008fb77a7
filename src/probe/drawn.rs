//! A generator of drawn images: ten classes, no file needed.

use super::{
    Labels, Preprocess, Probe,
    paint::color,
    seed::{mix, normal, uniform},
    shape::{Shape, coverage, rotate},
};
use crate::{Error, Result};
use image::{Rgb, RgbImage};
use rayon::prelude::*;

/// The classes by name, sorted; each name fits on 32 pixels in a font of 4 x 6.
const CLASSES: [(&str, Shape); 10] = [
    ("bars", Shape::Bars),
    ("cross", Shape::Cross),
    ("diamond", Shape::Diamond),
    ("disc", Shape::Disc),
    ("moon", Shape::Moon),
    ("posts", Shape::Posts),
    ("ring", Shape::Ring),
    ("square", Shape::Square),
    ("star", Shape::Star),
    ("triangle", Shape::Triangle),
];

/// Draws labelled images of ten simple figures: bars, cross, diamond, disc, moon, posts, ring, square, star, triangle.
///
/// Each image has one figure of random place, size, turn and colour on a gradient, with clutter and noise. Colours come
/// from the same distribution in every class, so that only the figure tells the class. Classes take turns, so that
/// any run of ten images has one of each. Same arguments, same images.
///
/// **Shapes:** `10 * n_per_class` images of `size` x `size`, mean 0.5 and standard deviation 0.25 in each of the three
/// channels.
/// **Errors:** [`Error::Invalid`] unless `size` is 8 to 4096 and `n_per_class` at least 1.
pub fn drawn(n_per_class: usize, size: usize, seed: u64) -> Result<Probe> {
    if !(8..=Preprocess::MAX_SIZE).contains(&size) {
        return Err(Error::invalid("size of drawn images", size, format!("8 to {}", Preprocess::MAX_SIZE)));
    }
    if n_per_class == 0 {
        return Err(Error::invalid("drawn images per class", 0, "1 and above"));
    }
    let total = n_per_class.saturating_mul(CLASSES.len());
    let images = (0..total)
        .into_par_iter()
        .map(|i| scene(CLASSES[i % CLASSES.len()].1, size as u32, &mut fastrand::Rng::with_seed(mix(seed, i as u64))))
        .collect();
    let names = (0..total).map(|i| format!("{}-{:05}", CLASSES[i % CLASSES.len()].0, i / CLASSES.len())).collect();
    let labels = Labels::new((0..total).map(|i| i % CLASSES.len()).collect(), CLASSES.map(|(name, _)| name))?;
    let preprocess = Preprocess::new(3, size, size, vec![0.5; 3], vec![0.25; 3])?;
    Probe::from_images(images, Some(names), Some(labels), preprocess)
}

fn scene(shape: Shape, size: u32, rng: &mut fastrand::Rng) -> RgbImage {
    let side = size as f32;
    let (near, figure) = color::contrasting(rng, 60.0);
    let far = near.map(|v| v + uniform(rng, -70.0, 70.0));
    let (gx, gy) = rotate(1.0, 0.0, uniform(rng, 0.0, std::f32::consts::TAU));
    let radius = side * uniform(rng, 0.17, 0.38);
    let free = (side / 2.0 - radius).max(0.0);
    let (cx, cy) = (side / 2.0 + uniform(rng, -free, free), side / 2.0 + uniform(rng, -free, free));
    let turn = uniform(rng, -0.22, 0.22);
    let (flip, stretch) = (if rng.bool() { 1.0 } else { -1.0 }, uniform(rng, 0.85, 1.15));
    let clutter: Vec<Blot> = (0..rng.usize(1..=4)).map(|_| Blot::random(side, rng)).collect();
    let sigma = uniform(rng, 4.0, 24.0);
    RgbImage::from_fn(size, size, |x, y| {
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let along = (((x - side / 2.0) * gx + (y - side / 2.0) * gy) / side + 0.5).clamp(0.0, 1.0);
        let mut pixel: [f32; 3] = std::array::from_fn(|c| near[c] + (far[c] - near[c]) * along);
        let (u, v) = rotate((x - cx) * flip, y - cy, turn);
        let alpha = coverage(shape.distance(u / radius * stretch, v / radius / stretch) * radius);
        color::blend(&mut pixel, figure, alpha);
        clutter.iter().for_each(|blot| color::blend(&mut pixel, blot.color, blot.coverage(x, y)));
        Rgb(pixel.map(|v| (v + sigma * normal(rng)).round().clamp(0.0, 255.0) as u8))
    })
}

/// A short line or dot of random colour in front of the figure: what a classifier must learn to overlook.
struct Blot {
    from: (f32, f32),
    to: (f32, f32),
    half: f32,
    color: [f32; 3],
}

impl Blot {
    fn random(side: f32, rng: &mut fastrand::Rng) -> Self {
        let from = (uniform(rng, 0.0, side), uniform(rng, 0.0, side));
        let reach = side * uniform(rng, 0.0, 0.25);
        let (dx, dy) = rotate(reach, 0.0, uniform(rng, 0.0, std::f32::consts::TAU));
        let half = side / 32.0 * uniform(rng, 0.5, 1.3);
        Self { from, to: (from.0 + dx, from.1 + dy), half, color: color::any(rng) }
    }

    fn coverage(&self, x: f32, y: f32) -> f32 {
        let (ex, ey, px, py) = (self.to.0 - self.from.0, self.to.1 - self.from.1, x - self.from.0, y - self.from.1);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey).max(1e-6)).clamp(0.0, 1.0);
        coverage((px - along * ex).hypot(py - along * ey) - self.half)
    }
}
