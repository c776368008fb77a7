//! From findings to an edited model, with everything that was measured on the way.

use super::builder::Setup;
use super::log::Log;
use crate::edit::repair::LastLayer;
use crate::edit::{Applied, Edit, Edited, Method, NoOptimizer, Optimizers, Slice};
use crate::evaluate::Methods;
use crate::evaluate::choose::{Choice, choose};
use crate::evaluate::compare::{Comparison, compare};
use crate::policy::Outcome;
use crate::report::{Control, EditReport, Evaluation, Gap, LeftOut, SweepAccuracy, SweepPoint};
use crate::{Result, Traced, UnitId, probe};

/// What policies want done.
pub(super) struct Wanted {
    pub units: Vec<UnitId>,
    pub methods: Methods,
}

impl Wanted {
    /// What `outcome` wants done.
    pub fn by(outcome: &Outcome) -> Self {
        let wanted = outcome.wanted();
        Self { units: wanted.units(), methods: Methods::new(wanted.prune) }
    }

    /// What is done to these units, in the past: `zeroed`, `pruned`, or `edited` where it is both.
    fn past(&self) -> &'static str {
        match self.some() {
            (true, true) => "edited",
            (_, true) => Method::Prune.past(),
            _ => Method::Zero.past(),
        }
    }

    fn action(&self) -> String {
        match self.some() {
            (true, true) => "zero and prune",
            (_, true) => Method::Prune.name(),
            _ => Method::Zero.name(),
        }
        .to_string()
    }

    /// Whether there are units to zero, and to prune.
    fn some(&self) -> (bool, bool) {
        let some = |method| self.units.iter().any(|u| self.methods.of(u) == method);
        (some(Method::Zero), some(Method::Prune))
    }
}

/// Chooses among what is wanted on validation images, and how many, and edits the model; its training goes on. Returns the
/// units that were chosen.
pub(super) fn prune(
    setup: &Setup,
    log: &mut Log,
    traced: &Traced<'_>,
    wanted: &Wanted,
    optimizers: impl Optimizers,
) -> Result<Vec<UnitId>> {
    let layer = LastLayer::of(traced).ok();
    let choice = choice(setup, traced, wanted, layer.as_ref())?;
    let chosen = choice.order[..choice.removed].to_vec();
    if !chosen.is_empty() {
        let done = apply(setup, traced, &chosen, &wanted.methods, optimizers)?;
        tracing::info!(
            target: "tch_audit",
            "{} {} of {} flagged units, {} with what is coupled to them",
            wanted.past(),
            chosen.len(),
            wanted.units.len(),
            done.coupled.len()
        );
        done.commit(log, &wanted.methods.those(Method::Prune, &chosen))?;
    }
    Ok(chosen)
}

fn choice(setup: &Setup, traced: &Traced<'_>, wanted: &Wanted, layer: Option<&LastLayer>) -> Result<Choice> {
    choose(traced, (&wanted.units, &wanted.methods), &setup.evaluations, layer, &setup.choice)
}

/// Edits the model: prunes, then zeroes.
fn apply(
    setup: &Setup,
    traced: &Traced<'_>,
    chosen: &[UnitId],
    methods: &Methods,
    optimizers: impl Optimizers,
) -> Result<Done> {
    let example = probe::example(&setup.probe, traced.model().at_most(32))?;
    let mut done = Done { coupled: Vec::new(), difference: 0.0, gone: Vec::new(), undo: Vec::new() };
    let mut zero = methods.those(Method::Zero, chosen);
    let prune = methods.those(Method::Prune, chosen);
    let mut fresh = None;
    if !prune.is_empty() {
        let edit = Edit::new(Method::Prune, traced, &prune)?;
        let edited = edit.apply(traced, &example, optimizers)?;
        zero = renumbered(&zero, edit.coupled());
        done.add(&edit, edited);
    }
    if !zero.is_empty() {
        let mut zeroing = || {
            if !prune.is_empty() {
                fresh = Some(Traced::new(traced.model(), &example)?);
            }
            let traced = fresh.as_ref().unwrap_or(traced);
            let edit = Edit::new(Method::Zero, traced, &zero)?;
            let edited = edit.apply(traced, &example, NoOptimizer)?;
            done.add(&edit, edited);
            Ok(())
        };
        if let Err(error) = zeroing() {
            done.take_back()?;
            return Err(error);
        }
    }
    Ok(done)
}

/// What [`apply`] did.
struct Done {
    coupled: Vec<UnitId>,
    difference: f64,
    gone: Vec<Slice>,
    undo: Vec<Edited>,
}

impl Done {
    fn add(&mut self, edit: &Edit, edited: Edited) {
        self.coupled.extend(edit.coupled().iter().cloned());
        if edit.method() == Method::Prune {
            self.gone.extend(edit.slices().iter().cloned());
        }
        self.difference = self.difference.max(edited.difference());
        self.undo.push(edited);
    }

    fn take_back(self) -> Result<()> {
        self.undo.into_iter().rev().try_for_each(Edited::undo)
    }

    /// Writes down which units were pruned, and what is to be kept at zero from now on.
    fn commit(self, log: &mut Log, pruned: &[UnitId]) -> Result<()> {
        let before = match log.zeroed_without(&self.gone) {
            Ok(before) => before,
            Err(error) => {
                self.take_back()?;
                return Err(error);
            }
        };
        let applied = |edited| if let Edited::Zero(applied) = edited { Some(applied) } else { None };
        let zeroed = self.undo.into_iter().filter_map(applied).flat_map(Applied::zeroed);
        log.keep(before.into_iter().chain(zeroed).collect());
        if !pruned.is_empty() {
            log.pruned(pruned);
        }
        Ok(())
    }
}

/// The numbers that units have once others have left; without those that left themselves.
fn renumbered(units: &[UnitId], gone: &[UnitId]) -> Vec<UnitId> {
    let stays = |u: &&UnitId| !gone.contains(u);
    let number = |u: &UnitId| u.unit - gone.iter().filter(|g| g.site == u.site && g.unit < u.unit).count();
    units.iter().filter(stays).map(|u| UnitId::new(&u.site, number(u))).collect()
}

/// Chooses, measures on test images, edits in place and refits the last layer.
pub(super) fn fix(setup: &Setup, log: &mut Log, traced: &Traced<'_>, wanted: &Wanted) -> Result<EditReport> {
    let layer =
        LastLayer::of(traced).inspect_err(|reason| tracing::warn!(%reason, "the last layer is not refitted")).ok();
    let choice = choice(setup, traced, wanted, layer.as_ref())?;
    let sweep = sweep(&choice, setup);
    let action = wanted.action();
    let chosen = &choice.order[..choice.removed];
    if chosen.is_empty() {
        return Ok(reported(action, sweep, choice, Vec::new(), Vec::new(), String::new()));
    }
    let outcome = compare(traced, (chosen, &wanted.methods), &setup.evaluations, layer.as_ref(), &setup.controls)?;
    let done = apply(setup, traced, chosen, &wanted.methods, NoOptimizer)?;
    let mut verification = format!(
        "the edited model's output differs from that of the untouched model with the whole group at 0 by at most {:.1e}",
        done.difference
    );
    if let (Some(layer), Some(refit)) = (&layer, outcome.refit) {
        if let Err(error) = layer.without(refit, &done.gone).and_then(|refit| layer.install(traced.model(), &refit)) {
            done.take_back()?;
            return Err(error);
        }
        verification.push_str("; the last layer is refitted on clean validation images");
    }
    let coupled = done.coupled.clone();
    done.commit(log, &wanted.methods.those(Method::Prune, chosen))?;
    Ok(reported(action, sweep, choice, coupled, outcome.comparisons, verification))
}

fn sweep(choice: &Choice, setup: &Setup) -> Vec<SweepPoint> {
    let point = |step: &crate::evaluate::choose::Step| SweepPoint {
        removed: step.removed,
        validation: setup
            .evaluations
            .iter()
            .zip(&step.accuracy)
            .map(|(e, (accuracy, repaired))| SweepAccuracy {
                name: e.name.clone(),
                accuracy: *accuracy,
                repaired: *repaired,
            })
            .collect(),
    };
    choice.sweep.iter().map(point).collect()
}

fn reported(
    action: String,
    sweep: Vec<SweepPoint>,
    choice: Choice,
    coupled: Vec<UnitId>,
    comparisons: Vec<Comparison>,
    verification: String,
) -> EditReport {
    let evaluations: Vec<Evaluation> = comparisons.into_iter().map(evaluation).collect();
    // The gap is that of the evaluation that suffers most.
    let clean = evaluations.first().map(|e| e.name.clone());
    let worst = evaluations.iter().skip(1).min_by(|a, b| a.before.rate().total_cmp(&b.before.rate()));
    let gap = clean.zip(worst).and_then(|(clean, worst)| Gap::between(&evaluations, &clean, &worst.name));
    let left_out = choice.refused.into_iter().map(|(unit, reason)| LeftOut { unit, reason }).collect();
    EditReport {
        action,
        chosen: choice.order[..choice.removed].to_vec(),
        flagged: choice.order,
        coupled,
        left_out,
        sweep,
        gap,
        evaluations,
        verification,
    }
}

fn evaluation(comparison: Comparison) -> Evaluation {
    let control = |(draw, (edited, repaired))| Control { draw, edited, repaired };
    Evaluation {
        name: comparison.name,
        before: comparison.before,
        edited: comparison.edited,
        edited_p: comparison.edited_p,
        edited_repaired: comparison.repaired.map(|(accuracy, _)| accuracy),
        repaired_p: comparison.repaired.map(|(_, p)| p),
        repaired_only: comparison.repaired_only,
        controls: comparison.controls.into_iter().enumerate().map(control).collect(),
    }
}
