//! Images made worse, at five severities.

use super::{frost, pixels};
use crate::probe::{Changed, Images, seed};
use crate::{Error, Result};
use image::RgbImage;
use std::{fmt, str::FromStr};

/// How bad a corruption is: 1 (mild) to 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Severity(u8);

impl Severity {
    /// **Errors:** [`Error::Invalid`] unless `value` is 1 to 5.
    pub fn new(value: u8) -> Result<Self> {
        match value {
            1..=5 => Ok(Self(value)),
            other => Err(Error::invalid("severity", other, "1 to 5")),
        }
    }

    /// 1, 2, 3, 4, 5.
    pub fn all() -> [Self; 5] {
        [Self(1), Self(2), Self(3), Self(4), Self(5)]
    }

    /// 1 to 5.
    pub fn get(self) -> u8 {
        self.0
    }
}

/// A way to make an image worse.
///
/// **Source:** Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
/// Perturbations", 2019, arXiv 1903.12261, with the constants of its code for CIFAR-10-C (images of 32 pixels),
/// Tiny-ImageNet-C (64) and ImageNet-C (224).
/// Differs: between those sizes (the shorter side counts) constants are interpolated in the logarithm of the size, below
/// and above them they stay as they are, only that the width of a blur grows with images of more than 224 pixels; values
/// are rounded to 8 bits, not cut off; JPEG keeps colours at full resolution; frost is replaced by
/// [`Occlusion`](Self::Occlusion). Numbers are thus comparable among each other, not with published ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Corruption {
    /// Independent noise on every value; standard deviation 0.04 to 0.10 at 32 pixels, 0.08 to 0.38 at 224.
    GaussianNoise,
    /// Standard deviation 0.4 to 1 pixels at 32 pixels, 1 to 6 at 224.
    GaussianBlur,
    /// The value of HSV raised by 0.05 to 0.3 at 32 pixels, by 0.1 to 0.5 from 64.
    Brightness,
    /// Distances from the image's mean colour multiplied by 0.75 to 0.15 at 32 pixels, by 0.4 to 0.05 from 64.
    Contrast,
    /// Compression at quality 80 to 40 at 32 pixels, 25 to 7 at 224.
    Jpeg,
    /// Scaled down to 0.95 to 0.65 of its size at 32 pixels, 0.6 to 0.25 at 224, and up again.
    Pixelate,
    /// Irregular patches of translucent ice over 20 to 60 % of the image, of opacity 0.5 to 0.9; of our own making.
    Occlusion,
}

/// Sizes for which there are constants.
const SIDES: [f32; 3] = [32.0, 64.0, 224.0];

impl Corruption {
    /// All of them, always in the same order.
    pub const ALL: [Self; 7] = [
        Self::GaussianNoise,
        Self::GaussianBlur,
        Self::Brightness,
        Self::Contrast,
        Self::Jpeg,
        Self::Pixelate,
        Self::Occlusion,
    ];

    /// The name, in kebab-case: `gaussian-noise`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian-noise",
            Self::GaussianBlur => "gaussian-blur",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::Jpeg => "jpeg",
            Self::Pixelate => "pixelate",
            Self::Occlusion => "occlusion",
        }
    }

    /// The image made worse, of the same size; same image, severity and seed, same result.
    ///
    /// All severities of one seed share their random numbers: noise of severity 2 is that of severity 1, but stronger.
    /// Any size will do; an image with a side of more than 65,535 pixels, which JPEG cannot hold, is returned by
    /// [`Jpeg`](Self::Jpeg) as it was.
    pub fn apply(&self, image: &RgbImage, severity: Severity, seed: u64) -> RgbImage {
        if image.is_empty() {
            return image.clone();
        }
        let seed = seed::mix(seed, seed::salt(self.name()));
        let side = image.width().min(image.height()) as f32;
        let strength = self.strength(side, severity);
        match self {
            Self::GaussianNoise => pixels::noise(image, strength, seed),
            Self::GaussianBlur => pixels::blur(image, strength * (side / SIDES[2]).max(1.0)),
            Self::Brightness => pixels::brighten(image, strength),
            Self::Contrast => pixels::flatten(image, strength),
            Self::Jpeg => pixels::jpeg(image, strength.round().clamp(1.0, 100.0) as u8),
            Self::Pixelate => pixels::pixelate(image, strength),
            Self::Occlusion => frost::cover(image, strength, frost::OPACITY[usize::from(severity.0) - 1], seed),
        }
    }

    /// The constant of this severity for an image whose shorter side is `side` pixels.
    fn strength(self, side: f32, severity: Severity) -> f32 {
        let tables: [[f32; 5]; 3] = match self {
            Self::GaussianNoise => {
                [[0.04, 0.06, 0.08, 0.09, 0.10], [0.04, 0.08, 0.12, 0.15, 0.18], [0.08, 0.12, 0.18, 0.26, 0.38]]
            }
            Self::GaussianBlur => [[0.4, 0.6, 0.7, 0.8, 1.0], [0.5, 0.75, 1.0, 1.25, 1.5], [1.0, 2.0, 3.0, 4.0, 6.0]],
            Self::Brightness => [[0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]],
            Self::Contrast => [[0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05], [0.4, 0.3, 0.2, 0.1, 0.05]],
            Self::Jpeg => {
                [[80.0, 65.0, 58.0, 50.0, 40.0], [65.0, 58.0, 50.0, 40.0, 25.0], [25.0, 18.0, 15.0, 10.0, 7.0]]
            }
            Self::Pixelate => [[0.95, 0.9, 0.85, 0.75, 0.65], [0.9, 0.8, 0.7, 0.6, 0.5], [0.6, 0.5, 0.4, 0.3, 0.25]],
            Self::Occlusion => [frost::COVERAGE; 3],
        };
        let [small, middle, large] = tables.map(|table| table[usize::from(severity.0) - 1]);
        let between = |from: f32, to: f32| ((side / from).ln() / (to / from).ln()).clamp(0.0, 1.0);
        let lower = small + (middle - small) * between(SIDES[0], SIDES[1]);
        lower + (large - middle) * between(SIDES[1], SIDES[2])
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Corruption {
    type Err = Error;

    /// From its [`name`](Corruption::name).
    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|c| c.name() == name);
        found.ok_or_else(|| Error::unknown("corruption", name, Self::ALL.map(Self::name)))
    }
}

/// The same images, every one made worse; names, labels and preprocessing stay.
///
/// Image `i` has random numbers of its own, whatever the other images are.
/// **Errors:** [`Error::Invalid`] if there is no image.
pub fn corrupted<I: Images>(
    images: I,
    corruption: Corruption,
    severity: Severity,
    seed: u64,
) -> Result<Changed<I, impl Fn(usize, &RgbImage) -> RgbImage + Send + Sync>> {
    if images.is_empty() {
        return Err(Error::invalid("images to corrupt", "no image", "at least 1"));
    }
    let label = format!("{corruption} {} from {seed}", severity.get());
    Ok(Changed::new(images, label, move |i, image: &RgbImage| {
        corruption.apply(image, severity, seed::mix(seed, i as u64))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_the_published_ones_at_the_published_sizes_and_between_them_elsewhere() {
        let at = |side: f32, severity| Corruption::GaussianBlur.strength(side, Severity(severity));
        assert_eq!([at(8.0, 1), at(32.0, 1), at(64.0, 5), at(224.0, 5), at(512.0, 5)], [0.4, 0.4, 1.5, 6.0, 6.0]);
        assert!(at(96.0, 3) > 1.0 && at(96.0, 3) < 3.0);
        for corruption in Corruption::ALL {
            assert_eq!(corruption.name().parse::<Corruption>().unwrap(), corruption);
        }
    }
}
