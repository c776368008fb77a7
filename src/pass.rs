//! The one loop over activations: images go through a model, and what its units do goes to a [`Visitor`].
//!
//! Here, and nowhere else, activations are laid out as maps, brought to the CPU, made single precision and contiguous,
//! and a value that is not finite becomes an error.

mod plane;

pub(crate) use plane::sweep;

use crate::graph::{Site, Traced};
use crate::hook::ffi;
use crate::probe::{Batch, Images, Want};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Looks at the activations of batch after batch.
pub(crate) trait Visitor {
    /// A batch begins; it may be without images.
    fn begin(&mut self, _batch: &Batch) {}

    /// The `site`-th site has this activation on this batch; sites come in the order of the model.
    ///
    /// # Errors
    /// Inside: the first value, by image, then unit, that is not finite.
    fn visit(&mut self, site: usize, maps: &Maps, batch: &Batch) -> Result<Result<(), Bad>>;

    /// A batch is through.
    fn end(&mut self, _batch: &Batch) -> Result<()> {
        Ok(())
    }
}

/// A NaN or an infinity: the place of the image in its batch, the unit, the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bad {
    pub image: usize,
    pub unit: usize,
    pub value: f32,
}

impl Bad {
    /// The first, by image, then unit, of what units found.
    pub fn first(a: Option<Bad>, b: Option<Bad>) -> Option<Bad> {
        [a, b].into_iter().flatten().min_by_key(|bad| (bad.image, bad.unit))
    }
}

/// Shows `traced` the images with these numbers, `batch_size` at a time, and hands what `sites` do to `visitor`.
///
/// # Errors
/// [`Error::NonFinite`] for a value that is not finite; [`Error::Shape`] for an activation that is not laid out like its
/// site; what `visitor`, reading the images and the forward pass return.
pub(crate) fn run(
    traced: &Traced<'_>,
    sites: &[Site],
    images: &dyn Images,
    numbers: &[usize],
    batch_size: usize,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    images.read(numbers, traced.model().at_most(batch_size), Want::Inputs, &mut |batch| {
        visitor.begin(&batch);
        if !batch.numbers.is_empty() {
            let _ = traced.read(sites, &batch.input, |i, activation| {
                let Some(site) = sites.get(i) else { return Ok(()) };
                let maps = Maps::new(site, activation, batch.numbers.len())?;
                visitor.visit(i, &maps, &batch)?.map_err(|bad| Error::NonFinite {
                    site: site.name.clone(),
                    unit: bad.unit,
                    image: batch.numbers.get(bad.image).map_or_else(String::new, |n| images.name(*n).into_owned()),
                    value: bad.value,
                })
            })?;
        }
        visitor.end(&batch)
    })
}

/// The activation of one batch at one site, as maps.
pub(crate) struct Maps {
    /// `[images, channels, H, W]`, on any device, of any kind.
    maps: Tensor,
    site: String,
    pub images: usize,
    pub channels: usize,
    /// Height and width, at least 1.
    pub size: (usize, usize),
}

impl Maps {
    fn new(site: &Site, activation: &Tensor, images: usize) -> Result<Self> {
        let received = activation.size();
        let shown = received.get(site.batch_dimension());
        if shown.is_some_and(|n| *n != images as i64) && images > 1 {
            let expected = format!(
                "{images} images: the model may be traced for a fixed batch; show it one image at a time \
                 (`--batch-size 1`), or export it for batches of any size"
            );
            return Err(shape(&site.name, received, expected));
        }
        let maps = site.maps(activation)?;
        match maps.size().as_slice() {
            [n, c, h, w] if *n == images as i64 && *c == site.units as i64 && *h > 0 && *w > 0 => {
                let size = (*h as usize, *w as usize);
                Ok(Self { maps, site: site.name.clone(), images, channels: site.units, size })
            }
            _ => Err(shape(&site.name, maps.size(), format!("[{images}, {}, H, W]", site.units))),
        }
    }

    /// An [`Error::Shape`] unless the maps have this size.
    pub fn expect_size(&self, (height, width): (usize, usize)) -> Result<()> {
        if self.size == (height, width) {
            return Ok(());
        }
        Err(shape(&self.site, self.maps.size(), format!("[{}, {}, {height}, {width}]", self.images, self.channels)))
    }

    /// The maps where they are, unless that is the CPU.
    pub fn elsewhere(&self) -> Option<&Tensor> {
        (self.maps.device() != Device::Cpu).then_some(&self.maps)
    }

    /// Lends the values, brought to the CPU if they are elsewhere.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn lend<R>(&self, read: impl FnOnce(Planes<'_>) -> R) -> Result<R> {
        let during = || format!("reading site `{}`", self.site);
        let plain = self.maps.f_to_device(Device::Cpu).and_then(|m| m.f_to_kind(Kind::Float)?.f_contiguous());
        let plain = plain.map_err(Error::torch(during()))?;
        let positions = self.size.0 * self.size.1;
        let lent = ffi::with_floats(&plain, |values| read(Planes { values, channels: self.channels, positions }));
        let message = "the activation could not be made contiguous".to_string();
        lent.ok_or_else(|| Error::Torch { during: during(), message })
    }

    /// An [`Error::Torch`] about this site, for `map_err`.
    pub fn torch(&self) -> impl FnOnce(tch::TchError) -> Error + use<> {
        Error::torch(format!("reading site `{}`", self.site))
    }
}

fn shape(site: &str, received: Vec<i64>, expected: String) -> Error {
    Error::Shape { what: format!("the activation of site `{site}`"), received, expected }
}

/// The values of one batch at one site, on the CPU.
#[derive(Clone, Copy)]
pub(crate) struct Planes<'a> {
    /// `[images, channels, positions]`.
    pub values: &'a [f32],
    pub channels: usize,
    pub positions: usize,
}

impl<'a> Planes<'a> {
    /// The map of one channel on the `image`-th image; empty if there is no such map.
    pub fn plane(&self, image: usize, channel: usize) -> &'a [f32] {
        let start = (image * self.channels + channel) * self.positions;
        self.values.get(start..start + self.positions).unwrap_or_default()
    }
}
