//! `tch-audit milan`: MILAN's checkpoints.

use crate::{Common, output};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use tch_audit::describe::milan::Checkpoint;
use tch_audit::exit;

/// Look at and convert MILAN's weights.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Convert(Convert),
}

/// Write an official checkpoint (milan-*.pth, a Python pickle) as safetensors, with settings and vocabulary as JSON beside it.
///
/// The pickle is read by a parser that builds tensors and plain values and refuses everything else; nothing in the file is
/// run.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  tch-audit milan convert milan-base.pth milan-base.safetensors")]
struct Convert {
    /// The official file.
    #[arg(value_hint = ValueHint::FilePath)]
    checkpoint: PathBuf,
    /// The new file; its name ends in .safetensors.
    #[arg(value_hint = ValueHint::FilePath)]
    out: PathBuf,
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    let Action::Convert(convert) = &arguments.action;
    let checkpoint = Checkpoint::load(&convert.checkpoint)?;
    // A checkpoint whose parts do not fit together is not worth a file.
    let parts = checkpoint.check()?;
    checkpoint.save(&convert.out)?;
    if !common.quiet {
        let settings = checkpoint.settings();
        output::note(&format!(
            "{}: {} words, encoder {} ({} features), {} numbers{}",
            convert.checkpoint.display(),
            settings.words.len(),
            settings.encoder,
            parts,
            checkpoint.parameters(),
            if settings.language_model { "" } else { ", no language model" }
        ));
        output::note(&format!("wrote {} and {}", convert.out.display(), convert.out.with_extension("json").display()));
    }
    Ok(exit::CLEAN)
}
