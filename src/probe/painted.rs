//! Other images with a concept painted onto each.

use super::changed::relabelled;
use super::paint::{Concept, Painted};
use super::{Corrupt, Digest, Images, LeftOutFiles, Made, Maker, Preprocess, Skipped, seed};
use crate::Result;
use image::{Rgb, RgbImage};
use std::borrow::Cow;
use std::sync::Arc;

/// Other images with a [`Concept`] painted onto each, painted on all cores while the model runs.
///
/// Names become `x.jpg (painted: text)`; [`Batch::regions`](super::Batch::regions) says where the concept is. Image `i`
/// has random numbers of its own, whatever the other images are and however they are read.
///
/// ```
/// use tch_audit::probe::{Images, PaintedImages, drawn, paint};
/// # fn main() -> tch_audit::Result<()> {
/// let text = paint::bank().remove(0);
/// let painted = PaintedImages::new(drawn(1, 32, 1)?, text, 7);
/// assert_eq!(painted.name(0), "bars-00000 (painted: text)");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct PaintedImages<I> {
    images: I,
    concept: Concept,
    seed: u64,
}

impl<I: Images> PaintedImages<I> {
    /// `images` with `concept`; `seed` decides how it looks and where it is.
    pub fn new(images: I, concept: Concept, seed: u64) -> Self {
        Self { images, concept, seed }
    }

    fn paint(&self, i: usize, image: &RgbImage) -> Painted {
        self.concept.paint(image, seed::of_image(self.seed, i))
    }
}

impl<I: Images> Images for PaintedImages<I> {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        Cow::Owned(format!("{} (painted: {})", self.images.name(i), self.concept.name()))
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.images.label(i)
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

    /// # Panics
    /// As [`Concept::paint`].
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Ok(Cow::Owned(self.paint(i, self.images.image(i)?.as_ref()).image))
    }

    /// A hash of the concept's name, of what it paints onto a grey image, and of the fingerprint of the images.
    ///
    /// # Panics
    /// As [`Concept::paint`].
    fn fingerprint(&self) -> String {
        let Preprocess { height, width, .. } = *self.images.preprocess();
        let grey = RgbImage::from_pixel(width as u32, height as u32, Rgb([128; 3]));
        let shown = blake3::hash(self.concept.paint(&grey, self.seed).image.as_raw()).to_hex();
        relabelled("painted", &format!("{} {} {shown}", self.concept.name(), self.seed), &self.images)
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        self.images.digest(numbers)
    }

    fn maker(&self) -> Maker<'_> {
        let mut make = self.images.maker();
        Box::new(move |i| {
            let made = make(i);
            match made.image {
                Err(error) => Made { image: Err(error), region: None, ..made },
                Ok(image) => {
                    let Painted { image, region } = self.paint(i, &image);
                    Made { digest: made.digest, image: Ok(Arc::new(image)), region: Some(region) }
                }
            }
        })
    }
}
