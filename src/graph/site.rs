//! Sites: names, layouts, and how to find each again in the next forward pass.

use super::{Graph, Origin, Value, ValueId, attention, ops, scope};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// A value whose channels are neurons.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name, see [`crate::graph`].
    pub name: String,
    /// How the name was formed.
    pub kind: SiteKind,
    /// How many units (channels) it has.
    pub units: usize,
    /// Where in a tensor the units are.
    pub layout: Layout,
    /// Height and width of the activation maps, for the traced input; `(1, 1)` for vectors.
    pub size: (usize, usize),
    pub(crate) value: ValueId,
    pub(crate) route: Route,
}

/// How a site's name was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// A layer after its own normalisation and non-linearity.
    Layer,
    /// A layer directly after its operator.
    Raw,
    /// What leaves a scope.
    Scope,
    /// The heads of an attention, before they are joined.
    Heads,
}

impl SiteKind {
    /// Its name in lists: `layer`, `raw`, `scope`, `heads`.
    pub fn name(self) -> &'static str {
        match self {
            SiteKind::Layer => "layer",
            SiteKind::Raw => "raw",
            SiteKind::Scope => "scope",
            SiteKind::Heads => "heads",
        }
    }
}

/// Where in a tensor the units and the positions are. `N` is the batch, `C` the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[N, C, H, W]`, or `[N, C, L]`.
    FeatureMap,
    /// `[N, C]`.
    Vector,
    /// `[N, T, C]`: `prefix` tokens (class, registers) that have no place in the image, then the patch grid in row order.
    Tokens {
        /// Tokens to drop.
        prefix: usize,
        /// Rows of the patch grid.
        height: usize,
        /// Columns of the patch grid.
        width: usize,
    },
    /// `[N, H, W, C]`.
    ChannelsLast,
    /// `[N, C, T, D]`: a unit is an attention head, its activation at a token the length of the D numbers that it
    /// returns there. Tokens as in [`Tokens`](Self::Tokens).
    Heads {
        /// Tokens to drop.
        prefix: usize,
        /// Rows of the patch grid.
        height: usize,
        /// Columns of the patch grid.
        width: usize,
    },
}

/// How to find a site again in another pass: by the parameter its path starts at and by structure, never by the
/// operators' numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    /// Index into [`Graph::parameters`].
    pub parameter: usize,
    /// Which operator that reads this parameter: 0 for the first.
    pub use_number: usize,
    /// Canonical name of that operator.
    pub operator: String,
    /// Which of its results: 0 for the first.
    pub output: usize,
    /// From there on: the canonical names of the operators to follow.
    pub steps: Vec<Step>,
}

impl Route {
    /// Which result of its last operator the route ends at.
    pub fn last_output(&self) -> usize {
        self.steps.last().map_or(self.output, |step| step.output)
    }
}

/// One operator of a [`Route`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub operator: String,
    /// How many operators of this name read the value before this one.
    pub skip: usize,
    /// Which of its results: 0 for the first, more for the second half of a `chunk`.
    pub output: usize,
}

impl Site {
    /// The site's activation as maps `[N, C, H, W]`, on the same device, in the same kind; a view where possible.
    ///
    /// # Errors
    /// [`Error::Shape`] when `activation` is not laid out like this site.
    pub fn maps(&self, activation: &Tensor) -> Result<Tensor> {
        let size = activation.size();
        let channels = self.units as i64;
        let maps = match (self.layout, size.as_slice()) {
            (Layout::FeatureMap, [_, c, _, _]) if *c == channels => activation.f_alias(),
            (Layout::FeatureMap, [_, c, _]) if *c == channels => activation.f_unsqueeze(2),
            (Layout::Vector, [n, c]) if *c == channels => activation.f_view([*n, *c, 1, 1]),
            (Layout::ChannelsLast, [_, _, _, c]) if *c == channels => activation.f_permute([0, 3, 1, 2]),
            (Layout::Heads { prefix, height, width }, [n, c, t, _])
                if *c == channels && *t == (prefix + height * width) as i64 =>
            {
                activation
                    .f_narrow(2, prefix as i64, (height * width) as i64)
                    .and_then(|x| x.f_square()?.f_sum_dim_intlist(-1, false, None::<Kind>)?.f_sqrt())
                    .and_then(|x| x.f_reshape([*n, *c, height as i64, width as i64]))
            }
            (Layout::Tokens { prefix, height, width }, [n, t, c])
                if *c == channels && *t == (prefix + height * width) as i64 =>
            {
                activation
                    .f_narrow(1, prefix as i64, (height * width) as i64)
                    .and_then(|x| x.f_permute([0, 2, 1]))
                    .and_then(|x| x.f_reshape([*n, *c, height as i64, width as i64]))
            }
            _ => {
                return Err(Error::Shape {
                    what: format!("the activation of site `{}`", self.name),
                    received: size,
                    expected: format!("{} units as {:?}", self.units, self.layout),
                });
            }
        };
        maps.map_err(Error::torch(format!("laying out site `{}`", self.name)))
    }

    /// The dimension of the raw activation that counts units.
    pub(crate) fn unit_dimension(&self) -> i64 {
        match self.layout {
            Layout::FeatureMap | Layout::Vector | Layout::Heads { .. } => 1,
            Layout::Tokens { .. } => 2,
            Layout::ChannelsLast => 3,
        }
    }
}

impl Graph {
    /// The sites that `patterns` name: exact names, globs, or `auto`. In order of the graph, each once.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest names for a name or glob that matches nothing; [`Error::Invalid`] for a glob
    /// that cannot be read, and for a layer that is used more than once and so has several sites.
    pub fn select<S: AsRef<str>>(&self, patterns: &[S]) -> Result<Vec<Site>> {
        let mut chosen = vec![false; self.sites.len()];
        for pattern in patterns {
            let found = self.matching(pattern.as_ref())?;
            found.into_iter().for_each(|i| chosen[i] = true);
        }
        Ok(self.sites.iter().zip(chosen).filter(|(_, c)| *c).map(|(s, _)| s.clone()).collect())
    }

    /// The site called `name`.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn site(&self, name: &str) -> Result<&Site> {
        self.sites.iter().find(|s| s.name == name).ok_or_else(|| self.unknown_site(name))
    }

    fn unknown_site(&self, name: &str) -> Error {
        let uses: Vec<&str> = self.sites.iter().map(|s| s.name.as_str()).filter(|n| is_use_of(n, name)).collect();
        if uses.is_empty() {
            Error::unknown("site", name, self.sites.iter().map(|s| s.name.as_str()))
        } else {
            Error::invalid("site", format!("`{name}`, a layer that is used {} times", uses.len()), uses.join(", "))
        }
    }

    fn matching(&self, pattern: &str) -> Result<Vec<usize>> {
        let indices = |keep: &dyn Fn(&Site) -> bool| {
            self.sites.iter().enumerate().filter(|(_, s)| keep(s)).map(|(i, _)| i).collect::<Vec<_>>()
        };
        if pattern == "auto" {
            let last = self.sites.iter().rposition(|s| s.kind == SiteKind::Layer);
            let classifier = last.map(|i| self.sites[i].name.clone());
            let layers = indices(&|s| s.kind == SiteKind::Layer && Some(&s.name) != classifier.as_ref());
            // A model of one layer has nothing else to offer.
            return Ok(if layers.is_empty() { last.into_iter().collect() } else { layers });
        }
        let exact = indices(&|s| s.name == pattern);
        if !exact.is_empty() {
            return Ok(exact);
        }
        if !pattern.contains(['*', '?', '[', '{']) {
            return Err(self.unknown_site(pattern));
        }
        let glob = crate::glob::compile(pattern)
            .map_err(|why| Error::invalid("site", format!("`{pattern}`"), format!("a glob ({why})")))?;
        // `layer*` means layers and scopes; their other sites are asked for by name.
        let special = pattern.contains('@');
        let found = indices(&|s| glob.is_match(&s.name) && s.name.contains('@') == special);
        if found.is_empty() { Err(self.unknown_site(pattern)) } else { Ok(found) }
    }
}

fn is_use_of(site: &str, layer: &str) -> bool {
    site.strip_prefix(layer).is_some_and(|rest| rest.strip_prefix('#').is_some_and(|n| !n.contains('@')))
}

/// All sites of a graph.
pub(super) fn find(graph: &Graph) -> Vec<Site> {
    let mut sites = Vec::new();
    let layers: Vec<(String, usize)> = layers(graph);
    for (name, op) in &layers {
        let Some(&raw) = graph.ops[*op].outputs.first() else { continue };
        let done = after_own_steps(graph, raw);
        sites.extend(site(graph, name.clone(), SiteKind::Layer, done));
        sites.extend(site(graph, format!("{name}@raw"), SiteKind::Raw, raw));
    }
    for attention in attention::find(graph) {
        let name = format!("{}@heads", attention.scope);
        if !sites.iter().any(|s: &Site| s.name == name) {
            sites.extend(site(graph, name, SiteKind::Heads, attention.output));
        }
    }
    let paths = scope::paths(graph);
    for (name, value) in scope::outputs(graph, &paths) {
        let plain = |s: &Site| s.name == name || is_use_of(&s.name, &name);
        // A scope without a layer (a normalisation) has no neurons of its own.
        let has_layers = layers.iter().any(|(_, op)| paths[*op].as_deref().is_some_and(|p| scope::is_within(p, &name)));
        if has_layers && !sites.iter().any(plain) {
            sites.extend(site(graph, name, SiteKind::Scope, value));
        }
    }
    sites
}

/// The layers in order of execution, each use by itself: name and operator.
fn layers(graph: &Graph) -> Vec<(String, usize)> {
    let weights: Vec<(usize, usize)> = (0..graph.ops.len())
        .filter(|&op| ops::is_layer(&graph.ops[op].name))
        .filter_map(|op| weight_of(graph, op).map(|(parameter, _)| (op, parameter)))
        .collect();
    let mut named: Vec<(String, usize)> = Vec::new();
    for &(op, parameter) in &weights {
        let full = graph.parameters[parameter].as_str();
        let module = scope::module_of(full);
        let taken = weights.iter().any(|&(_, p)| p != parameter && layer_name(&graph.parameters[p]) == module);
        let base = if module.is_empty() || (taken && layer_name(full) != module) { full } else { module };
        let uses: Vec<usize> = weights.iter().filter(|(_, p)| *p == parameter).map(|(op, _)| *op).collect();
        let name = match uses.as_slice() {
            [_] => base.to_string(),
            several => format!("{base}#{}", several.iter().position(|u| *u == op).unwrap_or(0) + 1),
        };
        named.push((name, op));
    }
    named
}

/// `a.conv1` for `a.conv1.weight`; the whole name for anything that is not called `weight`.
fn layer_name(parameter: &str) -> &str {
    parameter.strip_suffix(".weight").unwrap_or(parameter)
}

/// The weight that a layer reads: `(parameter, transposed)`.
pub(crate) fn weight_of(graph: &Graph, op: usize) -> Option<(usize, bool)> {
    graph.ops[op].reads().filter(|&v| graph.values[v].shape.len() >= 2).find_map(|v| graph.values[v].parameter)
}

/// From a layer's raw output through its own bias, normalisation and non-linearity, as long as nothing else reads the
/// value in between.
fn after_own_steps(graph: &Graph, raw: ValueId) -> ValueId {
    let mut value = raw;
    loop {
        let mut consumers = graph.consumers(value);
        let (Some(op), None) = (consumers.next(), consumers.next()) else { return value };
        let name = graph.ops[op].name.as_str();
        let reads_parameter = graph.parameters_of(op).next().is_some();
        let alone = graph.data_inputs(op).all(|v| v == value);
        let own_bias = name == "add" && reads_parameter;
        if !alone || !(ops::is_normalisation(name) || ops::is_activation(name) || own_bias) {
            return value;
        }
        let Some(&next) = graph.ops[op].outputs.first() else { return value };
        value = next;
        if ops::is_activation(name) {
            return value;
        }
    }
}

/// The site at a value; `None` where the value has no units or cannot be found again.
pub(crate) fn site(graph: &Graph, name: String, kind: SiteKind, value: ValueId) -> Option<Site> {
    let shape = &graph.values[value].shape;
    if shape.first() != Some(&graph.batch) || matches!(graph.values[value].origin, Origin::Input | Origin::Parameter) {
        return None;
    }
    // A view of a parameter: whoever masked it would write to the model.
    let borrowed = |v: &Value| v.storage.is_some() && v.origin == Origin::Parameter;
    if graph.values.iter().any(|v| borrowed(v) && v.storage == graph.values[value].storage) {
        return None;
    }
    let last = shape.len() > 2 && graph.channel_dimensions(value) == [shape.len() - 1];
    let (units, layout, size) = match shape.as_slice() {
        [_, c, t, _] if kind == SiteKind::Heads => {
            let (prefix, height, width) = token_grid(graph, *t as usize);
            (*c, Layout::Heads { prefix, height, width }, (height, width))
        }
        [_, c, h, w] if !last => (*c, Layout::FeatureMap, (*h as usize, *w as usize)),
        [_, h, w, c] => (*c, Layout::ChannelsLast, (*h as usize, *w as usize)),
        [_, c] => (*c, Layout::Vector, (1, 1)),
        [_, t, c] if last => {
            let (prefix, height, width) = token_grid(graph, *t as usize);
            (*c, Layout::Tokens { prefix, height, width }, (height, width))
        }
        [_, c, l] => (*c, Layout::FeatureMap, (1, *l as usize)),
        _ => return None,
    };
    let route = route(graph, value)?;
    Some(Site { name, kind, units: units as usize, layout, size, value, route })
}

/// How `tokens` tokens lie on an image: the grid of the convolution that made the patches where there is one, else the
/// largest square that leaves at most 16 tokens over, else a row.
fn token_grid(graph: &Graph, tokens: usize) -> (usize, usize, usize) {
    let mut patches = graph.ops.iter().rev().filter(|op| op.name == "conv").filter_map(|op| {
        match graph.values[*op.outputs.first()?].shape.as_slice() {
            [_, _, h, w] => Some((*h as usize, *w as usize)),
            _ => None,
        }
    });
    let fits = |(h, w): &(usize, usize)| h * w <= tokens && tokens - h * w <= 16;
    if let Some((h, w)) = patches.find(fits) {
        return (tokens - h * w, h, w);
    }
    let side = tokens.isqrt();
    if side > 0 && tokens - side * side <= 16 { (tokens - side * side, side, side) } else { (0, 1, tokens) }
}

/// Walks back from a value to an operator that reads a parameter.
fn route(graph: &Graph, value: ValueId) -> Option<Route> {
    let mut steps = Vec::new();
    let mut v = value;
    loop {
        let op = graph.producer(v)?;
        let name = graph.ops[op].name.clone();
        // Memory that was written through another tensor is no result of the operator that wrote to it.
        let output = graph.ops[op].outputs.iter().position(|o| *o == v)?;
        if let Some((parameter, _)) = graph.parameters_of(op).next()
            && (ops::is_layer(&name) || graph.data_inputs(op).next().is_none_or(|d| graph.producer(d).is_none()))
        {
            let is_view = |o: usize| graph.ops[o].outputs.iter().any(|&v| graph.values[v].parameter.is_some());
            let reads = |o: usize| graph.parameters_of(o).any(|(p, _)| p == parameter);
            let use_number = (0..op).filter(|&o| reads(o) && !is_view(o)).count();
            steps.reverse();
            return Some(Route { parameter, use_number, operator: name, output, steps });
        }
        if name == ops::UNSEEN {
            return None;
        }
        // Of several inputs the one made last: the stream that went through the module, not the one that skipped it.
        let from = graph.data_inputs(op).filter(|&d| graph.producer(d).is_some()).max()?;
        let skip = graph.consumers(from).filter(|&c| c < op && graph.ops[c].name == name).count();
        steps.push(Step { operator: name, skip, output });
        v = from;
    }
}

#[cfg(test)]
mod tests {
    use crate::{Model, Result, Traced};
    use tch::{Device, Kind, Tensor, nn};

    #[test]
    fn a_name_with_wildcards_in_it_means_itself_first() -> Result<()> {
        let vs = nn::VarStore::new(Device::Cpu);
        let mut net = nn::seq_t();
        for name in ["layer[4]", "layer4", "layer5", "{a,b}*", "what?"] {
            net = net.add(nn::linear(&vs.root() / name, 3, 3, Default::default()));
        }
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)))?;
        let names =
            |pattern: &str| graph.select(&[pattern]).map(|sites| sites.into_iter().map(|s| s.name).collect::<Vec<_>>());
        for name in ["layer[4]", "{a,b}*", "what?"] {
            assert_eq!(names(name)?, [name]);
        }
        assert_eq!(names("layer[45]")?, ["layer4", "layer5"]);
        assert_eq!(names(r"*\[4\]")?, ["layer[4]"]);
        Ok(())
    }
}
