//! `tch-audit sites`: what can be audited in a model, and what can be masked, zeroed and pruned.

mod tried;

use crate::input::{Input, positive};
use crate::{Common, output};
use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use tch_audit::graph::{Layout, Site, SiteKind, UnreadLayer};
use tch_audit::{Traced, UnitId, exit};
use tried::{Can, Trials};

/// List the sites of a TorchScript model: what can be audited, and what can be done to one of its units.
///
/// A site is a place where neurons can be read. `layer` is a layer after its normalisation and non-linearity,
/// `layer@raw` directly after its operator, `attention@heads` the heads of an attention, and the name of a scope stands
/// for what leaves that scope.
///
/// A unit can be masked during forward passes, zeroed in the weights, or pruned: taken out of the model, which gets
/// smaller. Where a unit cannot go alone, the other sites that lose it are named; where something cannot be done
/// exactly, the reason is. `some` means that it depends on the unit. What is said was tried, and taken back.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The TorchScript file.
    #[arg(value_hint = ValueHint::FilePath)]
    model: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Images in the example that the model is traced with: another number for a file that takes no other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = positive)]
    batch_size: usize,
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

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    let input = &arguments.input;
    let model = input.load(&arguments.model, arguments.batch_size)?;
    let example = input.noise(arguments.batch_size as i64);
    let graph = input.trace(&model, &example, common)?;
    let shown: Vec<&Site> =
        as_tree(graph.sites()).into_iter().filter(|s| arguments.raw || s.kind != SiteKind::Raw).collect();
    let mut trials = Trials::new(&graph, &example);
    if arguments.format == Format::Json {
        let entries: Vec<Value> = shown.iter().map(|site| entry(&mut trials, site)).collect();
        let coverage = graph.coverage(graph.model(), &graph.select(&["auto"]).unwrap_or_default());
        let all = json!({ "schema_version": 1, "sites": entries, "not_tried": trials.planned, "coverage": coverage });
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
        let (zero, prune) = (trials.zero(site), trials.prune(site));
        lines.push(format!(
            "{name:width$}  {:5}  {:>5}  {map:>7}  {:4}  {:4}  {:5}  {}",
            site.kind.name(),
            site.units,
            if trials.mask(site) { "yes" } else { "no" },
            zero.word(),
            prune.word(),
            remark(site, &zero, &prune)
        ));
    }
    lines.extend(unread(&graph));
    if trials.planned > 0 {
        lines.push(format!(
            "of {} sites edits were planned and not tried, as trying all would take too long: `edit --dry-run` tries one",
            trials.planned
        ));
    }
    let units: usize = shown.iter().filter(|s| s.kind == SiteKind::Layer).map(|s| s.units).sum();
    lines.push(format!("{} sites; {units} units in layers", shown.len()));
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{}", output::line(line))))?;
    Ok(exit::CLEAN)
}

/// A site as programs see it: what can be done to its units (`yes`, `some`, `no`), the other sites that lose one, or why not.
fn entry(trials: &mut Trials<'_>, site: &Site) -> Value {
    let able = |can: &Can| json!({ "possible": can.word(), "with": companions(site, &can.with), "reason": can.why });
    let (zero, prune) = (trials.zero(site), trials.prune(site));
    json!({
        "name": site.name,
        "kind": site.kind,
        "units": site.units,
        "layout": site.layout,
        "size": [site.size.0, site.size.1],
        "mask": { "possible": if trials.mask(site) { "yes" } else { "no" } },
        "zero": able(&zero),
        "prune": able(&prune),
    })
}

/// The layers that cannot be audited, with the reason.
fn unread(graph: &Traced<'_>) -> Vec<String> {
    let all = graph.unread_layers();
    let Some(remark) = graph.coverage(graph.model(), graph.sites()).remark() else { return Vec::new() };
    let width = all.iter().map(|l| l.layer.chars().count()).max().unwrap_or(0);
    let line = |l: &UnreadLayer| format!("  {:width$}  {} parameters: {}", l.layer, l.parameters, l.reason);
    let head = [String::new(), format!("{remark}:")];
    head.into_iter().chain(all.iter().map(line)).chain([String::new()]).collect()
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

fn remark(site: &Site, zero: &Can, prune: &Can) -> String {
    let (none_zeroed, none_pruned) = (zero.done == 0, prune.done == 0);
    let mut text = match (none_zeroed, none_pruned) {
        (false, false) => match (company(site, &zero.with), company(site, &prune.with)) {
            (zero, prune) if zero == prune => prune,
            (zero, prune) => format!("{prune}; zeroed {zero}"),
        },
        (false, true) => company(site, &zero.with),
        (true, false) => company(site, &prune.with),
        (true, true) if zero.why == prune.why => return not("not", zero),
        (true, true) => return format!("{}; {}", not("not zeroed", zero), not("not pruned", prune)),
    };
    for (can, what) in [(zero, "zeroed"), (prune, "pruned")] {
        if can.done == 0 {
            text += &format!("; {}", not(&format!("not {what}"), can));
        } else if can.why.is_some() {
            text += &format!(
                "; {}",
                not(&format!("{} of {} units tried not {what}", can.tried - can.done, can.tried), can)
            );
        }
    }
    text
}

fn not(what: &str, can: &Can) -> String {
    format!("{what}: {}", can.why.as_deref().unwrap_or("it has no units"))
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
