//! Images that come batch by batch, from memory or from files that are read while the model runs.

use super::{Preprocess, Probe, Skipped};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use tch::Tensor;

/// Images in a fixed order, each with a number, to be shown to a model in batches.
///
/// A [`Probe`] holds them in memory; an [`ImageStream`](super::ImageStream) reads them while the model runs.
pub trait Source {
    /// How many images, unreadable ones included: numbers are below this.
    fn len(&self) -> usize;

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of image `i`.
    ///
    /// # Panics
    /// Unless `i < len()`.
    fn name(&self, i: usize) -> Cow<'_, str>;

    /// The class of image `i`; `None` without labels.
    ///
    /// # Panics
    /// May panic unless `i < len()`.
    fn label(&self, i: usize) -> Option<usize>;

    /// Size, mean and standard deviation.
    fn preprocess(&self) -> &Preprocess;

    /// Image `i` as 8-bit RGB at the model's size.
    ///
    /// # Errors
    /// [`Error::Invalid`] unless `i < len()`; what reading it returns.
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>>;

    /// A hash of what is known without reading the images: how many, their names and labels, the preprocessing.
    fn fingerprint(&self) -> String;

    /// Hands the images of each of `ranges`, in order, to `each`, which is called on this thread. The next ones may be
    /// prepared meanwhile.
    ///
    /// # Errors
    /// The first error of `each`; what reading the images returns; [`Error::Invalid`] for a range that is not within
    /// the images.
    fn batches(&self, ranges: &[Range<usize>], each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()>;

    /// The digest of the images of some ranges as they are now: what their batches' digests add up to.
    ///
    /// # Errors
    /// As [`batches`](Self::batches).
    fn digest(&self, ranges: &[Range<usize>]) -> Result<Digest>;
}

/// The images of one range, as a model wants them.
#[derive(Debug)]
pub struct Batch {
    /// The range that was asked for.
    pub range: Range<usize>,
    /// The number of each image of `input`, ascending: the range without the images that could not be read.
    pub numbers: Vec<usize>,
    /// `[n, C, H, W]`, normalised, on the CPU; `n` = `numbers.len()`. May be of length 0.
    pub input: Tensor,
    /// What the images are.
    pub digest: Digest,
    /// The images that could not be read.
    pub skipped: Vec<Skipped>,
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

impl Source for Probe {
    fn len(&self) -> usize {
        Probe::len(self)
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        Cow::Borrowed(Probe::name(self, i))
    }

    fn label(&self, i: usize) -> Option<usize> {
        Probe::label(self, i)
    }

    fn preprocess(&self) -> &Preprocess {
        Probe::preprocess(self)
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        in_range(&(i..i + 1), Probe::len(self))?;
        Ok(Cow::Borrowed(Probe::image(self, i)))
    }

    fn fingerprint(&self) -> String {
        Probe::fingerprint(self)
    }

    fn batches(&self, ranges: &[Range<usize>], each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        for range in ranges {
            let input = self.tensor(range.clone())?;
            let digest = self.digest(std::slice::from_ref(range))?;
            each(Batch { range: range.clone(), numbers: range.clone().collect(), input, digest, skipped: Vec::new() })?;
        }
        Ok(())
    }

    fn digest(&self, ranges: &[Range<usize>]) -> Result<Digest> {
        ranges.iter().try_for_each(|r| in_range(r, Probe::len(self)))?;
        let of = |i: usize| Digest::of(Probe::name(self, i), Probe::image(self, i).as_raw());
        let digests = ranges.par_iter().flat_map(|r| r.clone().into_par_iter()).map(of);
        Ok(digests.reduce(Digest::default, Digest::and))
    }
}

/// An [`Error::Invalid`] unless the range lies within `len` images.
pub(super) fn in_range(range: &Range<usize>, len: usize) -> Result<()> {
    if range.start <= range.end && range.end <= len {
        return Ok(());
    }
    Err(Error::invalid("range of probe images", format!("{range:?}"), format!("within 0..{len}")))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)] // Lists of ranges, often of one.
mod tests {
    use super::*;

    #[test]
    fn digests_add_up_in_any_order_and_survive_being_written() {
        let [a, b, c] = ["a", "b", "c"].map(|n| Digest::of(n, b"pixels"));
        assert_eq!(a.and(b).and(c), c.and(a.and(b)));
        assert_ne!(a.and(b), a.and(c));
        assert_eq!(Digest::parse(&a.to_string()), Some(a));
        assert_eq!(Digest::parse("é"), None);
    }

    #[test]
    fn batches_of_a_probe_are_its_tensors() {
        let probe = crate::probe::drawn(1, 16, 3).unwrap();
        let mut seen = Vec::new();
        let mut digest = Digest::default();
        let ranges = [0..2, 2..3];
        probe
            .batches(&ranges, &mut |batch| {
                assert_eq!(batch.input, probe.tensor(batch.range.clone())?);
                seen.extend(batch.numbers);
                digest = digest.and(batch.digest);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(digest, probe.digest(&[0..3]).unwrap());
        let past = Probe::len(&probe);
        assert!(probe.batches(&[past..past + 1], &mut |_| Ok(())).is_err());
    }
}
