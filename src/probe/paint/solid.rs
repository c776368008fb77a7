//! Patches of one colour, and frames.

use super::{
    Concept,
    canvas::{Canvas, Patch, side},
    color,
};
use crate::probe::seed::uniform;

/// Name, hue range in degrees.
const HUES: [(&str, (f32, f32)); 6] = [
    ("red", (-8.0, 8.0)),
    ("green", (102.0, 138.0)),
    ("blue", (222.0, 246.0)),
    ("yellow", (51.0, 61.0)),
    ("cyan", (175.0, 189.0)),
    ("magenta", (296.0, 314.0)),
];

/// Solid rectangles and ellipses, 20-50 % of the image's side wide and high.
pub(super) fn colors() -> Vec<Concept> {
    let hues = HUES.map(|(name, hue)| {
        patch(name, move |rng| color::hsv(uniform(rng, hue.0, hue.1), uniform(rng, 0.78, 1.0), uniform(rng, 0.68, 1.0)))
    });
    let white =
        patch("white", |rng| color::hsv(uniform(rng, 0.0, 360.0), uniform(rng, 0.0, 0.04), uniform(rng, 0.94, 1.0)));
    let black =
        patch("black", |rng| color::hsv(uniform(rng, 0.0, 360.0), uniform(rng, 0.0, 1.0), uniform(rng, 0.0, 0.07)));
    hues.into_iter().chain([white, black]).collect()
}

fn patch(name: &str, pick: impl Fn(&mut fastrand::Rng) -> [f32; 3] + Send + Sync + 'static) -> Concept {
    Concept::built_in(name, move |image, rng| {
        let color = pick(rng);
        let mut canvas = Canvas::new(image);
        Patch::random(image, (0.2, 0.5), (0.2, 0.5), rng).pixels().for_each(|(x, y)| canvas.blend(x, y, color, 1.0));
        canvas.finish()
    })
}

/// A frame along the image's rim, 3-12 % of its side thick, of random colour.
pub(super) fn border() -> Concept {
    Concept::built_in("border", |image, rng| {
        let thick = ((side(image) * uniform(rng, 0.03, 0.12)).round() as i32).max(1);
        let color = color::any(rng);
        let (w, h) = (image.width() as i32, image.height() as i32);
        let mut canvas = Canvas::new(image);
        for (x, y) in Patch::whole(image).pixels() {
            if x.min(y).min(w - 1 - x).min(h - 1 - y) < thick {
                canvas.blend(x, y, color, 1.0);
            }
        }
        canvas.finish()
    })
}
