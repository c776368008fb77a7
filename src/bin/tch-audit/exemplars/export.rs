//! Pictures and MILAN's layout, of exemplars that are there.

use crate::{Common, output};
use anyhow::Context;
use clap::{Args, ValueHint};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tch_audit::exemplars::{Exemplars, export_npy};
use tch_audit::exit;
use tch_audit::probe::{Corrupt, ImageFolder, Source};
use tch_audit::report::picture::{self, Framing};

/// Draw finished exemplars, or write them as MILAN's own Python reads them.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  tch-audit exemplars export exemplars/ --probe photos/ --pictures
  tch-audit exemplars export exemplars/ --probe photos/ --milan milan/"
)]
pub struct Export {
    /// The folder of a finished run.
    #[arg(value_hint = ValueHint::DirPath)]
    exemplars: PathBuf,
    /// The images that they were computed from.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    probe: PathBuf,
    /// Use only the first N images of each class, as the run did.
    #[arg(long, value_name = "N", value_parser = crate::input::positive)]
    limit_per_class: Option<usize>,
    #[command(flatten)]
    outputs: Outputs,
}

#[derive(Debug, Args)]
pub struct Outputs {
    /// Draw a contact sheet per unit, OUT/pictures/SITE-UNIT.png: regions bright and outlined, the rest dimmed.
    #[arg(long, help_heading = "Output")]
    pictures: bool,
    /// As --pictures, cut out around the regions.
    #[arg(long, help_heading = "Output")]
    crops: bool,
    /// Also write MILAN's own layout to this folder: images.npy, masks.npy, units.npy, activations.csv and ids.csv per
    /// site. It takes 200 KB per exemplar of 224 x 224.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Output")]
    milan: Option<PathBuf>,
}

pub fn export(arguments: &Export, common: &Common) -> anyhow::Result<u8> {
    let exemplars = Exemplars::load(&arguments.exemplars)?;
    anyhow::ensure!(
        arguments.outputs.any(),
        "nothing to export: received neither --pictures nor --crops nor --milan DIR, allowed any of them"
    );
    let mut folder =
        ImageFolder::open(&arguments.probe).preprocess(exemplars.preprocess.clone()).corrupt(Corrupt::Skip);
    if let Some(n) = arguments.limit_per_class {
        folder = folder.limit_per_class(n);
    }
    let out = if arguments.exemplars.is_dir() { arguments.exemplars.as_path() } else { Path::new(".") };
    arguments.outputs.write(&exemplars, &folder.stream()?, out, common)?;
    Ok(exit::CLEAN)
}

impl Outputs {
    pub fn any(&self) -> bool {
        self.pictures || self.crops || self.milan.is_some()
    }

    pub fn write(
        &self,
        exemplars: &Exemplars,
        source: &(impl Source + Sync),
        out: &Path,
        common: &Common,
    ) -> anyhow::Result<()> {
        if self.pictures || self.crops {
            let framing = if self.crops { Framing::Crop } else { Framing::Whole };
            let folder = out.join("pictures");
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let draw = |unit| -> anyhow::Result<bool> {
                let image =
                    |i: usize| (i < source.len()).then(|| source.image(i).ok()).flatten().map(|i| i.into_owned());
                let Some(sheet) = picture::contact_sheet(unit, framing, image) else { return Ok(false) };
                picture::save_png(&sheet, out.join(picture::path(&unit.id)))?;
                Ok(true)
            };
            let drawn: Vec<bool> = exemplars.units.par_iter().map(draw).collect::<anyhow::Result<_>>()?;
            if !common.quiet {
                let count = drawn.iter().filter(|d| **d).count();
                output::note(&format!("drew {count} units to {}", folder.display()));
            }
        }
        if let Some(folder) = &self.milan {
            export_npy(exemplars, source, folder)?;
            if !common.quiet {
                output::note(&format!("wrote MILAN's layout to {}", folder.display()));
            }
        }
        Ok(())
    }
}
