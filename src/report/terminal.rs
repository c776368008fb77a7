//! The summary for whoever is waiting: what was audited, findings, policies, what the edit did, and the verdict last.

mod columns;

use super::escape::line;
use super::{Origin, Report, plural, tables, thousands};
use crate::policy::{Finding, Level, Notice, PolicySummary, Standing, Verdict};
use columns::{Align, Cell, Columns, Paint};
use std::io::{self, Write};

/// How much a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Style {
    /// Whether colours are welcome.
    pub color: bool,
    /// Characters per line; findings are shortened to it.
    pub width: usize,
}

impl Style {
    /// As standard output allows: colour on a terminal unless `NO_COLOR` is set, and the terminal's width.
    pub fn detect() -> Self {
        let terminal = console::Term::stdout();
        let color = terminal.is_term() && std::env::var_os("NO_COLOR").is_none();
        match terminal.size_checked() {
            Some((_, width)) => Self { color, width: usize::from(width).clamp(60, 160) },
            None => Self { color, ..Self::default() },
        }
    }
}

impl Default for Style {
    /// No colour, 100 characters.
    fn default() -> Self {
        Self { color: false, width: 100 }
    }
}

/// Findings shown per policy; the rest is counted.
const SHOWN: usize = 12;

/// [`write_styled`] in the default style.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    write_styled(report, Style::default(), out)
}

/// Writes the summary; its last line is [`Report::verdict`].
///
/// # Errors
/// What `out` returns.
pub fn write_styled(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    facts(report, style, out)?;
    findings(report, style, out)?;
    policies(report, style, out)?;
    notices(report, style, out)?;
    edit(report, style, out)?;
    if report.history.len() > 1 {
        heading("during training", style, out)?;
        plain_table(tables::history(report), style, out)?;
    }
    let paint = match (report.denied, report.violated(Level::Warn).next().is_some(), report.policies.is_empty()) {
        (true, _, _) => Paint::Red,
        (false, true, _) | (_, _, true) => Paint::Yellow,
        _ => Paint::Green,
    };
    let (word, rest) = report.verdict.split_once(':').unwrap_or((&report.verdict, ""));
    let colon = if rest.is_empty() { "" } else { ":" };
    writeln!(out, "\n{}{}", paint.bold(&format!("{}{colon}", line(word)), style.color), line(rest))
}

fn facts(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let (model, probe, counts) = (&report.model, &report.probe, &report.counts);
    let mut fact = |name: &str, text: String| {
        writeln!(out, "{}{}", Paint::Dim.on(&format!("{name:<10}"), style.color), line(&text))
    };
    let sites = plural(model.sites.len(), "site", "sites");
    match &report.origin {
        Origin::Descriptions { file } => fact("words", format!("{file}, {sites}"))?,
        Origin::Model => {
            fact("model", format!("{}, {} parameters, {sites}", model.name, thousands(model.parameters)))?;
        }
    }
    if report.origin == Origin::Model {
        fact("probe", probe.line())?;
    }
    if let Some(a) = &report.accuracy {
        fact(
            "accuracy",
            format!("{} on {} images, chance {:.1} %", a.accuracy, thousands(a.accuracy.total), 100.0 * a.chance),
        )?;
    } else if let Some(reason) = &report.accuracy_missing {
        fact("accuracy", format!("not measured: {reason}"))?;
    }
    if let Some(coverage) = &report.coverage {
        fact("layers", coverage.summary())?;
    }
    fact(
        "units",
        format!(
            "{}: {} described in {}, {} abstained, {} dead",
            thousands(counts.units as u64),
            thousands(counts.described as u64),
            plural(counts.distinct_descriptions, "way", "ways"),
            thousands(counts.abstained as u64),
            thousands(counts.dead as u64)
        ),
    )?;
    if report.run.kept > 0 {
        let kept = plural(report.run.kept, "unit keeps its words", "units keep their words");
        fact("kept", format!("{kept} from an earlier run, as everything that made them is the same"))?;
    }
    let seconds: f64 = report.run.stages.iter().map(|s| s.seconds).sum();
    if seconds > 0.0 {
        fact("time", format!("{seconds:.1} s"))?;
    }
    if let Some(warning) = report.accuracy.as_ref().and_then(|a| a.warning.as_ref()) {
        writeln!(out, "\n{}", Paint::Yellow.bold("warning:", style.color))?;
        columns::write_wrapped(&line(warning), 2, style.width, out)?;
    }
    Ok(())
}

fn findings(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let shown: Vec<&Finding> = report.findings.iter().filter(|f| f.counts()).collect();
    if shown.is_empty() {
        return Ok(());
    }
    heading("findings", style, out)?;
    let mut columns = Columns::new(&[Align::Left, Align::Left, Align::Left, Align::Left, Align::Left]);
    let mut hidden = Vec::new();
    // What fails the run comes first.
    let mut policies: Vec<&PolicySummary> = report.policies.iter().collect();
    policies.sort_by_key(|p| std::cmp::Reverse((p.verdict == Verdict::Violated, p.level)));
    for policy in policies {
        let mut of_policy: Vec<_> = shown.iter().filter(|f| f.policy == policy.name).collect();
        of_policy.sort_by_key(|f| f.standing != Standing::New);
        for finding in of_policy.iter().take(SHOWN) {
            columns.row(vec![
                match finding.standing {
                    Standing::New if policy.verdict == Verdict::Violated => {
                        Cell::painted(finding.level.to_string(), level_paint(finding.level))
                    }
                    Standing::New => Cell::painted(policy.verdict.to_string(), Paint::Dim),
                    _ => Cell::painted(finding.standing.to_string(), Paint::Dim),
                },
                Cell::plain(line(&finding.policy)),
                Cell::painted(line(&finding.unit.to_string()), Paint::Bold),
                Cell::plain(line(&finding.description)),
                Cell::painted(line(&finding.because.join("; ")), Paint::Dim),
            ]);
        }
        if let Some(more) = of_policy.len().checked_sub(SHOWN).filter(|&n| n > 0) {
            hidden.push(format!("... and {} of {}", plural(more, "more unit", "more units"), line(&policy.name)));
        }
    }
    columns.write(style, out)?;
    for text in hidden {
        writeln!(out, "  {}", Paint::Dim.on(&text, style.color))?;
    }
    Ok(())
}

fn policies(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    if report.policies.is_empty() {
        return Ok(());
    }
    heading("policies", style, out)?;
    let mut columns = Columns::new(&[Align::Left, Align::Left, Align::Left, Align::Right, Align::Left, Align::Left]);
    // A policy that allows what nothing responds to has nothing to say.
    for p in report.policies.iter().filter(|p| p.level != Level::Allow || p.findings > 0 || p.waived > 0) {
        let paint = match (p.verdict, p.level) {
            (Verdict::Violated, level) => level_paint(level),
            (Verdict::Clean, _) => Paint::Green,
            (Verdict::Unjudged, _) => Paint::Yellow,
            (Verdict::Tolerated, _) => Paint::Plain,
        };
        let mut of = format!("of {}", plural(p.units, "unit", "units"));
        for (n, what) in [(p.limit, "tolerated"), (p.known, "known"), (p.waived, "waived")] {
            if n > 0 && p.level != Level::Allow {
                of += &format!(", {n} {what}");
            }
        }
        columns.row(vec![
            Cell::painted(p.verdict.to_string(), paint),
            Cell::plain(p.level.to_string()),
            Cell::painted(line(&p.name), Paint::Bold),
            Cell::plain(thousands(p.findings as u64)),
            Cell::plain(of),
            Cell::painted(line(&p.reason), Paint::Dim),
        ]);
    }
    columns.write(style, out)
}

fn notices(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let (of_model, of_policies): (Vec<_>, Vec<_>) = report.notices.iter().partition(|n| n.code.is_about_the_model());
    noticed("about the model", &of_model, style, out)?;
    noticed("about the policies", &of_policies, style, out)
}

fn noticed(title: &str, notices: &[&Notice], style: Style, out: &mut dyn Write) -> io::Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    heading(title, style, out)?;
    for n in notices {
        let label = level_paint(n.level).on(&format!("{}[{}]", n.level, n.code), style.color);
        let about = n.policy.as_ref().map_or(String::new(), |p| format!("{}: ", line(p)));
        let place = Paint::Dim.on(&format!("[{}]", line(&n.location.to_string())), style.color);
        // What is said of the model may be long.
        if n.code.is_about_the_model() {
            writeln!(out, "  {label}")?;
            columns::write_wrapped(&line(&n.message), 4, style.width, out)?;
            continue;
        }
        writeln!(out, "  {label} {about}{} {place}", line(&n.message))?;
    }
    Ok(())
}

fn edit(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let Some(edit) = &report.edit else { return Ok(()) };
    let flagged = plural(edit.flagged.len(), "flagged unit", "flagged units");
    heading(&format!("edit: {} of {flagged} {}", edit.chosen.len(), edit.past()), style, out)?;
    plain_table(tables::evaluations(edit, false), style, out)?;
    let sentences = edit.sentences();
    if !sentences.is_empty() {
        writeln!(out)?;
    }
    for sentence in sentences {
        columns::write_wrapped(&line(&sentence), 2, style.width, out)?;
    }
    for n in &edit.left_out {
        writeln!(out, "  {} not {}: {}", line(&n.unit.to_string()), edit.past(), line(&n.reason))?;
    }
    Ok(())
}

fn plain_table(table: tables::Table, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let mut columns = Columns::new(&[]);
    for (i, row) in table.into_iter().enumerate() {
        let paint = if i == 0 { Paint::Dim } else { Paint::Plain };
        columns.row(row.into_iter().map(|c| Cell::painted(line(&c), paint)).collect());
    }
    columns.write(Style { width: usize::MAX, ..style }, out)
}

fn heading(text: &str, style: Style, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", Paint::Bold.on(text, style.color))
}

fn level_paint(level: Level) -> Paint {
    match level {
        Level::Deny => Paint::Red,
        Level::Warn => Paint::Yellow,
        Level::Allow => Paint::Plain,
    }
}
