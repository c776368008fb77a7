//! `tch-audit sites`: what can be audited in a model, and what can be zeroed.

use crate::input::Input;
use crate::output;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use tch_audit::edit::Plan;
use tch_audit::graph::{Graph, Layout, Site, SiteKind};
use tch_audit::{Error, Model, UnitId, exit};

/// List the sites of a TorchScript model: what can be audited, and whether its units can be zeroed.
///
/// A site is a place where neurons can be read. `layer` is a layer after its normalisation and non-linearity,
/// `layer@raw` directly after its operator, and the name of a scope stands for what leaves that scope.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The TorchScript file.
    #[arg(value_hint = ValueHint::FilePath)]
    model: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Show `@raw` sites as well.
    #[arg(long)]
    raw: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let shape = arguments.input.preprocess()?.shape(1);
    let model = Model::load(&arguments.model)?;
    let graph = Graph::trace(&model, &Tensor::zeros(shape, (Kind::Float, Device::Cpu)))?;
    let shown: Vec<&Site> = graph.sites().iter().filter(|s| arguments.raw || s.kind != SiteKind::Raw).collect();
    let width = shown.iter().map(|s| s.name.chars().count()).max().unwrap_or(4).max(4);
    let mut lines = vec![format!("{:width$}  {:5}  {:>5}  {:>7}  zeroing one unit", "site", "kind", "units", "map")];
    for site in &shown {
        let kind = match site.kind {
            SiteKind::Layer => "layer",
            SiteKind::Raw => "raw",
            SiteKind::Scope => "scope",
        };
        let map = match site.layout {
            Layout::Vector => "vector".to_string(),
            Layout::FeatureMap | Layout::Tokens { .. } => format!("{}x{}", site.size.0, site.size.1),
        };
        let zeroing = zeroing(&graph, site);
        lines.push(format!("{:width$}  {kind:5}  {:>5}  {map:>7}  {zeroing}", site.name, site.units));
    }
    let units: usize = shown.iter().filter(|s| s.kind == SiteKind::Layer).map(|s| s.units).sum();
    lines.push(format!("{} sites; {units} units in layers", shown.len()));
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{}", output::line(line))))?;
    Ok(exit::CLEAN)
}

/// What zeroing the first unit of a site would take with it, or why it cannot be done.
fn zeroing(graph: &Graph, site: &Site) -> String {
    match Plan::zero(graph, &[UnitId::new(&site.name, 0)]) {
        Ok(plan) => {
            let others: Vec<&str> = plan
                .coupled
                .iter()
                .map(|u| u.site.as_str())
                .filter(|name| !name.contains("@raw") && *name != site.name)
                .collect();
            match others.as_slice() {
                [] => "alone".to_string(),
                [one] => format!("with {one}"),
                [first, .., last] => format!("with {} sites, {first} to {last}", others.len()),
            }
        }
        Err(Error::Refused { reason, .. }) => format!("no: {reason}"),
        Err(other) => format!("no: {other}"),
    }
}
