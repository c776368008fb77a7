//! Zeroing: no operator sees anything but 0 from a unit.

use super::coupling::Coupling;
use super::silence::{self, Group};
use super::unseen::Touched;
use super::zeroed::{Zeroed, parameter_of};
use super::{Slice, site_of, verify};
use crate::graph::{Graph, Mask, Origin, Site, find};
use crate::{Error, Model, Reason, Result, Traced, UnitId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use tch::Tensor;

/// What zeroing some units would change. A plan changes nothing.
#[derive(Debug, Clone)]
pub struct ZeroPlan {
    /// The units that were asked for.
    pub units: Vec<UnitId>,
    /// Every unit of every site that becomes 0: the units asked for and those that share weights or a residual stream
    /// with them. `@raw` sites included.
    pub coupled: Vec<UnitId>,
    /// What is set to 0.
    pub slices: Vec<Slice>,
    /// What the edit does not follow, as sentences without a full stop: code that did not run in the traced pass.
    pub notes: Vec<String>,
    masks: Vec<Mask>,
}

impl ZeroPlan {
    /// Plans to zero `units`: no operator that follows a unit's site sees anything but 0 there.
    ///
    /// The weights that make the unit are zeroed, normalisation included. Where a non-linearity lifts 0 (a sigmoid),
    /// the weights that read the unit are zeroed instead. On a residual stream a unit cannot be zeroed alone: all
    /// layers that add to the stream lose it, and [`coupled`](Self::coupled) lists them.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a site that does not exist, [`Error::Invalid`] for a unit that it does not have,
    /// [`Error::Refused`] where it cannot be done exactly.
    pub fn zero(graph: &Graph, units: &[UnitId]) -> Result<ZeroPlan> {
        let mut group = Group::default();
        for id in units {
            let site = site_of(graph, id)?;
            let done = silence::zero(graph, site, id.unit, &mut group).or_else(|(kind, why)| match kind {
                Reason::Output => Err((kind, why)),
                // Everything that could leave with it, at 0: nobody reads the unit any more.
                _ => by_coupling(graph, site, id.unit, &mut group).map_err(|_| (kind, why)),
            });
            done.map_err(|(kind, reason)| Error::Refused { kind, action: "zero", unit: id.to_string(), reason })?;
        }
        let touched = Touched::by_zeros(
            graph,
            group.weights.iter().map(|(parameter, ..)| *parameter).collect(),
            group.silent.iter().map(|(value, ..)| *value).collect(),
        );
        let notes = touched.notes(graph).map_err(|reason| Error::Refused {
            kind: Reason::UnseenCode,
            action: "zero",
            unit: super::list(units),
            reason,
        })?;
        let mut coupled: BTreeSet<UnitId> = units.iter().cloned().collect();
        let mut at_value: BTreeMap<(usize, i64), Vec<usize>> = BTreeMap::new();
        for &(value, dimension, channel) in &group.silent {
            at_value.entry((value, dimension)).or_default().push(channel as usize);
        }
        let mut masks = Vec::new();
        for ((value, dimension), channels) in at_value {
            let counts = |s: &Site| s.value == value && s.unit_dimension() == dimension;
            for site in graph.sites().iter().filter(|s| counts(s)) {
                coupled.extend(channels.iter().map(|c| UnitId::new(&site.name, *c)));
            }
            // Values without a name are part of the group as well: a residual stream inside closures.
            let named = graph.sites().iter().find(|s| counts(s)).cloned();
            let site = named.or_else(|| find::unplaced(graph, format!("value {value}"), value).filter(counts));
            masks.extend(site.map(|site| Mask { site, units: channels }));
        }
        // What shares its memory with something else is masked before or behind it.
        let asked = |m: &Mask| units.iter().any(|u| graph.site(&u.site).is_ok_and(|s| s.value == m.site.value));
        masks.retain(|m| asked(m) || graph.check_mask(m).is_ok());
        Ok(ZeroPlan {
            units: units.to_vec(),
            coupled: coupled.into_iter().collect(),
            slices: slices(graph, &group),
            notes,
            masks,
        })
    }

    /// The masks that have the same effect as the edit.
    pub fn masks(&self) -> &[Mask] {
        &self.masks
    }

    /// Applies the plan to `model`, in place, and verifies it on `example`.
    ///
    /// # Errors
    /// [`Error::RolledBack`] when the edited model's output is not finite, has another shape, or is not that of the
    /// masked model; the model's parameters are then what they were, to the bit.
    pub fn apply(&self, traced: &Traced<'_>, example: &Tensor) -> Result<Applied> {
        let expected = traced.read_masked(&[], &self.masks, example, |_, _| Ok(()))?;
        let applied = self.apply_unverified(traced.model())?;
        match verify::outputs(traced.model(), example, &[expected]) {
            Ok(difference) => Ok(Applied { difference, ..applied }),
            Err((kind, reason)) => {
                applied.undo()?;
                Err(Error::RolledBack { kind, reason })
            }
        }
    }

    fn apply_unverified(&self, model: &Model<'_>) -> Result<Applied> {
        let mut applied = Applied { entries: Vec::new(), difference: 0.0 };
        for slice in &self.slices {
            let silenced = parameter_of(model, slice).and_then(|parameter| {
                let zeroed = Zeroed::read(parameter, slice)?;
                zeroed.silence(parameter).map(|()| (parameter.shallow_clone(), zeroed))
            });
            match silenced {
                Ok(entry) => applied.entries.push(entry),
                Err(error) => {
                    applied.undo()?;
                    return Err(error);
                }
            }
        }
        Ok(applied)
    }
}

impl fmt::Display for ZeroPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "zero {}", super::list(&self.units))?;
        self.slices.iter().try_for_each(|slice| writeln!(f, "  {slice}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

/// An edit that has been made. Dropping it keeps the edit.
#[derive(Debug)]
#[must_use = "dropping this keeps the edit but forgets how to undo it"]
pub struct Applied {
    entries: Vec<(Tensor, Zeroed)>,
    /// The largest difference between the edited model's output and that of the masked model, on the example.
    pub difference: f64,
}

impl Applied {
    /// Sets the slices to 0 again; to be called after an optimizer step, whose momentum or weight decay may move them.
    ///
    /// # Errors
    /// [`Error::Torch`] when a parameter has been given another shape meanwhile.
    pub fn enforce(&self) -> Result<()> {
        self.entries.iter().try_for_each(|(parameter, zeroed)| zeroed.silence(parameter))
    }

    /// What was set to 0, without the parameters themselves.
    pub(crate) fn zeroed(self) -> impl Iterator<Item = Zeroed> {
        self.entries.into_iter().map(|(_, zeroed)| zeroed)
    }

    /// Puts back the exact numbers that the edit replaced.
    ///
    /// # Errors
    /// [`Error::Torch`] when a parameter has been given another shape meanwhile.
    pub fn undo(self) -> Result<()> {
        // In reverse: slices of one parameter may overlap.
        self.entries.iter().rev().try_for_each(|(parameter, zeroed)| zeroed.restore(parameter))
    }
}

/// Adds to `group` what would leave if the unit were pruned, where that is as good as a mask.
fn by_coupling(graph: &Graph, site: &Site, unit: usize, group: &mut Group) -> Result<(), ()> {
    let mut coupling = Coupling::new(graph);
    coupling.cut_unit(site, unit);
    coupling.close();
    // How many channels a convolution has stands in the code; a zeroed channel stays where it is.
    let named = graph.named();
    if coupling.refusals.iter().any(|r| r.kind != Reason::GroupedConvolution) || named == 0 {
        return Err(());
    }
    for (value, cut) in coupling.cuts() {
        for (d, gone) in cut.axes.iter().enumerate() {
            match (graph.values[value].origin, graph.values[value].parameter) {
                (Origin::Parameter, Some((p, _))) if p < named => {
                    group.weights.extend(gone.iter().map(|i| (p, d as i64, *i)));
                }
                (Origin::Parameter, _) if !gone.is_empty() => return Err(()),
                _ => group.silent.extend(gone.iter().map(|i| (value, d as i64, *i))),
            }
        }
    }
    Ok(())
}

fn slices(graph: &Graph, group: &Group) -> Vec<Slice> {
    let mut by_place: BTreeMap<(&str, i64), Vec<i64>> = BTreeMap::new();
    for &(parameter, dimension, index) in &group.weights {
        by_place.entry((graph.parameters[parameter].as_str(), dimension)).or_default().push(index);
    }
    by_place
        .into_iter()
        .map(|((parameter, dimension), indices)| Slice { parameter: parameter.to_string(), dimension, indices })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{NoOptimizer, PrunePlan};
    use super::*;
    use tch::nn::{self, Module};
    use tch::{Device, Kind};

    #[test]
    fn zeroed_units_are_followed_when_others_are_pruned() {
        let vs = nn::VarStore::new(Device::Cpu);
        let p = vs.root();
        let (a, b, c) = (
            nn::linear(&p / "a", 5, 6, Default::default()),
            nn::linear(&p / "b", 6, 4, Default::default()),
            nn::linear(&p / "c", 4, 2, Default::default()),
        );
        let net = nn::func(move |x| c.forward(&b.forward(&a.forward(x).relu()).relu()));
        let model = Model::new(&vs, &net);
        let x = Tensor::randn([3, 5], (Kind::Float, Device::Cpu));
        let graph = Traced::new(&model, &x).unwrap();
        let weight = |name: &str| vs.variables()[name].detach().copy();
        let (a3, b2) = (weight("a.weight").get(3), weight("b.weight").get(2));
        // b/2 reads a/1 by the weight that is pruned below.
        let units = [UnitId::new("a", 3), UnitId::new("b", 2)];
        let applied = ZeroPlan::zero(&graph, &units).unwrap().apply(&graph, &x).unwrap();
        let plan = PrunePlan::new(&graph, &[UnitId::new("a", 1), UnitId::new("b", 0)]).unwrap();
        let _ = plan.apply(&graph, &x, NoOptimizer).unwrap();
        let follow = |z: Zeroed| z.without(&plan.slices).unwrap();
        let zeroed: Vec<Zeroed> = applied.zeroed().filter_map(follow).collect();
        // Training would move them.
        tch::no_grad(|| vs.variables().values_mut().for_each(|t| drop(t.g_add_scalar_(0.5))));
        zeroed.iter().for_each(|z| z.enforce(&model).unwrap());
        let rows = |name: &str, row: i64| weight(name).get(row).abs().sum(Kind::Float).double_value(&[]);
        assert_eq!((rows("a.weight", 2), rows("b.weight", 1)), (0.0, 0.0), "a/3 is a/2 now, b/2 is b/1");
        assert!(rows("a.weight", 1) > 0.0 && rows("b.weight", 0) > 0.0);
        zeroed.iter().rev().for_each(|z| z.restore(model.parameter(&z.slice.parameter).unwrap()).unwrap());
        assert_eq!(weight("a.weight").get(2), a3);
        assert_eq!(weight("b.weight").get(1), b2.index_select(0, &Tensor::from_slice(&[0i64, 2, 3, 4, 5])));
    }
}
