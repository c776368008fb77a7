//! Probes for generators: shown are latent vectors, looked at is what the generator makes of them.

use super::{Preprocess, Probe};
use crate::{Error, Model, Result};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Inputs per forward pass.
const BATCH: usize = 32;

/// What a model is shown.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    /// The images, normalised.
    Images,
    /// Inputs of a generator, one per image: values, and the shape of one input.
    Latents(Vec<Arc<[f32]>>, Vec<i64>),
    /// The images of a generator were changed, so that no input makes them.
    Nothing,
}

impl Probe {
    /// What a generator makes of `inputs`: its units are read on the inputs, its images are those of its (first) output.
    ///
    /// Use it for exemplars. Concepts cannot be painted onto the input of a generator, so that the describer `concepts`
    /// answers with an error.
    ///
    /// **Shapes:** `inputs` is `[N, ...]`; the output must be `[N, 3, H, W]` or `[N, 1, H, W]`.
    /// **Units and range:** an output with a value below 0 is taken to be in -1 to 1, any other in 0 to 1; values outside
    /// are cut off.
    /// **Errors:** [`Error::Forward`]; [`Error::Shape`] if the output is no image; [`Error::Invalid`] without inputs.
    pub fn generated(model: &Model<'_>, inputs: &Tensor) -> Result<Probe> {
        let n = inputs.size().first().copied().unwrap_or(0);
        if n == 0 {
            return Err(Error::invalid(
                "inputs of a generator",
                format!("shape {:?}", inputs.size()),
                "[N, ...], N above 0",
            ));
        }
        let mut parts = Vec::new();
        let batch = model.at_most(BATCH);
        for start in (0..n).step_by(batch) {
            parts.push(model.forward(&inputs.narrow(0, start, (batch as i64).min(n - start)))?);
        }
        let during = || Error::torch("reading a generator's images");
        let output = Tensor::f_cat(&parts, 0)
            .and_then(|t| t.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu))
            .map_err(during())?;
        let (c, h, w) = match output.size().as_slice() {
            [_, c @ (1 | 3), h, w] => (*c as usize, *h as usize, *w as usize),
            other => {
                let expected = "[N, 3, H, W] or [N, 1, H, W]".to_string();
                return Err(Error::Shape {
                    what: "the output of a generator".into(),
                    received: other.to_vec(),
                    expected,
                });
            }
        };
        let signed = output.f_min().and_then(|m| m.f_double_value(&[])).map_err(during())? < 0.0;
        let images = if signed { (output + 1.0) / 2.0 } else { output }.nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0);
        let probe = Probe::from_tensor(&images, None, Preprocess::plain(c, h, w)?)?;
        let flat = inputs.f_to_kind(Kind::Float).and_then(|t| t.f_reshape([n, -1])?.f_to_device(tch::Device::Cpu));
        let rows: Vec<Vec<f32>> = flat.and_then(|t| Vec::<Vec<f32>>::try_from(&t)).map_err(during())?;
        let shown = Shown::Latents(rows.into_iter().map(Arc::from).collect(), inputs.size()[1..].to_vec());
        Ok(Probe { shown, ..probe })
    }
}

impl Shown {
    /// Inputs with these numbers, which exist, if they are not images.
    pub fn tensor(&self, numbers: &[usize]) -> Option<Result<Tensor>> {
        match self {
            Shown::Images => None,
            Shown::Nothing => Some(Err(super::batch::not_inputs())),
            Shown::Latents(rows, shape) => {
                let values: Vec<f32> = numbers.iter().flat_map(|i| rows[*i].iter().copied()).collect();
                let full: Vec<i64> = std::iter::once(numbers.len() as i64).chain(shape.iter().copied()).collect();
                let laid_out = Tensor::f_from_slice(&values).and_then(|t| t.f_reshape(full));
                Some(laid_out.map_err(Error::torch("laying out a generator's inputs")))
            }
        }
    }

    /// Those with these numbers.
    pub fn select(&self, indices: &[usize]) -> Self {
        match self {
            Shown::Latents(rows, shape) => {
                Shown::Latents(indices.iter().map(|&i| Arc::clone(&rows[i])).collect(), shape.clone())
            }
            other => other.clone(),
        }
    }

    /// After the images were changed.
    pub fn changed(&self) -> Self {
        if matches!(self, Shown::Images) { Shown::Images } else { Shown::Nothing }
    }
}
