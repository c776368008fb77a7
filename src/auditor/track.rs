//! One network under an auditor: its log, its last audit, and its folder.

use super::builder::{Resume, Setup};
use super::log::Log;
use super::{folder, state};
use crate::audit::{Audit, Leftovers};
use crate::evaluate;
use crate::report::{EditReport, HistoryEntry, ModelInfo, NamedAccuracy, Report, Stage, check_writable};
use crate::{Result, Traced};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Track {
    name: String,
    folder: Option<PathBuf>,
    pub log: Log,
    judged: Option<Judged>,
    /// What the audits so far said of the units.
    leftovers: Leftovers,
    /// The pictures that were written last.
    pictures: BTreeSet<String>,
}

/// An audit of some weights.
#[derive(Debug)]
pub(super) struct Judged {
    /// Which weights.
    fingerprint: String,
    pub audit: Audit,
    accuracies: Vec<NamedAccuracy>,
    report: Report,
}

/// What was done about the findings of an audit.
pub(super) struct Edit {
    pub report: EditReport,
    pub seconds: f64,
}

impl Track {
    /// What is known of the network called `name`: nothing, unless a training is resumed.
    pub fn open(setup: &Setup, name: &str) -> Result<Self> {
        let folder = setup.reports.as_ref().map(|reports| match name == setup.name {
            true => reports.clone(),
            false => reports.join(folder::safe(name)),
        });
        let mut log = Log::default();
        if let Some(folder) = &folder {
            check_writable(folder)?;
            let at = match setup.resume {
                Resume::No => None,
                Resume::Newest => Some(None),
                Resume::At(epoch) => Some(Some(epoch)),
            };
            if let Some(at) = at
                && let Some(saved) = state::read(folder)?
            {
                log = saved;
                log.resume(at);
            }
        }
        let (judged, leftovers, pictures) = (None, Leftovers::in_training(), BTreeSet::new());
        Ok(Self { name: name.to_string(), folder, log, judged, leftovers, pictures })
    }

    /// Audits the network, unless the last audit was of these very weights, and writes that down. Returns what the audit
    /// found, to be [published](Self::publish), and whether it ran.
    pub fn judge(&mut self, setup: &Setup, traced: &Traced<'_>) -> Result<(Judged, bool)> {
        let fingerprint = traced.fingerprint()?;
        let known = self.judged.take_if(|judged| judged.fingerprint == fingerprint);
        let audited = known.is_none();
        let judged = match known {
            Some(known) => known,
            None => Judged::new(setup, &self.name, traced, fingerprint, &mut self.leftovers)?,
        };
        if let Some(entry) = self.log.record(&judged.audit, &judged.accuracies, audited) {
            tracing::info!(target: "tch_audit", "{}", line(entry));
        }
        Ok((judged, audited))
    }

    /// Writes the report, with the history as it is now and what was done about the findings, and everything else into
    /// the folder; keeps the audit.
    pub fn publish(&mut self, setup: &Setup, judged: Judged, edit: Option<Edit>) -> Result<Arc<Report>> {
        let mut report = Report { history: self.log.history.clone(), ..judged.report.clone() };
        if let Some(Edit { report: edit, seconds }) = edit {
            report.edit = Some(edit);
            report.run.stages.push(Stage { name: "edit".to_string(), seconds });
        }
        let report = Arc::new(report.finish());
        let judged = self.judged.insert(judged);
        if let Some(folder) = &self.folder {
            report.save(folder, &judged.audit.exemplars, &setup.probe)?;
            let pictures = report.units.iter().filter_map(|u| u.picture.clone()).collect();
            folder::remove(folder, self.pictures.difference(&pictures))?;
            self.pictures = pictures;
        }
        self.save()?;
        Ok(report)
    }

    /// The network was edited: what was said of its units may be about others now.
    pub fn edited(&mut self) {
        self.leftovers.forget();
    }

    /// Writes what a resumed training needs.
    pub fn save(&self) -> Result<()> {
        self.folder.as_ref().map_or(Ok(()), |folder| state::write(folder, &self.log))
    }
}

impl Judged {
    fn new(
        setup: &Setup,
        name: &str,
        traced: &Traced<'_>,
        fingerprint: String,
        leftovers: &mut Leftovers,
    ) -> Result<Self> {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let audit = Audit::going_on(traced, &setup.probe, &setup.settings, &setup.policies, leftovers)?;
        let mut accuracies = Vec::new();
        for evaluation in &setup.evaluations {
            let right = evaluate::correct(traced, &[], &evaluation.validation)?;
            accuracies.push(NamedAccuracy { name: evaluation.name.clone(), accuracy: evaluate::count(&right) });
        }
        let (name, parameters) = (name.to_string(), traced.model().parameter_count());
        let model = ModelInfo { name, parameters, ..ModelInfo::default() };
        let mut report = Report::of(&audit, model, &setup.probe, &setup.settings, date);
        report.judge(&audit.outcome, |_| None);
        Ok(Self { fingerprint, audit, accuracies, report })
    }
}

fn line(entry: &HistoryEntry) -> String {
    let mut line = format!(
        "audit after epoch {}, step {}: {} described, {} not, {} dead; {} flagged",
        entry.epoch, entry.step, entry.described, entry.abstained, entry.dead, entry.flagged
    );
    for e in &entry.evaluations {
        line.push_str(&format!("; {} {:.1} %", e.name, 100.0 * e.accuracy.rate()));
    }
    line
}
