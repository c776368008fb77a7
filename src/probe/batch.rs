//! Images on their way: how they are asked for, made, and handed over.

use super::Skipped;
use crate::{Error, Region, Result};
use image::RgbImage;
use std::fmt;
use std::sync::Arc;
use tch::Tensor;

/// What to do with an image file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Corrupt {
    /// Stop with an error that names the first such file.
    #[default]
    Fatal,
    /// Leave it out and list it in [`Probe::skipped`](super::Probe::skipped) or [`Batch::skipped`].
    Skip,
}

/// Makes images, one after the other, on one thread.
pub type Maker<'a> = Box<dyn FnMut(usize) -> Made + 'a>;

/// What became of one image.
#[derive(Debug)]
pub struct Made {
    /// What the image is, readable or not.
    pub digest: Digest,
    /// At the model's size. [`Error::Image`] may be [passed over](Corrupt::Skip), every other error ends the reading.
    pub image: Result<Arc<RgbImage>>,
    /// Where it was changed, if that is known.
    pub region: Option<Region>,
}

/// In which form images are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// As inputs of a model: [`Batch::input`].
    Inputs,
    /// As pixels: [`Batch::pixels`].
    Pixels,
    /// Both.
    Both,
}

impl Want {
    /// Whether inputs are wanted.
    pub fn inputs(self) -> bool {
        self != Want::Pixels
    }

    /// Whether pixels are wanted.
    pub fn pixels(self) -> bool {
        self != Want::Inputs
    }
}

/// Some images that were read.
#[derive(Debug)]
pub struct Batch {
    /// How many were asked for, unreadable ones included.
    pub asked: usize,
    /// The number of each image, in the order in which they were asked for, without those that could not be read.
    pub numbers: Vec<usize>,
    /// `[n, C, H, W]`, normalised, on the CPU; `n` = `numbers.len()`, which may be 0. Undefined unless wanted.
    pub input: Tensor,
    /// 8-bit RGB at the model's size, one per number; empty unless wanted.
    pub pixels: Vec<Arc<RgbImage>>,
    /// Where a concept is in each image, one per number; empty for images without, see
    /// [`PaintedImages`](super::PaintedImages).
    pub regions: Vec<Region>,
    /// What the images are.
    pub digest: Digest,
    /// The images that could not be read.
    pub skipped: Vec<Skipped>,
}

impl Batch {
    /// # Errors
    /// [`Error::Image`] naming the first image that could not be read.
    pub(crate) fn complete(&self) -> Result<()> {
        match self.skipped.first().cloned() {
            None => Ok(()),
            Some(Skipped { path, reason }) => Err(Error::Image { path, reason }),
        }
    }
}

/// A hash of a set of images that does not depend on their order: digests of disjoint sets add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u64; 4]);

impl Digest {
    /// Of one image: its name and its bytes.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(bytes);
        let bytes = *hash.finalize().as_bytes();
        Self(std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|j| bytes[8 * i + j]))))
    }

    /// Of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].wrapping_add(other.0[i])))
    }

    /// Back from its text.
    pub fn parse(text: &str) -> Option<Self> {
        let part = |i: usize| u64::from_str_radix(text.get(16 * i..16 * (i + 1))?, 16).ok();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        Some(Self([part(0)?, part(1)?, part(2)?, part(3)?]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| write!(f, "{part:016x}"))
    }
}

/// An [`Error::Invalid`] unless every number is below `len`.
pub(super) fn in_range(numbers: &[usize], len: usize) -> Result<()> {
    match numbers.iter().find(|i| **i >= len) {
        None => Ok(()),
        Some(bad) => Err(Error::invalid("number of a probe image", bad, format!("below {len}"))),
    }
}

/// As [`in_range`], and the size of a batch.
pub(super) fn readable(numbers: &[usize], len: usize, batch: usize) -> Result<()> {
    if batch == 0 {
        return Err(Error::invalid("batch size", 0, "1 or more"));
    }
    in_range(numbers, len)
}

/// For images of a generator that were changed.
pub(super) fn not_inputs() -> Error {
    let allowed = "those that it made: nothing can be painted onto its inputs";
    Error::invalid("images of a generator", "changed images", allowed)
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn digests_add_up_in_any_order_and_survive_being_written() {
        let [a, b, c] = ["a", "b", "c"].map(|n| Digest::of(n, b"pixels"));
        assert_eq!(a.and(b).and(c), c.and(a.and(b)));
        assert_ne!(a.and(b), a.and(c));
        assert_eq!(Digest::parse(&a.to_string()), Some(a));
        assert_eq!(Digest::parse("é"), None);
    }
}
