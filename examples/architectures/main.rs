//! What can be pruned in every architecture: random units of the networks of `tch::vision` and of any TorchScript files,
//! pruned and compared with the masked model, or refused; as a Markdown table.
//!
//! `cargo run --release --example architectures -- --pairs 50 exported/*.pt`

#[path = "../common/networks.rs"]
mod networks;

use clap::Parser;
use networks::{Built, randomise};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan};
use tch_audit::graph::SiteKind;
use tch_audit::{Error, Model, UnitId};

#[derive(Debug, Parser)]
struct Options {
    /// TorchScript files to try beside the networks of tch.
    files: Vec<PathBuf>,
    /// Random (site, unit) pairs per network.
    #[arg(long, default_value_t = 50)]
    pairs: usize,
    /// Only networks whose name contains this text.
    #[arg(long, default_value = "")]
    only: String,
    /// The seed of the pairs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Say why each pair was refused.
    #[arg(long)]
    why: bool,
}

#[derive(Default)]
struct Row {
    exact: usize,
    refused: BTreeMap<Reason, usize>,
    wrong: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("| network | exact | refused | wrong |");
    println!("|---|---|---|---|");
    let wanted = |name: &str| name.contains(&options.only);
    for (name, build, size) in networks::ALL.iter().filter(|(name, ..)| wanted(name)) {
        let Built { vs, net } = build();
        randomise(&vs);
        print(&format!("tch `{name}`"), &try_pairs(&Model::new(&vs, net.as_ref()), *size, &options)?);
    }
    for file in &options.files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if wanted(&name) {
            let size = if name.contains("inception") { 299 } else { 224 };
            print(&format!("`{name}`"), &try_pairs(&Model::load(file)?, size, &options)?);
        }
    }
    Ok(())
}

fn print(name: &str, row: &Row) {
    let refused: Vec<String> = row.refused.iter().map(|(reason, n)| format!("{n} {}", reason.name())).collect();
    let refused = if refused.is_empty() { "–".to_string() } else { refused.join(", ") };
    println!("| {name} | {} | {refused} | {} |", row.exact, row.wrong.len());
    row.wrong.iter().for_each(|why| eprintln!("wrong: {name}: {why}"));
}

fn try_pairs(model: &Model, size: i64, options: &Options) -> anyhow::Result<Row> {
    tch::manual_seed(3);
    let x = Tensor::randn([1, 3, size, size], (Kind::Float, Device::Cpu));
    let graph = Traced::new(model, &x)?;
    let layers: Vec<_> = graph.select(&["auto"])?.into_iter().filter(|s| s.kind != SiteKind::Raw).collect();
    let before = bytes(model);
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let mut row = Row::default();
    for _ in 0..options.pairs {
        let site = &layers[rng.usize(..layers.len())];
        let id = UnitId::new(&site.name, rng.usize(..site.units));
        match try_one(&graph, &x, &id) {
            Ok(Ok(())) => row.exact += 1,
            Ok(Err(why)) => row.wrong.push(format!("{id}: {why}")),
            Err(Error::Refused { kind, reason, .. } | Error::RolledBack { kind, reason }) => {
                if options.why {
                    eprintln!("{id}: {kind:?}: {reason}");
                }
                *row.refused.entry(kind).or_default() += 1;
            }
            Err(other) => row.wrong.push(format!("{id}: {other}")),
        }
        if !same(&before, model) {
            row.wrong.push(format!("{id}: not every byte is back"));
            break;
        }
    }
    Ok(row)
}

/// Prunes one unit, compares with the masked model, and takes it back.
fn try_one(graph: &Traced<'_>, x: &Tensor, id: &UnitId) -> Result<Result<(), String>, Error> {
    let units = std::slice::from_ref(id);
    let plan = PrunePlan::new(graph, units)?;
    let masked = graph.read_masked(&[], &PrunePlan::masks(graph, units)?, x, |_, _| Ok(()))?;
    let pruned = plan.apply(graph, x, NoOptimizer)?;
    let output = graph.model().forward(x)?;
    pruned.undo()?;
    let difference = (&output - &masked).abs().max().double_value(&[]);
    let scale = masked.abs().max().double_value(&[]);
    Ok(if difference <= 1e-4 * scale {
        Ok(())
    } else {
        Err(format!("differs from the masked model by {difference:.2e} of {scale:.2e}"))
    })
}

fn bytes(model: &Model) -> Vec<Tensor> {
    model.parameters().iter().map(|(_, t)| t.detach().copy()).collect()
}

fn same(before: &[Tensor], model: &Model) -> bool {
    before.iter().zip(model.parameters()).all(|(a, (_, b))| a.size() == b.size() && a.equal(b))
}
