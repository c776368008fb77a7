//! `tch-audit check`: judge a model, descriptions of one, or a finished report.

mod reproduce;
mod study;
mod subject;

use crate::Common;
use crate::describing::Describing;
use crate::input::{Input, positive};
use crate::output::{self, Target};
use anyhow::{bail, ensure};
use clap::{Args, ValueHint};
pub use reproduce::Reproduce;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use subject::{Judged, Subject};
use tch_audit::ConceptName;
use tch_audit::audit::Settings;
use tch_audit::evidence::painted::{self, Painted};
use tch_audit::exit;
use tch_audit::policy::{Baseline, Code, Date, Level, Loader, Policies};
use tch_audit::probe::paint;
use tch_audit::report;

/// Where the reports of a model go unless --out says otherwise.
const OUT: &str = "tch-audit-report";

/// Judge a model, descriptions of one, or a finished report, and fail when a policy of level `deny` is violated.
///
/// A TorchScript model (scripted, traced or frozen) is shown the images of --probe, and each of its units is described. If
/// the images lie in one sub-folder per class, the model's accuracy on them is measured too: an accuracy near chance is
/// the sign of a wrong --mean, --std or --input. Descriptions that another tool made, and reports of earlier audits, are
/// judged as they are; that takes a moment, and neither model nor images.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Exit codes:
  0  clean: no policy of level `deny` is violated
  1  denied: one is; the report says which, and why
  2  the input or the run is wrong; nothing was judged, or what was found could not be written

Examples:
  tch-audit check model.pt --probe photos/ --input 3x32x32 --out report/
  tch-audit check model.pt --probe photos/ --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --sites 'layer4*'
  tch-audit check model.pt --probe photos/ --checkpoint milan-base.pth
  tch-audit check model.pt --probe photos/ --exemplars exemplars/
  tch-audit check --descriptions milan.csv --policies policies/ --format sarif=audit.sarif
  tch-audit check report/report.json -W faces --baseline known.json --write-baseline
  tch-audit check --config audit.toml --format github"
)]
pub struct Arguments {
    /// A TorchScript file, or the report.json of a finished audit.
    #[arg(value_hint = ValueHint::FilePath, conflicts_with = "descriptions")]
    model: Option<PathBuf>,
    /// Descriptions that another tool made: comma-separated values with columns `layer`, `unit` and `description`, as
    /// MILAN and CLIP-Dissect write them, and optionally `score` (nats) and `status` (described, abstained, dead).
    /// Tables of NetDissect, Describe-and-Dissect and Linear-Explanations are read as they are, with --layer.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["model", "probe"])]
    descriptions: Option<PathBuf>,
    /// The layer that all rows of --descriptions are about, of a table that has no column for it.
    #[arg(long, value_name = "NAME", requires = "descriptions", conflicts_with = "model")]
    layer: Option<String>,
    /// The folder of JPEG, PNG, WebP, BMP, TIFF or GIF images that the model is shown: some hundred to some thousand images
    /// of the kind that it was trained for. Sub-folders are classes.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "descriptions")]
    probe: Option<PathBuf>,
    /// The model's classes: a text file with a line for each output, in their order, that holds the name of the class's
    /// sub-folder. It is needed for accuracy where the sub-folders are only some of the classes, or are not sorted as the
    /// outputs are.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "descriptions")]
    classes: Option<PathBuf>,
    /// Judge what `tch-audit exemplars` found about the model on these images (in shards, or on other machines), without
    /// another pass over all of them.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["descriptions", "k"])]
    exemplars: Option<PathBuf>,
    /// Keep nothing of an earlier run in the folder of --out. Otherwise one that was stopped goes on, and units keep their
    /// words where everything that made them is the same; what would fail the run is looked at anew.
    #[arg(long, conflicts_with = "descriptions")]
    fresh: bool,

    /// A policy file or a folder of them; may be given several times [default: the policies that come with tch-audit, not
    /// those that `policies init` wrote].
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = "Policies")]
    policies: Vec<PathBuf>,
    /// Set the level of a policy, or of a lint about policies such as `expired-waiver` (`tch-audit explain` lists them), to
    /// `allow`; may be given several times.
    #[arg(short = 'A', long, value_name = "NAME", value_delimiter = ',', help_heading = "Policies")]
    allow: Vec<String>,
    /// Set the level of a policy or lint to `warn`.
    #[arg(short = 'W', long, value_name = "NAME", value_delimiter = ',', help_heading = "Policies")]
    warn: Vec<String>,
    /// Set the level of a policy or lint to `deny`.
    #[arg(short = 'D', long, value_name = "NAME", value_delimiter = ',', help_heading = "Policies")]
    deny: Vec<String>,
    /// Findings that are known: only new ones fail.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Policies")]
    baseline: Option<PathBuf>,
    /// Write everything that is found to the file of --baseline: it is known from now on, and this run passes. What the
    /// file says of policies that are not judged now stays.
    #[arg(long, help_heading = "Policies")]
    write_baseline: bool,
    /// The day that decides which waivers have expired [default: today, UTC].
    #[arg(long, value_name = "DATE", help_heading = "Policies")]
    today: Option<Date>,

    #[arg(long, value_name = "NAME[=FILE]", help = format_help(), help_heading = "Output")]
    format: Vec<Target>,
    /// The folder for report.json, neurons.csv, report.md and, of a model, pictures [default: tch-audit-report for a
    /// model, none otherwise].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Output")]
    out: Option<PathBuf>,
    /// A TOML file with what the flags of this command can say, under the same names (`model` for MODEL): flags win, and
    /// paths are relative to the file's folder. For example: policies = ["policies/"], baseline = "known.json".
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output")]
    config: Option<PathBuf>,

    #[command(flatten)]
    audit: AuditArguments,
    #[command(flatten)]
    describing: Describing,
}

/// How a model is audited.
#[derive(Debug, Args)]
#[command(next_help_heading = "Audit of a model")]
struct AuditArguments {
    #[command(flatten)]
    input: Input,
    /// Which sites, separated by commas: names, globs such as 'layer4*', or `auto` for every convolution and linear layer
    /// but the classifier. `tch-audit sites` lists them.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "auto")]
    sites: Vec<String>,
    /// Exemplar images per unit.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = positive)]
    k: usize,
    /// Images per forward pass. Part of the result: other sizes give other last digits.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    batch_size: usize,
    /// Where random choices start: places and colours of painted concepts, bootstrap draws.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Leave out images that cannot be read, and list them in the report, instead of stopping.
    #[arg(long)]
    skip_corrupt: bool,
    /// Use only the first N images of each class, by name.
    #[arg(long, value_name = "N", value_parser = positive)]
    limit_per_class: Option<usize>,
}

fn format_help() -> String {
    let [others @ .., last] = report::Format::ALL.map(report::Format::as_str);
    format!(
        "How to write the report: {} or {last}, to standard output; NAME=FILE writes to a file. May be given several times",
        others.join(", ")
    )
}

pub fn run(arguments: &Arguments, reproduce: &Reproduce, common: &Common) -> anyhow::Result<u8> {
    let subject = Subject::of(arguments)?;
    // What is cheap to get wrong comes first.
    let settings = arguments.settings()?;
    let policies = arguments.policies(&settings)?;
    let out = match (&arguments.out, &subject) {
        (Some(out), _) => Some(out.as_path()),
        (None, Subject::Model(_)) => Some(Path::new(OUT)),
        (None, _) => None,
    };
    let written = arguments.baseline.as_deref().filter(|_| arguments.write_baseline);
    ensure!(
        written.is_some() || !arguments.write_baseline,
        "--write-baseline: received no file to write to, allowed with --baseline FILE"
    );
    output::check(&arguments.format, &arguments.inputs(), written, out)?;
    let known = match &arguments.baseline {
        // One that is to be written may be new, but not something else.
        Some(file) if arguments.write_baseline && !file.exists() => None,
        Some(file) => Some(read_baseline(file)?),
        None => None,
    };
    let Judged { mut report, mut outcome, shown } = subject.judge(arguments, &settings, &policies, out, common)?;

    let stale = policies.lint_level(Code::StaleBaseline)?;
    let mut failed = Vec::new();
    let fresh = written.map(|file| {
        let baseline = Baseline::of(&outcome, file.display().to_string());
        match &known {
            Some(old) => (file, baseline.keeping(old, &outcome)),
            None => (file, baseline),
        }
    });
    if let Some(baseline) = fresh.as_ref().map(|(_, b)| b).or(known.as_ref()) {
        baseline.apply(&mut outcome, stale);
    }
    let is_model = matches!(subject, Subject::Model(_));
    report.judge(&outcome, |unit| Some(reproduce.of(unit, is_model)));
    let report = report.finish();

    if let Some((file, baseline)) = &fresh {
        failed.extend(baseline.save(file).map_err(anyhow::Error::from).err());
    }
    let mut notes = Vec::new();
    if let Some(folder) = out {
        let saved = match &shown {
            Some((exemplars, images)) => report.save(folder, exemplars, images),
            None => report::write_all(&report, folder, &|_| None),
        };
        failed.extend(saved.map_err(anyhow::Error::from).err());
        notes.push(format!("report: {}", folder.join("report.md").display()));
    }
    let denied = report.denied;
    failed.extend(output::write(&report.without_pictures(), &arguments.format, common));
    match failed.len() {
        0 => {}
        1 => return Err(failed.remove(0)),
        n => {
            let all: Vec<String> = failed.iter().map(|e| format!("\n- {e:#}")).collect();
            bail!("{n} failures:{}", all.concat());
        }
    }
    if !common.quiet {
        if let Some((file, baseline)) = &fresh {
            let findings = if baseline.len() == 1 { "finding" } else { "findings" };
            notes.push(format!("baseline: {} {findings} in {}", baseline.len(), file.display()));
        }
        notes.iter().for_each(|note| output::note(note));
    }
    Ok(if denied { exit::DENIED } else { exit::CLEAN })
}

/// The baseline, or how to make one.
fn read_baseline(file: &Path) -> anyhow::Result<Baseline> {
    match Baseline::read(file) {
        Err(error @ tch_audit::Error::Io { .. }) => {
            Err(anyhow::Error::new(error).context("--baseline (--write-baseline makes the file)"))
        }
        other => Ok(other?),
    }
}

impl Arguments {
    /// The files that are read, beside images.
    fn inputs(&self) -> Vec<&Path> {
        let one = [&self.model, &self.descriptions, &self.config, &self.classes].into_iter().flatten();
        one.chain(&self.policies).map(PathBuf::as_path).collect()
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let audit = &self.audit;
        let mut options = painted::Options::default();
        (options.seed, options.batch_size) = (audit.seed, audit.batch_size);
        let painted = Painted::new(paint::bank(), options)?;
        let mut settings = Settings::default();
        settings.sites.clone_from(&audit.sites);
        settings.exemplars.k = audit.k;
        settings.exemplars.batch_size = audit.batch_size;
        settings.exemplars.seed = audit.seed;
        settings.today = self.today.unwrap_or(settings.today);
        settings.describer = self.describing.describer(&painted)?;
        settings.sources = self.describing.sources(&painted)?;
        Ok(settings)
    }

    fn policies(&self, settings: &Settings) -> anyhow::Result<Policies> {
        let built_in = ConceptName::built_in();
        let others = settings.sources.iter().flat_map(|source| source.concepts());
        let others = others.filter(|other| !built_in.iter().any(|own| own.name == other.name));
        let loader = Loader::new().concepts(built_in.iter().chain(others));
        let mut policies =
            if self.policies.is_empty() { loader.shipped()? } else { loader.load_all(&self.policies)? };
        let mut levels = BTreeMap::new();
        for (names, level, flag) in self.levels() {
            for name in names {
                if let Some((_, other)) = levels.insert(name.as_str(), (level, flag)).filter(|(l, _)| *l != level) {
                    bail!("`{name}`: received both {other} and {flag}, allowed one");
                }
            }
        }
        policies.set_levels(levels.into_iter().map(|(name, (level, _))| (name, level)))?;
        Ok(policies)
    }

    fn levels(&self) -> [(&Vec<String>, Level, &'static str); 3] {
        [(&self.allow, Level::Allow, "-A"), (&self.warn, Level::Warn, "-W"), (&self.deny, Level::Deny, "-D")]
    }
}
