//! `tch-audit edit`: mask, zero or prune units of a TorchScript model, and take it back.

mod evaluate;
mod units;

use crate::input::{Input, positive};
use crate::{Common, output};
use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand, ValueHint};
use evaluate::Evaluate;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tch_audit::Traced;
use tch_audit::edit::journal::{Journal, Originals};
use tch_audit::edit::{Cost, Edit, LeftOut, Method, NoOptimizer};
use tch_audit::graph::Mask;
use tch_audit::{Error, Model, Reason, UnitId, exit};
use units::Units;

/// Mask, zero or prune units of a TorchScript model, or take an edit back.
///
/// An edit is exact or it is refused: the edited model computes what the model computes with the units at 0, verified by a
/// forward pass before anything is written. What cannot go alone is listed. The edited model is a new file, which Python's
/// torch.jit.load reads; beside it edits.json says what was done, and `edit undo` takes it back.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "\
Exit codes:
  0  done
  2  refused, or the input is wrong; nothing was written

Examples:
  tch-audit edit prune model.pt --site layer3.0.conv1 --units 3,17 --out pruned.pt
  tch-audit edit prune model.pt --findings tch-audit-report/report.json --dry-run
  tch-audit edit zero model.pt --site layer4 --units 0-7 --out zeroed.pt --evaluate test/
  tch-audit edit mask model.pt --site layer4 --units 5 --evaluate test/
  tch-audit edit undo pruned.pt --out model-again.pt"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what a model does with some units at 0 in its forward passes. Nothing is written.
    Mask(What),
    /// Set the weights that make units, or that read them, to 0. The model keeps its size.
    Zero(What),
    /// Take units and everything coupled to them out of the model, which gets smaller and faster.
    #[command(after_help = "\
A group leaves as a whole: `tch-audit sites MODEL` shows what goes with a unit, and where pruning is refused, and why.

Examples:
  tch-audit edit prune model.pt --site layer3.0.conv1 --units 3,17 --dry-run
  tch-audit edit prune model.pt --site conv1 --units 0-3 --site conv2 --units 5 --out pruned.pt
  tch-audit edit prune model.pt --findings tch-audit-report/report.json --out pruned.pt")]
    Prune(What),
    /// Take the last edit of a file back.
    ///
    /// The model gets the numbers that edits.json and edits/, beside it, kept of it. Of several edits the last is taken
    /// back; run it again on the result for the one before.
    Undo(Undo),
}

/// What is edited, and what is done with the result.
#[derive(Debug, Args)]
struct What {
    /// The TorchScript file. It is not changed.
    #[arg(value_hint = ValueHint::FilePath)]
    model: PathBuf,
    #[command(flatten)]
    units: Units,
    /// The file for the edited model.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "dry_run")]
    out: Option<PathBuf>,
    /// Try the edit, show the plan, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Go on where code that did not run in the traced pass reads what the edit changes, and name that code.
    ///
    /// An edit follows the operators of one pass. A second method, the other side of an `if` or a loop that was not
    /// entered may need the channels that go: without this flag such an edit is refused.
    #[arg(long)]
    allow_unseen_code: bool,
    #[command(flatten)]
    input: Input,
    /// At most so many images per forward pass: 1 for a file that was traced with one image and takes no more.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = positive)]
    batch_size: usize,
    #[command(flatten)]
    evaluate: Evaluate,
}

/// What is taken back.
#[derive(Debug, Args)]
struct Undo {
    /// A file that `edit zero` or `edit prune` wrote. It is not changed.
    #[arg(value_hint = ValueHint::FilePath)]
    model: PathBuf,
    /// The file for the model as it was before the edit.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: PathBuf,
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::Mask(what) => mask(what, common),
        Command::Zero(what) => edit(Method::Zero, what, common),
        Command::Prune(what) => edit(Method::Prune, what, common),
        Command::Undo(undo) => take_back(undo, common),
    }
}

fn edit(method: Method, what: &What, common: &Common) -> anyhow::Result<u8> {
    let out = match (&what.out, what.dry_run) {
        (Some(out), _) => Some(writable(&what.model, out)?),
        (None, true) => None,
        (None, false) => {
            bail!("nothing says where the edited model goes: give --out FILE, or --dry-run to write nothing")
        }
    };
    let wanted = what.units.read()?;
    let images = what.evaluate.images(&what.input)?;
    let model = what.input.load(&what.model, what.batch_size)?;
    let example = what.input.noise(model.at_most(2) as i64);
    let graph = traced(&model, &example, what, common)?;
    if let Some(images) = &images {
        what.evaluate.check(&graph, images)?;
    }
    let (edit, left_out) = planned(method, &graph, &wanted, &what.units, &example)?;
    for (unit, reason) in left_out.iter().filter(|_| !common.quiet) {
        output::note(&format!("note: {unit} is left out: {reason}"));
    }
    let Some(edit) = edit else {
        bail!("none of the {} units can be {}", wanted.len(), method.past());
    };
    let originals = Originals::before(&edit, &graph)?;
    let copy = || what.input.load(&what.model, what.batch_size);
    let before = match &images {
        Some(images) => Some(what.evaluate.before(&copy, &graph, &edit, images)?),
        None => None,
    };
    let edited = edit.apply(&graph, &example, NoOptimizer).map_err(|error| random(error, &graph))?;
    let costs = match &edit {
        Edit::Zero(_) => (Cost::of(&graph), Cost::of(&graph)),
        Edit::Prune(plan) => (plan.before, plan.after),
    };
    if let Some(out) = &out {
        let files = (what.model.as_path(), out.as_path());
        Journal::save(&model, files, &edit, costs, edited.difference(), &example.size(), &originals)?;
    }
    if !common.quiet {
        print_plan(&edit, costs, edited.difference(), out.as_deref())?;
    }
    if let (Some(images), Some(before)) = (&images, before) {
        let table = what.evaluate.after(&copy, &model, &edit, &example, images, before)?;
        output::print(|to| to.write_all(table.as_bytes()))?;
        what.evaluate.say_used(images, common);
    }
    Ok(exit::CLEAN)
}

fn traced<'m>(
    model: &'m Model<'static>,
    example: &tch::Tensor,
    what: &What,
    common: &Common,
) -> anyhow::Result<Traced<'m>> {
    let traced = what.input.trace(model, example, common)?;
    Ok(if what.allow_unseen_code { traced.allowing_unseen_code() } else { traced })
}

/// An edit that did not verify, of a model that draws random numbers: that is why.
fn random(error: tch_audit::Error, graph: &Traced<'_>) -> anyhow::Error {
    let verified = matches!(error, tch_audit::Error::RolledBack { .. });
    let error = anyhow::Error::new(error);
    if verified && graph.training().is_random() {
        error.context(
            "the model draws random numbers in every pass, and others when it has another size: it cannot be seen whether \
             the edit holds (`tch-audit explain training-mode`)",
        )
    } else {
        error
    }
}

/// The plan, and what of a list of findings it leaves out. What is asked for by name is edited as a whole or not at all.
fn planned(
    method: Method,
    graph: &Traced<'_>,
    wanted: &[UnitId],
    units: &Units,
    example: &tch::Tensor,
) -> anyhow::Result<(Option<Edit>, LeftOut)> {
    if units.is_by_findings() {
        return Ok(Edit::of_most(method, graph, wanted, example)?);
    }
    match Edit::new(method, graph, wanted) {
        Ok(edit) => Ok((Some(edit), Vec::new())),
        Err(error @ Error::Refused { kind: Reason::UnseenCode, .. }) => {
            bail!("{error}; with --allow-unseen-code it is done all the same, and that code may break")
        }
        Err(error) => Err(error.into()),
    }
}

fn mask(what: &What, common: &Common) -> anyhow::Result<u8> {
    ensure!(
        what.out.is_none(),
        "--out: a mask lasts for a forward pass and cannot be saved: use `edit zero` or `edit prune`"
    );
    ensure!(
        !what.allow_unseen_code,
        "--allow-unseen-code: a mask changes no code: give it with `edit zero` or `edit prune`"
    );
    let wanted = what.units.read()?;
    let images = what.evaluate.images(&what.input)?;
    let model = what.input.load(&what.model, what.batch_size)?;
    let example = what.input.noise(model.at_most(2) as i64);
    let graph = what.input.trace(&model, &example, common)?;
    if let Some(images) = &images {
        what.evaluate.check(&graph, images)?;
    }
    let mut masks = Vec::new();
    for id in &wanted {
        let mask = Mask { site: graph.site(&id.site)?.clone(), units: vec![id.unit] };
        masks.push(mask);
    }
    let plain = model.forward(&example)?;
    let masked = graph.read_masked(&[], &masks, &example, |_, _| Ok(()))?;
    let largest = |t: &tch::Tensor| t.f_abs()?.f_max()?.f_double_value(&[]);
    let compared = || Ok::<_, tch::TchError>((largest(&masked.f_sub(&plain)?)?, largest(&plain)?));
    let (change, scale) = compared().map_err(|error| {
        let error = error.to_string();
        let line = error.lines().next().unwrap_or_default().trim_start_matches("Internal torch error: ");
        anyhow::anyhow!("the model's output, of shape {:?}, cannot be compared with another: {line}", plain.size())
    })?;
    ensure!(scale.is_finite(), "the model's output on noise is not finite: nothing can be compared with it");
    let table = match &images {
        Some(images) => what.evaluate.masked(&graph, &masks, images)?,
        None => String::new(),
    };
    let masked = count(wanted.len(), "unit", "units");
    let summary = format!(
        "{masked} masked: on noise the output changes by at most {change:.3e}; its largest value is {scale:.3e}\n"
    );
    let text = if common.quiet { table } else { summary + &table };
    output::print(|to| to.write_all(text.as_bytes()))?;
    if let Some(images) = &images {
        what.evaluate.say_used(images, common);
    }
    Ok(exit::CLEAN)
}

fn take_back(undo: &Undo, common: &Common) -> anyhow::Result<u8> {
    let out = writable(&undo.model, &undo.out)?;
    let entry = Journal::undo(&undo.model, &out)
        .with_context(|| format!("cannot take the edit of {} back", undo.model.display()))?;
    if !common.quiet {
        let text = format!(
            "taken back: {} of {}{} {}\nwritten: {}",
            count(entry.units.len(), "unit", "units"),
            entry.from,
            others(&entry.units, &entry.coupled),
            entry.method.past(),
            out.display(),
        );
        print_lines(&text)?;
    }
    Ok(exit::CLEAN)
}

/// Refuses a place where the result cannot be written, and the model itself.
fn writable(model: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    output::check_file(out).context("--out")?;
    ensure!(!output::is_special(out), "--out: {} is a pipe or device, allowed a file", out.display());
    ensure!(
        output::real(out) != output::real(model),
        "--out: {} would overwrite the model that is edited",
        out.display()
    );
    Ok(out.to_path_buf())
}

fn print_plan(edit: &Edit, (before, after): (Cost, Cost), difference: f64, out: Option<&Path>) -> anyhow::Result<()> {
    let mut text = String::new();
    let done = if out.is_some() { edit.method().past() } else { "would be" };
    let _ = write!(text, "{} {done}", count(edit.units().len(), "unit", "units"));
    if out.is_none() {
        let _ = write!(text, " {}", edit.method().past());
    }
    text += &others(edit.units(), edit.coupled());
    text.push('\n');
    if let Edit::Prune(_) = edit {
        let share = |after: u64, before: u64| 100.0 * (after as f64 / before.max(1) as f64 - 1.0);
        let _ = writeln!(text, "  before  {before}");
        let _ = writeln!(
            text,
            "  after   {after}  ({:+.2} %, {:+.2} %)",
            share(after.parameters, before.parameters),
            share(after.flops, before.flops)
        );
    }
    for slice in edit.slices() {
        let _ = writeln!(text, "  {slice}");
    }
    for note in edit.notes() {
        let _ = writeln!(text, "note: {note}");
    }
    let _ = writeln!(text, "verified: the output differs from that with the units at 0 by at most {difference:.1e}");
    if let Some(out) = out {
        let _ = writeln!(text, "written: {}", out.display());
    }
    print_lines(&text)
}

/// What goes with the units that were asked for.
fn others(units: &[UnitId], coupled: &[UnitId]) -> String {
    let others = coupled.iter().filter(|u| !u.site.contains("@raw") && !units.contains(u)).count();
    match (others, units.len()) {
        (0, _) => String::new(),
        (n, 1) => format!(", and {} of other sites with it", count(n, "unit", "units")),
        (n, _) => format!(", and {} of other sites with them", count(n, "unit", "units")),
    }
}

fn print_lines(text: &str) -> anyhow::Result<()> {
    output::print(|to| text.lines().try_for_each(|line| writeln!(to, "{}", output::line(line))))
}

fn count(n: usize, one: &str, several: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { several })
}
