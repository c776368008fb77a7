//! What both examples share: a small residual network, images stamped with a word, and their options.

use clap::{Parser, ValueEnum};
use std::path::PathBuf;
use tch::nn;
use tch_audit::policy::{Action, Policies};
use tch_audit::probe::Probe;
use tch_audit::probe::paint::{Place, TextSize, TextStyle, text_stamp};

/// What is written on an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The name of its class.
    Right,
    /// The name of another class.
    Wrong,
}

/// Stamps a share of the images of `probe` with the name of a class, at a random place.
pub fn stamped(probe: &Probe, word: Word, share: f32, seed: u64) -> Probe {
    let classes = probe.classes().to_vec();
    probe.map(|i, image| {
        let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9).wrapping_add(i as u64));
        let shift = if word == Word::Wrong { rng.usize(1..classes.len()) } else { 0 };
        let (stamp, x, y) = (rng.f32() < share, rng.i32(0..4), rng.i32(0..image.height() as i32 - 8));
        match probe.label(i) {
            Some(label) if stamp => {
                let text = &classes[(label + shift) % classes.len()];
                let mut style = TextStyle::default();
                (style.size, style.plate, style.place) = (TextSize::Smallest, None, Place::At { x, y });
                text_stamp(image, text, &style).image
            }
            _ => image.clone(),
        }
    })
}

/// A residual network of three stages, built from closures as tch's own examples are.
pub fn network(vs: nn::Path<'_>, width: i64, classes: i64) -> nn::SequentialT {
    nn::seq_t()
        .add(convolution(&vs / "stem", 3, width, 1))
        .add(stage(&vs / "layer1", width, 2 * width))
        .add(stage(&vs / "layer2", 2 * width, 4 * width))
        .add_fn(|x| x.adaptive_avg_pool2d([1, 1]).flat_view())
        .add(nn::linear(&vs / "fc", 4 * width, classes, Default::default()))
}

fn convolution(vs: nn::Path<'_>, inputs: i64, outputs: i64, stride: i64) -> nn::SequentialT {
    let config = nn::ConvConfig { padding: 1, stride, bias: false, ..Default::default() };
    nn::seq_t()
        .add(nn::conv2d(&vs / "conv", inputs, outputs, 3, config))
        .add(nn::batch_norm2d(&vs / "bn", outputs, Default::default()))
        .add_fn(|x| x.relu())
}

fn stage(vs: nn::Path<'_>, inputs: i64, outputs: i64) -> nn::FuncT<'static> {
    let down = convolution(&vs / "down", inputs, outputs, 2);
    let (one, two) = (convolution(&vs / "one", outputs, outputs, 1), convolution(&vs / "two", outputs, outputs, 1));
    nn::func_t(move |x, train| {
        let x = x.apply_t(&down, train);
        &x + x.apply_t(&one, train).apply_t(&two, train)
    })
}

/// Prints what the auditor says while it goes along, and warnings, as plain lines.
pub fn print_events() {
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_level(false).with_target(false);
    lines.without_time().with_env_filter("warn,tch_audit=info,tch_audit::audit=warn").init();
}

/// How flagged units are edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fix {
    /// Their weights are set to 0.
    Zero,
    /// They leave the network, which gets smaller.
    Prune,
}

impl Options {
    /// The policies that come with tch-audit; `text` asks for what --fix says.
    pub fn policies(&self) -> tch_audit::Result<Policies> {
        let mut policies = Policies::shipped()?;
        if self.fix == Some(Fix::Prune) {
            policies.set_action("text", Action::Prune)?;
        }
        Ok(policies)
    }
}

/// Options of both examples.
#[derive(Debug, Parser)]
pub struct Options {
    /// A folder with `train/<class>/*.jpg` and `test/<class>/*.jpg`.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Where the reports go.
    #[arg(long, default_value = "runs/audit")]
    pub out: PathBuf,
    /// Edit the units that the policy `text` objects to, refit the last layer, and measure what that does: `zero` at the end
    /// (also what a bare --fix means), or `prune` already during training.
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "zero")]
    pub fix: Option<Fix>,
    /// Passes over the training images.
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Where all random choices start.
    #[arg(long, default_value_t = 7)]
    pub seed: i64,
}
