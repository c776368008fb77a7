//! What is judged: a model, a finished report, a table of descriptions.

use super::Arguments;
use crate::output::quoted;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::Read;
use std::path::Path;
use tch_audit::audit::{Audit, Settings};
use tch_audit::diagnostic::Source;
use tch_audit::exemplars::Exemplars;
use tch_audit::policy::{Outcome, Policies, check};
use tch_audit::probe::{Corrupt, ImageFolder, Probe};
use tch_audit::report::{self, ModelInfo, Report};
use tch_audit::{Model, UnitId, describe};

/// How large a report may be, in bytes.
const REPORT_LIMIT: u64 = 1 << 30;

/// What is to be judged.
pub enum Subject<'a> {
    Model(&'a Path),
    Report(&'a Path),
    Descriptions(&'a Path),
}

/// What was judged; the report is neither judged nor finished yet.
pub struct Judged {
    pub report: Report,
    pub outcome: Outcome,
    /// What a model was shown, and what excited its units.
    pub shown: Option<(Exemplars, Probe)>,
    pub command: Command,
}

/// How to see a finding again.
pub struct Command {
    words: String,
    /// A model need only be looked at where the unit is.
    by_site: bool,
}

impl Command {
    /// The command line that finds what was found about a unit.
    pub fn of(&self, unit: &UnitId) -> String {
        if self.by_site { format!("{} --sites {}", self.words, quoted(&unit.site)) } else { self.words.clone() }
    }
}

impl<'a> Subject<'a> {
    pub fn of(arguments: &'a Arguments) -> anyhow::Result<Self> {
        if let Some(file) = &arguments.descriptions {
            return Ok(Subject::Descriptions(file));
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
    ) -> anyhow::Result<Judged> {
        let read = |report, outcome, subject: Vec<String>| Judged {
            report,
            outcome,
            shown: None,
            command: Command { words: arguments.command(subject).join(" "), by_site: false },
        };
        match self {
            Subject::Model(path) => model(path, arguments, settings, policies, out),
            Subject::Report(file) => {
                let report = report::json::read(&Source::read(file, REPORT_LIMIT)?)?.without_pictures();
                let mut outcome = check(policies, &report.described_units(), settings.today);
                if let Some(sayings) = &report.settings.sayings {
                    outcome.hold_to(sayings, policies);
                }
                Ok(read(report, outcome, vec![quoted(&file.to_string_lossy())]))
            }
            Subject::Descriptions(file) => {
                let units = describe::read_table(file)?;
                let outcome = check(policies, &units, settings.today);
                let report = Report::of_descriptions(&units, &file.to_string_lossy());
                Ok(read(report, outcome, vec!["--descriptions".to_string(), quoted(&file.to_string_lossy())]))
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
) -> anyhow::Result<Judged> {
    let Some(probe) = &arguments.probe else {
        bail!(
            "{} is a model and there are no images to show it: give --probe DIR (or, to judge descriptions that you \
             have, --descriptions FILE.csv)",
            path.display()
        );
    };
    let preprocess = arguments.audit.input.preprocess()?;
    let model = Model::load(path)?;
    let corrupt = if arguments.audit.skip_corrupt { Corrupt::Skip } else { Corrupt::Fatal };
    let mut folder = ImageFolder::open(probe).preprocess(preprocess).corrupt(corrupt);
    if let Some(n) = arguments.audit.limit_per_class {
        folder = folder.limit_per_class(n);
    }
    let images = folder.load()?;
    let made = out.filter(|out| !out.exists());
    if let Some(out) = out {
        report::check_writable(out)?;
    }
    let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let audit = Audit::run(&model, &images, settings, policies)
        .inspect_err(|_| {
            // A folder that was made for nothing; one that has something in it stays.
            let _ = made.map(fs::remove_dir);
        })
        .with_context(|| format!("cannot judge {}", path.display()))?;
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let info = ModelInfo { name, parameters: model.parameter_count(), ..ModelInfo::default() };
    let report = Report::of(&audit, info, (&images).into(), settings, date);
    let mut words = arguments.command(vec![quoted(&path.to_string_lossy())]);
    words.extend(["--probe".to_string(), quoted(&probe.to_string_lossy())]);
    words.extend(arguments.audit.command());
    words.extend(arguments.describing.flags(quoted));
    let command = Command { words: words.join(" "), by_site: true };
    Ok(Judged { report, outcome: audit.outcome, shown: Some((audit.exemplars, images)), command })
}

impl Arguments {
    /// The command with what decides about findings: the subject, the policies and their levels, but not the baseline.
    fn command(&self, subject: Vec<String>) -> Vec<String> {
        let mut words = vec!["tch-audit".to_string(), "check".to_string()];
        words.extend(subject);
        for path in &self.policies {
            words.extend(["--policies".to_string(), quoted(&path.to_string_lossy())]);
        }
        for (names, _, flag) in self.levels() {
            words.extend(names.iter().flat_map(|name| [flag.to_string(), quoted(name)]));
        }
        if let Some(today) = self.today {
            words.extend(["--today".to_string(), today.to_string()]);
        }
        words
    }
}

impl super::AuditArguments {
    /// What differs from the defaults.
    fn command(&self) -> Vec<String> {
        let mut words = self.input.command();
        for (flag, value, default) in [("--k", self.k, 15), ("--batch-size", self.batch_size, 64)] {
            if value != default {
                words.extend([flag.to_string(), value.to_string()]);
            }
        }
        if self.seed != 0 {
            words.extend(["--seed".to_string(), self.seed.to_string()]);
        }
        words.extend(self.skip_corrupt.then(|| "--skip-corrupt".to_string()));
        words.extend(self.limit_per_class.into_iter().flat_map(|n| ["--limit-per-class".to_string(), n.to_string()]));
        words
    }
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
