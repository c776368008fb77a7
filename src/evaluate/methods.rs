//! Which unit is edited how.

use crate::edit::{Edit, Method};
use crate::graph::{Graph, Mask};
use crate::{Error, Result, Traced, UnitId};
use std::collections::BTreeSet;
use tch::Tensor;

/// Units to prune among others to zero.
#[derive(Debug, Clone, Default)]
pub struct Methods {
    prune: BTreeSet<UnitId>,
}

impl Methods {
    /// `prune` are pruned, all others zeroed.
    pub fn new(prune: impl IntoIterator<Item = UnitId>) -> Self {
        Self { prune: prune.into_iter().collect() }
    }

    /// How `unit` is edited.
    pub fn of(&self, unit: &UnitId) -> Method {
        if self.prune.contains(unit) { Method::Prune } else { Method::Zero }
    }

    /// The units with a method, in their order.
    pub fn those(&self, method: Method, units: &[UnitId]) -> Vec<UnitId> {
        units.iter().filter(|u| self.of(u) == method).cloned().collect()
    }

    /// As these, with each of `drawn` edited like the unit at the same place of `units`.
    pub(super) fn like(&self, units: &[UnitId], drawn: &[UnitId]) -> Self {
        Self::new(units.iter().zip(drawn).filter(|(u, _)| self.of(u) == Method::Prune).map(|(_, d)| d.clone()))
    }

    /// The masks that stand for editing `units`.
    pub(crate) fn masks(&self, graph: &Graph, units: &[UnitId]) -> Result<Vec<Mask>> {
        let mut masks = Vec::new();
        for method in [Method::Zero, Method::Prune] {
            let units = self.those(method, units);
            if !units.is_empty() {
                masks.extend(Edit::new(method, graph, &units)?.masks(graph)?);
            }
        }
        Ok(masks)
    }

    /// The masks that stand for editing one unit, or why it cannot be edited.
    pub(crate) fn try_one(
        &self,
        traced: &Traced<'_>,
        unit: &UnitId,
        example: &Tensor,
    ) -> Result<Result<Vec<Mask>, String>> {
        match Edit::tried(self.of(unit), traced, std::slice::from_ref(unit), example) {
            Ok(edit) => edit.masks(traced).map(Ok),
            Err(Error::Refused { reason, .. } | Error::RolledBack { reason, .. }) => Ok(Err(reason)),
            Err(other) => Err(other),
        }
    }
}
