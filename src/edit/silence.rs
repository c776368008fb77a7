//! Which weights must become 0 so that a unit is 0, and which other units become 0 with it.

use crate::Reason;
use crate::graph::{Graph, Op, Operand, Site, ValueId, layer::product_weight, layer::weight_of, ops};
use std::collections::BTreeSet;

/// A coupled group: what is set to 0, and what is 0 because of it.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// `(parameter, dimension, index)`.
    pub weights: BTreeSet<(usize, i64, i64)>,
    /// `(value, dimension, channel)`.
    pub silent: BTreeSet<(ValueId, i64, i64)>,
}

/// Adds to `group` what zeroing one unit takes, or says why it cannot be done exactly; `group` is then unchanged.
pub(super) fn zero(graph: &Graph, site: &Site, unit: usize, group: &mut Group) -> Result<(), (Reason, String)> {
    if graph.outputs.contains(&site.value) {
        return Err((Reason::Output, "it is an output of the model".to_string()));
    }
    let (dimension, channel) = (site.unit_dimension(), unit as i64);
    let mut work = Walk { graph, group: Group::default() };
    let done = match work.silence(site.value, dimension, channel) {
        Ok(()) => work.follow_shared_weights(),
        // The producers cannot do it: let nobody read the unit.
        Err(producers) => {
            work.group = Group::default();
            work.group.silent.insert((site.value, dimension, channel));
            work.deafen(site.value, dimension, channel).map_err(|consumers| {
                if consumers == producers { producers } else { format!("{producers}; and {consumers}") }
            })
        }
    };
    done.map_err(|text| (Reason::Other, text)).map(|()| {
        group.weights.append(&mut work.group.weights);
        group.silent.append(&mut work.group.silent);
    })
}

struct Walk<'g> {
    graph: &'g Graph,
    group: Group,
}

impl Walk<'_> {
    /// Makes channel `channel` of `value` zero by zeroing what makes it.
    fn silence(&mut self, value: ValueId, dimension: i64, channel: i64) -> Result<(), String> {
        if !self.group.silent.insert((value, dimension, channel)) {
            return Ok(());
        }
        let graph = self.graph;
        let index = graph.producer(value).ok_or("it is made from the model's input without weights")?;
        let op = &graph.ops[index];
        let name = op.name.as_str();
        let inputs: Vec<ValueId> = graph.data_inputs(index).collect();
        let same = |v: &ValueId| graph.values[*v].shape == graph.values[value].shape;
        match name {
            _ if ops::is_layer(name) => self.silence_layer(index, dimension, channel),
            _ if ops::is_normalisation(name) => {
                self.silence_scale_and_shift(index, channel)?;
                match inputs.as_slice() {
                    // Also what it normalises, where nobody else reads that: else training would revive the scale.
                    [input] if graph.consumers(*input).count() == 1 => {
                        let before = (self.group.weights.clone(), self.group.silent.clone());
                        if self.silence(*input, dimension, channel).is_err() {
                            (self.group.weights, self.group.silent) = before;
                        }
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            _ if ops::maps_zero_to_zero(name) == Some(true) => {
                if !ops::zero_within(name, &numbers(op)) {
                    return Err(format!("`{name}` does not leave 0 where it is"));
                }
                self.silence(first(&inputs)?, dimension, channel)
            }
            _ if ops::maps_zero_to_zero(name) == Some(false) => {
                Err(format!("`{name}` turns 0 into something else, so zeroed weights would not silence it"))
            }
            "add" | "sub" => {
                if inputs.len() == 1 && graph.parameters_of(index).count() == 1 {
                    self.silence_shift(index, value, dimension, channel)?;
                } else if !inputs.iter().all(same) || op.reads().count() < 2 {
                    return Err(format!("`{name}` adds something that is not a channel of the same shape"));
                }
                inputs.into_iter().try_for_each(|v| self.silence(v, dimension, channel))
            }
            "mul" | "div" => {
                let input = inputs.iter().copied().find(same).ok_or("a product broadcasts all its factors")?;
                self.silence(input, dimension, channel)
            }
            "cat" => self.silence_part(op, dimension, channel),
            _ if keeps_channels(graph, op, value, dimension) => self.silence(first(&inputs)?, dimension, channel),
            _ => Err(format!("operator `{}` mixes or moves channels in a way that is not known", op.aten)),
        }
    }

    /// The row of a layer's weight that makes the channel, and its bias.
    fn silence_layer(&mut self, index: usize, dimension: i64, channel: i64) -> Result<(), String> {
        let (graph, op) = (self.graph, &self.graph.ops[index]);
        let (weight, transposed) =
            weight_of(graph, index).ok_or_else(|| no_weight(graph, index, "its layer has no weight of its own"))?;
        self.nameable(weight)?;
        let rows = if op.name == "linear" {
            let rank = graph.values[op.outputs[0]].shape.len() as i64;
            if dimension != rank - 1 {
                return Err("the layer's channels lie in another dimension".to_string());
            }
            outputs_dimension(op, transposed)
        } else if op.is_transposed_convolution() && op.groups() != 1 {
            return Err("a transposed convolution with groups keeps its outputs in two dimensions".to_string());
        } else {
            outputs_dimension(op, transposed)
        };
        self.group.weights.insert((weight, rows, channel));
        self.silence_vector_parameters(index, channel)
    }

    fn silence_scale_and_shift(&mut self, index: usize, channel: i64) -> Result<(), String> {
        let op = &self.graph.ops[index];
        // Running statistics come after scale and shift in every normalisation's argument list.
        let affine: Vec<usize> = op
            .inputs
            .iter()
            .skip(1)
            .filter_map(|o| if let Operand::Value(v) = o { self.graph.values[*v].parameter } else { None })
            .map(|(p, _)| p)
            .take(2)
            .collect();
        let second_is_absent = op.inputs.get(2).is_none_or(|o| *o == Operand::None);
        match (op.name.as_str(), affine.as_slice()) {
            ("layer_norm" | "group_norm" | "batch_norm" | "instance_norm", [scale, shift]) if !second_is_absent => {
                for parameter in [*scale, *shift] {
                    self.nameable(parameter)?;
                    self.group.weights.insert((parameter, 0, channel));
                }
                Ok(())
            }
            _ => Err(format!("`{}` has no scale and shift of its own to zero", op.name)),
        }
    }

    /// The entries of the parameter that an addition adds to the channel.
    fn silence_shift(&mut self, index: usize, sum: ValueId, dimension: i64, channel: i64) -> Result<(), String> {
        let graph = self.graph;
        let shape = &graph.values[sum].shape;
        for v in graph.ops[index].reads() {
            let Some((parameter, transposed)) = graph.values[v].parameter else { continue };
            let own = &graph.values[v].shape;
            let counts = (dimension as usize + own.len())
                .checked_sub(shape.len())
                .filter(|d| !transposed && own[*d] == shape[dimension as usize]);
            let d = counts.ok_or("a parameter that is added to it has no entries of its own for the channel")?;
            self.nameable(parameter)?;
            self.group.weights.insert((parameter, d as i64, channel));
        }
        Ok(())
    }

    fn silence_vector_parameters(&mut self, index: usize, channel: i64) -> Result<(), String> {
        let graph = self.graph;
        for v in graph.ops[index].reads() {
            if let (Some((parameter, _)), [_]) = (graph.values[v].parameter, graph.values[v].shape.as_slice()) {
                self.nameable(parameter)?;
                self.group.weights.insert((parameter, 0, channel));
            }
        }
        Ok(())
    }

    /// The part of a concatenation that a channel comes from.
    fn silence_part(&mut self, op: &Op, dimension: i64, mut channel: i64) -> Result<(), String> {
        let parts: Vec<ValueId> = op.reads().collect();
        let rank = parts.first().map_or(0, |v| self.graph.values[*v].shape.len() as i64);
        let along = op.inputs.iter().find_map(|o| if let Operand::Int(d) = o { Some(*d) } else { None }).unwrap_or(0);
        if along.rem_euclid(rank.max(1)) != dimension {
            return parts.into_iter().try_for_each(|v| self.silence(v, dimension, channel));
        }
        for v in parts {
            let width = self.graph.values[v].shape[dimension as usize];
            if channel < width {
                return self.silence(v, dimension, channel);
            }
            channel -= width;
        }
        Err("the channel lies outside its concatenation".to_string())
    }

    /// Zeroes the columns of every layer that reads the channel.
    fn deafen(&mut self, value: ValueId, dimension: i64, channel: i64) -> Result<(), String> {
        let graph = self.graph;
        if graph.outputs.contains(&value) {
            return Err("it reaches the model's output".to_string());
        }
        for index in graph.consumers(value) {
            let op = &graph.ops[index];
            if ops::is_layer(&op.name) {
                let (weight, transposed) = weight_of(graph, index)
                    .ok_or_else(|| no_weight(graph, index, "a layer that reads it has no weight"))?;
                self.nameable(weight)?;
                if op.name == "conv" && op.groups() != 1 {
                    return Err("a grouped convolution reads it".to_string());
                }
                let outputs = outputs_dimension(op, transposed);
                self.group.weights.insert((weight, 1 - outputs, channel));
                self.deafen_other_uses(weight, index, dimension, channel)?;
                continue;
            }
            let &next = op.outputs.first().ok_or("an operator without output reads it")?;
            let keeps_zero = ops::maps_zero_to_zero(&op.name) == Some(true) && ops::zero_within(&op.name, &numbers(op));
            if keeps_zero || keeps_channels(graph, op, next, dimension) {
                // Element-wise and per channel: what the columns behind it do not read cannot matter.
                self.deafen(next, dimension, channel)?;
            } else {
                return Err(format!("operator `{}` reads it", op.aten));
            }
        }
        Ok(())
    }

    /// A layer that is used twice stops reading the channel in both uses: what it reads in the other is in the group too.
    fn deafen_other_uses(&mut self, weight: usize, index: usize, dimension: i64, channel: i64) -> Result<(), String> {
        let graph = self.graph;
        let uses = (0..graph.ops.len()).filter(|&i| i != index && graph.parameters_of(i).any(|(p, _)| p == weight));
        for other in uses.collect::<Vec<_>>() {
            if graph.ops[other].outputs.iter().any(|&v| graph.values[v].parameter.is_some()) {
                continue; // a view of the weight
            }
            let input = graph.data_inputs(other).next().ok_or("a layer reads nothing")?;
            if graph.values[input].shape.len()
                != graph.values[first(&graph.data_inputs(index).collect::<Vec<_>>())?].shape.len()
            {
                return Err("a layer that reads it is also used on tensors of another rank".to_string());
            }
            if self.group.silent.insert((input, dimension, channel)) {
                self.deafen(input, dimension, channel)?;
            }
        }
        Ok(())
    }

    /// A layer that is used twice is silenced twice: marks what its other uses make, through what keeps zeros.
    fn follow_shared_weights(&mut self) -> Result<(), String> {
        let graph = self.graph;
        for index in 0..graph.ops.len() {
            let op = &graph.ops[index];
            let Some(&output) = op.outputs.first() else { continue };
            if ops::is_normalisation(&op.name) {
                self.follow_normalisation(index, output)?;
                continue;
            }
            let dimension = match op.name.as_str() {
                "conv" => 1,
                "linear" => graph.values[output].shape.len() as i64 - 1,
                _ => continue,
            };
            let Some((weight, transposed)) = weight_of(graph, index) else { continue };
            let outputs = outputs_dimension(op, transposed);
            let rows: Vec<i64> = self
                .group
                .weights
                .iter()
                .filter(|(p, d, _)| *p == weight && *d == outputs)
                .map(|(_, _, i)| *i)
                .collect();
            let reads_others = self.group.weights.iter().any(|(p, d, channel)| {
                let input = graph.data_inputs(index).next().map(|v| (v, dimension, *channel));
                *p == weight && *d == 1 - outputs && input.is_none_or(|i| !self.group.silent.contains(&i))
            });
            if reads_others {
                return Err("its weights are tied to a layer that reads other units through them".to_string());
            }
            for channel in rows {
                // It may have a bias of its own.
                self.silence_vector_parameters(index, channel)?;
                self.mark(output, dimension, channel);
            }
        }
        // What is silent stays silent through operators that keep zeros: for the report, and for masking.
        for (value, dimension, channel) in self.group.silent.clone() {
            self.mark(value, dimension, channel);
        }
        Ok(())
    }

    /// What a normalisation makes of channels whose scale and shift are 0.
    fn follow_normalisation(&mut self, index: usize, output: ValueId) -> Result<(), String> {
        let graph = self.graph;
        let affine: Vec<usize> = graph.parameters_of(index).map(|(p, _)| p).take(2).collect();
        let at_0 = |p: usize| -> BTreeSet<i64> {
            self.group.weights.iter().filter(|(own, d, _)| *own == p && *d == 0).map(|(.., c)| *c).collect()
        };
        let channels = match affine.as_slice() {
            [scale, shift] if at_0(*scale) == at_0(*shift) => at_0(*scale),
            all if all.iter().all(|p| at_0(*p).is_empty()) => return Ok(()),
            _ => return Err("a normalisation shares only its scale or only its shift with another".to_string()),
        };
        let last = graph.values[output].shape.len() as i64 - 1;
        let dimension = if graph.ops[index].name == "layer_norm" { last } else { 1 };
        channels.into_iter().for_each(|channel| self.mark(output, dimension, channel));
        Ok(())
    }

    fn mark(&mut self, value: ValueId, dimension: i64, channel: i64) {
        self.group.silent.insert((value, dimension, channel));
        for index in self.graph.consumers(value) {
            let op = &self.graph.ops[index];
            let keeps_zero = ops::maps_zero_to_zero(&op.name) == Some(true) && ops::zero_within(&op.name, &numbers(op));
            if let (true, Some(&next)) = (keeps_zero, op.outputs.first())
                && !self.group.silent.contains(&(next, dimension, channel))
            {
                self.mark(next, dimension, channel);
            }
        }
    }

    fn nameable(&self, parameter: usize) -> Result<(), String> {
        let named = self.graph.named();
        if parameter < named {
            return Ok(());
        }
        Err("its weights have no name (a frozen module: export it without freezing)".to_string())
    }
}

/// Why a layer has no weight that can be edited: `otherwise`, unless it is computed in the forward pass.
fn no_weight(graph: &Graph, layer: usize, otherwise: &str) -> String {
    let weight = product_weight(graph, layer).and_then(|v| graph.producer(v));
    weight.map_or(otherwise.to_string(), |op| {
        format!("a layer's weight is computed in the forward pass, by `{}`", graph.ops[op].aten)
    })
}

fn first(inputs: &[ValueId]) -> Result<ValueId, String> {
    inputs.first().copied().ok_or_else(|| "an operator reads nothing".to_string())
}

fn numbers(op: &Op) -> Vec<f64> {
    op.inputs
        .iter()
        .filter_map(|o| match o {
            Operand::Int(i) => Some(*i as f64),
            Operand::Float(x) => Some(*x),
            _ => None,
        })
        .collect()
}

/// Pooling and reshaping that leave channel `c` of the input at channel `c` of the output, and 0 where it is.
fn keeps_channels(graph: &Graph, op: &Op, output: ValueId, dimension: i64) -> bool {
    let Some(Operand::Value(input)) = op.inputs.first() else { return false };
    let (from, to) = (&graph.values[*input].shape, &graph.values[output].shape);
    let per_channel = from.get(1) == to.get(1) && from.first() == to.first() && dimension == 1;
    match op.name.as_str() {
        name if name.contains("pool") || name.starts_with("upsample") => per_channel,
        "mean" | "sum" | "amax" => {
            per_channel
                && op.inputs.iter().any(|o| matches!(o, Operand::Ints(d) if d.iter().all(|d| *d >= 2 || *d < 0)))
        }
        "dropout" | "feature_dropout" | "alias" | "clone" | "contiguous" | "detach" => from == to,
        "flatten" | "view" | "reshape" | "unsafe_view" | "squeeze" => {
            per_channel && from.iter().skip(2).product::<i64>() == to.iter().skip(2).product::<i64>()
        }
        _ => false,
    }
}

/// The dimension of the parameter that counts a layer's outputs. linear(x, W) has them in rows, addmm(b, x, W) in columns;
/// `transposed` when W is a transposed view of the parameter.
fn outputs_dimension(op: &Op, transposed: bool) -> i64 {
    let in_rows =
        if op.name == "linear" { (op.aten == "aten::linear") != transposed } else { !op.is_transposed_convolution() };
    i64::from(!in_rows)
}
