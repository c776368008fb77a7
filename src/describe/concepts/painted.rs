//! The probe images with one concept on each, or as they are.

use crate::probe::paint::Concept;
use crate::probe::{Batch, Digest, Images, Preprocess, Probe, Skipped, Want, image_tensor};
use crate::{Region, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Arc;
use tch::Tensor;

/// The images of `probe`, with `paint` on each if there is one.
pub(super) struct Painted<'a> {
    pub probe: &'a Probe,
    pub paint: Option<&'a Concept>,
    pub seed: u64,
}

impl Painted<'_> {
    /// Image `i`, and where it is painted.
    fn make(&self, i: usize) -> (RgbImage, Option<Region>) {
        let image = self.probe.image(i);
        let Some(concept) = self.paint else { return (image.clone(), None) };
        let painted = concept.paint(image, image_seed(self.seed, i));
        (painted.image, Some(painted.region))
    }
}

/// Every image has its own randomness, whatever the batch size.
fn image_seed(seed: u64, image: usize) -> u64 {
    fastrand::Rng::with_seed(seed ^ (image as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}

impl Images for Painted<'_> {
    fn len(&self) -> usize {
        self.probe.len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        let name = self.probe.name(i);
        self.paint.map_or(Cow::Borrowed(name), |concept| Cow::Owned(format!("{name} (painted: {})", concept.name())))
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.probe.label(i)
    }

    fn classes(&self) -> &[String] {
        self.probe.classes()
    }

    fn preprocess(&self) -> &Preprocess {
        self.probe.preprocess()
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Images::image(self.probe, i)?;
        Ok(Cow::Owned(self.make(i).0))
    }

    fn fingerprint(&self) -> String {
        let paint = self.paint.map_or("", Concept::name);
        format!("{} painted with seed {}: {paint}", self.probe.fingerprint(), self.seed)
    }

    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        self.probe.read(numbers, batch, Want::Pixels, &mut |unpainted| {
            let numbers = unpainted.numbers;
            let (images, regions): (Vec<RgbImage>, Vec<Option<Region>>) =
                numbers.par_iter().map(|i| self.make(*i)).unzip();
            let input = if want.inputs() { image_tensor(&images, self.preprocess())? } else { Tensor::new() };
            let pixels = images.into_iter().filter(|_| want.pixels()).map(Arc::new).collect();
            let (regions, skipped) = (regions.into_iter().flatten().collect(), Vec::<Skipped>::new());
            each(Batch { asked: unpainted.asked, numbers, input, pixels, regions, digest: unpainted.digest, skipped })
        })
    }

    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        Images::digest(self.probe, numbers)
    }
}
