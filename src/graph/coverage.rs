//! Which layers of a model an audit reaches, and why it does not reach the others: nothing is left out without a word.

use super::site::Site;
use super::{Graph, Op, Operand, Origin, ValueId, layer, names, ops};
use crate::Model;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tch::Kind;

/// A layer with parameters whose units cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct UnreadLayer {
    /// Its name, as a site would be called.
    pub layer: String,
    /// How many numbers its parameters hold.
    pub parameters: u64,
    /// Why: a clause, lower case, without a full stop.
    pub reason: String,
}

/// Why a layer cannot be read that no operator of the pass reads.
const IDLE: &str = "it did not run: another method or branch of the code, or a head that is for training only";

impl UnreadLayer {
    /// Whether nothing of it ran in the traced pass.
    pub(crate) fn did_not_run(&self) -> bool {
        self.reason == IDLE
    }
}

/// How much of a model is audited.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Convolutions, linear, attention and recurrent layers and other products with weights; each use of a layer counts.
    pub layers: usize,
    /// Of these, how many are audited.
    pub audited: usize,
    /// Layers that could be audited and were not asked for: other sites than those of the settings, and the classifier
    /// under `auto`.
    pub left_out: Vec<String>,
    /// Layers that cannot be audited.
    pub unaudited: Vec<UnreadLayer>,
    /// How many numbers all parameters of the model hold.
    pub parameters: u64,
}

impl Coverage {
    /// How many numbers the layers hold that cannot be audited.
    pub fn unaudited_parameters(&self) -> u64 {
        self.unaudited.iter().map(|l| l.parameters).sum()
    }

    /// Which share of the model's parameters belongs to layers that cannot be audited, 0 to 1.
    pub fn unaudited_share(&self) -> f64 {
        self.unaudited_parameters() as f64 / self.parameters.max(1) as f64
    }

    /// `19: 10 audited, 1 left out by choice, 8 cannot be audited (85.0 % of the parameters)`.
    pub fn summary(&self) -> String {
        let mut text = format!("{}: {} audited", self.layers, self.audited);
        if !self.left_out.is_empty() {
            text += &format!(", {} left out by choice", self.left_out.len());
        }
        if !self.unaudited.is_empty() {
            let share = 100.0 * self.unaudited_share().min(1.0);
            text += &format!(", {} cannot be audited ({share:.1} % of the parameters)", self.unaudited.len());
        }
        text
    }

    /// `8 of 19 layers (85.0 % of the parameters) cannot be audited`; `None` if all can.
    pub fn remark(&self) -> Option<String> {
        let n = self.unaudited.len();
        let share = 100.0 * self.unaudited_share().min(1.0);
        let layers = if self.layers == 1 { "layer" } else { "layers" };
        (n > 0).then(|| format!("{n} of {} {layers} ({share:.1} % of the parameters) cannot be audited", self.layers))
    }
}

impl Graph {
    /// The layers whose units cannot be read, in order of execution, and then those that did not run.
    pub fn unread_layers(&self) -> &[UnreadLayer] {
        &self.unread
    }

    /// How much of `model` an audit of `sites` covers.
    pub fn coverage(&self, model: &Model<'_>, sites: &[Site]) -> Coverage {
        let of_layer = |name: &str, s: &Site| s.name == name || s.name.strip_suffix("@raw") == Some(name);
        let readable = self.layers.iter().map(|l| &l.name).filter(|name| self.sites.iter().any(|s| of_layer(name, s)));
        let (audited, left_out): (Vec<&String>, Vec<&String>) =
            readable.partition(|name| sites.iter().any(|s| of_layer(name, s)));
        Coverage {
            layers: audited.len() + left_out.len() + self.unread.len(),
            audited: audited.len(),
            left_out: left_out.into_iter().cloned().collect(),
            unaudited: self.unread.clone(),
            parameters: model.parameter_count().max(self.constants.iter().map(|t| t.numel() as u64).sum()),
        }
    }
}

/// The layers that have no site; `reasons` has those whose operator is known, by their place in [`Graph::layers`].
pub(super) fn unread(graph: &Graph, model: &Model<'_>, reasons: &[(usize, String)]) -> Vec<UnreadLayer> {
    let makings = makings(graph);
    let of = |op: usize| graph.fixed(op).flat_map(|v| makings[v].iter().copied()).collect::<BTreeSet<usize>>();
    let numbers = |parameters: &BTreeSet<usize>| parameters.iter().map(|p| numel(graph, model, *p)).sum();
    let mut seen = BTreeSet::new();
    for layer in &graph.layers {
        seen.extend(layer::product_weight(graph, layer.op).into_iter().flat_map(|v| makings[v].iter().copied()));
    }
    let of_layers: Vec<UnreadLayer> = reasons
        .iter()
        .filter_map(|(i, why)| {
            let layer = graph.layers.get(*i)?;
            Some(UnreadLayer { layer: layer.name.clone(), parameters: numbers(&of(layer.op)), reason: why.clone() })
        })
        .collect();
    // What is left: weights that no known product reads, by module.
    let mut others: BTreeMap<String, (BTreeSet<usize>, String)> = BTreeMap::new();
    let mut order = Vec::new();
    // One tensor may have two names.
    let address = |p: usize| graph.tensor(model, &graph.parameters[p]).map_or(0, |t| t.data_ptr() as usize);
    let read: BTreeSet<usize> = makings.iter().flatten().map(|p| address(*p)).collect();
    let is_alias = |p: usize| !makings.iter().any(|m| m.contains(&p)) && read.contains(&address(p));
    let left = |p: &usize| !seen.contains(p) && is_matrix(graph, model, *p) && !is_alias(*p);
    for p in (0..graph.parameters.len()).filter(left) {
        let Some(why) = reader(graph, &makings, p) else { continue };
        let module = names::module(&graph.parameters[p]);
        let is_known = |name: &str| graph.layers.iter().any(|l| l.name == name);
        let name = if module.is_empty() || is_known(&module) { graph.parameters[p].clone() } else { module };
        let entry = others.entry(name.clone()).or_insert_with(|| {
            order.push(name);
            (BTreeSet::new(), why)
        });
        entry.0.insert(p);
    }
    let others = order.into_iter().filter_map(|name| {
        let (mut parameters, reason) = others.remove(&name)?;
        // Its bias, and whatever else is its own.
        let own = |p: &usize| names::module(&graph.parameters[*p]) == name && !seen.contains(p);
        parameters.extend((0..graph.parameters.len()).filter(own));
        Some(UnreadLayer { parameters: numbers(&parameters), layer: name, reason })
    });
    of_layers.into_iter().chain(others.collect::<Vec<_>>()).chain(packed(graph)).collect()
}

/// Layers whose weights are packed into objects of their own: quantised modules, and those that were optimised for inference.
fn packed(graph: &Graph) -> Vec<UnreadLayer> {
    let is_packed = |op: &&Op| {
        let foreign = !op.aten.starts_with("aten::") && !op.aten.starts_with("prim::") && op.name != ops::UNSEEN;
        foreign && op.inputs.contains(&Operand::Other)
    };
    let named = graph.ops.iter().filter(is_packed).enumerate().map(|(i, op)| UnreadLayer {
        layer: format!("{}#{}", op.aten, i + 1),
        parameters: 0,
        reason: "its weights are packed into an object (quantised, or optimised for inference): export the model before that"
            .to_string(),
    });
    named.collect()
}

const RECURRENT: [&str; 8] =
    ["lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"];

/// The parameters that every fixed value is made of.
fn makings(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let mut all: Vec<BTreeSet<usize>> = Vec::with_capacity(graph.values.len());
    for value in &graph.values {
        let own = match value.origin {
            _ if !value.fixed => BTreeSet::new(),
            Origin::Op(op) => graph.ops[op].reads().filter_map(|v| all.get(v)).flatten().copied().collect(),
            Origin::Input | Origin::Parameter => value.parameter.map(|(p, _)| p).into_iter().collect(),
        };
        all.push(own);
    }
    all
}

/// Why the layer that a weight belongs to cannot be read; `None` if it belongs to none: a position, a scale, a mask.
fn reader(graph: &Graph, makings: &[BTreeSet<usize>], parameter: usize) -> Option<String> {
    let made = |v: &ValueId| graph.values[*v].fixed && makings[*v].contains(&parameter);
    let readers: Vec<usize> = (0..graph.ops.len()).filter(|&op| graph.ops[op].reads().any(|v| made(&v))).collect();
    if readers.is_empty() {
        return Some(IDLE.to_string());
    }
    let data = readers.iter().copied().filter(|&op| graph.flowing(op).next().is_some());
    if let Some(op) = data.clone().find(|&op| mixes(graph, op)) {
        let aten = &graph.ops[op].aten;
        return Some(match graph.ops[op].name.as_str() {
            name if RECURRENT.contains(&name) => {
                format!("it is a recurrent layer (`{aten}`), whose units are not read")
            }
            "transformer_encoder_layer_fwd" | "native_multi_head_attention" => format!(
                "it runs inside `{aten}`, the fast path of PyTorch's attention: export the model after \
                 torch.backends.mha.set_fastpath_enabled(False)"
            ),
            "embedding" | "embedding_bag" => format!("it looks up vectors by number (`{aten}`)"),
            _ => format!("its weights are read by `{aten}`, and where that puts its units is not known"),
        });
    }
    let constant = |op: &usize| {
        let reads: Vec<ValueId> = graph.ops[*op].reads().collect();
        let weights = match graph.ops[*op].name.as_str() {
            "bilinear" => reads.get(2..).unwrap_or_default().to_vec(),
            name if ops::is_product(name) => layer::product_weight(graph, *op).into_iter().collect(),
            "native_multi_head_attention" => reads.get(3..).unwrap_or_default().to_vec(),
            name if RECURRENT.contains(&name) || name == "transformer_encoder_layer_fwd" => {
                reads.get(1..).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        };
        graph.is_fixed(*op) && weights.iter().any(|w| makings[*w].contains(&parameter))
    };
    readers.iter().any(constant).then(|| "what it computes does not depend on the image".to_string())
}

/// Whether an operator may be a layer: its result is not what a calculation element by element gives.
fn mixes(graph: &Graph, op: usize) -> bool {
    let name = graph.ops[op].name.as_str();
    let known = ops::is_elementwise(name) || ops::MOVEMENTS.contains(&name) || name == "scaled_dot_product_attention";
    // What a product reads and is not its weight is added, or a learned token.
    if known || name == "prelu" || ops::is_product(name) {
        return false;
    }
    let Some(&output) = graph.ops[op].outputs.first() else { return false };
    let mut shape: Vec<i64> = Vec::new();
    for v in graph.ops[op].reads() {
        let other = &graph.values[v].shape;
        let rank = shape.len().max(other.len());
        let at = |shape: &[i64], d: usize| (d + shape.len()).checked_sub(rank).map_or(1, |d| shape[d]);
        let joint = (0..rank).map(|d| match (at(&shape, d), at(other, d)) {
            (a, b) if a == b || b == 1 => Some(a),
            (1, b) => Some(b),
            _ => None,
        });
        match joint.collect::<Option<Vec<i64>>>() {
            Some(joint) => shape = joint,
            None => return true,
        }
    }
    graph.values[output].shape != shape
}

/// Whether a parameter has the form of a layer's weight.
fn is_matrix(graph: &Graph, model: &Model<'_>, parameter: usize) -> bool {
    let float = |t: &tch::Tensor| matches!(t.kind(), Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
    let name = &graph.parameters[parameter];
    // A scale per channel is no weight, `[1, N]` may be one.
    let wide = |t: &tch::Tensor| t.size().iter().filter(|n| **n > 1).count() >= 2 || name.ends_with("weight");
    graph.tensor(model, name).is_ok_and(|t| t.dim() >= 2 && wide(&t) && float(&t))
}

fn numel(graph: &Graph, model: &Model<'_>, parameter: usize) -> u64 {
    graph.tensor(model, &graph.parameters[parameter]).map_or(0, |t| t.numel() as u64)
}
