//! What leaves with a unit: which elements of which tensors can only go together.
//!
//! The analysis starts from some channels and repeats, for every operator that touches what leaves, that operator's rule
//! (`rules`) until nothing changes. What cannot be cut exactly is written down as a [`Refusal`], never guessed.

mod cut;
mod rules;

pub(crate) use cut::Cut;

use crate::Reason;
use crate::graph::movement::Movement;
use crate::graph::{Graph, Origin, Site, SiteKind, ValueId, attention};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tch::Tensor;

/// Why something cannot be cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    pub kind: Reason,
    pub text: String,
}

/// A place where channels are counted: dimension `dimension` of a value. What leaves at any position along `over`
/// leaves at all of them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub value: ValueId,
    pub dimension: usize,
    pub over: Vec<usize>,
}

/// The analysis of one request.
#[derive(Debug)]
pub(crate) struct Coupling<'g> {
    pub graph: &'g Graph,
    cuts: BTreeMap<ValueId, Cut>,
    /// Per value the operators that read or made it.
    touching: Vec<Vec<usize>>,
    queue: VecDeque<usize>,
    movements: BTreeMap<usize, Option<Movement>>,
    pub refusals: BTreeSet<Refusal>,
    /// Operators whose arguments in the model's code must follow the new sizes.
    pub relies_on: BTreeSet<String>,
}

impl<'g> Coupling<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        let mut touching = vec![Vec::new(); graph.values.len()];
        for (i, op) in graph.ops.iter().enumerate() {
            for v in op.reads().chain(op.outputs.iter().copied()) {
                if touching[v].last() != Some(&i) {
                    touching[v].push(i);
                }
            }
        }
        Self {
            graph,
            cuts: BTreeMap::new(),
            touching,
            queue: VecDeque::new(),
            movements: BTreeMap::new(),
            refusals: BTreeSet::new(),
            relies_on: BTreeSet::new(),
        }
    }

    /// Cuts a unit of a site; of an attention head everything that it is made from.
    pub fn cut_unit(&mut self, site: &Site, unit: usize) {
        let gone = BTreeSet::from([unit as i64]);
        self.cut(site.value, site.unit_dimension() as usize, &gone);
        if site.kind == SiteKind::Heads {
            let graph = self.graph;
            let own = attention::find(graph).into_iter().find(|a| a.output == site.value);
            own.into_iter().flat_map(|a| a.parts).for_each(|v| self.cut(v, 1, &gone));
        }
    }

    /// Cuts `indices` of dimension `d` of a value.
    pub fn cut(&mut self, value: ValueId, d: usize, indices: &BTreeSet<i64>) {
        if indices.is_empty() {
            return;
        }
        let shape = &self.graph.values[value].shape;
        let cut = self.cuts.entry(value).or_insert_with(|| Cut::new(shape));
        if cut.add(d, indices) {
            self.changed(value);
        }
    }

    /// Cuts single elements of a value, given as truth values of its shape.
    fn cut_elements(&mut self, value: ValueId, elements: &Tensor) {
        if elements.any().int64_value(&[]) == 0 {
            return;
        }
        let shape = &self.graph.values[value].shape;
        let cut = self.cuts.entry(value).or_insert_with(|| Cut::new(shape));
        if cut.add_elements(elements) {
            self.changed(value);
        }
    }

    fn changed(&mut self, value: ValueId) {
        if self.cuts[&value].is_everything() {
            let what = self.name(value);
            self.refuse(Reason::Empty, format!("nothing would be left of {what}"));
            self.queue.clear();
            return;
        }
        for op in &self.touching[value] {
            if !self.queue.contains(op) {
                self.queue.push_back(*op);
            }
        }
    }

    /// What leaves at several places leaves at all of them.
    pub fn tie(&mut self, places: &[Place]) {
        let mut all = BTreeSet::new();
        for place in places {
            all.extend(self.touched(place));
        }
        for place in places {
            self.cut(place.value, place.dimension, &all);
        }
    }

    pub fn touched(&self, place: &Place) -> BTreeSet<i64> {
        self.cuts.get(&place.value).map(|c| c.touched(place.dimension, &place.over)).unwrap_or_default()
    }

    pub fn refuse(&mut self, kind: Reason, text: impl Into<String>) {
        self.refusals.insert(Refusal { kind, text: text.into() });
    }

    /// What leaves of a value; `None` when nothing does.
    pub fn of(&self, value: ValueId) -> Option<&Cut> {
        self.cuts.get(&value)
    }

    pub fn cuts(&self) -> impl Iterator<Item = (ValueId, &Cut)> {
        self.cuts.iter().map(|(v, c)| (*v, c))
    }

    /// The name of a parameter, or of the operator that made a value.
    pub fn name(&self, value: ValueId) -> String {
        match self.graph.values[value].origin {
            Origin::Input => "the model's input".to_string(),
            Origin::Parameter => {
                let parameter = self.graph.values[value].parameter.map_or(0, |(p, _)| p);
                format!("`{}`", self.graph.parameters[parameter])
            }
            Origin::Op(op) => format!("what `{}` makes", self.graph.ops[op].aten),
        }
    }

    /// Repeats the rules until nothing changes, then looks at what cannot be cut.
    pub fn close(&mut self) {
        while let Some(op) = self.queue.pop_front() {
            rules::apply(self, op);
            if self.refusals.iter().any(|r| r.kind == Reason::Empty) {
                return;
            }
        }
        rules::check(self);
        self.check_values();
        self.check_movements();
    }

    fn check_values(&mut self) {
        let graph = self.graph;
        let mut refusals = Vec::new();
        for (v, cut) in self.cuts() {
            match graph.values[v].origin {
                Origin::Input => {
                    refusals.push((Reason::Input, "its channels are channels of the model's input".to_string()))
                }
                Origin::Op(op) if !graph.ops[op].outputs.contains(&v) => refusals.push((
                    Reason::UnknownOperator,
                    format!("`{}` writes to memory that is also read through another view", graph.ops[op].aten),
                )),
                _ => {}
            }
            if graph.outputs.contains(&v) {
                refusals.push((Reason::Output, "its channels are entries of the model's output".to_string()));
            }
            if cut.is_scattered() {
                refusals.push((
                    Reason::Layout,
                    format!("the elements that leave {} are no rectangular slice of it", self.name(v)),
                ));
            }
        }
        for (kind, text) in refusals {
            self.refuse(kind, text);
        }
    }

    /// Where elements are moved by sizes that may stand in the model's code.
    fn check_movements(&mut self) {
        let graph = self.graph;
        let mut found = BTreeSet::new();
        for (&index, movement) in &self.movements {
            let Some(movement) = movement else { continue };
            let op = &graph.ops[index];
            let kept = |v: ValueId, numbers: Tensor| match self.cuts.get(&v) {
                None => numbers,
                Some(cut) => (0..numbers.dim())
                    .filter(|d| !cut.axes[*d].is_empty())
                    .fold(numbers.shallow_clone(), |t, d| t.index_select(d as i64, &Tensor::from_slice(&cut.kept(d)))),
            };
            let scattered =
                op.reads().chain(op.outputs.iter().copied()).any(|v| self.of(v).is_some_and(Cut::is_scattered));
            if !scattered && !movement.still_holds(graph, op, kept) {
                let made = op.outputs.first().map(|v| format!("{:?}", graph.values[*v].shape)).unwrap_or_default();
                found.insert(if op.aten.is_empty() {
                    format!("an operator of TorchScript that makes {made}")
                } else {
                    format!("`{}` that makes {made}", op.aten)
                });
            }
        }
        self.relies_on.extend(found);
    }
}
