//! Probes from images that are in memory already.

use super::batch::{in_range, readable};
use super::reading::PIXEL_BATCH;
use super::{
    Batch, Digest, Images, LeftOutFiles, Made, Maker, Preprocess, Probe, Shown, Skipped, Want, preprocess::check_size,
};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The class of every image, and the names of the classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    of_image: Vec<usize>,
    classes: Vec<String>,
}

impl Labels {
    /// `of_image[i]` is the class of image `i`, an index into `classes`.
    ///
    /// **Errors:** [`Error::Invalid`] if a label has no class name.
    pub fn new(of_image: Vec<usize>, classes: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let classes: Vec<String> = classes.into_iter().map(Into::into).collect();
        if let Some((i, label)) = of_image.iter().enumerate().find(|(_, l)| **l >= classes.len()) {
            return Err(Error::invalid(format!("label of image {i}"), label, format!("below {}", classes.len())));
        }
        Ok(Self { of_image, classes })
    }

    /// From a tensor of class numbers.
    ///
    /// **Shapes:** `labels` is `[N]`, of any integer kind, on any device.
    /// **Errors:** [`Error::Shape`] unless it has one dimension; [`Error::Invalid`] if it is not of an integer kind or
    /// a label is negative or has no class name.
    pub fn from_tensor(labels: &Tensor, classes: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        let size = labels.size();
        if size.len() != 1 {
            return Err(Error::Shape { what: "labels".into(), received: size, expected: "[N]".into() });
        }
        let kind = labels.kind();
        if !matches!(kind, Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64) {
            return Err(Error::invalid("labels", format!("kind {kind:?}"), "an integer kind"));
        }
        let values = labels
            .f_to_device(Device::Cpu)
            .and_then(|t| t.f_to_kind(Kind::Int64))
            .and_then(|t| Vec::<i64>::try_from(&t))
            .map_err(Error::torch("reading labels"))?;
        let label = |(i, &v): (usize, &i64)| {
            usize::try_from(v).map_err(|_| Error::invalid(format!("label of image {i}"), v, "0 and above"))
        };
        Self::new(values.iter().enumerate().map(label).collect::<Result<_>>()?, classes)
    }
}

impl Probe {
    /// A probe of these images.
    ///
    /// Without names they are `image-0`, `image-1`, …
    ///
    /// **Shapes:** every image has the height and width of `preprocess`; for others see [`resize`](super::resize()).
    /// **Errors:** [`Error::Shape`] if an image has another size or the numbers of images, names and labels differ;
    /// [`Error::Invalid`] if `preprocess` is not valid.
    pub fn from_images(
        images: Vec<RgbImage>,
        names: Option<Vec<String>>,
        labels: Option<Labels>,
        preprocess: Preprocess,
    ) -> Result<Probe> {
        Self::shared(images.into_iter().map(Arc::new).collect(), names, labels, preprocess)
    }

    /// [`from_images`](Self::from_images) for images that others may hold too.
    pub(super) fn shared(
        images: Vec<Arc<RgbImage>>,
        names: Option<Vec<String>>,
        labels: Option<Labels>,
        preprocess: Preprocess,
    ) -> Result<Probe> {
        preprocess.validate()?;
        let names = names.unwrap_or_else(|| (0..images.len()).map(|i| format!("image-{i}")).collect());
        let counts = [("names", Some(names.len())), ("labels", labels.as_ref().map(|l| l.of_image.len()))];
        for (what, count) in counts {
            if let Some(count) = count.filter(|&c| c != images.len()) {
                return Err(Error::Shape {
                    what: what.into(),
                    received: vec![count as i64],
                    expected: format!("[{}], one per image", images.len()),
                });
            }
        }
        for (image, name) in images.iter().zip(&names) {
            check_size(|| format!("image {name}"), image, &preprocess)?;
        }
        let (labels, classes) = labels.map_or((None, Vec::new()), |l| (Some(l.of_image), l.classes));
        let (skipped, left_out, origin, shown) = (Vec::new(), Vec::new(), None, Shown::Images);
        let classes_are_folders = false;
        Ok(Probe { images, names, labels, classes, classes_are_folders, preprocess, skipped, left_out, origin, shown })
    }

    /// Reads some images into memory, in this order. Those that cannot be read are left out and listed in
    /// [`skipped`](Self::skipped), or the first one is the error, as `images` [says](Images::corrupt).
    ///
    /// # Errors
    /// What [reading](Images::read) them returns; [`Error::Invalid`] for images of a [generator](Self::generated), whose
    /// inputs are elsewhere; [`Error::Shape`] for an image of another size than the model's.
    pub fn of(images: &dyn Images, numbers: &[usize]) -> Result<Probe> {
        if !images.are_inputs() {
            return Err(Error::invalid("images to hold in memory", "those of a generator", "inputs of a model"));
        }
        let (mut read, mut pixels, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        images.read(numbers, PIXEL_BATCH, Want::Pixels, &mut |batch| {
            read.extend(batch.numbers);
            pixels.extend(batch.pixels);
            skipped.extend(batch.skipped);
            Ok(())
        })?;
        let names = read.iter().map(|i| images.name(*i).into_owned()).collect();
        let labels: Option<Vec<usize>> = read.iter().map(|i| images.label(*i)).collect();
        let labels = match labels {
            Some(labels) if !images.classes().is_empty() => Some(Labels::new(labels, images.classes())?),
            _ => None,
        };
        let left_out = images.left_out().to_vec();
        let classes_are_folders = images.classes_are_folders();
        Ok(Probe {
            skipped,
            left_out,
            classes_are_folders,
            ..Probe::shared(pixels, Some(names), labels, images.preprocess().clone())?
        })
    }

    /// A probe of the images in a tensor, before normalisation.
    ///
    /// Fractions of 1/255 are rounded away: a probe holds 8-bit images. One channel becomes grey.
    ///
    /// **Shapes:** `images` is `[N, C, H, W]`, with `C`, `H`, `W` as in `preprocess`, on any device.
    /// **Units and range:** u8, or floating point from 0 to 1.
    /// **Errors:** [`Error::Shape`] if the shape is another; [`Error::Invalid`] if a value is outside 0 to 1 (the
    /// sign of an image that is normalised already, or in 0-255) or the kind is another.
    pub fn from_tensor(images: &Tensor, labels: Option<Labels>, preprocess: Preprocess) -> Result<Probe> {
        preprocess.validate()?;
        let size = images.size();
        let [n, c, h, w] = preprocess.shape(size.first().map_or(0, |&n| n as usize));
        if size != [n, c, h, w] {
            let expected = format!("[N, {c}, {h}, {w}]");
            return Err(Error::Shape { what: "probe images".into(), received: size, expected });
        }
        let bytes = bytes(images)?;
        let plane = preprocess.height * preprocess.width;
        let image = |values: &[u8]| {
            RgbImage::from_fn(preprocess.width as u32, preprocess.height as u32, |x, y| {
                let at = y as usize * preprocess.width + x as usize;
                image::Rgb(std::array::from_fn(|c| values[(c * plane + at) % values.len()]))
            })
        };
        let images = bytes.chunks_exact(preprocess.channels * plane).map(image).collect();
        Probe::from_images(images, None, labels, preprocess)
    }
}

impl Images for Probe {
    fn len(&self) -> usize {
        Probe::len(self)
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        Cow::Borrowed(Probe::name(self, i))
    }

    fn label(&self, i: usize) -> Option<usize> {
        Probe::label(self, i)
    }

    fn classes(&self) -> &[String] {
        Probe::classes(self)
    }

    fn preprocess(&self) -> &Preprocess {
        Probe::preprocess(self)
    }

    fn skipped(&self) -> &[Skipped] {
        Probe::skipped(self)
    }

    fn left_out(&self) -> &[LeftOutFiles] {
        &self.left_out
    }

    fn classes_are_folders(&self) -> bool {
        self.classes_are_folders
    }

    fn are_inputs(&self) -> bool {
        matches!(self.shown, Shown::Images)
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        in_range(&[i], Probe::len(self))?;
        Ok(Cow::Borrowed(Probe::image(self, i)))
    }

    fn fingerprint(&self) -> String {
        Probe::fingerprint(self)
    }

    fn maker(&self) -> Maker<'_> {
        Box::new(|i| Made { digest: self.digest_of(i), image: Ok(Arc::clone(&self.images[i])), region: None })
    }

    /// The images need not be made: all is done on the caller's thread and rayon's.
    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        readable(numbers, Probe::len(self), batch)?;
        numbers.chunks(batch).try_for_each(|numbers| {
            each(Batch {
                asked: numbers.len(),
                numbers: numbers.to_vec(),
                input: if want.inputs() { self.inputs(numbers)? } else { Tensor::new() },
                pixels: numbers.iter().filter(|_| want.pixels()).map(|i| Arc::clone(&self.images[*i])).collect(),
                regions: Vec::new(),
                digest: self.digest(numbers)?,
                skipped: Vec::new(),
            })
        })
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        in_range(numbers, Probe::len(self))?;
        Ok(numbers.par_iter().map(|i| self.digest_of(*i)).reduce(Digest::default, Digest::and))
    }
}

/// The values of a tensor as 8-bit pixels.
fn bytes(images: &Tensor) -> Result<Vec<u8>> {
    let kind = images.kind();
    let flat = images
        .f_to_device(Device::Cpu)
        .and_then(|t| t.f_contiguous())
        .and_then(|t| t.f_view(-1))
        .map_err(Error::torch("reading probe images"))?;
    match kind {
        Kind::Uint8 => Vec::<u8>::try_from(&flat).map_err(Error::torch("reading probe images")),
        Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16 => {
            let values = flat
                .f_to_kind(Kind::Float)
                .and_then(|t| Vec::<f32>::try_from(&t))
                .map_err(Error::torch("reading probe images"))?;
            // Interpolation may overshoot by rounding errors.
            if let Some(v) = values.iter().find(|v| !(-1e-4..=1.0001).contains(*v)) {
                return Err(Error::invalid("pixel of a probe image", v, "0 to 1 (or 0 to 255 as u8), not normalised"));
            }
            Ok(values.iter().map(|v| (v * 255.0).round() as u8).collect())
        }
        other => Err(Error::invalid("probe images", format!("kind {other:?}"), "u8 or floating point")),
    }
}
