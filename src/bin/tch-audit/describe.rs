//! `tch-audit describe`: words for exemplars that are there.

use crate::describing::Describing;
use crate::{Common, output, photos};
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueHint};
use std::path::PathBuf;
use tch_audit::describe::{DescribedUnit, Status, describe};
use tch_audit::evidence::{Painted, Study};
use tch_audit::exemplars::{Held, Stored, import_npy};
use tch_audit::exit;
use tch_audit::probe::{Corrupt, ImageFolder, Images};
use tch_audit::report::{Format, Report};

/// So many bytes of exemplars are in memory at once.
const MEMORY: u64 = 1 << 30;

/// Put exemplars into words that were saved earlier, by tch-audit or by MILAN's own Python.
///
/// The result is a table of comma-separated values, which `tch-audit check --descriptions` judges.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Examples:
  tch-audit describe --exemplars exemplars/ --probe photos/ --checkpoint milan-base.pth --out descriptions.csv
  tch-audit describe --milan results/exemplars/resnet18/imagenet/ --checkpoint milan-base.pth
  tch-audit describe --exemplars exemplars/ --probe photos/ --command 'python ask.py'"
)]
pub struct Arguments {
    /// The folder of a finished `tch-audit exemplars`.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "milan", requires = "probe")]
    exemplars: Option<PathBuf>,
    /// The images that the exemplars were computed from.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    probe: Option<PathBuf>,
    /// Use only the first N images of each class, as the run did.
    #[arg(long, value_name = "N", value_parser = crate::input::positive)]
    limit_per_class: Option<usize>,
    /// Exemplars in MILAN's own layout: a folder per site with images.npy and masks.npy.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["exemplars", "probe"])]
    milan: Option<PathBuf>,
    /// Only these sites, separated by commas.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    sites: Vec<String>,
    /// Where the table goes [default: standard output].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    describing: Describing,
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    ensure!(
        arguments.describing.name() != "concepts",
        "describe: concepts are painted, for which the model is needed: received neither --checkpoint nor --command, allowed one of them (or `tch-audit check MODEL`)"
    );
    let describer = arguments.describing.describer(&Painted::default())?;
    let (exemplars, source): (Held, Box<dyn Images>) = match (&arguments.milan, &arguments.exemplars) {
        (Some(folder), _) => {
            let (mut exemplars, probe) = import_npy(folder)?;
            let known: Vec<&str> = exemplars.units.iter().map(|u| u.id.site.as_str()).collect();
            if let Some(site) = arguments.sites.iter().find(|site| !known.contains(&site.as_str())) {
                bail!("--sites: there are no exemplars of `{site}`");
            }
            exemplars.units.retain(|u| arguments.sites.is_empty() || arguments.sites.contains(&u.id.site));
            (exemplars.into(), Box::new(probe))
        }
        (None, Some(folder)) => {
            let mut stored = Stored::open(folder)?;
            let probe = arguments.probe.as_deref().context("--exemplars needs --probe")?;
            let mut images = ImageFolder::open(probe).preprocess(stored.preprocess().clone()).corrupt(Corrupt::Skip);
            if let Some(n) = arguments.limit_per_class {
                images = images.limit_per_class(n);
            }
            let images = images.stream()?;
            photos::say_left_out("--probe", &images, common);
            if !arguments.sites.is_empty() {
                let sites: Vec<&str> = arguments.sites.iter().map(String::as_str).collect();
                stored = stored.only(&sites).context("--sites: there are no exemplars of it")?;
            }
            let exemplars = Held::try_from(stored)?;
            exemplars.outline().belong_to(&images)?;
            (exemplars, Box::new(images))
        }
        (None, None) => bail!("describe: received neither --exemplars nor --milan, allowed one of them"),
    };
    let places: Vec<usize> = (0..exemplars.units().len()).collect();
    let mut units = Vec::with_capacity(places.len());
    for part in exemplars.parts(&places, MEMORY) {
        let some = exemplars.load(part)?;
        let descriptions = describe(describer.as_ref(), &Study::new(&some, source.as_ref()))?;
        let ids = some.units.iter().map(|unit| unit.id.clone());
        units.extend(ids.zip(descriptions).map(|(id, said)| DescribedUnit::new(id, said)));
    }
    let report = Report::of_descriptions(&units, "").finish();
    match &arguments.out {
        Some(file) => Format::Csv.save(&report, file)?,
        None => output::print(|out| Format::Csv.write(&report, out))?,
    }
    if !common.quiet {
        let count = |status| units.iter().filter(|u| u.description.status == status).count();
        output::note(&format!(
            "described {} of {} units, {} dead, {} abstained",
            count(Status::Described),
            units.len(),
            count(Status::Dead),
            count(Status::Abstained)
        ));
    }
    Ok(exit::CLEAN)
}
