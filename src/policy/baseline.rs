//! What was found before: known findings fail nothing, so that a gate can be put before a network that is not clean.

use super::finding::fingerprint;
use super::{Code, Level, Location, Notice, Outcome, Standing};
use crate::diagnostic::{Fault, Source};
use crate::{Result, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

/// The version of the file that this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;
/// How large the file may be, in bytes.
const LIMIT: u64 = 1 << 28;

/// Findings that are known, by [fingerprint](super::Finding::fingerprint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    file: String,
    entries: Vec<Entry>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Baseline", title = "A baseline of tch-audit")]
pub struct File {
    /// [`VERSION`].
    pub baseline: u32,
    /// By policy, site and unit; each once.
    pub findings: Vec<Entry>,
}

/// One known finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KnownFinding")]
pub struct Entry {
    /// The policy's name.
    pub policy: String,
    /// The site.
    pub site: String,
    /// The unit.
    pub unit: usize,
    /// What it was described as, for whoever reads the file; not compared.
    pub description: String,
    /// [`Finding::fingerprint`](super::Finding::fingerprint) of policy, site and unit.
    pub fingerprint: String,
}

/// The JSON schema (draft 2020-12) of the file, as published in the folder `schemas` of the source.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(File).to_value()
}

impl Baseline {
    /// Everything that `outcome` found and that counts: findings of level `allow` and waived ones are left out. `file` is
    /// what messages call it.
    pub fn of(outcome: &Outcome, file: impl Into<String>) -> Self {
        let found = outcome.findings.iter().filter(|f| f.counts());
        let mut entries: Vec<Entry> = found
            .map(|f| Entry {
                policy: f.policy.clone(),
                site: f.unit.site.clone(),
                unit: f.unit.unit,
                description: f.description.clone(),
                fingerprint: f.fingerprint.clone(),
            })
            .collect();
        entries.sort_by(|a, b| (&a.policy, &a.site, a.unit).cmp(&(&b.policy, &b.site, b.unit)));
        entries.dedup_by(|a, b| a.fingerprint == b.fingerprint);
        Self { file: file.into(), entries }
    }

    /// Adds what `old` says of policies that `outcome` did not hold, or only allowed: about them nothing new is known.
    #[must_use]
    pub fn keeping(mut self, old: &Baseline, outcome: &Outcome) -> Self {
        let held = |e: &&Entry| outcome.policies.iter().any(|p| p.name == e.policy && p.level != Level::Allow);
        self.entries.extend(old.entries.iter().filter(|e| !held(e)).cloned());
        self.entries.sort_by(|a, b| (&a.policy, &a.site, a.unit).cmp(&(&b.policy, &b.site, b.unit)));
        self
    }

    /// Reads a baseline.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), and [`Error::Faults`](crate::Error::Faults) when it is no baseline of version
    /// [`VERSION`], a fingerprint is wrong or a finding stands in it twice.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::parse(Source::read(path.as_ref(), LIMIT)?)
    }

    /// Reads a baseline from memory.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(source: Source) -> Result<Self> {
        let file: File = source.json()?;
        if file.baseline != VERSION {
            let at = source.text.find("\"baseline\"").unwrap_or(0);
            let message = format!("the baseline has version {}", file.baseline);
            let fault = Fault::new(Code::UnknownValue, at..at + "\"baseline\"".len(), message);
            return Err(source.refuse(&[fault.expected(VERSION.to_string())]));
        }
        let (mut seen, mut faults) = (BTreeSet::new(), Vec::new());
        // In a string the closing quote would have a backslash before it.
        let mut keys = source.text.match_indices("\"fingerprint\"");
        for entry in &file.findings {
            let key = keys.next().map_or(0, |(at, _)| at);
            let value = source.text.get(key..).and_then(|rest| rest.find(&entry.fingerprint));
            let span = match value.filter(|_| !entry.fingerprint.is_empty()) {
                Some(value) => key + value..key + value + entry.fingerprint.len(),
                None => key..key + "\"fingerprint\"".len(),
            };
            let id = UnitId::new(&entry.site, entry.unit);
            if entry.fingerprint != fingerprint(&entry.policy, &id) {
                let message = format!("this is not the fingerprint of {id} under policy `{}`", entry.policy);
                let expected = "the fingerprint that `--write-baseline` writes";
                faults.push(Fault::new(Code::WrongFingerprint, span, message).expected(expected));
            } else if !seen.insert(&entry.fingerprint) {
                let message = format!("{id} stands twice under policy `{}`", entry.policy);
                faults.push(Fault::new(Code::DuplicateRow, span, message).expected("every finding once"));
            }
        }
        if faults.is_empty() {
            Ok(Self { file: source.file, entries: file.findings })
        } else {
            Err(source.refuse(&faults))
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, &File { baseline: VERSION, findings: self.entries.clone() })?;
        out.write_all(b"\n")
    }

    /// Writes the file whole or not at all. What a link names is written, and a pipe or device as it is.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with the path.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::files::save(path.as_ref(), |out| self.write(out))
    }

    /// How many findings it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Marks the findings of `outcome` that it has as known, and draws the verdicts anew: a policy is violated if its
    /// findings exceed its limits *and* one of them is new. Entries that no finding has any more become a notice of level
    /// `stale`, unless that is `allow`; entries of policies that were not held are left alone.
    pub fn apply(&self, outcome: &mut Outcome, stale: Level) {
        let mut left: BTreeMap<&str, &Entry> = self.entries.iter().map(|e| (e.fingerprint.as_str(), e)).collect();
        for finding in &mut outcome.findings {
            if left.remove(finding.fingerprint.as_str()).is_some() && finding.standing == Standing::New {
                finding.standing = Standing::Known;
            }
        }
        outcome.settle();
        let held = |entry: &&&Entry| outcome.policies.iter().any(|p| p.name == entry.policy && p.level != Level::Allow);
        let gone: Vec<&&Entry> = left.values().filter(held).collect();
        if let (Some(first), true) = (gone.first(), stale != Level::Allow) {
            let others = match gone.len() - 1 {
                0 => "is".to_string(),
                n => format!("and {n} more are"),
            };
            let unit = UnitId::new(&first.site, first.unit);
            outcome.notices.push(Notice {
                code: Code::StaleBaseline,
                level: stale,
                policy: None,
                message: format!("{unit} under policy `{}` {others} not found any more", first.policy),
                location: Location { file: self.file.clone(), line: 1, column: 1 },
            });
        }
    }
}
