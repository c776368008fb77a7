//! Shared nouns: which neuron, and which part of an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// One neuron: a channel of a site.
///
/// Displayed as `site/unit`, for example `layer3.1.conv2/17`. Ordered by site name, then by unit number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct UnitId {
    /// The site's name, see [`crate::graph`].
    pub site: String,
    /// The channel, from 0.
    pub unit: usize,
}

impl UnitId {
    /// The unit `unit` of the site called `site`.
    pub fn new(site: impl Into<String>, unit: usize) -> Self {
        Self { site: site.into(), unit }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.unit)
    }
}

/// A set of pixels of an image, one bit each, in row order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    height: usize,
    width: usize,
    bits: Vec<u64>,
}

impl Region {
    /// No pixel of an image of this size.
    pub fn empty(height: usize, width: usize) -> Self {
        Self { height, width, bits: vec![0; (height * width).div_ceil(64)] }
    }

    /// The pixels `(y, x)` for which `inside` holds.
    pub fn from_fn(height: usize, width: usize, mut inside: impl FnMut(usize, usize) -> bool) -> Self {
        let mut region = Self::empty(height, width);
        for y in 0..height {
            for x in 0..width {
                if inside(y, x) {
                    region.insert(y, x);
                }
            }
        }
        region
    }

    /// One bit per pixel in row order, eight to a byte, the first in the highest bit, as `numpy.packbits` does it.
    pub fn packed(&self) -> Vec<u8> {
        let bytes = self.bits.iter().flat_map(|word| word.to_le_bytes()).map(u8::reverse_bits);
        bytes.take((self.height * self.width).div_ceil(8)).collect()
    }

    /// Back from [`packed`](Self::packed); `None` if it does not have that many bytes.
    pub fn unpack(height: usize, width: usize, packed: &[u8]) -> Option<Self> {
        if packed.len() != height.checked_mul(width)?.div_ceil(8) {
            return None;
        }
        let mut region = Self::empty(height, width);
        for (word, bytes) in region.bits.iter_mut().zip(packed.chunks(8)) {
            let byte = |i: usize| bytes.get(i).copied().unwrap_or(0).reverse_bits();
            *word = u64::from_le_bytes(std::array::from_fn(byte));
        }
        // Bits behind the last pixel would be counted as its area.
        if let (Some(last), used @ 1..) = (region.bits.last_mut(), height * width % 64) {
            *last &= (1 << used) - 1;
        }
        Some(region)
    }

    /// One byte per pixel in row order: 1 inside, 0 outside.
    pub fn bytes(&self) -> Vec<u8> {
        let pixels = self.bits.iter().flat_map(|word| (0..64).map(move |i| (word >> i & 1) as u8));
        pixels.take(self.height * self.width).collect()
    }

    /// The smallest rectangle that holds every pixel, as rows and columns; `None` without pixels.
    pub fn bounds(&self) -> Option<(Range<usize>, Range<usize>)> {
        let inside = |y: usize| (0..self.width).filter(move |x| self.contains(y, *x));
        let rows: Vec<usize> = (0..self.height).filter(|y| inside(*y).next().is_some()).collect();
        let (top, bottom) = (*rows.first()?, *rows.last()?);
        let left = rows.iter().filter_map(|y| inside(*y).next()).min()?;
        let right = rows.iter().filter_map(|y| inside(*y).next_back()).max()?;
        Some((top..bottom + 1, left..right + 1))
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Adds the pixel in row `y`, column `x`.
    ///
    /// # Panics
    /// If the pixel is outside the image.
    pub fn insert(&mut self, y: usize, x: usize) {
        assert!(y < self.height && x < self.width, "pixel ({y}, {x}) outside {}x{}", self.height, self.width);
        let i = y * self.width + x;
        self.bits[i / 64] |= 1 << (i % 64);
    }

    /// Whether the pixel in row `y`, column `x` belongs to the region; false outside the image.
    pub fn contains(&self, y: usize, x: usize) -> bool {
        if y >= self.height || x >= self.width {
            return false;
        }
        let i = y * self.width + x;
        self.bits[i / 64] >> (i % 64) & 1 == 1
    }

    /// How many pixels.
    pub fn area(&self) -> u64 {
        self.bits.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// How many pixels are in both regions.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn intersection(&self, other: &Self) -> u64 {
        self.assert_same_size(other);
        self.bits.iter().zip(&other.bits).map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }

    /// How many pixels are in at least one of the regions.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn union(&self, other: &Self) -> u64 {
        self.assert_same_size(other);
        self.bits.iter().zip(&other.bits).map(|(a, b)| u64::from((a | b).count_ones())).sum()
    }

    fn assert_same_size(&self, other: &Self) {
        assert_eq!((self.height, self.width), (other.height, other.width), "regions of images of different sizes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_as_numpy_does_it_and_back() {
        let region = Region::from_fn(3, 11, |y, x| (y * 11 + x) % 3 == 0);
        let packed = region.packed();
        assert_eq!(packed[..2], [0b1001_0010, 0b0100_1001]);
        assert_eq!(packed.len(), 5);
        assert_eq!(region.bytes(), (0..33).map(|i| u8::from(i % 3 == 0)).collect::<Vec<_>>());
        assert_eq!(Region::unpack(3, 11, &packed), Some(region));
        assert_eq!(Region::unpack(3, 11, &packed[1..]), None);
        assert_eq!(Region::unpack(1, 1, &[0xff]).unwrap().area(), 1);
    }

    #[test]
    fn bounds_hold_every_pixel() {
        let region = Region::from_fn(9, 9, |y, x| (y == 2 && x == 5) || (y == 6 && x == 3));
        assert_eq!(region.bounds(), Some((2..7, 3..6)));
        assert_eq!(Region::empty(2, 2).bounds(), None);
    }

    #[test]
    fn intersection_and_union_count_pixels() {
        let left = Region::from_fn(5, 70, |_, x| x < 40);
        let right = Region::from_fn(5, 70, |_, x| x >= 30);
        assert_eq!(left.intersection(&right), 50);
        assert_eq!(left.union(&right), 350);
        assert_eq!(left.area(), 200);
        assert!(left.contains(4, 39) && !left.contains(4, 40) && !left.contains(5, 0));
    }
}
