//! The callback: audits a model while it trains, and edits it when asked to. Glue, no algorithms.

mod builder;
mod fix;
mod folder;
mod found;
mod log;
mod moment;
mod state;
mod track;
mod words;

pub use builder::{AuditorBuilder, Every};
pub use found::{Finished, Found};

use crate::edit::{Method, Optimizers};
use crate::hook::with_rng_restored;
use crate::{IntoModel, Result, Traced, UnitId, probe};
use builder::{CHOOSE_ON, Setup, missing};
use fix::Wanted;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;
use track::{Edit, Track};

/// Audits networks from their training loop.
///
/// Every call is given the network as it is then, as `(&vs, &net)` or as a [`Model`](crate::Model), and returns what it
/// found; nothing is borrowed in between, so `vs.load(…)`, `vs.freeze()` and the like are free. Audits run without
/// gradients, in evaluation mode, and put the random number generators back: attached to a loop, and with nothing edited,
/// it leaves the training as it would have been, bit for bit.
///
/// ```no_run
/// use tch_audit::{auditor::{Auditor, Every}, policy::Policies, probe::ImageFolder};
/// # use tch::nn;
/// # fn main() -> tch_audit::Result<()> {
/// # let vs = nn::VarStore::new(tch::Device::Cpu);
/// # let net = nn::seq_t();
/// let mut auditor = Auditor::builder()
///     .probe(ImageFolder::open("data/probe").stream()?)
///     .policies(Policies::load_dir("policies")?)
///     .every(Every::Epochs(2))
///     .reports("runs/audit")
///     .build()?;
/// for epoch in 1..=10 {
///     // … opt.backward_step(&loss); …
///     auditor.after_step((&vs, &net))?;
///     auditor.after_epoch(epoch, (&vs, &net))?;
/// }
/// auditor.finish((&vs, &net))?.deny()
/// # }
/// ```
///
/// What it says while training are `tracing` events of level `info` with the target `tch_audit`.
///
/// # Several networks
///
/// A network that has [a name of its own](crate::Model::named) has counters, history, zeroed units and reports of its own:
///
/// ```no_run
/// # use tch_audit::{Model, auditor::Auditor};
/// # use tch::nn;
/// # fn main() -> tch_audit::Result<()> {
/// # let (vs, ema) = (nn::VarStore::new(tch::Device::Cpu), nn::VarStore::new(tch::Device::Cpu));
/// # let (net, averaged) = (nn::seq_t(), nn::seq_t());
/// # let mut auditor = Auditor::builder().build()?;
/// # let epoch = 1;
/// let averaged = Model::new(&ema, &averaged).named("ema");
/// auditor.after_epoch(epoch, (&vs, &net))?; // in the folder of the reports
/// auditor.after_epoch(epoch, &averaged)?; // in its sub-folder `ema`
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Auditor {
    setup: Setup,
    tracks: BTreeMap<String, Track>,
}

impl Auditor {
    /// Starts to describe an auditor.
    pub fn builder() -> AuditorBuilder {
        AuditorBuilder::new()
    }

    fn new(setup: Setup) -> Result<Self> {
        // What an earlier training left is read now, and not after an epoch of this one.
        let own = Track::open(&setup, &setup.name)?;
        Ok(Self { tracks: BTreeMap::from([(setup.name.clone(), own)]), setup })
    }

    /// The epoch of the network without a name of its own that ended last; 0 before the first. A resumed training goes on
    /// with the next one.
    pub fn epoch(&self) -> u64 {
        self.tracks.get(&self.setup.name).map_or(0, |track| track.log.now.epoch)
    }

    /// To be called after every optimizer step: keeps zeroed units zero, and audits when the schedule counts steps.
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch); [`Error::Unknown`](crate::Error::Unknown) when the network lacks a parameter
    /// of zeroed units.
    pub fn after_step<'m>(&mut self, network: impl IntoModel<'m>) -> Result<Found> {
        let (setup, track) = self.track(network.name())?;
        track.log.now.step += 1;
        let due = matches!(setup.every, Every::Steps(n) if track.log.now.step.is_multiple_of(n));
        if !due && track.log.zeroed().is_empty() {
            return Ok(Found::default());
        }
        let model = network.into_model();
        track.log.enforce(&model)?;
        if due { self.audit(model) } else { Ok(Found::default()) }
    }

    /// To be called after every epoch, with its number, from 1: audits when the schedule says so.
    ///
    /// # Errors
    /// What keeps the audit from judging: an unknown site, an activation that is NaN, a forward pass that fails.
    /// [`Error::Io`](crate::Error::Io) when reports cannot be written.
    pub fn after_epoch<'m>(&mut self, epoch: u64, network: impl IntoModel<'m>) -> Result<Found> {
        let (setup, track) = self.track(network.name())?;
        track.log.end_epoch(epoch);
        if matches!(setup.every, Every::Epochs(n) if epoch.is_multiple_of(n)) {
            return self.audit(network);
        }
        track.save().map(|()| Found::default())
    }

    /// Takes out or zeroes, as policies say, what the last audit of this network flagged, as many units as validation images
    /// advise; the training goes on with what is left of it. Audits first when the weights are not those of the last audit.
    ///
    /// `optimizers` builds the optimizers anew when units leave, see [`Optimizers`]. From then on the units of the sites that
    /// lost some have other numbers. Units that are zeroed stay so, see [`after_step`](Self::after_step).
    ///
    /// ```no_run
    /// # use tch_audit::auditor::Auditor;
    /// # use tch::nn::{self, OptimizerConfig};
    /// # fn main() -> tch_audit::Result<()> {
    /// # let vs = nn::VarStore::new(tch::Device::Cpu);
    /// # let net = nn::seq_t();
    /// # let mut opt = nn::Sgd::default().build(&vs, 0.1).unwrap();
    /// # let mut auditor = Auditor::builder().build()?;
    /// # let epoch = 1;
    /// if auditor.after_epoch(epoch, (&vs, &net))?.denied() {
    ///     auditor.prune((&vs, &net), || {
    ///         opt = nn::Sgd::default().build(&vs, 0.1)?;
    ///         Ok(())
    ///     })?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch); [`Error::Invalid`](crate::Error::Invalid) without an evaluation to choose on;
    /// [`Error::RolledBack`](crate::Error::RolledBack) when the edit does not verify, and what `optimizers` returns; the
    /// network is then what it was.
    pub fn prune<'m>(&mut self, network: impl IntoModel<'m>, optimizers: impl Optimizers) -> Result<Found> {
        if self.setup.evaluations.is_empty() {
            return Err(missing(CHOOSE_ON, "evaluate"));
        }
        self.look(network, |setup, track, traced| {
            let (judged, audited) = track.judge(setup, traced)?;
            let wanted = Wanted::by(&judged.audit.outcome);
            let mut chosen = Vec::new();
            if !wanted.units.is_empty() {
                chosen = fix::prune(setup, &mut track.log, traced, &wanted, optimizers)?;
                track.edited();
            }
            let report = track.publish(setup, judged, None)?;
            Ok(Found { audited, report: Some(report), ..edited(&wanted, &chosen) })
        })
    }

    /// Audits once more, unless these very weights were audited last; when asked to [fix](AuditorBuilder::fix), zeroes or
    /// prunes what violated policies want, as many units as validation images say, measures what that did on test images,
    /// and refits the last layer; writes the reports. An optimizer of a pruned network is of no use any more.
    ///
    /// # Errors
    /// As [`after_epoch`](Self::after_epoch); [`Error::RolledBack`](crate::Error::RolledBack) when the edit does not verify.
    /// A violated policy is no error here: see [`Found::deny`].
    pub fn finish<'m>(&mut self, network: impl IntoModel<'m>) -> Result<Finished> {
        self.look(network, |setup, track, traced| {
            let (judged, audited) = track.judge(setup, traced)?;
            let wanted = Wanted::by(&judged.audit.outcome);
            let mut edit = None;
            if setup.fix && !wanted.units.is_empty() {
                let clock = Instant::now();
                let report = fix::fix(setup, &mut track.log, traced, &wanted)?;
                track.edited();
                edit = Some(Edit { report, seconds: clock.elapsed().as_secs_f64() });
            }
            let found = edit.as_ref().map_or_else(Found::default, |e| edited(&wanted, &e.report.chosen));
            let report = track.publish(setup, judged, edit)?;
            Ok(Finished::new(Found { audited, report: Some(Arc::clone(&report)), ..found }, report))
        })
    }

    fn audit<'m>(&mut self, network: impl IntoModel<'m>) -> Result<Found> {
        self.look(network, |setup, track, traced| {
            let (judged, audited) = track.judge(setup, traced)?;
            let report = track.publish(setup, judged, None)?;
            Ok(Found { audited, report: Some(report), ..Found::default() })
        })
    }

    /// Runs `work` on a trace of the network, and leaves the random number generators as they were.
    fn look<'m, R>(
        &mut self,
        network: impl IntoModel<'m>,
        work: impl FnOnce(&Setup, &mut Track, &Traced<'_>) -> Result<R>,
    ) -> Result<R> {
        let (setup, track) = self.track(network.name())?;
        let model = network.into_model();
        with_rng_restored(model.device(), || {
            let traced = Traced::new(&model, &probe::example(&setup.probe, 1)?)?;
            work(setup, track, &traced)
        })?
    }

    /// What is known of a network.
    fn track(&mut self, name: Option<&str>) -> Result<(&Setup, &mut Track)> {
        let name = name.unwrap_or(&self.setup.name);
        let track = match self.tracks.entry(name.to_string()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Track::open(&self.setup, name)?),
        };
        Ok((&self.setup, track))
    }
}

/// What of `chosen` was pruned, and what zeroed.
fn edited(wanted: &Wanted, chosen: &[UnitId]) -> Found {
    Found {
        pruned: wanted.methods.those(Method::Prune, chosen),
        zeroed: wanted.methods.those(Method::Zero, chosen),
        ..Found::default()
    }
}
