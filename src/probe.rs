//! Probe images: what the network is shown while its units are watched.
//!
//! A [`Probe`] holds 8-bit RGB images at the model's input size together with their [`Preprocess`], so that size, mean
//! and standard deviation travel with everything that is computed from them. Probes come from a folder
//! ([`ImageFolder`]), from memory ([`Probe::from_images`], [`Probe::from_tensor`]), are drawn ([`drawn`]), or are what a
//! generator makes ([`Probe::generated`]). An [`ImageStream`] reads the images of a folder while the model runs, where
//! there are too many to hold. Both are [`Images`], and so are some of others ([`Selected`]), others changed
//! ([`Changed`]) and others with a concept on each ([`PaintedImages`]).
//! [`paint`] puts concepts (text, colours, stripes, …) onto such images.

use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::{ops::Range, path::PathBuf, sync::Arc};
use tch::Tensor;

mod ahead;
mod batch;
mod changed;
mod decode;
mod drawn;
mod files;
mod folder;
mod generated;
mod identity;
mod images;
mod kind;
mod left_out;
mod listing;
mod memory;
mod outputs;
pub mod paint;
mod painted;
mod preprocess;
mod reading;
mod resize;
pub(crate) mod seed;
mod selected;
mod shape;
mod stream;

pub use batch::{Batch, Corrupt, Digest, Made, Maker, Want};
pub use changed::Changed;
pub use decode::MAX_PIXELS;
pub use drawn::drawn;
pub use folder::ImageFolder;
use generated::Shown;
use identity::Origin;
pub use images::Images;
pub use left_out::{LeftOutFiles, Why, left_out_sentence};
pub use memory::Labels;
pub use outputs::read_classes;
pub use painted::PaintedImages;
pub use preprocess::{Preprocess, image_tensor};
pub(crate) use reading::{PIXEL_BATCH, pixels, unlabelled};
pub use reading::{example, labels, split};
pub use resize::{Fit, resize};
pub use selected::Selected;
pub use stream::ImageStream;

/// Images at a model's input size, with names, perhaps labels, and the preprocessing that the model wants.
///
/// Copies are cheap: the pixels are shared.
#[derive(Debug, Clone)]
pub struct Probe {
    images: Vec<Arc<RgbImage>>,
    names: Vec<String>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    classes_are_folders: bool,
    preprocess: Preprocess,
    skipped: Vec<Skipped>,
    left_out: Vec<LeftOutFiles>,
    /// The files that the pixels come from, if that is all that was done to them.
    origin: Option<Origin>,
    shown: Shown,
}

/// An image file that could not be read and was left out, see [`Corrupt::Skip`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why it could not be read.
    pub reason: String,
}

impl Probe {
    /// How many images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Image `i`, as 8-bit RGB at the model's size, before normalisation.
    ///
    /// # Panics
    /// Unless `i < len()`.
    pub fn image(&self, i: usize) -> &RgbImage {
        &self.images[i]
    }

    /// The name of image `i`: for a folder the path below it, with `/` between the parts.
    ///
    /// # Panics
    /// Unless `i < len()`.
    pub fn name(&self, i: usize) -> &str {
        &self.names[i]
    }

    /// The class of image `i`, an index into [`classes`](Self::classes); `None` without labels.
    ///
    /// # Panics
    /// If there are labels and `i >= len()`.
    pub fn label(&self, i: usize) -> Option<usize> {
        self.labels.as_ref().map(|l| l[i])
    }

    /// All labels, in the order of the images; `None` without labels.
    ///
    /// **Shapes:** `[N]`, i64, on the CPU.
    pub fn labels(&self) -> Option<Tensor> {
        let labels = self.labels.as_ref()?;
        Some(Tensor::from_slice(&labels.iter().map(|&l| l as i64).collect::<Vec<_>>()))
    }

    /// The class names, in the order of the labels; empty without labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Size, mean and standard deviation.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The files that could not be read, in the order of their paths; empty unless they were to be skipped.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The images of a range as the model wants them; of a [generator](Self::generated) the inputs that they come from.
    ///
    /// **Shapes:** `[n, C, H, W]`, f32, on the CPU; `C`, `H`, `W` as in [`preprocess`](Self::preprocess).
    /// **Units:** normalised, `(pixel / 255 - mean) / std`.
    /// **Errors:** [`Error::Invalid`] if the range does not lie within the images; [`Error::Shape`] if an image does
    /// not have the model's size (possible only after [`map`](Self::map)).
    pub fn tensor(&self, range: Range<usize>) -> Result<Tensor> {
        if range.start > range.end || range.end > self.len() {
            let allowed = format!("within 0..{}", self.len());
            return Err(Error::invalid("range of probe images", format!("{range:?}"), allowed));
        }
        self.inputs(&range.collect::<Vec<_>>())
    }

    /// The images with these numbers, which exist, as the model wants them.
    fn inputs(&self, numbers: &[usize]) -> Result<Tensor> {
        self.shown.tensor(numbers).unwrap_or_else(|| {
            let images: Vec<&RgbImage> = numbers.iter().map(|i| self.images[*i].as_ref()).collect();
            image_tensor(&images, &self.preprocess)
        })
    }

    /// The images with these numbers, in this order; repeats are allowed.
    ///
    /// Class names are kept, even those that no chosen image has, so that labels keep their meaning.
    /// **Errors:** [`Error::Invalid`] if a number is not below `len()`.
    pub fn select(&self, indices: &[usize]) -> Result<Probe> {
        if let Some(&bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::invalid("number of a probe image", bad, format!("below {}", self.len())));
        }
        Ok(Probe {
            images: indices.iter().map(|&i| Arc::clone(&self.images[i])).collect(),
            names: indices.iter().map(|&i| self.names[i].clone()).collect(),
            labels: self.labels.as_ref().map(|l| indices.iter().map(|&i| l[i]).collect()),
            classes: self.classes.clone(),
            classes_are_folders: self.classes_are_folders,
            preprocess: self.preprocess.clone(),
            skipped: self.skipped.clone(),
            left_out: self.left_out.clone(),
            origin: self.origin.as_ref().map(|origin| origin.select(indices)),
            shown: self.shown.select(indices),
        })
    }

    /// The same probe with every image replaced by `f(number, image)`, computed in parallel, in order.
    ///
    /// `f` must keep the size; if it does not, [`tensor`](Self::tensor) returns an error.
    pub fn map(&self, f: impl Fn(usize, &RgbImage) -> RgbImage + Sync) -> Probe {
        let images = self.images.par_iter().enumerate().map(|(i, image)| Arc::new(f(i, image))).collect();
        Probe { images, origin: None, shown: self.shown.changed(), ..self.clone() }
    }

    /// A hash of pixels, names, labels, class names and preprocessing: 64 hexadecimal digits (BLAKE3). Of images that were
    /// read from files, and not [changed](Self::map), it is that of the files: the one of their
    /// [`ImageStream`]; their content is in [`digest`](Images::digest).
    ///
    /// Equal probes have equal fingerprints on every machine, whatever the number of threads.
    pub fn fingerprint(&self) -> String {
        match &self.origin {
            Some(origin) => {
                let lengths = |chunk: Range<usize>| origin.files[chunk].iter().map(|(length, _)| *length).collect();
                identity::fingerprint(self, origin.fit, origin.outputs.as_deref(), &lengths)
            }
            None => self.hash(),
        }
    }

    /// Of image `i`, which exists.
    fn digest_of(&self, i: usize) -> Digest {
        let of_pixels = || Digest::of(&self.names[i], self.images[i].as_raw());
        self.origin.as_ref().map_or_else(of_pixels, |origin| origin.files[i].1)
    }

    fn hash(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let text = |hash: &mut blake3::Hasher, s: &str| {
            hash.update(&(s.len() as u64).to_le_bytes()).update(s.as_bytes());
        };
        text(&mut hash, "tch-audit probe 1");
        let p = &self.preprocess;
        for n in [p.channels, p.height, p.width, p.mean.len(), p.std.len(), self.len(), self.classes.len()] {
            hash.update(&(n as u64).to_le_bytes());
        }
        for v in p.mean.iter().chain(&p.std) {
            hash.update(&v.to_le_bytes());
        }
        self.classes.iter().for_each(|c| text(&mut hash, c));
        for (i, image) in self.images.iter().enumerate() {
            text(&mut hash, &self.names[i]);
            let label = self.label(i).map_or(u64::MAX, |l| l as u64);
            hash.update(&label.to_le_bytes());
            hash.update(&image.width().to_le_bytes()).update(&image.height().to_le_bytes());
            hash.update(image.as_raw());
        }
        hash.finalize().to_hex().to_string()
    }

    /// Splits at random into a share of `fraction` and the rest, the same share of every class (to within one image).
    ///
    /// Both parts keep the order of the images. Without labels all images count as one class.
    /// **Errors:** [`Error::Invalid`] unless `0 < fraction < 1`.
    pub fn split(&self, seed: u64, fraction: f64) -> Result<(Probe, Probe)> {
        let (part, rest) = split(self, seed, fraction)?;
        Ok((self.select(&part)?, self.select(&rest)?))
    }
}
