//! From findings to an edited model, with everything that was measured on the way.

use super::Auditor;
use crate::edit::repair::LastLayer;
use crate::edit::{Applied, Edit, Edited, Method, Optimizers, Slice};
use crate::evaluate::Methods;
use crate::evaluate::choose::{Choice, choose};
use crate::evaluate::compare::{Comparison, compare};
use crate::policy::{Action, Outcome};
use crate::probe::example;
use crate::report::{Control, EditReport, Evaluation, Gap, LeftOut, SweepAccuracy, SweepPoint};
use crate::{Result, Traced, UnitId};

/// What policies want done.
pub(super) struct Wanted {
    pub units: Vec<UnitId>,
    pub methods: Methods,
}

impl Wanted {
    /// What `outcome` wants done. Who wants a unit pruned gets his way over who wants it zeroed.
    pub fn by(outcome: &Outcome) -> Self {
        let prune = outcome.wanted(Action::Prune);
        let mut units = outcome.wanted(Action::Zero);
        units.extend(prune.iter().cloned());
        units.sort();
        units.dedup();
        Self { units, methods: Methods::new(prune) }
    }

    /// Of these what is to be pruned.
    pub fn pruned(self) -> Self {
        Self { units: self.methods.those(Method::Prune, &self.units), ..self }
    }
}

/// Chooses among what is wanted on validation images, and how many.
pub(super) fn choice(
    auditor: &Auditor<'_>,
    traced: &Traced<'_>,
    wanted: &Wanted,
    layer: Option<&LastLayer>,
) -> Result<Choice> {
    choose(traced, (&wanted.units, &wanted.methods), &auditor.evaluations, layer, &auditor.choice)
}

/// Edits the model: prunes, then zeroes. Zeroed units are returned, to be kept at zero.
pub(super) fn apply(
    auditor: &mut Auditor<'_>,
    traced: &Traced<'_>,
    chosen: &[UnitId],
    methods: &Methods,
    optimizers: impl Optimizers,
) -> Result<Done> {
    let example = example(&auditor.probe, 32)?;
    let mut done = Done { coupled: Vec::new(), difference: 0.0, pruned: Vec::new(), undo: Vec::new() };
    let mut zero = methods.those(Method::Zero, chosen);
    let prune = methods.those(Method::Prune, chosen);
    let mut fresh = None;
    if !prune.is_empty() {
        let edit = Edit::new(Method::Prune, traced, &prune)?;
        let edited = edit.apply(traced, &example, optimizers)?;
        auditor.zeroed.iter_mut().try_for_each(|z| z.follow(edit.slices()))?;
        zero = renumbered(&zero, edit.coupled());
        done.add(&edit, edited);
        fresh = Some(Traced::new(traced.model(), &example)?);
    }
    if !zero.is_empty() {
        let traced = fresh.as_ref().unwrap_or(traced);
        let zeroed = Edit::new(Method::Zero, traced, &zero).and_then(|edit| {
            let edited = edit.apply(traced, &example, crate::edit::NoOptimizer)?;
            done.add(&edit, edited);
            Ok(())
        });
        if let Err(error) = zeroed {
            done.take_back()?;
            return Err(error);
        }
    }
    Ok(done)
}

/// What [`apply`] did.
pub(super) struct Done {
    pub coupled: Vec<UnitId>,
    pub difference: f64,
    pruned: Vec<Slice>,
    undo: Vec<Edited>,
}

impl Done {
    fn add(&mut self, edit: &Edit, edited: Edited) {
        self.coupled.extend(edit.coupled().iter().cloned());
        if edit.method() == Method::Prune {
            self.pruned.extend(edit.slices().iter().cloned());
        }
        self.difference = self.difference.max(edited.difference());
        self.undo.push(edited);
    }

    pub fn take_back(self) -> Result<()> {
        self.undo.into_iter().rev().try_for_each(Edited::undo)
    }

    /// The zeroed units, to be kept at zero.
    pub fn zeroed(self) -> impl Iterator<Item = Applied> {
        self.undo.into_iter().filter_map(|e| if let Edited::Zero(applied) = e { Some(applied) } else { None })
    }
}

/// The numbers that units have once others have left; without those that left themselves.
fn renumbered(units: &[UnitId], gone: &[UnitId]) -> Vec<UnitId> {
    let stays = |u: &&UnitId| !gone.contains(u);
    let number = |u: &UnitId| u.unit - gone.iter().filter(|g| g.site == u.site && g.unit < u.unit).count();
    units.iter().filter(stays).map(|u| UnitId::new(&u.site, number(u))).collect()
}

/// Chooses, measures on test images, edits in place and refits the last layer.
pub(super) fn fix(
    auditor: &mut Auditor<'_>,
    traced: &Traced<'_>,
    wanted: &Wanted,
    optimizers: impl Optimizers,
) -> Result<EditReport> {
    let layer =
        LastLayer::of(traced).inspect_err(|reason| tracing::warn!(%reason, "the last layer is not refitted")).ok();
    let choice = choice(auditor, traced, wanted, layer.as_ref())?;
    let sweep = sweep(&choice, auditor);
    let action = action(wanted);
    let chosen = &choice.order[..choice.removed];
    if chosen.is_empty() {
        return Ok(reported(action, sweep, choice, Vec::new(), Vec::new(), String::new()));
    }
    let chosen = (chosen, &wanted.methods);
    let outcome = compare(traced, chosen, &auditor.evaluations, layer.as_ref(), &auditor.controls)?;
    let done = apply(auditor, traced, chosen.0, chosen.1, optimizers)?;
    let mut verification = format!(
        "the edited model's output differs from that of the untouched model with the whole group at 0 by at most {:.1e}",
        done.difference
    );
    if let (Some(layer), Some(refit)) = (&layer, outcome.refit) {
        if let Err(error) = layer.without(refit, &done.pruned).and_then(|refit| layer.install(traced.model(), &refit)) {
            done.take_back()?;
            return Err(error);
        }
        verification.push_str("; the last layer is refitted on clean validation images");
    }
    let coupled = done.coupled.clone();
    auditor.zeroed.extend(done.zeroed());
    Ok(reported(action, sweep, choice, coupled, outcome.comparisons, verification))
}

fn sweep(choice: &Choice, auditor: &Auditor<'_>) -> Vec<SweepPoint> {
    let point = |step: &crate::evaluate::choose::Step| SweepPoint {
        removed: step.removed,
        validation: auditor
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

fn action(wanted: &Wanted) -> String {
    let some = |method| !wanted.methods.those(method, &wanted.units).is_empty();
    match (some(Method::Zero), some(Method::Prune)) {
        (true, true) => "zero and prune",
        (_, true) => "prune",
        _ => "zero",
    }
    .to_string()
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
