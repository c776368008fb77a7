//! An image being painted on, which remembers where.

use super::{Painted, color};
use crate::{Region, probe::seed::uniform};
use image::{Rgb, RgbImage};

/// An image and the pixels touched so far: nothing changes outside them.
pub(super) struct Canvas {
    image: RgbImage,
    region: Region,
}

impl Canvas {
    pub(super) fn new(image: &RgbImage) -> Self {
        Self { image: image.clone(), region: Region::empty(image.height() as usize, image.width() as usize) }
    }

    /// Lays a colour over a pixel with opacity `alpha` and marks it, even where that changes nothing; outside the
    /// image nothing happens.
    pub(super) fn blend(&mut self, x: i32, y: i32, color: [f32; 3], alpha: f32) {
        let Some((ux, uy)) = self.inside(x, y) else { return };
        let mut pixel = self.image.get_pixel(ux, uy).0.map(f32::from);
        color::blend(&mut pixel, color, alpha.clamp(0.0, 1.0));
        self.image.put_pixel(ux, uy, Rgb(pixel.map(|v| v.round().clamp(0.0, 255.0) as u8)));
        self.region.insert(uy as usize, ux as usize);
    }

    /// Adds a pixel to the region without changing it.
    pub(super) fn mark(&mut self, x: i32, y: i32) {
        if let Some((x, y)) = self.inside(x, y) {
            self.region.insert(y as usize, x as usize);
        }
    }

    fn inside(&self, x: i32, y: i32) -> Option<(u32, u32)> {
        let (x, y) = (u32::try_from(x).ok()?, u32::try_from(y).ok()?);
        (x < self.image.width() && y < self.image.height()).then_some((x, y))
    }

    pub(super) fn finish(self) -> Painted {
        Painted { image: self.image, region: self.region }
    }
}

/// The shorter side in pixels, at least 1.
pub(super) fn side(image: &RgbImage) -> f32 {
    image.width().min(image.height()).max(1) as f32
}

/// How many pixels correspond to one pixel of an image of 32 x 32; at least 1.
pub(super) fn unit(image: &RgbImage) -> f32 {
    (side(image) / 32.0).max(1.0)
}

/// A rectangle or the ellipse in it, wholly inside the image, so that no outline belongs to a concept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patch {
    pub(super) left: i32,
    pub(super) top: i32,
    pub(super) width: i32,
    pub(super) height: i32,
    round: bool,
}

impl Patch {
    /// A random place; the sides are random shares, within the two ranges, of the image's shorter side.
    pub(super) fn random(image: &RgbImage, wide: (f32, f32), high: (f32, f32), rng: &mut fastrand::Rng) -> Self {
        let side = side(image);
        let width = ((side * uniform(rng, wide.0, wide.1)).round() as i32).clamp(1, image.width().max(1) as i32);
        let height = ((side * uniform(rng, high.0, high.1)).round() as i32).clamp(1, image.height().max(1) as i32);
        let left = rng.i32(0..=(image.width() as i32 - width).max(0));
        let top = rng.i32(0..=(image.height() as i32 - height).max(0));
        Self { left, top, width, height, round: rng.bool() }
    }

    /// The whole image.
    pub(super) fn whole(image: &RgbImage) -> Self {
        Self { left: 0, top: 0, width: image.width() as i32, height: image.height() as i32, round: false }
    }

    /// The same place as a rectangle.
    pub(super) fn rectangle(self) -> Self {
        Self { round: false, ..self }
    }

    /// The pixels `(x, y)`, row by row.
    pub(super) fn pixels(self) -> impl Iterator<Item = (i32, i32)> {
        let rows = self.top..self.top + self.height;
        let all = rows.flat_map(move |y| (self.left..self.left + self.width).map(move |x| (x, y)));
        all.filter(move |&(x, y)| !self.round || self.radius(x, y) <= 1.0)
    }

    /// The distance from the centre: 1 on the ellipse that fills the rectangle.
    pub(super) fn radius(self, x: i32, y: i32) -> f32 {
        let from = |at: i32, start: i32, length: i32| (2 * (at - start) + 1 - length) as f32 / length as f32;
        from(x, self.left, self.width).hypot(from(y, self.top, self.height))
    }
}
