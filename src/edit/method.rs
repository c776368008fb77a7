//! Zeroing and pruning behind one face, for those who do either.

use super::{Applied, NoOptimizer, Optimizers, PrunePlan, Pruned, Slice, ZeroPlan};
use crate::graph::{Graph, Mask};
use crate::{Result, Traced, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use tch::Tensor;

/// What is done to units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// See [`ZeroPlan`].
    Zero,
    /// See [`PrunePlan`].
    Prune,
}

impl Method {
    /// `zero` or `prune`.
    pub fn name(self) -> &'static str {
        match self {
            Method::Zero => "zero",
            Method::Prune => "prune",
        }
    }

    /// `zeroed` or `pruned`.
    pub fn past(self) -> &'static str {
        match self {
            Method::Zero => "zeroed",
            Method::Prune => "pruned",
        }
    }
}

/// Units that are left out of an edit, and why.
pub type LeftOut = Vec<(UnitId, String)>;

/// A plan of either kind.
#[derive(Debug, Clone)]
pub enum Edit {
    /// See [`ZeroPlan`].
    Zero(ZeroPlan),
    /// See [`PrunePlan`].
    Prune(PrunePlan),
}

impl Edit {
    /// # Errors
    /// As [`ZeroPlan::zero`] or [`PrunePlan::new`].
    pub fn new(method: Method, graph: &Graph, units: &[UnitId]) -> Result<Self> {
        match method {
            Method::Zero => ZeroPlan::zero(graph, units).map(Edit::Zero),
            Method::Prune => PrunePlan::new(graph, units).map(Edit::Prune),
        }
    }

    /// As [`new`](Self::new). Where only applying the plan can tell whether it holds, it is applied and taken back.
    ///
    /// # Errors
    /// As [`new`](Self::new) and [`PrunePlan::apply`].
    pub fn tried(method: Method, traced: &Traced<'_>, units: &[UnitId], example: &Tensor) -> Result<Self> {
        let edit = Self::new(method, traced, units)?;
        if let Edit::Prune(plan) = &edit
            && !plan.relies_on.is_empty()
        {
            plan.apply(traced, example, NoOptimizer)?.undo()?;
        }
        Ok(edit)
    }

    /// As many of `units`, in their order, as can be edited together, each of them [tried](Self::tried): the plan (`None`
    /// when nothing is left), and those that are left out, with the reason.
    ///
    /// # Errors
    /// What is no refusal: an unknown site, a forward pass that fails.
    pub fn of_most(
        method: Method,
        traced: &Traced<'_>,
        units: &[UnitId],
        example: &Tensor,
    ) -> Result<(Option<Self>, LeftOut)> {
        use crate::Error::{Refused, RolledBack};
        if units.is_empty() {
            return Ok((None, Vec::new()));
        }
        match Self::tried(method, traced, units, example) {
            Ok(edit) => return Ok((Some(edit), Vec::new())),
            Err(Refused { .. } | RolledBack { .. }) => {}
            Err(other) => return Err(other),
        }
        let (mut kept, mut edit, mut left_out) = (Vec::new(), None, Vec::new());
        for unit in units {
            kept.push(unit.clone());
            match Self::tried(method, traced, &kept, example) {
                Ok(more) => edit = Some(more),
                Err(Refused { reason, .. } | RolledBack { reason, .. }) => {
                    kept.pop();
                    left_out.push((unit.clone(), reason));
                }
                Err(other) => return Err(other),
            }
        }
        Ok((edit, left_out))
    }

    /// Which method this is.
    pub fn method(&self) -> Method {
        match self {
            Edit::Zero(_) => Method::Zero,
            Edit::Prune(_) => Method::Prune,
        }
    }

    /// The units that were asked for.
    pub fn units(&self) -> &[UnitId] {
        match self {
            Edit::Zero(plan) => &plan.units,
            Edit::Prune(plan) => &plan.units,
        }
    }

    /// Every unit that is 0 or gone afterwards.
    pub fn coupled(&self) -> &[UnitId] {
        match self {
            Edit::Zero(plan) => &plan.coupled,
            Edit::Prune(plan) => &plan.coupled,
        }
    }

    /// What changes in parameters and buffers.
    pub fn slices(&self) -> &[Slice] {
        match self {
            Edit::Zero(plan) => &plan.slices,
            Edit::Prune(plan) => &plan.slices,
        }
    }

    /// What the edit does not follow: code that did not run in the traced pass.
    pub fn notes(&self) -> &[String] {
        match self {
            Edit::Zero(plan) => &plan.notes,
            Edit::Prune(plan) => &plan.notes,
        }
    }

    /// The masks that have the same effect on the untouched model.
    ///
    /// # Errors
    /// As [`PrunePlan::masks`].
    pub fn masks(&self, graph: &Graph) -> Result<Vec<Mask>> {
        match self {
            Edit::Zero(plan) => Ok(plan.masks().to_vec()),
            Edit::Prune(plan) => PrunePlan::masks(graph, &plan.units),
        }
    }

    /// Applies the plan, in place, and verifies it.
    ///
    /// # Errors
    /// As [`ZeroPlan::apply`] or [`PrunePlan::apply`].
    pub fn apply(&self, traced: &Traced<'_>, example: &Tensor, optimizers: impl Optimizers) -> Result<Edited> {
        match self {
            Edit::Zero(plan) => plan.apply(traced, example).map(Edited::Zero),
            Edit::Prune(plan) => plan.apply(traced, example, optimizers).map(Edited::Prune),
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Edit::Zero(plan) => plan.fmt(f),
            Edit::Prune(plan) => plan.fmt(f),
        }
    }
}

/// An edit of either kind that has been made. Dropping it keeps the edit.
#[derive(Debug)]
#[must_use = "dropping this keeps the edit but forgets how to undo it"]
pub enum Edited {
    /// See [`Applied`].
    Zero(Applied),
    /// See [`Pruned`].
    Prune(Pruned),
}

impl Edited {
    /// The largest difference between the edited model's output and what the plan promised, on the example.
    pub fn difference(&self) -> f64 {
        match self {
            Edited::Zero(applied) => applied.difference,
            Edited::Prune(pruned) => pruned.difference,
        }
    }

    /// Puts back every byte.
    ///
    /// # Errors
    /// As [`Applied::undo`] or [`Pruned::undo`].
    pub fn undo(self) -> Result<()> {
        match self {
            Edited::Zero(applied) => applied.undo(),
            Edited::Prune(pruned) => pruned.undo(),
        }
    }
}
