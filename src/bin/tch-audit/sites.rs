//! `tch-audit sites`: what can be audited in a model, and what can be masked, zeroed and pruned.

use crate::input::Input;
use crate::output;
use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use tch::Tensor;
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan, ZeroPlan};
use tch_audit::graph::{Layout, Site, SiteKind, UnreadLayer};
use tch_audit::{Error, Model, UnitId, exit};

/// List the sites of a TorchScript model: what can be audited, and what can be done to one of its units.
///
/// A site is a place where neurons can be read. `layer` is a layer after its normalisation and non-linearity,
/// `layer@raw` directly after its operator, `attention@heads` the heads of an attention, and the name of a scope stands
/// for what leaves that scope.
///
/// A unit can be masked during forward passes, zeroed in the weights, or pruned: taken out of the model, which gets
/// smaller. Where a unit cannot go alone, the other sites that lose it are named; where something cannot be done
/// exactly, the reason is.
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
    /// How to show them: a table for readers, or JSON for programs.
    #[arg(long, value_name = "NAME", default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let model = Model::load(&arguments.model)?;
    let example = arguments.input.noise(1);
    let graph = Traced::new(&model, &example)?;
    let shown: Vec<&Site> =
        as_tree(graph.sites()).into_iter().filter(|s| arguments.raw || s.kind != SiteKind::Raw).collect();
    if arguments.format == Format::Json {
        let entries: Vec<Value> = shown.iter().map(|site| entry(&graph, site, &example)).collect();
        let coverage = graph.coverage(graph.model(), &graph.select(&["auto"])?);
        let all = json!({ "schema_version": 1, "sites": entries, "coverage": coverage });
        let text = serde_json::to_string_pretty(&all)?;
        output::print(|out| writeln!(out, "{text}"))?;
        return Ok(exit::CLEAN);
    }
    let names: Vec<String> = shown.iter().map(|s| indented(s, &shown)).collect();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(4).max(4);
    let mut lines = vec![format!("{:width$}  kind   units      map  mask  zero  prune  one unit goes", "site")];
    for (site, name) in shown.iter().zip(&names) {
        let map = match site.layout {
            Layout::Vector => "vector".to_string(),
            _ => format!("{}x{}", site.size.0, site.size.1),
        };
        let (zero, prune) = (zeroed(&graph, site), pruned(&graph, site, &example));
        let yes = |ok: bool| if ok { "yes" } else { "no" };
        lines.push(format!(
            "{name:width$}  {:5}  {:>5}  {map:>7}  {:4}  {:4}  {:5}  {}",
            site.kind.name(),
            site.units,
            yes(graph.can_mask(site).is_ok()),
            yes(zero.is_ok()),
            yes(prune.is_ok()),
            remark(site, &zero, &prune)
        ));
    }
    let units: usize = shown.iter().filter(|s| s.kind == SiteKind::Layer).map(|s| s.units).sum();
    lines.push(format!("{} sites; {units} units in layers", shown.len()));
    lines.extend(unread(&graph));
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{}", output::line(line))))?;
    Ok(exit::CLEAN)
}

/// A site as programs see it: what can be done to one of its units, the other sites that lose it, or why not.
fn entry(graph: &Traced<'_>, site: &Site, example: &Tensor) -> Value {
    let able = |result: Result<Vec<UnitId>, String>| match result {
        Ok(coupled) => json!({ "possible": true, "with": companions(site, &coupled) }),
        Err(why) => json!({ "possible": false, "reason": why }),
    };
    json!({
        "name": site.name,
        "kind": site.kind,
        "units": site.units,
        "layout": site.layout,
        "size": [site.size.0, site.size.1],
        "mask": able(graph.can_mask(site).map(|()| Vec::new()).map_err(reason)),
        "zero": able(zeroed(graph, site)),
        "prune": able(pruned(graph, site, example)),
    })
}

/// The layers that cannot be audited, with the reason.
fn unread(graph: &Traced<'_>) -> Vec<String> {
    let all = graph.unread_layers();
    let Some(remark) = graph.coverage(graph.model(), graph.sites()).remark() else { return Vec::new() };
    let width = all.iter().map(|l| l.layer.chars().count()).max().unwrap_or(0);
    let line = |l: &UnreadLayer| format!("  {:width$}  {} parameters: {}", l.layer, l.parameters, l.reason);
    [String::new(), format!("{remark}:")].into_iter().chain(all.iter().map(line)).collect()
}

/// Scopes before what lies in them, otherwise in order of execution.
fn as_tree(sites: &[Site]) -> Vec<&Site> {
    fn prefixes(name: &str) -> impl Iterator<Item = &str> {
        let ends = name.match_indices(['.', '@', '#']).map(|(i, _)| i).chain([name.len()]);
        ends.map(|end| &name[..end])
    }
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (i, site) in sites.iter().enumerate() {
        for prefix in prefixes(&site.name) {
            first.entry(prefix).or_insert(i);
        }
    }
    let mut all: Vec<&Site> = sites.iter().collect();
    all.sort_by_cached_key(|s| prefixes(&s.name).map(|p| first[p]).collect::<Vec<_>>());
    all
}

/// The name, by as many steps to the right as there are shown scopes around it.
fn indented(site: &Site, shown: &[&Site]) -> String {
    let around =
        |s: &&&Site| s.kind == SiteKind::Scope && site.name.strip_prefix(&s.name).is_some_and(|r| r.starts_with('.'));
    let depth = shown.iter().filter(around).count();
    format!("{}{}", "  ".repeat(depth), site.name)
}

/// The unit in the middle stands for all: the first and the last may be padding of a shortcut.
fn example_unit(site: &Site) -> [UnitId; 1] {
    [UnitId::new(&site.name, site.units / 2)]
}

/// What zeroing a unit takes with it, or why it cannot be done.
fn zeroed(graph: &Traced<'_>, site: &Site) -> Result<Vec<UnitId>, String> {
    ZeroPlan::zero(graph, &example_unit(site)).map(|plan| plan.coupled).map_err(reason)
}

/// What pruning it takes with it. Where that depends on the model's code it is tried, and taken back.
fn pruned(graph: &Traced<'_>, site: &Site, example: &Tensor) -> Result<Vec<UnitId>, String> {
    let plan = PrunePlan::new(graph, &example_unit(site)).map_err(reason)?;
    if !plan.relies_on.is_empty() {
        plan.apply(graph, example, NoOptimizer).and_then(|pruned| pruned.undo()).map_err(reason)?;
    }
    Ok(plan.coupled)
}

fn reason(error: Error) -> String {
    match error {
        Error::Refused { kind: Reason::Output, .. } => "it is an output of the model".to_string(),
        // As zeroing says it.
        Error::Refused { kind: Reason::Frozen, .. } => {
            "its weights have no name (a frozen module: export it without freezing)".to_string()
        }
        Error::Refused { reason, .. } => reason,
        // What it was that failed is for those who try it.
        Error::RolledBack { reason, .. } => reason.split(" (").next().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

fn remark(site: &Site, zero: &Result<Vec<UnitId>, String>, prune: &Result<Vec<UnitId>, String>) -> String {
    match (zero, prune) {
        (Ok(zero), Ok(prune)) => match (company(site, zero), company(site, prune)) {
            (zero, prune) if zero == prune => prune,
            (zero, prune) => format!("{prune}; zeroed {zero}"),
        },
        (Ok(with), Err(why)) => format!("{}; not pruned: {why}", company(site, with)),
        (Err(zero), Err(prune)) if zero == prune => format!("not: {zero}"),
        (Err(zero), Err(prune)) => format!("not zeroed: {zero}; not pruned: {prune}"),
        (Err(zero), Ok(with)) => format!("{}; not zeroed: {zero}", company(site, with)),
    }
}

/// The other sites that lose a unit.
fn companions<'a>(site: &Site, coupled: &'a [UnitId]) -> Vec<&'a str> {
    let mut others: Vec<&str> = coupled.iter().map(|u| u.site.as_str()).collect();
    others.retain(|name| !name.contains("@raw") && *name != site.name);
    others.dedup();
    others
}

fn company(site: &Site, coupled: &[UnitId]) -> String {
    let others = companions(site, coupled);
    match others.as_slice() {
        [] => "alone".to_string(),
        [one] => format!("with {one}"),
        [first, .., last] => format!("with {} sites, {first} to {last}", others.len()),
    }
}
