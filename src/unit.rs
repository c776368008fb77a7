//! Shared nouns: which neuron, and which part of an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    fn intersection_and_union_count_pixels() {
        let left = Region::from_fn(5, 70, |_, x| x < 40);
        let right = Region::from_fn(5, 70, |_, x| x >= 30);
        assert_eq!(left.intersection(&right), 50);
        assert_eq!(left.union(&right), 350);
        assert_eq!(left.area(), 200);
        assert!(left.contains(4, 39) && !left.contains(4, 40) && !left.contains(5, 0));
    }
}
