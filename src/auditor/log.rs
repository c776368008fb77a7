//! What happened to one network so far: counters, history, words, and what is kept at zero.

use super::moment::Moment;
use super::words::Words;
use crate::audit::Audit;
use crate::describe::Status;
use crate::edit::{Slice, Zeroed};
use crate::report::{HistoryEntry, NamedAccuracy};
use crate::{Model, Result, UnitId};
use std::collections::BTreeSet;

/// What is kept at zero from a moment on.
#[derive(Debug)]
pub(super) struct Kept {
    pub since: Moment,
    pub slices: Vec<Zeroed>,
}

/// Everything is in the order in which it happened.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub now: Moment,
    /// The end of each epoch.
    pub ended: Vec<Moment>,
    pub history: Vec<HistoryEntry>,
    pub words: Vec<Words>,
    pub kept: Vec<Kept>,
    /// Where a resumed training stood, until an epoch ends.
    pub resumed: Option<Moment>,
}

impl Log {
    /// Goes on after the last epoch that ended, or with a given one.
    pub fn resume(&mut self, at: Option<u64>) {
        let newest = self.ended.last().map(|m| m.epoch.saturating_add(1));
        if let Some(epoch) = at.into_iter().chain(newest).min() {
            self.rewind(epoch);
        }
        self.resumed = Some(self.now);
    }

    /// Forgets what happened since epoch `epoch` began.
    fn rewind(&mut self, epoch: u64) {
        let ended = self.ended.iter().rposition(|m| m.epoch < epoch).map_or(0, |i| i + 1);
        self.ended.truncate(ended);
        self.now = self.ended.last().copied().unwrap_or_default();
        let step = self.now.step;
        let stays = |m: Moment| m.step < step || m.step == step && m.epoch < epoch;
        self.history.retain(|h| stays(Moment { epoch: h.epoch, step: h.step }));
        self.words.retain(|w| stays(w.at));
        self.kept.retain(|k| stays(k.since));
    }

    /// An epoch has ended. A resumed training may have gone on earlier than it stood.
    pub fn end_epoch(&mut self, epoch: u64) {
        if let Some(stood) = self.resumed.take()
            && epoch <= stood.epoch
        {
            let since = self.now.step.saturating_sub(stood.step);
            self.rewind(epoch);
            self.now.step = self.now.step.saturating_add(since);
        }
        self.now.epoch = epoch;
        if self.ended.last() != Some(&self.now) {
            self.ended.push(self.now);
        }
    }

    /// Writes an audit down. What is written already is replaced when the audit is a `new` one. Returns the entry, unless
    /// there was one of this moment.
    pub fn record(&mut self, audit: &Audit, accuracies: &[NamedAccuracy], new: bool) -> Option<&HistoryEntry> {
        let Moment { epoch, step } = self.now;
        let again = self.history.last().is_some_and(|h| (h.epoch, h.step) == (epoch, step) && h.pruned.is_empty());
        if again && !new {
            return None;
        }
        if again {
            self.history.pop();
            self.words.pop();
        }
        let said = audit.units.iter().map(|u| (&u.id, u.description.text.as_str())).collect();
        let (words, changed) = Words::since(&self.words, said, self.now);
        let flagged = audit.outcome.findings.iter().filter(|f| f.counts()).map(|f| &f.unit);
        let count = |status| audit.units.iter().filter(|u| u.description.status == status).count();
        self.words.push(words);
        self.history.push(HistoryEntry {
            epoch,
            step,
            described: count(Status::Described),
            abstained: count(Status::Abstained),
            dead: count(Status::Dead),
            flagged: flagged.collect::<BTreeSet<_>>().len(),
            changed,
            evaluations: accuracies.to_vec(),
            pruned: Vec::new(),
        });
        self.history.last().filter(|_| !again)
    }

    /// Units have left the network right after the last audit: those of their sites have other numbers now.
    pub fn pruned(&mut self, units: &[UnitId]) {
        if let Some(entry) = self.history.last_mut() {
            entry.pruned.extend_from_slice(units);
        }
        self.words.push(Words::none(self.now));
    }

    /// What is kept at zero.
    pub fn zeroed(&self) -> &[Zeroed] {
        self.kept.last().map_or(&[], |k| &k.slices)
    }

    /// The same, once `gone` has left the parameters.
    pub fn zeroed_without(&self, gone: &[Slice]) -> Result<Vec<Zeroed>> {
        self.zeroed().iter().filter_map(|z| z.without(gone).transpose()).collect()
    }

    /// These are kept at zero from now on.
    pub fn keep(&mut self, slices: Vec<Zeroed>) {
        if !slices.is_empty() || !self.zeroed().is_empty() {
            self.kept.push(Kept { since: self.now, slices });
        }
    }

    /// Sets what is kept at zero to 0 again.
    pub fn enforce(&self, model: &Model<'_>) -> Result<()> {
        self.zeroed().iter().try_for_each(|z| z.enforce(model))
    }
}
