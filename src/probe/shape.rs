//! Simple plane figures by their signed distance.

use std::f32::consts::{PI, TAU};

/// A figure of about radius 1 around the origin; `y` points down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Bars,
    Cross,
    Diamond,
    Disc,
    Moon,
    Posts,
    Ring,
    Square,
    Star,
    Triangle,
}

impl Shape {
    /// The distance from `(x, y)` to the figure's outline, negative inside; exact near the outline.
    pub(super) fn distance(self, x: f32, y: f32) -> f32 {
        let radius = x.hypot(y);
        match self {
            Shape::Disc => radius - 0.95,
            Shape::Ring => (radius - 0.75).abs() - 0.2,
            Shape::Moon => (radius - 0.95).max(0.72 - (x - 0.5).hypot(y)),
            Shape::Square => boxed(x, y, 0.82, 0.82),
            Shape::Diamond => {
                let (u, v) = rotate(x, y, PI / 4.0);
                boxed(u, v, 0.72, 0.72)
            }
            Shape::Cross => boxed(x, y, 1.0, 0.3).min(boxed(x, y, 0.3, 1.0)),
            Shape::Bars => boxed(x, (y.abs() - 0.72).abs().min(y.abs()), 0.95, 0.2),
            Shape::Posts => Shape::Bars.distance(y, x),
            Shape::Triangle => polygon(x, y, 3, |_| 1.1),
            Shape::Star => polygon(x, y, 10, |i| if i % 2 == 0 { 1.1 } else { 0.45 }),
        }
    }
}

/// The point turned by `angle` (radians).
pub(super) fn rotate(x: f32, y: f32, angle: f32) -> (f32, f32) {
    let (sin, cos) = angle.sin_cos();
    (x * cos + y * sin, y * cos - x * sin)
}

/// How much of a pixel is covered, 0 to 1, when its centre is `distance` pixels from an outline (negative inside).
pub(super) fn coverage(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

/// The distance to a rectangle with these half sides.
fn boxed(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    let (dx, dy) = (x.abs() - half_width, y.abs() - half_height);
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0)
}

/// The distance to a polygon with `n` corners at equal angles, the first one at the top, at radius `radius(i)`.
fn polygon(x: f32, y: f32, n: usize, radius: impl Fn(usize) -> f32) -> f32 {
    let corner = |i: usize| {
        let angle = TAU * i as f32 / n as f32;
        (radius(i % n) * angle.sin(), -radius(i % n) * angle.cos())
    };
    let (mut nearest, mut inside) = (f32::INFINITY, false);
    for i in 0..n {
        let ((ax, ay), (bx, by)) = (corner(i), corner(i + 1));
        let (ex, ey, px, py) = (bx - ax, by - ay, x - ax, y - ay);
        let along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp(0.0, 1.0);
        nearest = nearest.min((px - along * ex).hypot(py - along * ey));
        // A ray to the right crosses this side.
        if (ay > y) != (by > y) && x < ax + (y - ay) / (by - ay) * ex {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_has_an_inside_within_radius_one_and_a_half() {
        use Shape::*;
        for shape in [Bars, Cross, Diamond, Disc, Moon, Posts, Ring, Square, Star, Triangle] {
            let grid = || (-20..=20).flat_map(|y| (-20..=20).map(move |x| (x as f32 / 10.0, y as f32 / 10.0)));
            let inside = grid().filter(|&(x, y)| shape.distance(x, y) < 0.0).count();
            assert!(inside > 60, "{shape:?} covers {inside} points");
            assert!(grid().filter(|&(x, y)| x.hypot(y) > 1.5).all(|(x, y)| shape.distance(x, y) > 0.0), "{shape:?}");
        }
        assert!(Star.distance(0.0, -1.0) < 0.0 && Star.distance(0.0, 1.0) > 0.0);
        assert!((Disc.distance(2.0, 0.0) - 1.05).abs() < 1e-6);
    }
}
