//! From an activation map to a region of the image.

use crate::Region;

/// The pixels of a `height x width` image where the upsampled `map` (`rows x columns`, row order) exceeds `level`.
///
/// Upsampling is bilinear with half-pixel centres and the map's edge continued outwards. Differs from Network Dissection
/// (Bau et al. 2017, arXiv 1704.05796) and MILAN (Hernandez et al. 2022, arXiv 2201.11114), whose code reads 0 outside
/// the map and so loses regions that touch the border.
pub(crate) fn region(map: &[f32], rows: usize, columns: usize, level: f32, height: usize, width: usize) -> Region {
    let (ys, xs) = (taps(rows, height), taps(columns, width));
    let mut line = vec![0f32; columns];
    let mut region = Region::empty(height, width);
    for (y, &(y0, y1, fy)) in ys.iter().enumerate() {
        let (a, b) = (&map[y0 * columns..(y0 + 1) * columns], &map[y1 * columns..(y1 + 1) * columns]);
        for (out, (a, b)) in line.iter_mut().zip(a.iter().zip(b)) {
            *out = a + (b - a) * fy;
        }
        for (x, &(x0, x1, fx)) in xs.iter().enumerate() {
            if line[x0] + (line[x1] - line[x0]) * fx > level {
                region.insert(y, x);
            }
        }
    }
    region
}

/// For each of `to` pixels: the two of `from` samples between which it lies, and how far along.
fn taps(from: usize, to: usize) -> Vec<(usize, usize, f32)> {
    (0..to)
        .map(|t| {
            let at = ((t as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
            let low = at.floor() as usize;
            (low, (low + 1).min(from - 1), at - low as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_the_map_itself_at_its_own_size() {
        let map = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let r = region(&map, 2, 3, 2.5, 2, 3);
        assert_eq!(r, Region::from_fn(2, 3, |y, x| map[y * 3 + x] > 2.5));
    }

    #[test]
    fn a_corner_unit_keeps_its_corner() {
        let r = region(&[9.0, 0.0, 0.0, 0.0], 2, 2, 1.0, 8, 8);
        assert!(r.contains(0, 0) && !r.contains(7, 7));
        assert!(r.area() > 9);
    }

    #[test]
    fn one_position_covers_the_whole_image_or_nothing() {
        assert_eq!(region(&[2.0], 1, 1, 1.0, 5, 7).area(), 35);
        assert_eq!(region(&[1.0], 1, 1, 1.0, 5, 7).area(), 0);
    }
}
