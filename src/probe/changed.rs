//! Other images, each of them changed.

use super::{Corrupt, Digest, Images, LeftOutFiles, Made, Maker, Preprocess, Skipped};
use crate::Result;
use image::RgbImage;
use std::borrow::Cow;
use std::sync::Arc;

/// Other images with every one replaced by `change(number, image)`, made on all cores while the model runs.
///
/// Names, labels and preprocessing stay. `images` may be borrowed (`&probe`, `&dyn Images`), shared
/// (`Arc<dyn Images>`) or owned. `change` must keep the size of an image: one of another size is an
/// [`Error::Shape`](crate::Error::Shape) when it is read. The images of a
/// [generator](super::Probe::generated) can be changed to be looked at, but are no inputs any more.
///
/// ```
/// use tch_audit::probe::{Changed, Images, drawn};
/// # fn main() -> tch_audit::Result<()> {
/// let images = drawn(1, 16, 1)?;
/// let flipped = Changed::new(&images, "flipped", |_, image| image::imageops::flip_horizontal(image));
/// assert_eq!(flipped.image(3)?.get_pixel(0, 5), images.image(3).get_pixel(15, 5));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Changed<I, F> {
    images: I,
    label: String,
    change: F,
}

impl<I: Images, F: Fn(usize, &RgbImage) -> RgbImage + Send + Sync> Changed<I, F> {
    /// `label` says what `change` does, with all that it depends on: by it two such sets are told apart.
    pub fn new(images: I, label: impl Into<String>, change: F) -> Self {
        Self { images, label: label.into(), change }
    }
}

impl<I: std::fmt::Debug, F> std::fmt::Debug for Changed<I, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changed").field("images", &self.images).field("label", &self.label).finish_non_exhaustive()
    }
}

impl<I: Images, F: Fn(usize, &RgbImage) -> RgbImage + Send + Sync> Images for Changed<I, F> {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        self.images.name(i)
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

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Ok(Cow::Owned((self.change)(i, self.images.image(i)?.as_ref())))
    }

    /// A hash of the label and the fingerprint of the images that were changed.
    fn fingerprint(&self) -> String {
        relabelled("changed", &self.label, &self.images)
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        self.images.digest(numbers)
    }

    fn maker(&self) -> Maker<'_> {
        let mut make = self.images.maker();
        Box::new(move |i| {
            let Made { digest, image, region } = make(i);
            Made { digest, image: image.map(|image| Arc::new((self.change)(i, &image))), region }
        })
    }
}

/// A hash of what was done, and of the images that it was done to.
pub(super) fn relabelled(how: &str, label: &str, images: &dyn Images) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(b"tch-audit ").update(how.as_bytes()).update(b" 1");
    hash.update(images.fingerprint().as_bytes()).update(label.as_bytes());
    hash.finalize().to_hex().to_string()
}
