//! Colours, as three numbers from 0 to 255 each.

use crate::probe::seed::uniform;

/// Any colour at all.
pub(crate) fn any(rng: &mut fastrand::Rng) -> [f32; 3] {
    std::array::from_fn(|_| uniform(rng, 0.0, 255.0))
}

/// Two random colours whose brightness differs by at least `gap`.
pub(crate) fn contrasting(rng: &mut fastrand::Rng, gap: f32) -> ([f32; 3], [f32; 3]) {
    let first = any(rng);
    (first, against(first, gap, rng))
}

/// A random colour whose brightness differs from that of `other` by at least `gap` (up to 127).
pub(crate) fn against(other: [f32; 3], gap: f32, rng: &mut fastrand::Rng) -> [f32; 3] {
    let far = |c: &[f32; 3]| (brightness(*c) - brightness(other)).abs() >= gap;
    let found = (0..64).map(|_| any(rng)).find(far);
    found.unwrap_or(if brightness(other) < 127.5 { [255.0; 3] } else { [0.0; 3] })
}

/// ITU-R BT.601 luma, 0 to 255.
pub(crate) fn brightness(c: [f32; 3]) -> f32 {
    0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]
}

/// From hue (degrees), saturation and value (0 to 1).
pub(crate) fn hsv(hue: f32, saturation: f32, value: f32) -> [f32; 3] {
    let channel = |offset: f32| {
        let k = (offset + hue / 60.0).rem_euclid(6.0);
        255.0 * value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    };
    [channel(5.0), channel(3.0), channel(1.0)]
}

/// Lays `color` over `pixel` with opacity `alpha`, 0 to 1.
pub(crate) fn blend(pixel: &mut [f32; 3], color: [f32; 3], alpha: f32) {
    pixel.iter_mut().zip(color).for_each(|(p, c)| *p += (c - *p) * alpha);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_are_where_they_should_be() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [255.0, 0.0, 0.0]);
        assert_eq!(hsv(60.0, 1.0, 1.0), [255.0, 255.0, 0.0]);
        assert_eq!(hsv(120.0, 1.0, 1.0), [0.0, 255.0, 0.0]);
        assert_eq!(hsv(-120.0, 1.0, 1.0), [0.0, 0.0, 255.0]);
        assert_eq!(hsv(300.0, 1.0, 0.0), [0.0; 3]);
    }
}
