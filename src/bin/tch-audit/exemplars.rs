//! `tch-audit exemplars`: what excites each unit, to a folder; in one go, in shards, on several machines.

mod export;
mod run;

use crate::Common;
use crate::input::{Input, positive};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use tch_audit::exemplars::Shard;

/// Find the images that excite each unit most, and the regions it responds to.
///
/// One pass over the images serves all sites. The result is one file, OUT/exemplars.safetensors: image numbers and names,
/// activations, levels, regions as packed bits, histograms. Every so many batches the state is written to OUT; a run that
/// is killed and started again goes on from there, and gives the same bytes. So do shards: start the same command with
/// --shard 1/N to N/N, on as many machines as you like, and merge.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  tch-audit exemplars model.pt --probe photos/ --sites 'layer*' --out exemplars/ --pictures
  tch-audit exemplars model.pt --probe photos/ --estimate
  tch-audit exemplars model.pt --probe photos/ --out exemplars/ --shard 3/16
  tch-audit exemplars merge exemplars/ exemplars/
  tch-audit exemplars export exemplars/ --probe photos/ --milan milan/

On several machines or cores, each command a shard:
  seq 16 | parallel tch-audit exemplars model.pt --probe photos/ --out exemplars/ --shard {}/16
  sbatch --array=1-16 --wrap 'tch-audit exemplars model.pt --probe photos/ --out exemplars/ --shard $SLURM_ARRAY_TASK_ID/16'"
)]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Action {
    Merge(Merge),
    Export(export::Export),
}

/// Put shards together: any number, in any order, to the bytes of the run in one piece.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tch-audit exemplars merge exemplars/ exemplars/
  tch-audit exemplars merge all/ machine-1/ machine-2/ machine-3/")]
struct Merge {
    /// The folder for exemplars.safetensors.
    #[arg(value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Folders that shards wrote to, or their state files.
    #[arg(required = true, value_hint = ValueHint::AnyPath)]
    parts: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// A TorchScript file.
    #[arg(required = true, value_hint = ValueHint::FilePath)]
    model: Option<PathBuf>,
    /// The folder of JPEG, PNG, WebP, BMP, TIFF or GIF images that the model is shown. Sub-folders are classes.
    #[arg(long, value_name = "DIR", required = true, value_hint = ValueHint::DirPath)]
    probe: Option<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// Which sites, separated by commas: names, globs such as 'layer4*', or `auto` for every convolution and linear layer
    /// but the classifier. `tch-audit sites` lists them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "auto")]
    sites: Vec<String>,
    /// Only some units of a site, as in layer4:0-15,40; may be given several times.
    #[arg(long, value_name = "SITE:UNITS", value_parser = run::units)]
    units: Vec<(String, Vec<usize>)>,
    /// Leave out images that cannot be read, and name them, instead of stopping.
    #[arg(long)]
    skip_corrupt: bool,
    /// Use only the first N images of each class, by name.
    #[arg(long, value_name = "N", value_parser = positive)]
    limit_per_class: Option<usize>,

    /// Exemplar images per unit.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = positive, help_heading = "What is kept")]
    k: usize,
    /// The quantile, over all positions of all images, at which a unit counts as active.
    #[arg(long, value_name = "Q", default_value_t = 0.99, help_heading = "What is kept")]
    quantile: f64,
    /// Also the N images that excite a unit least.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "What is kept")]
    weakest: usize,
    /// Also N images drawn at random, the same for all units.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "What is kept")]
    random: usize,
    /// Where the random images come from.
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "What is kept")]
    seed: u64,
    /// How far apart two exemplars of one class must be in the sorted list of images: against neighbouring frames of a
    /// film that look the same.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive, help_heading = "What is kept")]
    min_distance: usize,
    /// Does nothing: the largest activation of every unit on every image is always kept.
    #[arg(long, hide = true)]
    maxima: bool,
    /// Height and width of the regions, as in 112x112 [default: those of the model's input].
    #[arg(long, value_name = "HxW", value_parser = run::size, help_heading = "What is kept")]
    region_size: Option<(usize, usize)>,
    /// Follow MILAN's own code where it has defects: regions end before the border, units that never vary have exemplars.
    #[arg(long, help_heading = "What is kept")]
    official: bool,

    /// Images per forward pass. Part of the result: other sizes give other last digits.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive, help_heading = "How it runs")]
    batch_size: usize,
    /// Which part of the batches: NUMBER/OF.
    #[arg(long, value_name = "I/N", help_heading = "How it runs")]
    shard: Option<Shard>,
    /// Batches between two checkpoints.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive, help_heading = "How it runs")]
    checkpoint_every: usize,
    /// How much memory candidates and histograms may take, as in 2GiB; with less than needed the images are read several
    /// times [default: 2GiB].
    #[arg(long, value_name = "BYTES", value_parser = run::bytes, help_heading = "How it runs")]
    budget: Option<u64>,
    /// Say how many passes and bytes it takes, and stop.
    #[arg(long, help_heading = "How it runs")]
    estimate: bool,

    /// The folder for the result, and for the state in between.
    #[arg(long, value_name = "DIR", default_value = "exemplars", value_hint = ValueHint::DirPath, help_heading = "Output")]
    out: PathBuf,
    #[command(flatten)]
    outputs: export::Outputs,
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    match &arguments.action {
        Some(Action::Merge(merge)) => run::merge(&merge.out, &merge.parts, common),
        Some(Action::Export(export)) => export::export(export, common),
        None => run::run(&arguments.run, common),
    }
}
