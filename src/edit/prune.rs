//! Pruning: a unit and everything coupled to it leaves the model, in place.
//!
//! **Source:** the coupled group as in DepGraph (Fang et al., 2023, arXiv 2301.12900). Differs: the group is found on
//! element level from the operators of one forward pass, nothing of the model's code is edited, and what cannot be exact
//! is refused.

use super::coupling::Coupling;
use super::shrink::Shrink;
use super::unseen::Touched;
use super::{Cost, Optimizers, Slice, site_of, verify};
use crate::graph::{Graph, Mask, Origin, find};
use crate::{Error, Reason, Result, Traced, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use tch::Tensor;

/// What pruning some units would take. A plan changes nothing; it can be printed and saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrunePlan {
    /// The units that were asked for.
    pub units: Vec<UnitId>,
    /// Every unit of every site that leaves: those asked for and those coupled to them. `@raw` sites included.
    pub coupled: Vec<UnitId>,
    /// What leaves the parameters and buffers.
    pub slices: Vec<Slice>,
    /// Operators that get their sizes from the model's code: if it computes them from its tensors the edit works, if they
    /// stand there as numbers it is taken back. Only applying the plan can tell.
    pub relies_on: Vec<String>,
    /// What the edit does not follow, as sentences without a full stop: code that did not run in the traced pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the model costs.
    pub before: Cost,
    /// What it will cost.
    pub after: Cost,
}

impl PrunePlan {
    /// Plans to take `units` out of the model.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a site that does not exist, [`Error::Invalid`] for a unit that it does not have,
    /// [`Error::Refused`] where it cannot be done exactly, with the kind of reason.
    pub fn new(graph: &Graph, units: &[UnitId]) -> Result<Self> {
        Self::of(graph, coupling(graph, units)?, units)
    }

    /// The masks that have the same effect as pruning `units`: every value of the group that can be masked.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn masks(graph: &Graph, units: &[UnitId]) -> Result<Vec<Mask>> {
        let mut coupling = coupling(graph, units)?;
        coupling.close();
        let mut masks = Vec::new();
        for (value, cut) in coupling.cuts() {
            let Some(site) = find::unplaced(graph, format!("value {value}"), value) else { continue };
            let units: Vec<usize> =
                cut.axes.get(site.unit_dimension() as usize).into_iter().flatten().map(|i| *i as usize).collect();
            let mask = Mask { site, units };
            if !mask.units.is_empty() && graph.check_mask(&mask).is_ok() {
                masks.push(mask);
            }
        }
        Ok(masks)
    }

    /// Plans to take slices out of parameters, whatever sites they belong to.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Refused`] for a slice that is empty or not there.
    pub fn of_slices(graph: &Graph, slices: &[Slice]) -> Result<Self> {
        let mut coupling = Coupling::new(graph);
        for slice in slices {
            let names = || graph.parameters.iter().map(String::as_str);
            let parameter = names()
                .position(|n| n == slice.parameter)
                .ok_or_else(|| Error::unknown("parameter", &slice.parameter, names()))?;
            let root = (0..graph.values.len()).find(|v| {
                graph.values[*v].origin == Origin::Parameter
                    && graph.values[*v].parameter.is_some_and(|(p, _)| p == parameter)
            });
            let value =
                root.ok_or_else(|| refused(&[], Reason::Request, format!("nothing reads `{}`", slice.parameter)))?;
            let size = usize::try_from(slice.dimension).ok().and_then(|d| graph.values[value].shape.get(d).copied());
            let inside =
                size.is_some_and(|n| !slice.indices.is_empty() && slice.indices.iter().all(|i| (0..n).contains(i)));
            if !inside {
                let shape = &graph.values[value].shape;
                let text = format!(
                    "received indices {:?} of dimension {} of `{}`, allowed one or more within shape {shape:?}",
                    slice.indices, slice.dimension, slice.parameter
                );
                return Err(refused(&[], Reason::Request, text));
            }
            coupling.cut(value, slice.dimension as usize, &slice.indices.iter().copied().collect());
        }
        Self::of(graph, coupling, &[])
    }

    fn of(graph: &Graph, mut coupling: Coupling<'_>, units: &[UnitId]) -> Result<Self> {
        coupling.close();
        if graph.named() == 0 {
            coupling
                .refuse(Reason::Frozen, "the model is frozen: its weights are constants; export it without freezing");
        }
        if let Some(first) = coupling.refusals.first() {
            return Err(refused(units, first.kind, first.text.clone()));
        }
        let notes = Touched::by_cuts(graph, coupling.cuts().map(|(value, _)| value))
            .notes(graph)
            .map_err(|reason| refused(units, Reason::UnseenCode, reason))?;
        let mut slices = BTreeSet::new();
        let mut coupled: BTreeSet<UnitId> = units.iter().cloned().collect();
        for (value, cut) in coupling.cuts() {
            if let (Origin::Parameter, Some((p, _))) = (graph.values[value].origin, graph.values[value].parameter) {
                for (d, gone) in cut.axes.iter().enumerate().filter(|(_, g)| !g.is_empty()) {
                    let indices = gone.iter().copied().collect();
                    slices.insert(Slice { parameter: graph.parameters[p].clone(), dimension: d as i64, indices });
                }
            }
            for site in graph.sites().iter().filter(|s| s.value == value) {
                let gone = cut.axes.get(site.unit_dimension() as usize).into_iter().flatten();
                coupled.extend(gone.map(|i| UnitId::new(&site.name, *i as usize)));
            }
        }
        Ok(Self {
            units: units.to_vec(),
            coupled: coupled.into_iter().collect(),
            slices: slices.into_iter().collect(),
            relies_on: coupling.relies_on.iter().cloned().collect(),
            notes,
            before: Cost::of(graph),
            after: Cost::after(&coupling),
        })
    }

    /// Takes the group out of `model`, in place, and verifies it on `example`: the pruned model must compute what the
    /// model computes with the whole group at 0. Then rebuilds the optimizers, and forgets the gradients of what has
    /// another shape now.
    ///
    /// The graph no longer fits the model afterwards: trace it again.
    ///
    /// # Errors
    /// [`Error::Shape`] when the model has changed since it was traced;
    /// [`Error::RolledBack`] when the pruned model does not run, is not finite or computes something else, with the kind
    /// of reason; what the optimizers' closure returns. Every byte of the model is then what it was.
    pub fn apply(&self, traced: &Traced<'_>, example: &Tensor, mut optimizers: impl Optimizers) -> Result<Pruned> {
        let parts = self.parts(traced)?;
        let attempt = || {
            parts.iter().try_for_each(Shrink::silence)?;
            let expected = traced.model().run_all(&traced.model().prepare(example)?)?;
            parts.iter().try_for_each(Shrink::shrink)?;
            verify::outputs(traced.model(), example, &expected)
                .map_err(|(kind, reason)| self.rolled_back(kind, &reason))
        };
        let done = match attempt() {
            Ok(difference) => match catch_unwind(AssertUnwindSafe(|| optimizers.rebuild())) {
                Ok(rebuilt) => rebuilt.map(|()| difference),
                // A closure that panics must not leave a pruned model behind either.
                Err(panic) => {
                    parts.iter().try_for_each(Shrink::restore)?;
                    resume_unwind(panic)
                }
            },
            Err(error) => Err(error),
        };
        match done.and_then(|difference| parts.iter().try_for_each(Shrink::forget_gradient).map(|()| difference)) {
            Ok(difference) => Ok(Pruned { parts, difference }),
            Err(error) => {
                parts.iter().try_for_each(Shrink::restore)?;
                Err(error)
            }
        }
    }

    /// As [`apply`](Self::apply), unverified: for whoever verifies otherwise.
    ///
    /// # Errors
    /// [`Error::Torch`]; the model is then what it was.
    pub fn apply_unverified(&self, traced: &Traced<'_>) -> Result<Pruned> {
        let parts = self.parts(traced)?;
        let shrunk =
            parts.iter().try_for_each(Shrink::shrink).and_then(|()| parts.iter().try_for_each(Shrink::forget_gradient));
        match shrunk {
            Ok(()) => Ok(Pruned { parts, difference: f64::NAN }),
            Err(error) => {
                parts.iter().try_for_each(Shrink::restore)?;
                Err(error)
            }
        }
    }

    fn rolled_back(&self, kind: Reason, reason: &str) -> Error {
        let reason = match (kind, self.relies_on.first()) {
            (Reason::Code | Reason::Silent, Some(first)) => {
                format!("a size in the model's code does not follow: {first} ({reason})")
            }
            _ => reason.to_string(),
        };
        Error::RolledBack { kind, reason }
    }

    fn parts(&self, traced: &Traced<'_>) -> Result<Vec<Shrink>> {
        let mut by_name: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        for slice in &self.slices {
            by_name.entry(&slice.parameter).or_default().push(slice);
        }
        let part = |(name, slices): (&str, Vec<&Slice>)| {
            let tensor = traced.tensor(traced.model(), name)?;
            let (received, traced) = (tensor.size(), traced.shape_of_parameter(name));
            if let Some(traced) = traced.filter(|t| *t != received) {
                let expected = format!("{traced:?}, as when the model was traced: trace it again");
                return Err(Error::Shape { what: format!("`{name}`"), received, expected });
            }
            Shrink::new(name, &tensor, &slices)
        };
        by_name.into_iter().map(part).collect()
    }
}

/// The group of `units`, not yet closed.
fn coupling<'g>(graph: &'g Graph, units: &[UnitId]) -> Result<Coupling<'g>> {
    if units.is_empty() {
        return Err(refused(units, Reason::Request, "no unit is asked for"));
    }
    let mut coupling = Coupling::new(graph);
    for id in units {
        coupling.cut_unit(site_of(graph, id)?, id.unit);
    }
    Ok(coupling)
}

fn refused(units: &[UnitId], kind: Reason, reason: impl Into<String>) -> Error {
    let unit = match units {
        [] => "these channels".to_string(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    Error::Refused { kind, action: "prune", unit, reason: reason.into() }
}

impl fmt::Display for PrunePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "prune {}", super::list(&self.units))?;
        writeln!(f, "  before  {}", self.before)?;
        writeln!(f, "  after   {}", self.after)?;
        self.slices.iter().try_for_each(|slice| writeln!(f, "  {slice}"))?;
        self.relies_on.iter().try_for_each(|what| writeln!(f, "  relies on the model's code: {what}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

/// A pruned model. Dropping this keeps it pruned.
#[derive(Debug)]
#[must_use = "dropping this keeps the edit but forgets how to undo it"]
pub struct Pruned {
    parts: Vec<Shrink>,
    /// The largest difference between the pruned model's output and that of the model with the group at 0, on the example.
    pub difference: f64,
}

impl Pruned {
    /// Puts back every tensor as it was, in its old memory. Optimizers have to be rebuilt once more.
    ///
    /// # Errors
    /// [`Error::Torch`] when libtorch refuses.
    pub fn undo(self) -> Result<()> {
        self.parts.iter().try_for_each(|p| p.restore().and_then(|()| p.forget_gradient()))
    }

    /// What was there before: name and tensor of every parameter and buffer that changed.
    pub fn originals(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parts.iter().map(|p| (p.name.as_str(), &p.original))
    }
}
