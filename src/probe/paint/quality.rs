//! What happens to photographs: blur, noise, too much light, too little.

use super::{
    Concept,
    canvas::{Canvas, Patch, unit},
};
use crate::probe::seed::{normal, uniform};
use image::{RgbImage, imageops};

/// Blur, noise, bright and dark: over the whole image or a large patch (60-100 % of the side).
pub(super) fn qualities() -> Vec<Concept> {
    let blur = Concept::built_in("blur", |image, rng| {
        if image.is_empty() {
            return Canvas::new(image).finish();
        }
        let blurred = imageops::blur(image, unit(image) * uniform(rng, 1.2, 2.4));
        over(image, rng, |x, y, _| blurred.get_pixel(x, y).0.map(f32::from))
    });
    let noise = Concept::built_in("noise", |image, rng| {
        let sigma = uniform(rng, 25.0, 60.0);
        let grey = rng.bool();
        over(image, rng, |x, y, rng| {
            let shared = normal(rng);
            image.get_pixel(x, y).0.map(|v| f32::from(v) + sigma * if grey { shared } else { normal(rng) })
        })
    });
    let bright = Concept::built_in("bright", |image, rng| {
        let keep = uniform(rng, 0.25, 0.5);
        over(image, rng, |x, y, _| image.get_pixel(x, y).0.map(|v| 255.0 - (255.0 - f32::from(v)) * keep))
    });
    let dark = Concept::built_in("dark", |image, rng| {
        let keep = uniform(rng, 0.25, 0.5);
        over(image, rng, |x, y, _| image.get_pixel(x, y).0.map(|v| f32::from(v) * keep))
    });
    vec![blur, noise, bright, dark]
}

/// Replaces the pixels of the whole image or of a large patch.
fn over(
    image: &RgbImage,
    rng: &mut fastrand::Rng,
    pixel: impl Fn(u32, u32, &mut fastrand::Rng) -> [f32; 3],
) -> super::Painted {
    let whole = rng.bool();
    let patch = Patch::random(image, (0.6, 1.0), (0.6, 1.0), rng);
    let patch = if whole { Patch::whole(image) } else { patch };
    let mut canvas = Canvas::new(image);
    for (x, y) in patch.pixels() {
        if (x as u32) < image.width() && (y as u32) < image.height() {
            canvas.blend(x, y, pixel(x as u32, y as u32, rng), 1.0);
        }
    }
    canvas.finish()
}
