//! The callback: audits a model while it trains, and edits it at the end. Glue, no algorithms.

mod builder;
mod fix;

pub use builder::{AuditorBuilder, Every};

use crate::audit::{Audit, Settings};
use crate::edit::repair::LastLayer;
use crate::edit::{Applied, NoOptimizer, Optimizers};
use crate::evaluate::{self, Evaluation};
use crate::hook::with_rng_restored;
use crate::policy::{Finding, Level, Policies};
use crate::probe::Probe;
use crate::report::{self, HistoryEntry, NamedAccuracy, Report};
use crate::{Error, Model, Result, Traced, UnitId};
use fix::Wanted;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tch::nn::{ModuleT, VarStore};

/// Audits a network from its training loop.
///
/// Its passes run without gradients, in evaluation mode, and put the random number generator back: attached to a loop, and
/// with nothing fixed, it leaves the training as it would have been, bit for bit.
///
/// ```no_run
/// use tch_audit::{auditor::{Auditor, Every}, policy::Policies, probe::ImageFolder};
/// # use tch::nn::{self, ModuleT};
/// # fn main() -> tch_audit::Result<()> {
/// # let vs = nn::VarStore::new(tch::Device::Cpu);
/// # let net = nn::seq_t();
/// let mut auditor = Auditor::builder(&vs)
///     .probe(ImageFolder::open("data/probe").load()?)
///     .policies(Policies::load_dir("policies")?)
///     .every(Every::Epochs(2))
///     .reports("runs/audit")
///     .build()?;
/// for epoch in 1..=10 {
///     // … opt.backward_step(&loss); …
///     auditor.after_step(&net)?;
///     auditor.after_epoch(epoch, &net)?;
/// }
/// auditor.finish(&net)?.deny()
/// # }
/// ```
#[derive(Debug)]
pub struct Auditor<'v> {
    vs: &'v VarStore,
    name: String,
    probe: Probe,
    policies: Policies,
    evaluations: Vec<Evaluation>,
    settings: Settings,
    every: Every,
    fix: bool,
    choice: evaluate::choose::Options,
    controls: evaluate::compare::Options,
    reports: Option<PathBuf>,
    quiet: bool,
    steps: u64,
    epoch: u64,
    history: Vec<HistoryEntry>,
    /// What each unit was described as at the last audit.
    last: BTreeMap<UnitId, String>,
    /// Units that are kept at zero.
    zeroed: Vec<Applied>,
}

/// What [`Auditor::finish`] found and did.
#[derive(Debug)]
#[must_use = "call `deny` to fail when a policy of level deny is violated"]
pub struct Finished {
    /// Everything.
    pub report: Report,
}

impl<'v> Auditor<'v> {
    /// Starts to describe an auditor of the network whose variables live in `vs`.
    pub fn builder(vs: &'v VarStore) -> AuditorBuilder<'v> {
        AuditorBuilder::new(vs)
    }

    /// To be called after every optimizer step: keeps zeroed units zero, and audits when the schedule counts steps.
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch).
    pub fn after_step(&mut self, net: &dyn ModuleT) -> Result<()> {
        self.steps += 1;
        self.zeroed.iter().try_for_each(Applied::enforce)?;
        match self.every {
            Every::Steps(n) if self.steps.is_multiple_of(n) => self.audit_now(net),
            _ => Ok(()),
        }
    }

    /// To be called after every epoch, with its number: audits when the schedule says so.
    ///
    /// # Errors
    /// What keeps the audit from judging: an unknown site, an activation that is NaN, a forward pass that fails.
    pub fn after_epoch(&mut self, epoch: u64, net: &dyn ModuleT) -> Result<()> {
        self.epoch = epoch;
        match self.every {
            Every::Epochs(n) if epoch.is_multiple_of(n) => self.audit_now(net),
            _ => Ok(()),
        }
    }

    /// As [`after_epoch`](Self::after_epoch). When asked to fix, the units that violated policies want pruned leave the
    /// network at once, as many as validation images say; the training goes on with what is left of it. Returns them.
    ///
    /// `optimizers` builds the optimizers anew, see [`Optimizers`]. From then on the units of the sites that lost some
    /// have other numbers.
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch); [`Error::RolledBack`] when the edit does not verify, and what `optimizers`
    /// returns; the network is then what it was.
    pub fn after_epoch_pruning(
        &mut self,
        epoch: u64,
        net: &dyn ModuleT,
        optimizers: impl Optimizers,
    ) -> Result<Vec<UnitId>> {
        self.epoch = epoch;
        match self.every {
            Every::Epochs(n) if epoch.is_multiple_of(n) => {
                self.undisturbed(|auditor| auditor.prune_now(net, optimizers))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn prune_now(&mut self, net: &dyn ModuleT, optimizers: impl Optimizers) -> Result<Vec<UnitId>> {
        let model = Model::new(self.vs, net);
        let traced = Traced::new(&model, &self.probe.tensor(0..1)?)?;
        let audit = Audit::of(&traced, &self.probe, &self.settings, &self.policies)?;
        self.record(&traced, &audit)?;
        let wanted = Wanted::by(&audit.outcome).pruned();
        if !self.fix || wanted.units.is_empty() {
            return Ok(Vec::new());
        }
        let layer = LastLayer::of(&traced).ok();
        let choice = fix::choice(self, &traced, &wanted, layer.as_ref())?;
        let chosen = choice.order[..choice.removed].to_vec();
        if !chosen.is_empty() {
            let done = fix::apply(self, &traced, &chosen, &wanted.methods, optimizers)?;
            if !self.quiet {
                eprintln!(
                    "pruned {} of {} flagged units, {} with what is coupled to them",
                    chosen.len(),
                    wanted.units.len(),
                    done.coupled.len()
                );
            }
            // Units have other numbers now.
            self.last.clear();
        }
        if let Some(entry) = self.history.last_mut() {
            entry.pruned.clone_from(&chosen);
        }
        Ok(chosen)
    }

    /// Audits once more; when asked to fix, zeroes or prunes what violated policies want, as many units as validation
    /// images say, measures what that did on test images, and refits the last layer; writes the reports. An optimizer of
    /// a pruned network is of no use any more.
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch); [`Error::RolledBack`] when the edit does not verify; [`Error::Io`] when
    /// reports cannot be written. A violated policy is no error here: see [`Finished::deny`].
    pub fn finish(&mut self, net: &dyn ModuleT) -> Result<Finished> {
        self.undisturbed(|auditor| auditor.finish_now(net))
    }

    fn finish_now(&mut self, net: &dyn ModuleT) -> Result<Finished> {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let model = Model::new(self.vs, net);
        let traced = Traced::new(&model, &self.probe.tensor(0..1)?)?;
        let audit = Audit::of(&traced, &self.probe, &self.settings, &self.policies)?;
        self.record(&traced, &audit)?;
        let parameters = model.parameter_count();
        let info = report::ModelInfo { name: self.name.clone(), parameters, ..Default::default() };
        let mut report = Report::of(&audit, info, (&self.probe).into(), &self.settings, date);
        report.judge(&audit.outcome, |_| None);
        report.history = self.history.clone();
        let wanted = Wanted::by(&audit.outcome);
        if self.fix && !wanted.units.is_empty() {
            let clock = Instant::now();
            report.edit = Some(fix::fix(self, &traced, &wanted, NoOptimizer)?);
            report.run.stages.push(report::Stage { name: "edit".to_string(), seconds: clock.elapsed().as_secs_f64() });
        }
        let report = report.finish();
        if let Some(folder) = &self.reports {
            let probe = &self.probe;
            report.save(folder, &audit.exemplars, |i| (i < probe.len()).then(|| probe.image(i).clone()))?;
        }
        Ok(Finished { report })
    }

    fn audit_now(&mut self, net: &dyn ModuleT) -> Result<()> {
        self.undisturbed(|auditor| {
            let model = Model::new(auditor.vs, net);
            let traced = Traced::new(&model, &auditor.probe.tensor(0..1)?)?;
            let audit = Audit::of(&traced, &auditor.probe, &auditor.settings, &auditor.policies)?;
            auditor.record(&traced, &audit)
        })
    }

    /// Runs `work` and leaves the random number generators as they were.
    fn undisturbed<R>(&mut self, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let device = self.vs.device();
        with_rng_restored(device, || work(self))?
    }

    fn record(&mut self, traced: &Traced<'_>, audit: &Audit) -> Result<()> {
        use crate::describe::Status;
        let mut entry = HistoryEntry { epoch: self.epoch, step: self.steps, ..HistoryEntry::default() };
        let now: BTreeMap<UnitId, String> =
            audit.units.iter().map(|u| (u.id.clone(), u.description.text.clone())).collect();
        for unit in &audit.units {
            match unit.description.status {
                Status::Described => entry.described += 1,
                Status::Abstained => entry.abstained += 1,
                Status::Dead => entry.dead += 1,
            }
        }
        entry.changed =
            now.iter().filter(|(id, text)| self.last.get(*id).is_some_and(|before| before != *text)).count();
        let flagged = audit.outcome.findings.iter().filter(|f| f.counts());
        entry.flagged = flagged.map(|f| &f.unit).collect::<std::collections::BTreeSet<_>>().len();
        for evaluation in &self.evaluations {
            let right = evaluate::correct(traced, &[], &evaluation.validation)?;
            entry.evaluations.push(NamedAccuracy { name: evaluation.name.clone(), accuracy: evaluate::count(&right) });
        }
        self.last = now;
        // An audit at the end of an epoch that was just audited is the same audit.
        if self.history.last().is_some_and(|h| (h.epoch, h.step) == (entry.epoch, entry.step)) {
            entry.changed = self.history.pop().map_or(0, |h| h.changed);
        } else if !self.quiet {
            eprintln!("{}", line(&entry));
        }
        self.history.push(entry);
        Ok(())
    }
}

impl Finished {
    /// Fails when a policy of level `deny` is violated, or a notice about the policies has that level.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn deny(&self) -> Result<()> {
        if !self.report.denied {
            return Ok(());
        }
        let violated: Vec<&str> = self.report.violated(Level::Deny).map(|p| p.name.as_str()).collect();
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let counts = |f: &&Finding| f.counts() && violated.contains(&f.policy.as_str());
        let findings = self.report.findings.iter().filter(counts).count();
        let notices: Vec<&str> =
            self.report.notices.iter().filter(|n| n.level == Level::Deny).map(|n| n.code.as_str()).collect();
        let (findings, policies) = if violated.is_empty() {
            (count(notices.len(), "notice"), notices.join(", "))
        } else {
            (count(findings, "finding"), violated.join(", "))
        };
        Err(Error::Denied { findings, policies })
    }

    /// The report as text for a terminal.
    pub fn summary(&self) -> String {
        let mut out = Vec::new();
        match report::terminal::write_styled(&self.report, report::terminal::Style::detect(), &mut out) {
            Ok(()) => String::from_utf8_lossy(&out).into_owned(),
            Err(error) => format!("the summary cannot be shown: {error}"),
        }
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

/// An error for a part that was not given to the builder.
fn missing(part: &str, call: &str) -> Error {
    Error::invalid(format!("auditor without {part}"), "nothing", format!("a call to `{call}` before `build`"))
}
