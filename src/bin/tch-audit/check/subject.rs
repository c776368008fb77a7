//! What is judged: a model, a finished report, a table of descriptions.

use super::Arguments;
use super::study::Study;
use crate::{Common, photos};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::Read;
use std::path::Path;
use tch_audit::audit::Settings;
use tch_audit::describe;
use tch_audit::diagnostic::Source;
use tch_audit::exemplars::Held;
use tch_audit::policy::{Code, Outcome, Policies, check};
use tch_audit::probe::{ImageStream, example};
use tch_audit::report::{self, ModelInfo, Report};

/// How large a report may be, in bytes.
const REPORT_LIMIT: u64 = 1 << 30;

/// What is to be judged.
pub enum Subject<'a> {
    Model(&'a Path),
    Report(&'a Path),
    /// With the layer that all of them are about, if the table does not say it.
    Descriptions(&'a Path, Option<&'a str>),
}

/// What was judged; the report is neither judged nor finished yet.
pub struct Judged {
    pub report: Report,
    pub outcome: Outcome,
    /// What a model was shown, and what excited its units.
    pub shown: Option<(Held, ImageStream)>,
}

impl<'a> Subject<'a> {
    pub fn of(arguments: &'a Arguments) -> anyhow::Result<Self> {
        if let Some(file) = &arguments.descriptions {
            return Ok(Subject::Descriptions(file, arguments.layer.as_deref()));
        }
        let Some(path) = &arguments.model else {
            bail!("nothing to judge: give a TorchScript model, a report.json, or --descriptions FILE.csv");
        };
        let named = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
        for (extension, what, flag) in [
            ("csv", "a table", "--descriptions"),
            ("tsv", "a table", "--descriptions"),
            ("toml", "a policy", "--policies"),
        ] {
            let path = path.display();
            ensure!(!named(extension), "{path} is {what}, not a model: give it as {flag} {path}");
        }
        Ok(if named("json") || begins_as_json(path)? { Subject::Report(path) } else { Subject::Model(path) })
    }

    pub fn judge(
        &self,
        arguments: &Arguments,
        settings: &Settings,
        policies: &Policies,
        out: Option<&Path>,
        common: &Common,
    ) -> anyhow::Result<Judged> {
        match self {
            Subject::Model(path) => model(path, arguments, settings, policies, out, common),
            Subject::Report(file) => {
                let report = report::json::read(&Source::read(file, REPORT_LIMIT)?)?.without_pictures();
                let mut outcome = check(policies, &report.described_units(), settings.today);
                if let Some(sayings) = &report.settings.sayings {
                    outcome.hold_to(sayings, policies);
                }
                if let Some(coverage) = &report.coverage {
                    outcome.hold_to_coverage(coverage, policies, &report.model.name);
                }
                if let Some(training) = &report.model.training {
                    outcome.say_of_model(policies, Code::TrainingMode, training, &report.model.name);
                }
                Ok(Judged { report, outcome, shown: None })
            }
            Subject::Descriptions(file, layer) => {
                let units = match layer {
                    Some(layer) => describe::read_table_of(file, layer)?,
                    None => describe::read_table(file)?,
                };
                let outcome = check(policies, &units, settings.today);
                let report = Report::of_descriptions(&units, &file.to_string_lossy());
                Ok(Judged { report, outcome, shown: None })
            }
        }
    }
}

fn model(
    path: &Path,
    arguments: &Arguments,
    settings: &Settings,
    policies: &Policies,
    out: Option<&Path>,
    common: &Common,
) -> anyhow::Result<Judged> {
    let Some(folder) = &arguments.probe else {
        bail!(
            "{} is a model and there are no images to show it: give --probe DIR (or, to judge descriptions that you \
             have, --descriptions FILE.csv)",
            path.display()
        );
    };
    let Some(out) = out else { bail!("a model is judged into a folder: give --out DIR") };
    let input = &arguments.audit.input;
    let model = input.load(path, arguments.audit.batch_size)?;
    let images = arguments.audit.images(folder, arguments.classes.as_deref())?;
    report::check_writable(out)?;
    let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let cannot = || format!("cannot judge {}", path.display());
    let traced = input.trace(&model, &example(&images, 1)?, common).with_context(cannot)?;
    photos::check_list(arguments.classes.as_deref(), &traced, &images)?;
    let study = Study { arguments, settings, policies, out, common };
    let audit = study.audit(&traced, &images).with_context(cannot)?;
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let info = ModelInfo { name, parameters: model.parameter_count(), ..ModelInfo::default() };
    let report = Report::of(&audit, info, &images, settings, date);
    Ok(Judged { report, outcome: audit.outcome, shown: Some((audit.exemplars, images)) })
}

/// Whether the first character of a file is that of a JSON object. TorchScript is a zip archive.
fn begins_as_json(path: &Path) -> anyhow::Result<bool> {
    ensure!(!path.is_dir(), "{} is a folder: give a TorchScript model or a report.json", path.display());
    let mut start = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
    Ok(text.trim_ascii_start().first() == Some(&b'{'))
}
