//! Simple shapes, filled or outlined, in colours that stand out from what is below.

use super::{
    Concept,
    canvas::{Canvas, side},
    color,
};
use crate::probe::{
    seed::uniform,
    shape::{Shape, coverage, rotate},
};
use image::RgbImage;
use std::f32::consts::PI;

/// Disc, square, triangle, cross. The region is the whole figure, its inside included even when only outlined.
pub(super) fn shapes() -> Vec<Concept> {
    vec![
        figure("disc", Shape::Disc),
        figure("square", Shape::Square),
        figure("triangle", Shape::Triangle),
        figure("cross", Shape::Cross),
    ]
}

fn figure(name: &str, shape: Shape) -> Concept {
    Concept::built_in(name, move |image, rng| {
        let (w, h) = (image.width() as f32, image.height() as f32);
        let radius = (side(image) * uniform(rng, 0.16, 0.36)).max(1.5);
        let place = |length: f32, rng: &mut fastrand::Rng| {
            let free = (length / 2.0 - radius).max(0.0);
            length / 2.0 + uniform(rng, -free, free)
        };
        let (cx, cy) = (place(w, rng), place(h, rng));
        let turn = uniform(rng, -0.2, 0.2) + if shape == Shape::Cross && rng.bool() { PI / 4.0 } else { 0.0 };
        let flip = if shape == Shape::Triangle && rng.bool() { -1.0 } else { 1.0 };
        let line = rng.bool().then(|| (radius * uniform(rng, 0.15, 0.3)).max(1.3));
        let color = color::against(mean(image, cx, cy, radius), 80.0, rng);
        let mut canvas = Canvas::new(image);
        let span = |c: f32| ((c - radius * 1.5).floor() as i32, (c + radius * 1.5).ceil() as i32);
        let ((left, right), (top, bottom)) = (span(cx), span(cy));
        for (x, y) in (top..=bottom).flat_map(|y| (left..=right).map(move |x| (x, y))) {
            let (u, v) = rotate(x as f32 + 0.5 - cx, (y as f32 + 0.5 - cy) * flip, turn);
            let distance = shape.distance(u / radius, v / radius) * radius;
            if coverage(distance) <= 0.0 {
                continue;
            }
            canvas.mark(x, y);
            // A line runs inside the outline.
            let alpha = coverage(line.map_or(distance, |line| (distance + line / 2.0).abs() - line / 2.0));
            canvas.blend(x, y, color, alpha);
        }
        canvas.finish()
    })
}

/// The mean colour of the pixels around a place.
pub(super) fn mean(image: &RgbImage, cx: f32, cy: f32, radius: f32) -> [f32; 3] {
    let near = |c: f32, end: u32| {
        let from = (c - radius).max(0.0) as u32;
        from..((c + radius).max(0.0).ceil() as u32).clamp(from.min(end), end)
    };
    let (mut sum, mut count) = ([0f32; 3], 0f32);
    for y in near(cy, image.height()) {
        for x in near(cx, image.width()) {
            sum.iter_mut().zip(image.get_pixel(x, y).0).for_each(|(s, v)| *s += f32::from(v));
            count += 1.0;
        }
    }
    sum.map(|s| s / count.max(1.0))
}
