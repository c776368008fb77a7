//! Where in a graph there are sites: at which values of a layer or scope units can be read, how they are laid out there, and
//! how to find them again.

use super::places::Lie;
use super::site::{Layout, Route, Site, SiteKind, Step, is_use_of};
use super::{Graph, Origin, Value, ValueId, attention, layer, ops, scope};
use std::sync::Arc;

/// The sites of a graph, and why some layers have none: by the layer's place in [`Graph::layers`].
pub(super) fn sites(graph: &Graph) -> (Vec<Site>, Vec<(usize, String)>) {
    let mut sites = Vec::new();
    let mut unread = Vec::new();
    for (i, layer) in graph.layers.iter().enumerate() {
        match of_layer(graph, layer) {
            Ok(found) => sites.extend(found),
            Err(why) => unread.push((i, why)),
        }
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
        // A scope without a layer (a normalisation) has no neurons of its own, and a layer is no scope of itself.
        let inside = |l: &layer::Layer| paths[l.op].as_deref().is_some_and(|p| scope::is_within(p, &name));
        let has_layers = graph.layers.iter().any(inside);
        let unreadable = |l: &layer::Layer| l.name == name || is_use_of(&l.name, &name);
        if has_layers && !sites.iter().any(plain) && !graph.layers.iter().any(unreadable) {
            sites.extend(site(graph, name, SiteKind::Scope, value));
        }
    }
    (sites, unread)
}

/// The sites of one use of a layer: after its own steps, and directly after its operator. Where a value cannot be laid out,
/// what is made of it by moving its elements may be: tokens that are put back into their batch.
fn of_layer(graph: &Graph, layer: &layer::Layer) -> Result<Vec<Site>, String> {
    let raw = *graph.ops[layer.op].outputs.first().ok_or("its operator returns no tensor")?;
    let units = layer::units(graph, layer.op).ok_or("its units are spread over several dimensions of its output")?;
    let units = graph.values[raw].shape[units] as usize;
    let laid_out = |name: &str, kind, value| {
        let own = |v| match site(graph, name.to_string(), kind, v) {
            Ok(site) if site.units == units => Ok(site),
            Ok(_) => Err("it cannot be told which dimension of its output counts its units".to_string()),
            Err(why) => Err(why),
        };
        own(value).or_else(|why| layer::moved_on(graph, value).into_iter().find_map(|v| own(v).ok()).ok_or(why))
    };
    let done = layer::own_steps(graph, raw).last().copied().unwrap_or(raw);
    let site = laid_out(&layer.name, SiteKind::Layer, done)?;
    let raw = laid_out(&format!("{}@raw", layer.name), SiteKind::Raw, raw);
    Ok(std::iter::once(site).chain(raw).collect())
}

/// A value as something to read or mask, whatever its positions mean; `None` where its units cannot be told.
pub(crate) fn unplaced(graph: &Graph, name: String, value: ValueId) -> Option<Site> {
    lay_out(graph, name, SiteKind::Raw, value, false).ok()
}

/// The site at a value, or why its units cannot be read there.
fn site(graph: &Graph, name: String, kind: SiteKind, value: ValueId) -> Result<Site, String> {
    lay_out(graph, name, kind, value, true)
}

fn lay_out(graph: &Graph, name: String, kind: SiteKind, value: ValueId, placed: bool) -> Result<Site, String> {
    let held = &graph.values[value];
    let shape = held.shape.as_slice();
    if held.fixed || matches!(held.origin, Origin::Input) {
        return Err("what it computes does not depend on the image".to_string());
    }
    let images = if graph.batch == 1 { "1 image".to_string() } else { format!("{} images", graph.batch) };
    let Some(batch) = held.batch else {
        let why = "no dimension counts images alone (tiles, windows, copies or tokens of all images lie in one row)";
        return Err(format!("its output is {shape:?} for {images}: {why}"));
    };
    // A view of a parameter: whoever masked it would write to the model.
    let borrowed = |v: &Value| v.storage.is_some() && v.origin == Origin::Parameter;
    if graph.values.iter().any(|v| borrowed(v) && v.storage == held.storage) {
        return Err("its output lies in the memory of a parameter".to_string());
    }
    let last = shape.len() > 2 && graph.channel_dimensions(value) == [shape.len() - 1];
    let tokens = |dim: usize| if placed { token_grid(graph, value, dim) } else { Ok(Grid::row(shape[dim] as usize)) };
    let map = |dims: [usize; 2]| if placed { map_grid(graph, value, dims) } else { Ok(Grid::map(shape, dims)) };
    let (units, layout, grid) = match (batch, shape) {
        (0, [_, c, _, _]) if kind == SiteKind::Heads => {
            let grid = tokens(2)?;
            (*c, Layout::Heads { prefix: grid.prefix, height: grid.height, width: grid.width }, grid)
        }
        (0, [_, c, _, _]) if !last => (*c, Layout::FeatureMap, map([2, 3])?),
        (0, [_, _, _, c]) => (*c, Layout::ChannelsLast, map([1, 2])?),
        (0, [_, c]) => (*c, Layout::Vector, Grid::row(1)),
        (0, [_, _, c]) if last => {
            let grid = tokens(1)?;
            (*c, Layout::Tokens { prefix: grid.prefix, height: grid.height, width: grid.width }, grid)
        }
        (1, [_, _, c]) if last => {
            let grid = tokens(0)?;
            (*c, Layout::TokensFirst { prefix: grid.prefix, height: grid.height, width: grid.width }, grid)
        }
        (0, [_, c, l]) => {
            // A class token has no place in a map.
            let grid = tokens(2)?;
            (*c, Layout::FeatureMap, if grid.prefix > 0 { Grid::row(*l as usize) } else { grid })
        }
        (0, [_, _, _, _, _]) => {
            let why = "volumes, films and windows in five dimensions cannot be laid out on an image";
            return Err(format!("its output is {shape:?}: {why}"));
        }
        _ => {
            return Err(format!(
                "its output is {shape:?} for {images}, which is no map, no row of tokens and no vector"
            ));
        }
    };
    let route = route(graph, value).ok_or("its output cannot be found again in another pass")?;
    let size = (grid.height, grid.width);
    Ok(Site { name, kind, units: units as usize, layout, size, order: grid.order, value, route })
}

const OUT_OF_ORDER: &str =
    "its positions are not the places of the image, each once (padded windows, overlapping patches)";

/// How positions lie on an image.
struct Grid {
    prefix: usize,
    height: usize,
    width: usize,
    order: Option<Arc<[i64]>>,
}

impl Grid {
    fn row(width: usize) -> Self {
        Self { prefix: 0, height: 1, width, order: None }
    }

    fn map(shape: &[i64], [rows, columns]: [usize; 2]) -> Self {
        Self { height: shape[rows] as usize, ..Self::row(shape[columns] as usize) }
    }
}

/// How the tokens along a dimension lie on an image. What is no picture is a row.
fn token_grid(graph: &Graph, value: ValueId, dimension: usize) -> Result<Grid, String> {
    let tokens = graph.values[value].shape[dimension] as usize;
    match graph.lie(value, &[dimension]) {
        Lie::Grid { prefix, height, width } => Ok(Grid { prefix, height, width, order: None }),
        Lie::Shuffled { prefix, height, width, order } => Ok(Grid { prefix, height, width, order: Some(order.into()) }),
        Lie::OutOfOrder => Err(OUT_OF_ORDER.to_string()),
        Lie::Nowhere => Ok(Grid::row(tokens)),
        Lie::Unknown => Ok(patches(graph, tokens).unwrap_or(Grid::row(tokens))),
    }
}

/// How the positions of a map lie on an image: as the map does, unless it is known that they do not.
fn map_grid(graph: &Graph, value: ValueId, dims: [usize; 2]) -> Result<Grid, String> {
    match graph.lie(value, &dims) {
        Lie::Shuffled { prefix: 0, height, width, order } => {
            Ok(Grid { height, order: Some(order.into()), ..Grid::row(width) })
        }
        Lie::Shuffled { .. } | Lie::OutOfOrder => Err(OUT_OF_ORDER.to_string()),
        _ => Ok(Grid::map(&graph.values[value].shape, dims)),
    }
}

/// The grid of patches that so many tokens may be, where an operator that nothing is known of came in between: that of a
/// convolution, with at most 16 further tokens in front.
fn patches(graph: &Graph, tokens: usize) -> Option<Grid> {
    let mut maps = graph.ops.iter().rev().filter(|op| op.name == "conv").filter_map(|op| {
        match graph.values[*op.outputs.first()?].shape.as_slice() {
            [_, _, h, w] => Some((*h as usize, *w as usize)),
            _ => None,
        }
    });
    let fits = |(h, w): &(usize, usize)| h * w > 1 && h * w <= tokens && tokens - h * w <= 16;
    maps.find(fits).map(|(height, width)| Grid { prefix: tokens - height * width, height, ..Grid::row(width) })
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
        let first = graph.flowing(op).next();
        if let Some((weight, parameter)) = graph.fixed(op).find_map(|v| Some((v, graph.values[v].root?)))
            && (layer::product_weight(graph, op).is_some() || first.is_none_or(|d| graph.producer(d).is_none()))
        {
            if comes_unseen(graph, weight) {
                return None;
            }
            let reads = |o: usize| graph.fixed(o).any(|v| graph.values[v].root == Some(parameter));
            let use_number = (0..op).filter(|&o| reads(o) && !graph.is_fixed(o)).count();
            steps.reverse();
            return Some(Route { parameter, use_number, operator: name, output, steps });
        }
        if name == ops::UNSEEN {
            return None;
        }
        // Of several inputs the one made last: the stream that went through the module, not the one that skipped it.
        let from = graph.flowing(op).filter(|&d| graph.producer(d).is_some()).max()?;
        let skip = graph.consumers(from).filter(|&c| c < op && graph.ops[c].name == name).count();
        steps.push(Step { operator: name, skip, output });
        v = from;
    }
}

/// Whether a fixed value was made, somewhere on its way, by an operator that is not seen to run.
fn comes_unseen(graph: &Graph, value: ValueId) -> bool {
    let Some(op) = graph.producer(value) else { return false };
    graph.ops[op].name == ops::UNSEEN || graph.ops[op].reads().any(|v| comes_unseen(graph, v))
}
