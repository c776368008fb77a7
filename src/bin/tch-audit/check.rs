//! `tch-audit check`: audit a TorchScript model and judge it.

use crate::input::Input;
use crate::{Color, EXIT_CLEAN, EXIT_DENIED};
use anyhow::Context;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use tch_audit::Model;
use tch_audit::audit::{Audit, Settings};
use tch_audit::policy::Loader;
use tch_audit::probe::{Corrupt, ImageFolder};
use tch_audit::report::{self, Report};

/// Audit a TorchScript model on a folder of images, and fail when a policy of level `deny` is violated.
///
/// The model may be scripted, traced or frozen. If the images lie in one sub-folder per class, the model's accuracy on
/// them is measured too: an accuracy near chance is the sign of a wrong --mean, --std or --input.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  clean: no policy of level `deny` is violated
  1  denied: one is; the report says which, and why
  2  the input or the run is wrong; nothing was judged

Examples:
  tch-audit check model.pt --probe photos/ --input 3x32x32 --out report/
  tch-audit check model.pt --probe photos/ --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --sites 'layer4*'
  tch-audit check digits.pt --probe digits/ --input 1x28x28 --policies text.toml")]
pub struct Arguments {
    /// The TorchScript file.
    model: PathBuf,
    /// The folder of JPEG and PNG images that the model is shown: some hundred to some thousand images of the kind that
    /// it was trained for. Sub-folders are classes.
    #[arg(long, value_name = "DIR")]
    probe: PathBuf,
    /// A policy file or a folder of them [default: the policies that come with tch-audit].
    #[arg(long, value_name = "PATH")]
    policies: Option<PathBuf>,
    /// The folder for report.json, neurons.csv, report.md and pictures.
    #[arg(long, value_name = "DIR", default_value = "tch-audit-report")]
    out: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Which sites, separated by commas: names, globs such as 'layer4*', or `auto` for every convolution and linear layer
    /// but the classifier. `tch-audit sites` lists them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "auto")]
    sites: Vec<String>,
    /// Exemplar images per unit.
    #[arg(long, value_name = "N", default_value_t = 15)]
    k: usize,
    /// Images per forward pass. Part of the result: other sizes give other last digits.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch_size: usize,
    /// Where random choices start: places and colours of painted concepts, bootstrap draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Leave out images that cannot be read, and list them in the report, instead of stopping.
    #[arg(long)]
    skip_corrupt: bool,
    /// Use only the first N images of each class, by name.
    #[arg(long, value_name = "N")]
    limit_per_class: Option<usize>,
}

pub fn run(arguments: &Arguments, color: Color) -> anyhow::Result<u8> {
    let mut settings = Settings { sites: arguments.sites.clone(), ..Settings::default() };
    settings.exemplars.k = arguments.k;
    settings.exemplars.batch_size = arguments.batch_size;
    settings.concepts.seed = arguments.seed;
    // What is cheap to get wrong comes first.
    let preprocess = arguments.input.preprocess()?;
    let known: Vec<String> = settings.bank.iter().map(|c| c.name().to_string()).collect();
    let loader = Loader::new().known_concepts(known);
    let policies = match &arguments.policies {
        None => loader.shipped()?,
        Some(path) if path.is_file() => loader.load(path)?,
        Some(path) => loader.load_dir(path)?,
    };
    let model = Model::load(&arguments.model)?;
    let corrupt = if arguments.skip_corrupt { Corrupt::Skip } else { Corrupt::Fatal };
    let mut folder = ImageFolder::open(&arguments.probe).preprocess(preprocess).corrupt(corrupt);
    if let Some(n) = arguments.limit_per_class {
        folder = folder.limit_per_class(n);
    }
    let probe = folder.load()?;
    report::check_writable(&arguments.out)?;

    let audit = Audit::run(&model, &probe, &settings, &policies)
        .with_context(|| format!("cannot judge {}", arguments.model.display()))?;
    let name = arguments.model.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let report = Report::of(&audit, &name, &model, &probe, &settings).finish();
    report.save(&arguments.out, &audit.exemplars, &probe)?;

    let mut out = std::io::stdout().lock();
    let style = report::terminal::Style { color: color.wanted(), ..report::terminal::Style::detect() };
    report::terminal::write_styled(&report, style, &mut out)
        .and_then(|()| out.flush())
        .context("writing the summary")?;
    eprintln!("report: {}", arguments.out.join("report.md").display());
    Ok(if report.denied { EXIT_DENIED } else { EXIT_CLEAN })
}
