//! `tch-audit policies evaluate`: policies against descriptions that people labelled.

use super::Which;
use crate::output;
use anyhow::{bail, ensure};
use clap::{Args, ValueHint};
use std::path::PathBuf;
use tch_audit::policy::{Agreement, Labels, columns, evaluate};
use tch_audit::{Error, diagnostic, exit};

/// Hold the words of policies against descriptions that people labelled: precision, recall, F1 and every mistake.
///
/// The table has comma-separated values: a column `description` and columns of 0 and 1. Which of them mean a policy stands
/// in the policy's table `[labels]`, or in --positive and --leave-out. Policies without such a column are passed over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tch-audit policies evaluate --labels labels.csv
  tch-audit policies evaluate --policies policies/ --labels labels.csv --policy text --positive has_text --leave-out unsure")]
pub struct Arguments {
    #[command(flatten)]
    which: Which,
    /// The labelled table.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    labels: PathBuf,
    /// Only this policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// Columns of which one must be 1 for a row to be positive, in place of the policy's own.
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',', requires = "policy")]
    positive: Vec<String>,
    /// Columns of which none must be 1 for a row to be judged at all, in place of the policy's own.
    #[arg(long, value_name = "COLUMN,..", value_delimiter = ',', requires = "positive")]
    leave_out: Vec<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let policies = arguments.which.load()?;
    if let Some(name) = &arguments.policy {
        ensure!(
            policies.get(name).is_some(),
            Error::Unknown {
                kind: "policy",
                name: name.clone(),
                nearest: diagnostic::nearest(name, policies.iter().map(|p| p.name())),
            }
        );
    }
    let own = Labels { positive: arguments.positive.clone(), leave_out: arguments.leave_out.clone() };
    let columns = columns(&arguments.labels)?;
    for name in own.positive.iter().chain(&own.leave_out) {
        if !columns.iter().any(|c| c.eq_ignore_ascii_case(name)) {
            bail!("{} has no column `{name}`; it has {}", arguments.labels.display(), columns.join(", "));
        }
    }
    let (mut agreements, mut looked_for) = (Vec::new(), Vec::new());
    for policy in policies.iter().filter(|p| arguments.policy.as_ref().is_none_or(|name| p.name() == name)) {
        let labels = if own.positive.is_empty() { policy.labels() } else { &own };
        match evaluate(&policies, policy.name(), labels, &arguments.labels)? {
            Some(agreement) => agreements.push(agreement),
            None => looked_for.extend(labels.positive.iter().map(|c| format!("{c} (for {})", policy.name()))),
        }
    }
    if agreements.is_empty() {
        let wanted = match looked_for.as_slice() {
            [] => "no policy says in [labels] which columns mean it: give --policy and --positive".to_string(),
            all => format!("looked for {}", all.join(", ")),
        };
        bail!(
            "{} has no column that means a policy: {wanted}; it has {}",
            arguments.labels.display(),
            columns.join(", ")
        );
    }
    let lines: Vec<String> = agreements.iter().flat_map(shown).collect();
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{}", output::line(line))))?;
    Ok(exit::CLEAN)
}

fn shown(a: &Agreement) -> Vec<String> {
    let share = |x: Option<f64>| x.map_or("-".to_string(), |x| format!("{x:.3}"));
    let mut lines = vec![format!(
        "{}: {} rows, {} left out: precision {}, recall {}, F1 {}, {} ({} false, {} missed)",
        a.policy,
        a.rows(),
        a.left_out,
        share(a.precision()),
        share(a.recall()),
        share(a.f1()),
        match a.mistakes.len() {
            1 => "1 error".to_string(),
            n => format!("{n} errors"),
        },
        a.false_positives,
        a.false_negatives
    )];
    for mistake in &a.mistakes {
        let because: Vec<String> = mistake.because.iter().map(ToString::to_string).collect();
        let kind = if mistake.expected { "missed".to_string() } else { format!("false ({})", because.join("; ")) };
        let words: String = mistake.description.chars().take(200).collect();
        lines.push(format!("  {}: `{}`: {kind}", mistake.location, words.replace('\n', " ")));
    }
    lines
}
