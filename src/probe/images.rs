//! The one interface to images: held in memory, read from files while a model runs, chosen from others, changed.

use super::ahead::{Order, batches};
use super::batch::{not_inputs, readable};
use super::{Batch, Corrupt, Digest, LeftOutFiles, Made, Maker, Preprocess, Skipped, Want};
use crate::Result;
use image::RgbImage;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Images in a fixed order, each with a number, to be shown to a model in batches or looked at.
///
/// A [`Probe`](super::Probe) holds them in memory, an [`ImageStream`](super::ImageStream) reads them while the model
/// runs; [`Selected`](super::Selected), [`Changed`](super::Changed) and [`PaintedImages`](super::PaintedImages) are
/// made of others. Everything that looks at images takes `&dyn Images`. What points to images (a reference, an [`Arc`])
/// is images too.
pub trait Images: Send + Sync {
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

    /// The class of image `i`, an index into [`classes`](Self::classes); `None` without labels.
    ///
    /// # Panics
    /// May panic unless `i < len()`.
    fn label(&self, i: usize) -> Option<usize>;

    /// The class names, in the order of the labels; empty without labels.
    fn classes(&self) -> &[String];

    /// Size, mean and standard deviation.
    fn preprocess(&self) -> &Preprocess;

    /// What becomes of images that cannot be read.
    fn corrupt(&self) -> Corrupt {
        Corrupt::Fatal
    }

    /// The files that were left out before the images got their numbers, see [`Probe::skipped`](super::Probe::skipped).
    fn skipped(&self) -> &[Skipped] {
        &[]
    }

    /// What lay beside the images in their folder and is not among them, by reason; see
    /// [`left_out_sentence`](super::left_out_sentence). Files that could not be read are [elsewhere](Self::skipped).
    fn left_out(&self) -> &[LeftOutFiles] {
        &[]
    }

    /// Whether the classes are the names of folders, sorted, and nobody said which outputs of a model they are about; see
    /// [`ImageFolder::classes`](super::ImageFolder::classes).
    fn classes_are_folders(&self) -> bool {
        false
    }

    /// Whether the model is shown the images themselves; not so for those of a
    /// [generator](super::Probe::generated), which come out of the model.
    fn are_inputs(&self) -> bool {
        true
    }

    /// Image `i` as 8-bit RGB at the model's size.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `i < len()`; [`Error::Image`](crate::Error::Image) for one that
    /// cannot be read, whatever was said of such.
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>>;

    /// A hash of what is known without reading the images: how many, their names and classes, the preprocessing. The
    /// same folder has the same, however it is read.
    fn fingerprint(&self) -> String;

    /// The digest of some images as they are now: what their batches' digests add up to. What was done to them is no
    /// part of it, but of the [fingerprint](Self::fingerprint).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn digest(&self, numbers: &[usize]) -> Result<Digest>;

    /// What makes the images one by one, on one thread; every thread has a maker of its own. Numbers that are not below
    /// `len()` are errors or panics.
    fn maker(&self) -> Maker<'_> {
        Box::new(|i| {
            let (digest, failed) = match self.digest(&[i]) {
                Ok(digest) => (digest, None),
                Err(error) => (Digest::default(), Some(error)),
            };
            let image = failed.map_or_else(|| self.image(i).map(|image| Arc::new(image.into_owned())), Err);
            Made { digest, image, region: None }
        })
    }

    /// Hands the images with these numbers, in this order, `batch` at a time, to `each`, which is called on this
    /// thread. Numbers may repeat.
    ///
    /// Unless a set of images has its own way, as many threads as rayon would use here make the next images meanwhile,
    /// up to two batches ahead, with [makers](Self::maker).
    ///
    /// # Errors
    /// The first error of `each`; [`Error::Invalid`](crate::Error::Invalid) for a number that is not below `len()`, for
    /// batches of 0, and for inputs of images that [are none](Self::are_inputs), before anything is read; the first
    /// error, in the order of the numbers, of making an image, after the batches before it;
    /// [`Error::Shape`](crate::Error::Shape) for an image of another size than the model's.
    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        readable(numbers, self.len(), batch)?;
        if want.inputs() && !self.are_inputs() {
            return Err(not_inputs());
        }
        let order = Order { numbers, batch, want, preprocess: self.preprocess(), corrupt: self.corrupt() };
        batches(&order, &|| self.maker(), each)
    }
}

impl fmt::Debug for dyn Images + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<P> Images for P
where
    P: Deref + Send + Sync,
    P::Target: Images,
{
    fn len(&self) -> usize {
        (**self).len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        (**self).name(i)
    }

    fn label(&self, i: usize) -> Option<usize> {
        (**self).label(i)
    }

    fn classes(&self) -> &[String] {
        (**self).classes()
    }

    fn preprocess(&self) -> &Preprocess {
        (**self).preprocess()
    }

    fn corrupt(&self) -> Corrupt {
        (**self).corrupt()
    }

    fn skipped(&self) -> &[Skipped] {
        (**self).skipped()
    }

    fn left_out(&self) -> &[LeftOutFiles] {
        (**self).left_out()
    }

    fn classes_are_folders(&self) -> bool {
        (**self).classes_are_folders()
    }

    fn are_inputs(&self) -> bool {
        (**self).are_inputs()
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        (**self).image(i)
    }

    fn fingerprint(&self) -> String {
        (**self).fingerprint()
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        (**self).digest(numbers)
    }

    fn maker(&self) -> Maker<'_> {
        (**self).maker()
    }

    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        (**self).read(numbers, batch, want, each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_a_probe_are_its_tensors() {
        let probe = crate::probe::drawn(1, 16, 3).unwrap();
        let mut seen = Vec::new();
        let mut digest = Digest::default();
        let numbers = [0, 1, 2];
        probe
            .read(&numbers, 2, Want::Inputs, &mut |batch| {
                assert_eq!(batch.input, probe.tensor(batch.numbers[0]..batch.numbers[0] + batch.asked)?);
                seen.extend(batch.numbers);
                digest = digest.and(batch.digest);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, numbers);
        assert_eq!(digest, probe.digest(&numbers).unwrap());
        let past = Images::len(&probe);
        assert!(probe.read(&[past], 1, Want::Inputs, &mut |_| Ok(())).is_err());
        assert!(probe.read(&[0], 0, Want::Inputs, &mut |_| Ok(())).is_err());
    }
}
