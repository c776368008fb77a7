//! `--input 3x32x32 --mean … --std …`: how images become inputs, and the model that takes them.

use crate::{Common, output};
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use std::path::Path;
use tch::{Device, Kind, Tensor};
use tch_audit::probe::Preprocess;
use tch_audit::{InputLayout, Model, Traced};

/// ImageNet's, which most published models expect.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

#[derive(Debug, Args)]
pub struct Input {
    /// Channels x height x width of the model's input, for example 3x32x32; a batch size in front is ignored. One number
    /// for a model that reads vectors.
    #[arg(long, value_name = "CxHxW", default_value = "3x224x224", value_parser = parse_shape)]
    pub input: Shape,
    /// Mean per channel, of pixels scaled to 0-1 [default: ImageNet's 0.485,0.456,0.406; 0.5 for one channel].
    #[arg(long, value_name = "M,..", value_delimiter = ',', num_args = 1, allow_negative_numbers = true)]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation per channel [default: ImageNet's 0.229,0.224,0.225; 0.5 for one channel].
    #[arg(long, value_name = "S,..", value_delimiter = ',', num_args = 1)]
    pub std: Option<Vec<f32>>,
    /// How the model wants a batch of images laid out: channels before rows and columns, or after them.
    #[arg(long, value_enum, default_value_t = Layout::Nchw)]
    pub layout: Layout,
    /// Which of the tensors that the model returns is its output: its place in a tuple, counted from 0, or its key in a
    /// dictionary [default: the first].
    #[arg(long, value_name = "N|NAME")]
    pub model_output: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// The model reads vectors, not images.
    pub vector: bool,
}

fn parse_shape(text: &str) -> Result<Shape, String> {
    let numbers: Option<Vec<usize>> = text.split(['x', ',', '×']).map(|n| n.trim().parse().ok()).collect();
    match numbers.as_deref() {
        Some([channels, height, width] | [_, channels, height, width]) => {
            Ok(Shape { channels: *channels, height: *height, width: *width, vector: false })
        }
        Some([length]) => Ok(Shape { channels: *length, height: 1, width: 1, vector: true }),
        _ => Err("expected channels x height x width, like 3x224x224, or one number for vectors".to_string()),
    }
}

impl Input {
    /// Loads a model, which is shown at most so many images at once.
    pub fn load(&self, file: &Path, batch_size: usize) -> anyhow::Result<Model<'static>> {
        let layout = match self.layout {
            Layout::Nchw => InputLayout::Nchw,
            Layout::Nhwc => InputLayout::Nhwc,
        };
        let model = Model::load(file)?.with_input_layout(layout).with_batch_size(batch_size);
        Ok(match &self.model_output {
            Some(name) => model.with_output(name),
            None => model,
        })
    }

    /// Traces a model, and says what is to be known before anything is measured.
    pub fn trace<'m>(
        &self,
        model: &'m Model<'static>,
        example: &Tensor,
        common: &Common,
    ) -> anyhow::Result<Traced<'m>> {
        let traced = Traced::new(model, example)?;
        if common.quiet {
            return Ok(traced);
        }
        let training = traced.training();
        if !training.is_empty() {
            output::note(&format!("warning: {training}"));
        }
        let quantised = traced.quantised();
        if let Some(first) = quantised.first() {
            output::note(&format!(
                "warning: {} of the model's operators are quantised (`{first}`): weights and units of such layers cannot be \
                 read, and they are not audited; give the network in floating point that it was made of",
                quantised.len()
            ));
        }
        if self.model_output.is_none() {
            let outputs = model.outputs(example)?;
            if outputs.len() > 1 {
                output::note(&format!(
                    "note: the model returns {} tensors ({}); the first is taken as its output: --model-output names \
                     another",
                    outputs.len(),
                    outputs.join(", ")
                ));
            }
        }
        Ok(traced)
    }

    /// Noise of the model's input shape, `n` of it: an example to trace and verify with.
    pub fn noise(&self, n: i64) -> Tensor {
        let Shape { channels, height, width, vector } = self.input;
        let shape = match vector {
            true => vec![n, channels as i64],
            false => vec![n, channels as i64, height as i64, width as i64],
        };
        // The same each time.
        tch::manual_seed(0);
        Tensor::randn(&shape[..], (Kind::Float, Device::Cpu))
    }

    /// The values together, checked.
    pub fn preprocess(&self) -> anyhow::Result<Preprocess> {
        let Shape { channels, height, width, vector } = self.input;
        ensure!(!vector, "--input: received one number, allowed channels x height x width: this reads images");
        let normal = |given: &Option<Vec<f32>>, three: [f32; 3]| match (given, channels) {
            (Some(values), _) => values.clone(),
            (None, 3) => three.to_vec(),
            (None, _) => vec![0.5; channels],
        };
        for (flag, given) in [("--mean", &self.mean), ("--std", &self.std)] {
            let received = given.as_ref().map_or(channels, Vec::len);
            ensure!(
                received == channels,
                "{flag}: received {received} numbers, allowed {channels}: one per channel of --input"
            );
        }
        Preprocess::new(channels, height, width, normal(&self.mean, MEAN), normal(&self.std, STD))
            .context("--input, --mean, --std")
    }
}

/// A whole number of at least 1.
pub fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a whole number of at least 1".to_string())
}
