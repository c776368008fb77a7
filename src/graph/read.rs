//! Reading and masking sites while a model runs.

use super::fixed::largest;
use super::site::{Route, Site};
use super::{Graph, Traced, ops};
use crate::Reason;
use crate::hook::{self, Arg, Event};
use crate::{Error, Model, Result};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use tch::Tensor;

/// Units to fill with 0 during a forward pass.
#[derive(Debug, Clone)]
pub struct Mask {
    /// Where.
    pub site: Site,
    /// Which channels; others stay as they are.
    pub units: Vec<usize>,
}

impl Traced<'_> {
    /// Runs the model on `input` and hands the activation of every site to `visit`, as soon as it exists.
    ///
    /// `visit` gets the site's position in `sites` and the raw activation (see [`Site::maps`]); a later operator may
    /// overwrite it in place, so what is needed must be copied. Returns the model's output. Sites that lie at the same
    /// value may be named together.
    ///
    /// # Errors
    /// What `visit` returns; [`Error::Forward`]; [`Error::SiteNotSeen`] when a site does not appear.
    pub fn read(
        &self,
        sites: &[Site],
        input: &Tensor,
        visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        self.read_masked(sites, &[], input, visit)
    }

    /// As [`read`](Self::read), with the units of `masks` filled with 0 at every position, before they are read and before
    /// any other operator sees them. The model itself is not changed.
    ///
    /// Filled, not multiplied: NaN x 0 is NaN.
    ///
    /// # Errors
    /// As [`read`](Self::read), and [`Error::Refused`] where the value shares memory with one that means something else.
    pub fn read_masked(
        &self,
        sites: &[Site],
        masks: &[Mask],
        input: &Tensor,
        mut visit: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        for mask in masks {
            self.check_mask(mask)?;
        }
        // Masks come first, so that a site that is masked and read is read masked.
        let routes: Vec<&Route> = masks.iter().map(|m| &m.site.route).chain(sites.iter().map(|s| &s.route)).collect();
        let model = self.model();
        let (given, input) = (input, model.prepare(input)?);
        let named: Vec<Tensor> =
            model.parameters().iter().map(|(_, t)| t).chain(&self.constants).map(Tensor::shallow_clone).collect();
        let follower = RefCell::new(Follower::new(&routes, &named));
        let passed = hook::observe(
            &named,
            |numbers| follower.borrow_mut().name(numbers),
            |event| {
                for arrived in follower.borrow_mut().follow(event) {
                    let Some(activation) = result(event, routes[arrived].last_output()) else { continue };
                    match arrived.checked_sub(masks.len()) {
                        None => fill(&masks[arrived], &activation)?,
                        Some(site) => visit(site, &activation)?,
                    }
                }
                Ok(())
            },
            || model.run(&input),
        )?;
        let output = passed.map_err(|error| model.explained(error, given))?;
        match follower.into_inner().missing() {
            None => Ok(output),
            Some(i) => {
                let site = masks.iter().map(|m| &m.site).chain(sites).nth(i);
                let name = site.map_or_else(String::new, |s| s.name.clone());
                Err(Error::SiteNotSeen { site: name, why: self.code.why_unseen(routes[i].parameter) })
            }
        }
    }

    /// The model with `masks` in force in every pass. Such a model can be run, but neither traced nor attacked: observers do
    /// not nest, and gradients do not pass through masks.
    pub fn masked<'a>(&'a self, masks: &'a [Mask]) -> Model<'a> {
        self.model().with_forward(|xs| self.read_masked(&[], masks, xs, |_, _| Ok(())))
    }
}

impl Graph {
    /// Whether the units of `site` can be masked.
    ///
    /// # Errors
    /// [`Error::Refused`] where its value shares memory with one that means something else.
    pub fn can_mask(&self, site: &Site) -> Result<()> {
        self.check_mask(&Mask { site: site.clone(), units: Vec::new() })
    }

    /// Refuses a mask whose value shares memory with a value that is read later under another meaning.
    pub(crate) fn check_mask(&self, mask: &Mask) -> Result<()> {
        let site = &mask.site;
        if let Some(unit) = mask.units.iter().find(|u| **u >= site.units) {
            return Err(Error::invalid(
                format!("unit of site `{}`", site.name),
                unit,
                format!("0 to {}", site.units.saturating_sub(1)),
            ));
        }
        let value = site.value;
        let Some(made_by) = self.producer(value) else { return Ok(()) };
        let Some(storage) = self.values[value].storage else { return Ok(()) };
        for (i, op) in self.ops.iter().enumerate().skip(made_by + 1) {
            let shared = op
                .reads()
                .find(|&v| v != value && self.values[v].storage == Some(storage) && self.producer(v) < Some(made_by));
            if shared.is_some() {
                return Err(Error::Refused {
                    kind: Reason::Other,
                    action: "mask",
                    unit: format!("site `{}`", site.name),
                    reason: format!(
                        "operator {i} (`{}`) reads the same memory under another meaning; mask the layer before it instead",
                        op.name
                    ),
                });
            }
        }
        Ok(())
    }
}

/// One of the tensors that an operator returns.
fn result(event: &Event<'_>, output: usize) -> Option<Tensor> {
    match output {
        0 => event.output(),
        _ => event.outputs().iter().flat_map(Arg::tensors).nth(output).map(|seen| seen.tensor.shallow_clone()),
    }
}

fn fill(mask: &Mask, activation: &Tensor) -> Result<()> {
    let during = || Error::torch(format!("masking site `{}`", mask.site.name));
    for &unit in &mask.units {
        let _ = activation
            .f_select(mask.site.unit_dimension(), unit as i64)
            .and_then(|mut plane| plane.f_fill_(0.0))
            .map_err(during())?;
    }
    Ok(())
}

/// Follows routes through the operators of a running pass.
struct Follower<'r> {
    routes: Vec<Walk<'r>>,
    /// Fixed tensors by number: the parameter that each is, or was computed of; none for what has no parameter.
    fixed: HashMap<u64, Option<usize>>,
    /// The memory of fixed tensors that were computed, by number: their parameter, and the tensors in it that are known.
    memory: HashMap<u64, (Option<usize>, Vec<u64>)>,
    /// Tensors by number that are not fixed.
    flowing: HashSet<u64>,
    /// Where the parameters lie in memory: first byte, the byte behind the last, and which it is; sorted.
    places: Vec<(usize, usize, usize)>,
    /// How many numbers each parameter holds.
    sizes: Vec<usize>,
    /// How often each parameter has been read by operators that are given more than fixed tensors.
    uses: HashMap<usize, usize>,
}

struct Walk<'r> {
    route: &'r Route,
    at: At,
}

#[derive(Clone, Copy)]
enum At {
    /// Not started.
    Before,
    /// The next step is `step`; the value to follow is the tensor `number`; `skip` operators are still to be passed over.
    On {
        step: usize,
        number: u64,
        skip: usize,
    },
    Arrived,
}

impl Walk<'_> {
    /// The state once `step` steps have been taken and led to the tensor `number`.
    fn next(&self, step: usize, number: u64) -> At {
        match self.route.steps.get(step) {
            Some(next) => At::On { step, number, skip: next.skip },
            None => At::Arrived,
        }
    }
}

impl<'r> Follower<'r> {
    fn new(routes: &[&'r Route], named: &[Tensor]) -> Self {
        let routes = routes.iter().map(|route| Walk { route, at: At::Before }).collect();
        let sizes: Vec<usize> = named.iter().map(Tensor::numel).collect();
        let place = |(i, t): (usize, &Tensor)| {
            let first = t.data_ptr() as usize;
            (first, first + t.numel() * t.kind().elt_size_in_bytes(), i)
        };
        let mut places: Vec<_> = named.iter().enumerate().map(place).collect();
        places.sort_unstable();
        Self {
            routes,
            fixed: HashMap::new(),
            memory: HashMap::new(),
            flowing: HashSet::new(),
            places,
            sizes,
            uses: HashMap::new(),
        }
    }

    fn name(&mut self, numbers: &[u64]) {
        for (i, number) in numbers.iter().enumerate() {
            self.fixed.entry(*number).or_insert(Some(i));
        }
    }

    /// Which routes end at a result of this operator.
    fn follow(&mut self, event: &Event<'_>) -> Vec<usize> {
        let inputs = event.input_numbers();
        let outputs = event.output_numbers();
        if outputs.is_empty() {
            return Vec::new();
        }
        let in_place = ops::is_in_place(event.name(), event.overload());
        if !in_place && outputs.iter().all(|o| inputs.contains(o)) {
            return Vec::new(); // nothing happened, as when it was written down
        }
        if inputs.iter().any(|n| !self.fixed.contains_key(n) && !self.flowing.contains(n)) {
            self.meet(event);
        }
        let name = ops::canonical(event.name());
        let read: BTreeSet<usize> = inputs.iter().filter_map(|n| *self.fixed.get(n)?).collect();
        // Where everything is fixed nothing is computed of the input.
        let flows = !inputs.iter().all(|n| self.fixed.contains_key(n));
        let mut arrived = Vec::new();
        for (i, walk) in self.routes.iter_mut().enumerate() {
            let starts = || flows && read.contains(&walk.route.parameter) && name == walk.route.operator;
            let due = || self.uses.get(&walk.route.parameter).copied().unwrap_or(0) == walk.route.use_number;
            let before = walk.at;
            walk.at = match before {
                At::Before if starts() && due() => outputs.get(walk.route.output).map_or(before, |o| walk.next(0, *o)),
                At::On { step, number, skip }
                    if inputs.contains(&number) && name == walk.route.steps[step].operator =>
                {
                    match skip.checked_sub(1) {
                        Some(skip) => At::On { step, number, skip },
                        None => {
                            let output = outputs.get(walk.route.steps[step].output);
                            output.map_or(before, |o| walk.next(step + 1, *o))
                        }
                    }
                }
                at => at,
            };
            if matches!((before, walk.at), (At::Before | At::On { .. }, At::Arrived)) {
                arrived.push(i);
            }
        }
        self.after(event, &inputs, &outputs, read);
        arrived
    }

    /// Learns what tensors are that no operator was seen to return: the input, and views of parameters that were made
    /// unseen, or of what was computed of them, which lie in their memory.
    fn meet(&mut self, event: &Event<'_>) {
        for seen in event.inputs().iter().flat_map(Arg::tensors) {
            if self.fixed.contains_key(&seen.number) || self.flowing.contains(&seen.number) {
                continue;
            }
            if let Some((root, tensors)) = seen.storage.and_then(|s| self.memory.get_mut(&s)) {
                self.fixed.insert(seen.number, *root);
                tensors.push(seen.number);
                continue;
            }
            let at = if seen.storage.is_some() { seen.tensor.data_ptr() as usize } else { 0 };
            let before = self.places.partition_point(|(first, ..)| *first <= at);
            let under = self.places[..before].last().filter(|(_, behind, _)| at < *behind);
            match under {
                Some((.., parameter)) => drop(self.fixed.insert(seen.number, Some(*parameter))),
                None => drop(self.flowing.insert(seen.number)),
            }
        }
    }

    /// As in [`fixed::mark`](super::fixed): what is computed of fixed tensors is fixed.
    fn after(&mut self, event: &Event<'_>, inputs: &[u64], outputs: &[u64], read: BTreeSet<usize>) {
        let memory = || {
            let outputs = event.outputs();
            let lying = outputs.iter().flat_map(Arg::tensors).filter_map(|seen| Some((seen.storage?, seen.number)));
            lying.collect::<Vec<_>>()
        };
        if inputs.iter().all(|n| self.fixed.contains_key(n)) {
            let roots = inputs.iter().filter_map(|n| *self.fixed.get(n)?);
            let root = largest(roots, |p| self.sizes.get(p).copied().unwrap_or(0));
            for output in outputs {
                self.fixed.entry(*output).or_insert(root);
            }
            for (storage, number) in memory() {
                self.memory.entry(storage).or_insert((root, Vec::new())).1.push(number);
            }
            return;
        }
        // What flows was written into it.
        if ops::is_in_place(event.name(), event.overload()) {
            for (storage, _) in memory() {
                for number in self.memory.remove(&storage).map(|(_, tensors)| tensors).unwrap_or_default() {
                    self.fixed.remove(&number);
                    self.flowing.insert(number);
                }
            }
        }
        for output in outputs {
            self.flowing.insert(*output);
            self.fixed.remove(output);
        }
        for parameter in read {
            *self.uses.entry(parameter).or_insert(0) += 1;
        }
    }

    fn missing(&self) -> Option<usize> {
        self.routes.iter().position(|w| !matches!(w.at, At::Arrived))
    }
}
