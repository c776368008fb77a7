//! Pictures and MILAN's layout, of exemplars that are there.

use crate::{Common, output, photos};
use anyhow::Context;
use clap::{Args, ValueHint};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use tch_audit::exemplars::{Exemplars, Stored, export_npy};
use tch_audit::exit;
use tch_audit::probe::{Corrupt, ImageFolder, Images};
use tch_audit::report::picture::{self, Framing};

/// Units that are in memory at once.
const UNITS: usize = 256;

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
    let stored = Stored::open(&arguments.exemplars)?;
    anyhow::ensure!(
        arguments.outputs.any(),
        "nothing to export: received neither --pictures nor --crops nor --milan DIR, allowed any of them"
    );
    let mut folder = ImageFolder::open(&arguments.probe).preprocess(stored.preprocess().clone()).corrupt(Corrupt::Skip);
    if let Some(n) = arguments.limit_per_class {
        folder = folder.limit_per_class(n);
    }
    let out = if arguments.exemplars.is_dir() { arguments.exemplars.as_path() } else { Path::new(".") };
    let images = folder.stream()?;
    photos::say_left_out("--probe", &images, common);
    arguments.outputs.write(&stored, &images, out, common)?;
    Ok(exit::CLEAN)
}

impl Outputs {
    pub fn any(&self) -> bool {
        self.pictures || self.crops || self.milan.is_some()
    }

    /// Writes what was asked for, of some units after the other, so that they need not all be in memory.
    pub fn write(&self, stored: &Stored, source: &dyn Images, out: &Path, common: &Common) -> anyhow::Result<()> {
        if self.pictures || self.crops {
            let folder = out.join("pictures");
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let mut drawn = 0;
            for site in stored.sites() {
                for start in (0..site.units.len()).step_by(UNITS) {
                    let some = stored.load_units(&site.name, start..(start + UNITS).min(site.units.len()))?;
                    drawn += self.draw(&some, source, out)?;
                }
            }
            if !common.quiet {
                output::note(&format!("drew {drawn} units to {}", folder.display()));
            }
        }
        if let Some(folder) = &self.milan {
            for site in stored.sites() {
                export_npy(&stored.load_sites(&[&site.name])?, source, folder)?;
            }
            if !common.quiet {
                output::note(&format!("wrote MILAN's layout to {}", folder.display()));
            }
        }
        Ok(())
    }

    /// Draws the units that have exemplars; returns how many those are.
    fn draw(&self, exemplars: &Exemplars, source: &dyn Images, out: &Path) -> anyhow::Result<usize> {
        let framing = if self.crops { Framing::Crop } else { Framing::Whole };
        let draw = |unit| -> anyhow::Result<usize> {
            let image = |i: usize| (i < source.len()).then(|| source.image(i).ok()).flatten().map(|i| i.into_owned());
            let Some(sheet) = picture::contact_sheet(unit, framing, image) else { return Ok(0) };
            picture::save_png(&sheet, out.join(picture::path(&unit.id)))?;
            Ok(1)
        };
        exemplars.units.par_iter().map(draw).sum()
    }
}
