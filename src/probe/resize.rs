//! Any image to the model's size.

use super::Preprocess;
use crate::{Error, Result};
use fast_image_resize as fir;
use image::RgbImage;
use std::borrow::Cow;

/// How an image whose shape differs from the model's is made to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// The whole image, stretched or squeezed to the model's shape.
    #[default]
    Squash,
    /// The largest centred part that has the model's shape; the rest is cut off.
    CenterCrop,
}

/// Resizes with a bilinear filter that is widened when shrinking (antialiased), as torchvision and Pillow do.
///
/// An image that has the size already is returned as it is.
///
/// **Errors:** [`Error::Invalid`] if a size is 0 or an image has no pixel.
pub fn resize(image: &RgbImage, height: usize, width: usize, fit: Fit) -> Result<RgbImage> {
    resized(&mut fir::Resizer::new(), Cow::Borrowed(image), (height, width), fit)
}

/// [`resize()`] to one size, again and again: what it needs in between is allocated once.
pub(super) struct Shaper {
    resizer: fir::Resizer,
    size: (usize, usize),
    fit: Fit,
}

impl Shaper {
    pub fn new(preprocess: &Preprocess, fit: Fit) -> Self {
        Self { resizer: fir::Resizer::new(), size: (preprocess.height, preprocess.width), fit }
    }

    pub fn shape(&mut self, image: RgbImage) -> Result<RgbImage> {
        resized(&mut self.resizer, Cow::Owned(image), self.size, self.fit)
    }
}

fn resized(
    resizer: &mut fir::Resizer,
    image: Cow<'_, RgbImage>,
    (height, width): (usize, usize),
    fit: Fit,
) -> Result<RgbImage> {
    let (from_width, from_height) = image.dimensions();
    let failed = |reason: &dyn std::fmt::Display| {
        Error::invalid(format!("resizing {from_width}x{from_height} pixels"), reason, "sizes above 0")
    };
    let (Ok(w), Ok(h)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(failed(&format!("a size of {width}x{height}")));
    };
    if image.dimensions() == (w, h) {
        return Ok(image.into_owned());
    }
    if w == 0 || h == 0 || from_width == 0 || from_height == 0 {
        return Err(failed(&format!("a size of {width}x{height}")));
    }
    let source = fir::images::ImageRef::new(from_width, from_height, image.as_raw(), fir::PixelType::U8x3)
        .map_err(|e| failed(&e))?;
    let mut out = fir::images::Image::new(w, h, fir::PixelType::U8x3);
    let filter = fir::ResizeAlg::Convolution(fir::FilterType::Bilinear);
    let options = fir::ResizeOptions::new().resize_alg(filter);
    let options = if fit == Fit::CenterCrop { options.fit_into_destination(Some((0.5, 0.5))) } else { options };
    resizer.resize(&source, &mut out, &options).map_err(|e| failed(&e))?;
    RgbImage::from_raw(w, h, out.into_vec()).ok_or_else(|| failed(&"a buffer of another size"))
}
