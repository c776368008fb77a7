//! Paints that no word of the bank fits: what a unit does on them is its response to any change at all.

use super::{
    Concept,
    canvas::{Canvas, Patch, unit},
    color,
};
use image::RgbImage;

/// Paints over patches as large as those of [`bank`](super::bank), none of which shows a concept of it.
///
/// `control-mosaic`: blocks of random colours. `control-shuffle`: the patch's own pixels in random order.
/// `control-paste`: another part of the same image, mirrored.
pub fn controls() -> Vec<Concept> {
    let mosaic = control("control-mosaic", "a mosaic of random colors", |image, patch, rng| {
        let block = ((rng.i32(2..=5) as f32 * unit(image)).round() as i32).max(1);
        let columns = patch.width / block + 1;
        let colors: Vec<[f32; 3]> = (0..columns * (patch.height / block + 1)).map(|_| color::any(rng)).collect();
        Box::new(move |x, y| {
            let at = (y - patch.top) / block * columns + (x - patch.left) / block;
            colors.get(at as usize).copied().unwrap_or_default()
        })
    });
    let shuffle = control("control-shuffle", "shuffled pixels", |image, patch, rng| {
        let mut pixels: Vec<[f32; 3]> = patch.rectangle().pixels().map(|(x, y)| read(image, x, y)).collect();
        rng.shuffle(&mut pixels);
        Box::new(move |x, y| {
            let at = (y - patch.top) * patch.width + (x - patch.left);
            pixels.get(at as usize).copied().unwrap_or_default()
        })
    });
    let paste = control("control-paste", "another part of the image", |image, patch, rng| {
        let left = rng.i32(0..=(image.width() as i32 - patch.width).max(0));
        let top = rng.i32(0..=(image.height() as i32 - patch.height).max(0));
        let image = image.clone();
        Box::new(move |x, y| read(&image, left + patch.width - 1 - (x - patch.left), top + y - patch.top))
    });
    vec![mosaic, shuffle, paste]
}

/// The colour to put at a place.
type Fill = Box<dyn Fn(i32, i32) -> [f32; 3]>;

fn control(
    name: &'static str,
    description: &'static str,
    fill: impl Fn(&RgbImage, Patch, &mut fastrand::Rng) -> Fill + Send + Sync + 'static,
) -> Concept {
    Concept::new(name, "control", description, move |image, rng| {
        let patch = Patch::random(image, (0.25, 0.6), (0.25, 0.6), rng);
        let fill = fill(image, patch, rng);
        let mut canvas = Canvas::new(image);
        patch.pixels().for_each(|(x, y)| canvas.blend(x, y, fill(x, y), 1.0));
        canvas.finish()
    })
}

fn read(image: &RgbImage, x: i32, y: i32) -> [f32; 3] {
    image.get_pixel_checked(x as u32, y as u32).map_or([0.0; 3], |p| p.0.map(f32::from))
}
