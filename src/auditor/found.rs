//! What a call of the auditor found and did.

use crate::policy::{Finding, Level};
use crate::report::{self, Counts, HistoryEntry, Report};
use crate::{Error, Result, UnitId};
use std::ops::Deref;
use std::sync::Arc;

/// What one call of an [`Auditor`](super::Auditor) found and did. Cheap to clone.
///
/// A call that was not due found nothing: it has no report, and denies nothing.
#[derive(Debug, Clone, Default)]
pub struct Found {
    pub(super) audited: bool,
    pub(super) report: Option<Arc<Report>>,
    pub(super) pruned: Vec<UnitId>,
    pub(super) zeroed: Vec<UnitId>,
}

impl Found {
    /// Whether an audit ran in this call. Where a report is wanted of weights that were audited before, none does.
    pub fn audited(&self) -> bool {
        self.audited
    }

    /// Everything about the network as it was before this call edited anything; `None` when the call was not due.
    pub fn report(&self) -> Option<&Arc<Report>> {
        self.report.as_ref()
    }

    /// What policies object to, by policy, then unit.
    pub fn findings(&self) -> &[Finding] {
        self.report.as_ref().map_or(&[], |r| &r.findings)
    }

    /// How many units there are of each kind.
    pub fn counts(&self) -> Counts {
        self.report.as_ref().map_or_else(Counts::default, |r| r.counts)
    }

    /// All audits of this network so far, oldest first.
    pub fn history(&self) -> &[HistoryEntry] {
        self.report.as_ref().map_or(&[], |r| &r.history)
    }

    /// The units that this call took out of the network, strongest first, by the numbers that they had.
    pub fn pruned(&self) -> &[UnitId] {
        &self.pruned
    }

    /// The units that this call zeroed, strongest first, by the numbers that they had.
    pub fn zeroed(&self) -> &[UnitId] {
        &self.zeroed
    }

    /// Whether a policy of level `deny` is violated, or a notice about the policies has that level.
    pub fn denied(&self) -> bool {
        self.report.as_ref().is_some_and(|r| r.denied)
    }

    /// Fails when [`denied`](Self::denied).
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn deny(&self) -> Result<()> {
        match self.report.as_ref().and_then(|r| r.violations(Level::Deny)) {
            Some(violations) => Err(Error::Denied { violations }),
            None => Ok(()),
        }
    }

    /// The report as text for a terminal; empty when there is none.
    pub fn summary(&self) -> String {
        let Some(report) = &self.report else { return String::new() };
        let mut out = Vec::new();
        match report::terminal::write_styled(report, report::terminal::Style::detect(), &mut out) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(error) => format!("the summary cannot be shown: {error}"),
        }
    }
}

/// What [`Auditor::finish`](super::Auditor::finish) found and did. It always has a report.
#[derive(Debug, Clone)]
#[must_use = "call `deny` to fail when a policy of level deny is violated"]
pub struct Finished {
    found: Found,
    /// Everything.
    pub report: Arc<Report>,
}

impl Finished {
    pub(super) fn new(found: Found, report: Arc<Report>) -> Self {
        Self { found, report }
    }
}

impl Deref for Finished {
    type Target = Found;

    fn deref(&self) -> &Found {
        &self.found
    }
}

impl From<Finished> for Found {
    fn from(finished: Finished) -> Self {
        finished.found
    }
}
