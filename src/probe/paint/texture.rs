//! Stripes, dots, checks and edges, in pairs of random colours so that no colour is tied to them.

use super::{
    Concept,
    canvas::{Canvas, Patch, unit},
    color,
};
use crate::probe::seed::uniform;
use image::RgbImage;

/// Which of the two colours a pixel has, given its place.
type Pattern = Box<dyn Fn(i32, i32) -> bool>;

/// Stripes named after the way they run; periods of 2-8 pixels (diagonal ones 4-8) per 32 pixels of the image's side.
pub(super) fn stripes() -> Vec<Concept> {
    let horizontal = textured("horizontal-stripes", |image, rng| {
        let (half, phase) = half_period(1, image, rng);
        Box::new(move |_, y| (y + phase).div_euclid(half) % 2 == 0)
    });
    let vertical = textured("vertical-stripes", |image, rng| {
        let (half, phase) = half_period(1, image, rng);
        Box::new(move |x, _| (x + phase).div_euclid(half) % 2 == 0)
    });
    let diagonal = textured("diagonal-stripes", |image, rng| {
        // Diagonals of one pixel would be checks.
        let (half, phase) = half_period(2, image, rng);
        let way = if rng.bool() { 1 } else { -1 };
        Box::new(move |x, y| (x + way * y + phase).div_euclid(half) % 2 == 0)
    });
    vec![horizontal, vertical, diagonal]
}

/// Dots on a grid, straight or staggered, and checkerboards.
pub(super) fn textures() -> Vec<Concept> {
    let dots = textured("dots", |image, rng| {
        // Whole pixels, or no two dots would look the same and neighbours would run together.
        let period = (unit(image) * uniform(rng, 4.0, 8.0)).round();
        let radius = period * uniform(rng, 0.26, 0.36);
        let (px, py) = (uniform(rng, 0.0, period).floor(), uniform(rng, 0.0, period).floor());
        let stagger = if rng.bool() { (period / 2.0).floor() } else { 0.0 };
        Box::new(move |x, y| {
            let (y, x) = (y as f32 + py, x as f32 + px);
            let shift = if (y / period).floor() as i32 % 2 == 0 { 0.0 } else { stagger };
            let from = |v: f32| v.rem_euclid(period) - period / 2.0;
            from(x + shift).hypot(from(y)) <= radius
        })
    });
    let checks = textured("checks", |image, rng| {
        let (half, px) = half_period(2, image, rng);
        let py = rng.i32(0..half * 2);
        Box::new(move |x, y| ((x + px).div_euclid(half) + (y + py).div_euclid(half)) % 2 == 0)
    });
    vec![dots, checks]
}

/// One straight step between two colours of different brightness, fading into the image at the patch's rim so that
/// the step is the only edge. The region is the patch.
pub(super) fn edges() -> Vec<Concept> {
    let make = |name: &str, across: bool| {
        Concept::built_in(name, move |image, rng| {
            let (first, second) = color::contrasting(rng, 90.0);
            let (long, short) = ((0.5, 0.9), (0.25, 0.45));
            let (wide, high) = if across { (long, short) } else { (short, long) };
            let patch = Patch::random(image, wide, high, rng).rectangle();
            let mut canvas = Canvas::new(image);
            for (x, y) in patch.pixels() {
                let alpha = ((1.0 - patch.radius(x, y)) * 3.0).min(1.0);
                let before =
                    if across { 2 * (y - patch.top) < patch.height } else { 2 * (x - patch.left) < patch.width };
                if alpha > 0.0 {
                    canvas.blend(x, y, if before { first } else { second }, alpha);
                }
            }
            canvas.finish()
        })
    };
    vec![make("horizontal-edge", true), make("vertical-edge", false)]
}

/// Half a period in pixels, `least` to 4 per 32 pixels of side, and a phase.
fn half_period(least: i32, image: &RgbImage, rng: &mut fastrand::Rng) -> (i32, i32) {
    let half = ((rng.i32(least..=4) as f32 * unit(image)).round() as i32).max(1);
    (half, rng.i32(0..half * 2))
}

/// A patch, 35-75 % of the side wide and high, of a pattern in two random colours.
fn textured(name: &str, pattern: impl Fn(&RgbImage, &mut fastrand::Rng) -> Pattern + Send + Sync + 'static) -> Concept {
    Concept::built_in(name, move |image, rng| {
        let (first, second) = color::contrasting(rng, 80.0);
        let pattern = pattern(image, rng);
        let mut canvas = Canvas::new(image);
        for (x, y) in Patch::random(image, (0.35, 0.75), (0.35, 0.75), rng).pixels() {
            canvas.blend(x, y, if pattern(x, y) { first } else { second }, 1.0);
        }
        canvas.finish()
    })
}
