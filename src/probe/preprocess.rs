//! Size, mean and standard deviation: how pixels become a model's input.

use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use tch::Tensor;

/// How an 8-bit RGB image becomes a model's input: one value that travels with all results.
///
/// Pixels are scaled to 0-1, then `(x - mean) / std` per channel, as torchvision's `ToTensor` and `Normalize` do.
/// With one channel the input is the luma, see [`image_tensor`].
///
/// Reading one with serde validates it. After changing a field by hand call [`validate`](Self::validate);
/// everything that takes a `Preprocess` does so too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Preprocess {
    /// 1 (luma) or 3 (red, green, blue).
    pub channels: usize,
    /// Rows, 1 to 4096.
    pub height: usize,
    /// Columns, 1 to 4096.
    pub width: usize,
    /// Per channel, in units of 0-1 pixels.
    pub mean: Vec<f32>,
    /// Per channel, in units of 0-1 pixels, above 0.
    pub std: Vec<f32>,
}

/// As in a file, not yet validated.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    channels: usize,
    height: usize,
    width: usize,
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl TryFrom<Written> for Preprocess {
    type Error = Error;

    fn try_from(w: Written) -> Result<Self> {
        Preprocess::new(w.channels, w.height, w.width, w.mean, w.std)
    }
}

impl Preprocess {
    /// The largest height and width.
    pub const MAX_SIZE: usize = 4096;

    /// A validated value, see the fields.
    ///
    /// **Errors:** [`Error::Invalid`] if a number is out of its range or a list has not `channels` entries.
    pub fn new(channels: usize, height: usize, width: usize, mean: Vec<f32>, std: Vec<f32>) -> Result<Self> {
        let new = Self { channels, height, width, mean, std };
        new.validate()?;
        Ok(new)
    }

    /// Pixels scaled to 0-1 and nothing more: mean 0, standard deviation 1.
    ///
    /// **Errors:** as [`new`](Self::new).
    pub fn plain(channels: usize, height: usize, width: usize) -> Result<Self> {
        // A wrong number of channels is named before a list of its length is made.
        let n = if matches!(channels, 1 | 3) { channels } else { 0 };
        Self::new(channels, height, width, vec![0.0; n], vec![1.0; n])
    }

    /// Whether every field is in its range.
    ///
    /// **Errors:** [`Error::Invalid`] naming the first field that is not.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.channels, 1 | 3) {
            return Err(Error::invalid("channels of the input", self.channels, "1 or 3"));
        }
        for (what, size) in [("height of the input", self.height), ("width of the input", self.width)] {
            if !(1..=Self::MAX_SIZE).contains(&size) {
                return Err(Error::invalid(what, size, format!("1 to {}", Self::MAX_SIZE)));
            }
        }
        for (what, list) in [("mean", &self.mean), ("std", &self.std)] {
            if list.len() != self.channels {
                let allowed = format!("{}, one per channel", self.channels);
                return Err(Error::invalid(what, format!("{} numbers", list.len()), allowed));
            }
        }
        if let Some(v) = self.mean.iter().find(|v| !v.is_finite()) {
            return Err(Error::invalid("mean", v, "finite numbers"));
        }
        if let Some(v) = self.std.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return Err(Error::invalid("std", v, "finite numbers above 0"));
        }
        Ok(())
    }

    /// The shape of a batch of `n` inputs: `[n, C, H, W]`.
    pub fn shape(&self, n: usize) -> [i64; 4] {
        [n as i64, self.channels as i64, self.height as i64, self.width as i64]
    }

    /// How many numbers one input has.
    pub(super) fn numel(&self) -> usize {
        self.channels * self.height * self.width
    }
}

/// Turns the pixels of an image into a model's input.
pub(super) struct Normalizer {
    plane: usize,
    /// Per channel, the input for each of the 256 pixel values.
    tables: Vec<[f32; 256]>,
}

impl Normalizer {
    pub fn new(preprocess: &Preprocess) -> Self {
        let table = |(mean, std): (&f32, &f32)| std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
        let tables = preprocess.mean.iter().zip(&preprocess.std).map(table).collect();
        Self { plane: preprocess.height * preprocess.width, tables }
    }

    /// Writes an image of the right size to the `[C, H, W]` numbers `out`.
    pub fn write(&self, image: &RgbImage, out: &mut [f32]) {
        let pixels = image.as_raw().chunks_exact(3);
        for (c, (out, table)) in out.chunks_exact_mut(self.plane).zip(&self.tables).enumerate() {
            for (out, pixel) in out.iter_mut().zip(pixels.clone()) {
                let value = if self.tables.len() == 1 { luma(pixel) } else { pixel[c] };
                *out = table[usize::from(value)];
            }
        }
    }
}

/// Images as a model wants them.
///
/// With one channel the value is the luma of ITU-R BT.601 rounded to 8 bits, as Pillow's mode `L`; grey pixels keep
/// their value exactly.
///
/// **Shapes:** `[n, C, H, W]`, f32, on the CPU.
/// **Units:** normalised, `(pixel / 255 - mean) / std`.
/// **Errors:** [`Error::Shape`] if an image does not have the size of `preprocess`; [`Error::Invalid`] if `preprocess`
/// is not valid.
pub fn image_tensor<I: Borrow<RgbImage> + Sync>(images: &[I], preprocess: &Preprocess) -> Result<Tensor> {
    preprocess.validate()?;
    images
        .iter()
        .enumerate()
        .try_for_each(|(i, image)| check_size(|| format!("image {i}"), image.borrow(), preprocess))?;
    let normalizer = Normalizer::new(preprocess);
    let mut values = vec![0f32; images.len() * preprocess.numel()];
    values
        .par_chunks_mut(preprocess.numel())
        .zip(images)
        .for_each(|(values, image)| normalizer.write(image.borrow(), values));
    Tensor::f_from_slice(&values)
        .and_then(|t| t.f_view(preprocess.shape(images.len()).as_slice()))
        .map_err(Error::torch("making a tensor of images"))
}

/// An [`Error::Shape`] unless the image has the size of `preprocess`.
pub(super) fn check_size(what: impl Fn() -> String, image: &RgbImage, preprocess: &Preprocess) -> Result<()> {
    let (h, w) = (image.height() as usize, image.width() as usize);
    if (h, w) == (preprocess.height, preprocess.width) {
        return Ok(());
    }
    Err(Error::Shape {
        what: what(),
        received: vec![h as i64, w as i64],
        expected: format!("[{}, {}], the model's height and width", preprocess.height, preprocess.width),
    })
}

/// ITU-R BT.601 luma, rounded to 8 bits; the three weights add up to 2^16.
fn luma(pixel: &[u8]) -> u8 {
    let [r, g, b] = [u32::from(pixel[0]), u32::from(pixel[1]), u32::from(pixel[2])];
    ((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_pixels_keep_their_luma() {
        assert!((0..=255u8).all(|v| luma(&[v, v, v]) == v));
        assert_eq!(luma(&[255, 0, 0]), 76);
    }

    #[test]
    fn plain_pixels_are_those_of_libtorch_to_the_bit() {
        let image = RgbImage::from_fn(16, 16, |x, y| image::Rgb([(16 * y + x) as u8, x as u8, y as u8]));
        let ours = image_tensor(&[&image, &image], &Preprocess::plain(3, 16, 16).unwrap()).unwrap();
        let bytes = Tensor::from_slice(image.as_raw().as_slice()).view([16, 16, 3]).permute([2, 0, 1]);
        assert_eq!(ours, Tensor::stack(&[&bytes, &bytes], 0).to_kind(tch::Kind::Float) / 255.0);
    }

    #[test]
    fn reading_validates() {
        let text = r#"{"channels":3,"height":32,"width":32,"mean":[0,0,0],"std":[1,0,1]}"#;
        let error = serde_json::from_str::<Preprocess>(text).unwrap_err().to_string();
        assert!(error.contains("std: received 0, allowed finite numbers above 0"), "{error}");
        let good = Preprocess::plain(1, 8, 9).unwrap();
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<Preprocess>(&text).unwrap(), good);
    }
}
