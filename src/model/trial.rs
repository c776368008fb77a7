//! What a model would have accepted, found by trying: a failed pass is explained by one that works.

use super::{InputLayout, Model, causes};
use crate::{Error, Result};
use std::time::{Duration, Instant};
use tch::{Kind, Tensor};

/// No trial is begun after so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Batches that files are traced with.
const BATCHES: [i64; 5] = [2, 4, 8, 16, 32];
/// Heights, and widths, of inputs that networks are made for.
const SIZES: [i64; 22] =
    [224, 32, 28, 64, 96, 128, 256, 299, 227, 84, 112, 160, 192, 384, 512, 48, 331, 300, 320, 416, 448, 518];

impl Model<'_> {
    /// An error of a pass on `input`, `[N, C, H, W]`, with its cause and the remedy where they can be found. Not while the
    /// model is observed.
    pub(crate) fn explained(&self, error: Error, input: &Tensor) -> Error {
        match error {
            // What a closure says is said to those who wrote it.
            Error::Forward { message, input: shape } if self.script.is_some() => {
                let cause = causes::certain(&message).or_else(|| self.tried(&message, input));
                Error::Forward { message: cause.unwrap_or(message), input: shape }
            }
            other => other,
        }
    }

    fn tried(&self, message: &str, input: &Tensor) -> Option<String> {
        let size = input.size();
        let &[n, c, h, w] = size.as_slice() else { return None };
        let trials = Trials { model: self, until: Instant::now() + PATIENCE };
        if trials.fails_by_content(input) {
            return None; // it accepts such an input, and did not like what is in this one
        }
        // Every image alone, so that it is the number of them that it does not accept.
        if n > 1 && (0..n).all(|i| input.f_narrow(0, i, 1).is_ok_and(|one| trials.accepts(&one))) {
            return Some(format!(
                "it accepts each of these images alone, and not {n} at once: it seems to be traced for a fixed batch of 1; \
                 show it one image at a time (`--batch-size 1`), or export it for batches of any size ({message})"
            ));
        }
        if n == 1
            && let Some(batch) = BATCHES.into_iter().find(|b| trials.accepts(&noise(&[*b, c, h, w])))
        {
            return Some(format!(
                "it accepts {batch} images at once, and not one: it seems to be traced for a fixed batch of {batch}; trace it \
                 again with one image, or script it ({message})"
            ));
        }
        let other = match self.layout {
            InputLayout::Nchw => InputLayout::Nhwc,
            InputLayout::Nhwc => InputLayout::Nchw,
        };
        if trials.with(&self.clone().with_input_layout(other), input) {
            return Some(match other {
                InputLayout::Nhwc => format!("it wants images as [N, H, W, C]: give `--layout nhwc` ({message})"),
                InputLayout::Nchw => format!("it wants images as [N, C, H, W]: leave out `--layout nhwc` ({message})"),
            });
        }
        for (kind, what) in [
            (Kind::Int64, "whole numbers, as an embedding does that looks words up"),
            (Kind::Uint8, "pixels as bytes, 0 to 255"),
        ] {
            if trials.with_kind(kind, input) {
                return Some(format!(
                    "it reads {what}, and is given images as numbers with a fraction; export a module that takes those and \
                     makes its input of them ({message})"
                ));
            }
        }
        for kind in [Kind::Float, Kind::Half, Kind::BFloat16, Kind::Double].into_iter().filter(|k| *k != self.kind) {
            if trials.with_kind(kind, input) {
                return Some(format!(
                    "it wants an input of kind {kind:?}, and its first weights are of kind {:?}; export it with all of them \
                     in one kind ({message})",
                    self.kind
                ));
            }
        }
        if let Some(length) = wanted_length(message)
            && trials.accepts(&noise(&[n, length]))
        {
            return Some(format!(
                "it reads vectors of {length} numbers, not images: give `--input {length}` ({message})"
            ));
        }
        for (shape, what) in [
            (vec![n, c, 8, h, w], "volumes or films, [N, C, D, H, W]"),
            (vec![n, h, c * w], "sequences, [N, T, numbers]"),
        ] {
            if trials.accepts(&noise(&shape)) {
                return Some(format!(
                    "it reads {what}, not images; export a module that takes images [N, C, H, W] and makes its input of \
                     them ({message})"
                ));
            }
        }
        let mut channels = vec![c];
        channels.extend([1, 3, 4].into_iter().filter(|other| *other != c));
        let shapes = channels
            .iter()
            .map(|&c| [n, c, h, w])
            .chain(channels.iter().flat_map(|&c| SIZES.into_iter().map(move |side| [n, c, side, side])));
        let found = shapes.skip(1).find(|shape| trials.accepts(&noise(shape)));
        found.map(|[_, c, h, w]| {
            format!(
                "it accepts images of {c} x {h} x {w} numbers, and not these: give `--input {c}x{h}x{w}` ({message})"
            )
        })
    }
}

struct Trials<'a> {
    model: &'a Model<'a>,
    until: Instant,
}

impl Trials<'_> {
    /// Whether another input of the same shape is accepted.
    fn fails_by_content(&self, input: &Tensor) -> bool {
        let shape = input.size();
        [Tensor::f_zeros(&shape, (Kind::Float, tch::Device::Cpu)).ok(), Some(noise(&shape))]
            .into_iter()
            .flatten()
            .any(|other| self.accepts(&other))
    }

    fn accepts(&self, input: &Tensor) -> bool {
        self.with(self.model, input)
    }

    fn with(&self, model: &Model<'_>, input: &Tensor) -> bool {
        self.runs(|| model.prepare(input), model)
    }

    fn with_kind(&self, kind: Kind, input: &Tensor) -> bool {
        let other = Model { kind, ..self.model.clone() };
        // Small whole numbers: an embedding has not many rows.
        self.runs(|| other.prepare(&input.f_zeros_like().map_err(Error::torch("trying another input"))?), &other)
    }

    fn runs(&self, input: impl Fn() -> Result<Tensor>, model: &Model<'_>) -> bool {
        Instant::now() < self.until && input().and_then(|x| model.run_all(&x)).is_ok()
    }
}

/// The same numbers each time, near those of images.
fn noise(shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    Tensor::arange(count, (Kind::Float, tch::Device::Cpu)).sin().reshape(shape)
}

/// Of `mat1 and mat2 shapes cannot be multiplied (96x32 and 64x10)`: the 64.
fn wanted_length(message: &str) -> Option<i64> {
    let (_, rest) = message.split_once("shapes cannot be multiplied (")?;
    let (_, second) = rest.split_once(" and ")?;
    second.split('x').next()?.parse().ok()
}
