//! What an audit found, as one plain value, and the ways to show it.
//!
//! A [`Report`] is built by whoever ran the stages, put in order by [`Report::finish`], and shown by the renderers below.
//! They are pure: the same report gives the same bytes, and nothing but the report is looked at. Everything that depends on
//! the clock is given, and in [`Report::run`], the last object; JSON shows it last, the terminal shows the total, CSV and Markdown leave it out.
//!
//! | file | renderer | for |
//! |---|---|---|
//! | `report.json` | [`json`] | programs: everything, in one versioned schema |
//! | `neurons.csv` | [`csv`] | spreadsheets: one row per unit |
//! | `report.md` | [`markdown`] | readers: verdict, findings with pictures, what the edit did |
//! | standard output | [`terminal`] | whoever is waiting |
//! | as asked for | [`jsonl`] | scripts: one JSON object per line |
//! | as asked for | [`sarif`] | GitHub code scanning and editors: SARIF 2.1.0 |
//! | as asked for | [`junit`] | test tabs of CI systems: a case per site and policy |
//! | as asked for | [`github`] | annotations in the log of a GitHub workflow |
//!
//! [`Format`] names them all and picks one by name.
//!
//! Text from outside (file names, class names, descriptions, reasons) is kept as it is in the report and escaped by each
//! renderer for its format.

mod assemble;
mod audit;
pub mod csv;
mod edit;
mod escape;
mod files;
mod format;
pub mod github;
pub mod json;
pub mod jsonl;
pub mod junit;
pub mod markdown;
pub mod picture;
pub mod sarif;
mod tables;
pub mod terminal;

pub use audit::{
    Counts, ExemplarEntry, InputFormat, ModelAccuracy, ModelInfo, Origin, ProbeInfo, Run, Settings, SiteInfo,
    SkippedImage, Stage, Tool, UnitEntry,
};
pub use edit::{Control, EditReport, Evaluation, Gap, HistoryEntry, LeftOut, NamedAccuracy, SweepAccuracy, SweepPoint};
pub use files::{FILES, check_writable, write_all};
pub use format::Format;

use crate::UnitId;
use crate::describe::Status;
use crate::graph::Coverage;
use crate::policy::{Finding, Level, Notice, PolicySummary, Standing, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the schema that this crate writes, and the only one it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that an audit found.
///
/// Numbers must be finite: [`json`] refuses others. Make one with `Report { model, ..Report::default() }`, then
/// [`finish`](Self::finish).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "A report of tch-audit")]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// What made the report.
    pub tool: Tool,
    /// Whether a policy of level `deny` is violated or a notice has that level; set by [`finish`](Self::finish).
    pub denied: bool,
    /// The verdict in one line, as the terminal shows it last; set by [`finish`](Self::finish).
    pub verdict: String,
    /// What was judged: a model, or descriptions of one.
    pub origin: Origin,
    /// The model.
    pub model: ModelInfo,
    /// The images that the units were shown.
    pub probe: ProbeInfo,
    /// What else the results depend on.
    pub settings: Settings,
    /// How often the model is right on a labelled probe.
    pub accuracy: Option<ModelAccuracy>,
    /// Of a model without [`accuracy`](Self::accuracy): why it could not be measured, and what to do.
    #[serde(default)]
    pub accuracy_missing: Option<String>,
    /// How much of the model was audited; none of descriptions that another tool made.
    #[serde(default)]
    pub coverage: Option<Coverage>,
    /// How many units there are of each kind; set by [`finish`](Self::finish).
    pub counts: Counts,
    /// One per policy, by name.
    pub policies: Vec<PolicySummary>,
    /// By policy, then unit.
    pub findings: Vec<Finding>,
    /// What is to be known about the policies themselves; by code.
    pub notices: Vec<Notice>,
    /// What was done about the findings, and what that did.
    pub edit: Option<EditReport>,
    /// Audits during training, oldest first.
    pub history: Vec<HistoryEntry>,
    /// Every audited unit, by id.
    pub units: Vec<UnitEntry>,
    /// Date and timings: the only part that differs between equal runs, and the last.
    pub run: Run,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            tool: Tool::default(),
            denied: false,
            verdict: String::new(),
            origin: Origin::default(),
            model: ModelInfo::default(),
            probe: ProbeInfo::default(),
            settings: Settings::default(),
            accuracy: None,
            accuracy_missing: None,
            coverage: None,
            counts: Counts::default(),
            policies: Vec::new(),
            findings: Vec::new(),
            notices: Vec::new(),
            edit: None,
            history: Vec::new(),
            units: Vec::new(),
            run: Run::default(),
        }
    }
}

impl Report {
    /// Sorts what has no order of its own, counts the units and states the verdict. Finishing twice changes nothing.
    ///
    /// Orders that mean something are kept: flagged and chosen units (strongest first), sweep, evaluations, exemplars,
    /// history, stages.
    #[must_use]
    pub fn finish(mut self) -> Self {
        self.probe.skipped.sort();
        self.policies.sort_by(|a, b| a.name.cmp(&b.name));
        self.findings.sort_by(|a, b| (&a.policy, &a.unit).cmp(&(&b.policy, &b.unit)));
        self.notices.sort();
        self.units.sort_by(|a, b| a.id.cmp(&b.id));
        for unit in &mut self.units {
            if unit.picture.is_some() {
                unit.picture = Some(picture::path(&unit.id));
            }
        }
        if let Some(edit) = &mut self.edit {
            edit.coupled.sort();
            edit.left_out.sort_by(|a, b| a.unit.cmp(&b.unit));
        }
        self.counts = Counts::of(&self.units);
        let by_notice = self.notices.iter().any(|n| n.level == Level::Deny);
        self.denied = by_notice || self.violated(Level::Deny).next().is_some();
        self.verdict = self.verdict_line();
        self
    }

    /// The violated policies of a level, by name.
    pub fn violated(&self, level: Level) -> impl Iterator<Item = &PolicySummary> {
        self.policies.iter().filter(move |p| p.level == level && p.verdict == Verdict::Violated)
    }

    /// The entry of a unit, in `O(log units)`; the report must be finished.
    pub fn unit(&self, id: &UnitId) -> Option<&UnitEntry> {
        self.units.binary_search_by(|u| u.id.cmp(id)).ok().and_then(|i| self.units.get(i))
    }

    /// How grave a finding is as things stand: the level of its policy, or `allow` where the policy tolerates it or it is
    /// waived or known.
    pub fn gravity(&self, finding: &Finding) -> Level {
        let policy = self.policies.binary_search_by(|p| p.name.as_str().cmp(&finding.policy)).ok();
        let violated = policy.and_then(|i| self.policies.get(i)).is_some_and(|p| p.verdict == Verdict::Violated);
        if violated && finding.standing == Standing::New { finding.level } else { Level::Allow }
    }

    /// The names of the policies that flag each unit, by name; policies of level `allow` flag nothing, and waived findings
    /// are left out.
    pub fn flagged_by(&self) -> BTreeMap<&UnitId, Vec<&str>> {
        let mut by = BTreeMap::<&UnitId, Vec<&str>>::new();
        for finding in self.findings.iter().filter(|f| f.counts()) {
            let policies = by.entry(&finding.unit).or_default();
            if !policies.contains(&finding.policy.as_str()) {
                policies.push(&finding.policy);
            }
        }
        by
    }

    /// What violates the policies of a level: `4 units violate text, 1 faces`; notices that deny among them.
    pub(crate) fn violations(&self, level: Level) -> Option<String> {
        let mut parts: Vec<String> = self
            .violated(level)
            .enumerate()
            .map(|(i, p)| match (i, p.findings - p.known.min(p.findings)) {
                (0, 1) => format!("1 unit violates {}", p.name),
                (0, n) => format!("{} units violate {}", thousands(n as u64), p.name),
                (_, n) => format!("{} {}", thousands(n as u64), p.name),
            })
            .collect();
        let mut codes = BTreeMap::<&str, usize>::new();
        for notice in self.notices.iter().filter(|n| n.level == level) {
            *codes.entry(notice.code.as_str()).or_default() += 1;
        }
        // Warnings about policies are listed; only those that fail the run are part of the verdict.
        if level == Level::Deny {
            parts.extend(codes.iter().map(|(code, n)| format!("{n} {code}")));
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn verdict_line(&self) -> String {
        let unjudged =
            self.policies.iter().filter(|p| p.verdict == Verdict::Unjudged && p.level != Level::Allow).count();
        let judged = self.policies.iter().filter(|p| p.verdict != Verdict::Unjudged && p.level != Level::Allow).count();
        let policies = |n| plural(n, "policy", "policies");
        let mut after = String::new();
        if unjudged > 0 && judged > 0 {
            after = format!("; {unjudged} not judged");
        }
        let (known, waived) = self
            .policies
            .iter()
            .filter(|p| p.level != Level::Allow)
            .fold((0_usize, 0_usize), |(k, w), p| (k.saturating_add(p.known), w.saturating_add(p.waived)));
        for (n, what) in [(known, "known"), (waived, "waived")] {
            if n > 0 {
                after += &format!("; {n} {what}");
            }
        }
        // What was not looked at is never called clean.
        if let Some(n) = self.coverage.as_ref().map(|c| c.unaudited.len()).filter(|n| *n > 0) {
            after += &format!("; {} cannot be audited", plural(n, "layer", "layers"));
        }
        match self.edit.as_ref().map(|e| e.chosen.len()) {
            None => {}
            Some(0) => after += "; none zeroed",
            Some(n) => after += &format!("; {n} zeroed"),
        }
        match (self.violations(Level::Deny), self.violations(Level::Warn)) {
            (Some(deny), Some(warn)) => format!("denied: {deny}; warned: {warn}{after}"),
            (Some(deny), None) => format!("denied: {deny}{after}"),
            (None, Some(warn)) => format!("warned: {warn}{after}"),
            (None, None) if self.policies.is_empty() => "not judged: there are no policies".to_string(),
            (None, None) if judged == 0 && unjudged == 0 => format!("not judged: every policy allows{after}"),
            (None, None) if judged == 0 => format!("not judged: no unit could match {}{after}", policies(unjudged)),
            (None, None) => {
                format!("clean: {} hold to {}{after}", plural(self.counts.units, "unit", "units"), policies(judged))
            }
        }
    }
}

impl Counts {
    fn of(units: &[UnitEntry]) -> Self {
        let mut texts = BTreeMap::<&str, usize>::new();
        let count = |status| units.iter().filter(|u| u.description.status == status).count();
        for unit in units.iter().filter(|u| u.description.status == Status::Described) {
            *texts.entry(&unit.description.text).or_default() += 1;
        }
        Self {
            units: units.len(),
            described: count(Status::Described),
            abstained: count(Status::Abstained),
            dead: count(Status::Dead),
            distinct_descriptions: texts.len(),
            sharing_a_description: texts.values().filter(|&&n| n > 1).sum(),
        }
    }
}

/// `1 unit`, `2 units`, `1,234 units`.
fn plural(n: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(n as u64), if n == 1 { one } else { many })
}

/// `1,234,567`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With a capital letter.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
