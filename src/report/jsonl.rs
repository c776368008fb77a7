//! JSON lines: one object per line, each with a `type`, for scripts that read as they go.

use super::{Counts, Origin, Report, Tool};
use crate::UnitId;
use crate::describe::Status;
use crate::policy::{Finding, Notice, PolicySummary};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Line<'a> {
    Run {
        schema_version: u32,
        tool: &'a Tool,
        origin: &'a Origin,
        model: &'a str,
        denied: bool,
        verdict: &'a str,
        counts: Counts,
    },
    Policy(&'a PolicySummary),
    Finding {
        #[serde(flatten)]
        finding: &'a Finding,
        score: f64,
    },
    Notice(&'a Notice),
    Unit {
        unit: &'a UnitId,
        status: Status,
        description: &'a str,
        score: f64,
        flagged_by: Vec<&'a str>,
    },
}

/// Writes a line of type `run`, then the policies, findings, notices and units, each in the order of the report.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |line: Line<'_>| -> io::Result<()> {
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    };
    line(Line::Run {
        schema_version: report.schema_version,
        tool: &report.tool,
        origin: &report.origin,
        model: &report.model.name,
        denied: report.denied,
        verdict: &report.verdict,
        counts: report.counts,
    })?;
    report.policies.iter().try_for_each(|policy| line(Line::Policy(policy)))?;
    for finding in &report.findings {
        let score = report.unit(&finding.unit).map_or(0.0, |u| u.description.score);
        line(Line::Finding { finding, score })?;
    }
    report.notices.iter().try_for_each(|notice| line(Line::Notice(notice)))?;
    let mut flagged = report.flagged_by();
    for entry in &report.units {
        line(Line::Unit {
            unit: &entry.id,
            status: entry.description.status,
            description: &entry.description.text,
            score: entry.description.score,
            flagged_by: flagged.remove(&entry.id).unwrap_or_default(),
        })?;
    }
    Ok(())
}
