//! Some of other images.

use super::batch::{in_range, readable};
use super::{Batch, Corrupt, Digest, Images, LeftOutFiles, Made, Maker, Preprocess, Skipped, Want};
use crate::Result;
use image::RgbImage;
use std::borrow::Cow;

/// Some images of others, in an order of their own and numbered anew; repeats are allowed.
///
/// `images` may be borrowed (`&probe`, `&dyn Images`), shared (`Arc<dyn Images>`) or owned. Class names are kept, even
/// those that no chosen image has, so that labels keep their meaning.
///
/// ```
/// use tch_audit::probe::{Images, Selected, drawn};
/// # fn main() -> tch_audit::Result<()> {
/// let images = drawn(2, 16, 1)?;
/// let some = Selected::new(&images, vec![7, 0])?;
/// assert_eq!((some.len(), some.name(0)), (2, images.name(7).into()));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Selected<I> {
    images: I,
    numbers: Vec<usize>,
}

impl<I: Images> Selected<I> {
    /// Those with these numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for a number that is not below `images.len()`.
    pub fn new(images: I, numbers: Vec<usize>) -> Result<Self> {
        in_range(&numbers, images.len())?;
        Ok(Self { images, numbers })
    }

    /// The number that each image has among the others.
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// The others' numbers for some of ours.
    fn theirs(&self, numbers: &[usize]) -> Vec<usize> {
        numbers.iter().map(|i| self.numbers[*i]).collect()
    }
}

impl<I: Images> Images for Selected<I> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        self.images.name(self.numbers[i])
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.images.label(self.numbers[i])
    }

    fn classes(&self) -> &[String] {
        self.images.classes()
    }

    fn preprocess(&self) -> &Preprocess {
        self.images.preprocess()
    }

    fn corrupt(&self) -> Corrupt {
        self.images.corrupt()
    }

    fn skipped(&self) -> &[Skipped] {
        self.images.skipped()
    }

    fn left_out(&self) -> &[LeftOutFiles] {
        self.images.left_out()
    }

    fn classes_are_folders(&self) -> bool {
        self.images.classes_are_folders()
    }

    fn are_inputs(&self) -> bool {
        self.images.are_inputs()
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        in_range(&[i], self.len())?;
        self.images.image(self.numbers[i])
    }

    /// A hash of the others' fingerprint and the chosen numbers.
    fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(b"tch-audit selected 1").update(self.images.fingerprint().as_bytes());
        self.numbers.iter().for_each(|n| {
            hash.update(&(*n as u64).to_le_bytes());
        });
        hash.finalize().to_hex().to_string()
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        in_range(numbers, self.len())?;
        self.images.digest(&self.theirs(numbers))
    }

    fn maker(&self) -> Maker<'_> {
        let mut make = self.images.maker();
        Box::new(move |i| -> Made { make(self.numbers[i]) })
    }

    /// As the others are read.
    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        readable(numbers, self.len(), batch)?;
        let mut chunks = numbers.chunks(batch);
        self.images.read(&self.theirs(numbers), batch, want, &mut |mut batch| {
            // Those that could not be read are missing among the others' numbers.
            let mut asked = chunks.next().unwrap_or_default().iter();
            let ours = |theirs: &usize| asked.find(|i| self.numbers[**i] == *theirs).copied();
            batch.numbers = batch.numbers.iter().filter_map(ours).collect();
            each(batch)
        })
    }
}
