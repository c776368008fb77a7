//! Concepts painted onto images: the same image with and without a concept, and where it is.
//!
//! [`bank`] has the concepts that need no learned describer; [`controls`] are paints without a name, for comparison;
//! [`Concept::new`] makes your own; [`text_stamp`] writes a given text.
//!
//! **Source:** concept masks as in Network Dissection (Bau et al. 2017, arXiv 1704.05796). Differs: the concepts are
//! painted onto the user's own images instead of being labelled in a data set.

use super::seed;
use crate::{ConceptName, Region};
use image::RgbImage;
use std::{fmt, sync::Arc};

mod canvas;
pub(super) mod color;
mod control;
mod figure;
mod quality;
mod solid;
mod stamp;
mod text;
mod texture;

pub use control::controls;
pub use stamp::{Place, TextSize, TextStyle, text_stamp};

/// An image with a concept on it.
#[derive(Debug, Clone)]
pub struct Painted {
    /// The image, of the same size as the one painted on.
    pub image: RgbImage,
    /// Where the concept is; outside it the image is unchanged.
    pub region: Region,
}

type PaintFn = dyn Fn(&RgbImage, &mut fastrand::Rng) -> Painted + Send + Sync;

/// Something a unit may respond to, and how to paint it onto an image.
#[derive(Clone)]
pub struct Concept {
    named: ConceptName,
    paint: Arc<PaintFn>,
}

impl Concept {
    /// A concept of your own.
    ///
    /// `name` is kebab-case and unique; `family` groups concepts that exclude each other less than others (`color`,
    /// `shape`, …); `description` says in words what a unit responds to, for example `rendered text`. `paint` returns
    /// an image of the same size, changed only inside the region that it returns too, and takes all randomness from
    /// the generator that it is given.
    ///
    /// ```
    /// use tch_audit::{Region, probe::paint::{Concept, Painted}};
    ///
    /// let corner = Concept::new("corner", "mark", "a white mark in the corner", |image, _rng| {
    ///     let mut image = image.clone();
    ///     image.put_pixel(0, 0, image::Rgb([255; 3]));
    ///     let (h, w) = (image.height() as usize, image.width() as usize);
    ///     Painted { image, region: Region::from_fn(h, w, |y, x| (y, x) == (0, 0)) }
    /// });
    /// let painted = corner.paint(&image::RgbImage::new(32, 32), 7);
    /// assert_eq!(painted.region.area(), 1);
    /// ```
    pub fn new(
        name: impl Into<String>,
        family: impl Into<String>,
        description: impl Into<String>,
        paint: impl Fn(&RgbImage, &mut fastrand::Rng) -> Painted + Send + Sync + 'static,
    ) -> Self {
        Self { named: ConceptName::new(name, family, description), paint: Arc::new(paint) }
    }

    /// A painter of the concept of this name of [`ConceptName::built_in`].
    fn built_in(name: &str, paint: impl Fn(&RgbImage, &mut fastrand::Rng) -> Painted + Send + Sync + 'static) -> Self {
        let known = ConceptName::built_in().into_iter().find(|c| c.name == name);
        Self { named: known.unwrap_or_else(|| ConceptName::new(name, "", "")), paint: Arc::new(paint) }
    }

    /// Adds synonyms, words by which a policy may mean this concept.
    pub fn with_words(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.named = self.named.with_synonyms(words);
        self
    }

    /// What it is called.
    pub fn named(&self) -> &ConceptName {
        &self.named
    }

    /// The unique name, for example `horizontal-stripes`.
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// The group of related concepts: `text`, `color`, `stripes`, `texture`, `edge`, `border`, `shape`, `quality`, or
    /// `control`.
    pub fn family(&self) -> &str {
        &self.named.family
    }

    /// What a unit responds to that responds to this concept, for example `rendered text`.
    pub fn description(&self) -> &str {
        &self.named.description
    }

    /// Synonyms, by which a policy may mean this concept.
    pub fn words(&self) -> &[String] {
        &self.named.synonyms
    }

    /// Paints the concept onto a copy of the image; same image and seed, same result.
    ///
    /// Concepts of one seed are independent of each other. The concepts of [`bank`] and [`controls`] work for any
    /// image; they are meant for 8 x 8 pixels and more. Their region is not empty if the image is not.
    ///
    /// # Panics
    /// If the concept is one of your own and returns an image or a region of another size.
    pub fn paint(&self, image: &RgbImage, seed: u64) -> Painted {
        let mut rng = fastrand::Rng::with_seed(seed::mix(seed, seed::salt(self.name())));
        let painted = (self.paint)(image, &mut rng);
        let (size, region) = (painted.image.dimensions(), &painted.region);
        assert_eq!(size, image.dimensions(), "concept {} changed the size of the image", self.name());
        let covers = (region.width(), region.height()) == (size.0 as usize, size.1 as usize);
        assert!(covers, "concept {} returned a region of another size than the image", self.name());
        painted
    }
}

impl fmt::Debug for Concept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut s = f.debug_struct("Concept");
        s.field("name", &self.name()).field("family", &self.family()).field("description", &self.description());
        s.field("words", &self.words()).finish_non_exhaustive()
    }
}

/// All concepts that can be painted, always in the same order.
pub fn bank() -> Vec<Concept> {
    let mut all = vec![text::concept()];
    all.extend(solid::colors());
    all.extend(texture::stripes());
    all.extend(texture::textures());
    all.extend(texture::edges());
    all.push(solid::border());
    all.extend(figure::shapes());
    all.extend(quality::qualities());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_painter_for_every_built_in_concept() {
        let painted: Vec<ConceptName> = bank().iter().map(|c| c.named().clone()).collect();
        assert_eq!(painted, ConceptName::built_in());
    }
}
