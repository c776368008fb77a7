//! `report.md`: the verdict first, then findings with their pictures, what the edit did, and everything else briefly.
//!
//! Leaves out [`Report::run`], so that equal runs give equal files.

use super::escape::{code, markdown as text};
use super::tables::{self, Table};
use super::{EditReport, Origin, Report, UnitEntry, capitalised, picture, plural, thousands};
use crate::describe::Status;
use crate::evidence::ConceptEvidence;
use crate::policy::{Finding, Level, PolicySummary, Standing, Verdict};
use crate::probe::Why;
use std::io::{self, Write};

/// So many files that are left out are named per reason.
const NAMED: usize = 20;

/// Writes the report as Markdown (CommonMark with tables).
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    head(report, out)?;
    policies(report, out)?;
    unaudited(report, out)?;
    findings(report, out)?;
    edit(report, out)?;
    history(report, out)?;
    other_units(report, out)?;
    made_with(report, out)
}

fn head(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let name = match &report.origin {
        Origin::Descriptions { file } => file,
        Origin::Model => &report.model.name,
    };
    writeln!(out, "# Audit of {}\n", code(name))?;
    match report.verdict.split_once(": ") {
        Some((word, rest)) => writeln!(out, "**{}:** {}\n", capitalised(&text(word)), text(rest))?,
        None => writeln!(out, "**{}.**\n", capitalised(&text(&report.verdict)))?,
    }
    if let Some(warning) = report.accuracy.as_ref().and_then(|a| a.warning.as_ref()) {
        writeln!(out, "> **Warning.** {}\n", text(warning))?;
    }

    let (model, counts) = (&report.model, &report.counts);
    let sites = plural(model.sites.len(), "site", "sites");
    writeln!(out, "| | |\n|---|---|")?;
    if let Origin::Descriptions { .. } = report.origin {
        writeln!(out, "| descriptions | made by another tool, {sites} |")?;
    } else {
        writeln!(out, "| model | {} parameters, {sites} audited |", thousands(model.parameters))?;
        write_probe(report, out)?;
    }
    if let Some(coverage) = &report.coverage {
        writeln!(out, "| layers | {} |", coverage.summary())?;
    }
    let share = |n: usize| if counts.units == 0 { 0.0 } else { 100.0 * n as f64 / counts.units as f64 };
    writeln!(
        out,
        "| units | {}: {} described ({:.0} %), {} abstained ({:.0} %), {} dead ({:.0} %) |",
        thousands(counts.units as u64),
        counts.described,
        share(counts.described),
        counts.abstained,
        share(counts.abstained),
        counts.dead,
        share(counts.dead),
    )?;
    writeln!(
        out,
        "| descriptions | {} different ones; {} of {} described units share theirs with another unit |\n",
        counts.distinct_descriptions, counts.sharing_a_description, counts.described
    )
}

fn write_probe(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let probe = &report.probe;
    writeln!(out, "| probe | {} |", text(&probe.line()))?;
    writeln!(out, "| input | {} x {} pixels |", probe.preprocess.height, probe.preprocess.width)?;
    if let Some(a) = &report.accuracy {
        let questions = thousands(a.accuracy.total);
        writeln!(out, "| accuracy | {} on {questions} images (chance: {:.1} %) |", a.accuracy, 100.0 * a.chance)?;
    } else if let Some(reason) = &report.accuracy_missing {
        writeln!(out, "| accuracy | not measured: {} |", text(reason))?;
    }
    Ok(())
}

fn policies(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if !report.policies.is_empty() {
        writeln!(out, "## Policies\n")?;
        writeln!(
            out,
            "| policy | level | verdict | findings | known | waived | tolerated | units in scope | action | why |"
        )?;
        writeln!(out, "|---|---|---|--:|--:|--:|--:|--:|---|---|")?;
        for p in &report.policies {
            let verdict =
                if p.verdict == Verdict::Violated { "**violated**".to_string() } else { p.verdict.to_string() };
            let limit = if p.level == Level::Allow { "any".to_string() } else { p.limit.to_string() };
            writeln!(
                out,
                "| {} | {} | {verdict} | {} | {} | {} | {limit} | {} | {} | {} |",
                code(&p.name),
                p.level,
                p.findings,
                p.known,
                p.waived,
                p.units,
                p.action,
                text(&p.reason)
            )?;
        }
        writeln!(out)?;
    }
    let (of_model, of_policies): (Vec<_>, Vec<_>) = report.notices.iter().partition(|n| n.code.is_about_the_model());
    for (title, notices) in [("About the model", of_model), ("About the policies", of_policies)] {
        if notices.is_empty() {
            continue;
        }
        writeln!(out, "## {title}\n")?;
        for n in notices {
            let about = n.policy.as_ref().map_or(String::new(), |p| format!(" {}", code(p)));
            let place = code(&n.location.to_string());
            writeln!(out, "- {} {}{about}: {} ({place})", n.level, code(n.code.as_str()), text(&n.message))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn unaudited(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(coverage) = report.coverage.as_ref().filter(|c| !c.unaudited.is_empty()) else { return Ok(()) };
    writeln!(out, "## Layers that cannot be audited\n\n| layer | parameters | why |\n|---|--:|---|")?;
    for layer in &coverage.unaudited {
        writeln!(out, "| {} | {} | {} |", code(&layer.layer), thousands(layer.parameters), text(&layer.reason))?;
    }
    writeln!(out)
}

fn findings(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let of = |p: &PolicySummary| report.findings.iter().filter(|f| f.policy == p.name).collect::<Vec<_>>();
    let with_findings: Vec<_> = report.policies.iter().map(|p| (p, of(p))).filter(|(_, f)| !f.is_empty()).collect();
    if with_findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "## Findings\n")?;
    if report.units.iter().any(|u| u.picture.is_some()) {
        writeln!(
            out,
            "Pictures show the probe images that excite a unit most, strongest first; the region that it responds"
        )?;
        writeln!(out, "to is outlined and bright.\n")?;
    }
    for (policy, findings) in with_findings {
        let units = plural(findings.len(), "unit", "units");
        writeln!(
            out,
            "### {}: {units} ({}, {})\n\n{}\n",
            code(&policy.name),
            policy.level,
            policy.verdict,
            text(&policy.reason)
        )?;
        for finding in findings {
            write_finding(report, finding, out)?;
        }
    }
    Ok(())
}

fn write_finding(report: &Report, finding: &Finding, out: &mut dyn Write) -> io::Result<()> {
    let unit = report.unit(&finding.unit);
    let description = unit.map_or(String::new(), |u| format!(": {}", words(u)));
    let touched = |e: &&EditReport| e.coupled.contains(&finding.unit) || e.chosen.contains(&finding.unit);
    let edited = report.edit.as_ref().filter(touched).map_or(String::new(), |e| format!(" ({})", e.past()));
    let standing = match &finding.standing {
        Standing::New => "",
        Standing::Known => " (known)",
        Standing::Waived { .. } => " (waived)",
    };
    writeln!(out, "#### {}{description}{standing}{edited}\n", code(&finding.unit.to_string()))?;
    if let Some(unit) = unit
        && unit.picture.is_some()
    {
        writeln!(out, "![exemplars of {}]({})\n", text(&unit.id.to_string()), picture::path(&unit.id))?;
    }
    let because = finding.because.iter().map(|b| text(b)).collect::<Vec<_>>().join("; ");
    write!(out, "{}. Policy: {}.", capitalised(&because), code(&finding.location.to_string()))?;
    if let Standing::Waived { reason, expires, location } = &finding.standing {
        let until = expires.map_or(String::new(), |day| format!(" until {day}"));
        write!(out, " Waived{until}: {} ({}).", text(reason), code(&location.to_string()))?;
    }
    if let (Some(command), Origin::Model) = (&finding.reproduce, &report.origin) {
        write!(out, " To see it again: {}.", code(command))?;
    }
    writeln!(out, "\n")
}

fn edit(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let Some(edit) = &report.edit else { return Ok(()) };
    let (chosen, flagged) = (edit.chosen.len(), edit.flagged.len());
    writeln!(out, "## What the edit did\n")?;
    write!(out, "{}: {chosen} of {}", capitalised(edit.past()), plural(flagged, "flagged unit", "flagged units"))?;
    let with_them = edit.coupled.iter().filter(|c| !edit.chosen.contains(c)).count();
    if with_them > 0 {
        write!(out, "; {} of other sites went with them", plural(with_them, "unit", "units"))?;
    }
    writeln!(out, ". {}\n", text(&edit.verification))?;
    let sentences = edit.sentences();
    if !sentences.is_empty() {
        writeln!(out, "{}\n", sentences.iter().map(|s| text(s)).collect::<Vec<_>>().join(" "))?;
    }
    if !edit.evaluations.is_empty() {
        let total = edit.evaluations.iter().map(|e| e.before.total).max().unwrap_or(0);
        writeln!(
            out,
            "Test data, up to {} images each; 95 % Wilson intervals; p is McNemar's exact test against \"before\".\n",
            thousands(total)
        )?;
        table(&tables::evaluations(edit, true), out)?;
    }
    if !edit.sweep.is_empty() {
        writeln!(out, "How many units to edit was chosen on validation data:\n")?;
        table(&tables::sweep(edit), out)?;
    }
    let list = |units: &[crate::UnitId]| units.iter().map(|u| code(&u.to_string())).collect::<Vec<_>>().join(", ");
    if chosen > 0 {
        writeln!(out, "{}, in this order: {}.\n", capitalised(edit.past()), list(&edit.chosen))?;
    }
    if with_them > 0 {
        let others: Vec<_> = edit.coupled.iter().filter(|c| !edit.chosen.contains(c)).cloned().collect();
        writeln!(out, "With them: {}.\n", list(&others))?;
    }
    if !edit.left_out.is_empty() {
        writeln!(out, "Not {}:\n", edit.past())?;
        for n in &edit.left_out {
            writeln!(out, "- {}: {}", code(&n.unit.to_string()), text(&n.reason))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn history(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if report.history.is_empty() {
        return Ok(());
    }
    writeln!(out, "## During training\n\nChanged: units whose description is not that of the audit before.\n")?;
    table(&tables::history(report), out)
}

fn other_units(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let flagged = report.flagged_by();
    let rest: Vec<&UnitEntry> = report
        .units
        .iter()
        .filter(|u| u.description.status == Status::Described && !flagged.contains_key(&u.id))
        .collect();
    if rest.is_empty() {
        return Ok(());
    }
    writeln!(out, "## {} described units\n", if flagged.is_empty() { "The" } else { "The other" })?;
    writeln!(out, "Score: nats by which the words fit better than chance. Effect: standard deviations by which the")?;
    writeln!(out, "concept moves the unit. Abstained and dead units are in `neurons.csv`.\n")?;
    writeln!(out, "| unit | description | score | effect | AUC | |\n|---|---|--:|--:|--:|---|")?;
    for unit in rest {
        let d = &unit.description;
        let evidence = unit.evidence.first().map_or("| ".to_string(), measures);
        let link = unit.picture.as_ref().map_or(String::new(), |_| format!("[exemplars]({})", picture::path(&unit.id)));
        writeln!(out, "| {} | {} | {:.2} | {evidence} | {link} |", code(&unit.id.to_string()), words(unit), d.score)?;
    }
    writeln!(out)
}

/// Effect and AUC, as two cells.
fn measures(e: &ConceptEvidence) -> String {
    let effect = e.effect.map_or(String::new(), |effect| format!("{effect:+.2}"));
    let interval = e.auc_low.zip(e.auc_high).map_or(String::new(), |(low, high)| format!(" [{low:.2}, {high:.2}]"));
    format!("{effect} | {}", e.auc.map_or(String::new(), |auc| format!("{auc:.2}{interval}")))
}

fn made_with(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (tool, s, probe) = (&report.tool, &report.settings, &report.probe);
    writeln!(out, "## How this was made\n")?;
    if let Origin::Descriptions { file } = &report.origin {
        writeln!(out, "- {} {}", text(&tool.name), text(&tool.version))?;
        writeln!(out, "- descriptions: {}", code(file))?;
        // They are judged all at once, and so by one command.
        return match report.findings.iter().find_map(|f| f.reproduce.as_ref()) {
            Some(command) => writeln!(out, "- to see it again: {}", code(command)),
            None => Ok(()),
        };
    }
    writeln!(out, "- {} {}, seed {}", text(&tool.name), text(&tool.version), s.seed)?;
    writeln!(out, "- {} exemplars per unit; a response is what exceeds the {} quantile", s.k, s.quantile)?;
    writeln!(
        out,
        "- inputs: {} channels, mean {:?}, standard deviation {:?}",
        probe.preprocess.channels, probe.preprocess.mean, probe.preprocess.std
    )?;
    writeln!(out, "- describer: {}", code(&s.describer))?;
    writeln!(out, "- probe: {}", code(&probe.fingerprint))?;
    for skipped in &probe.skipped {
        writeln!(out, "- left out: {}: {}", code(&skipped.path), text(&skipped.reason))?;
    }
    for left_out in probe.left_out.iter().filter(|l| l.why != Why::Unreadable) {
        let names: Vec<String> = left_out.names.iter().take(NAMED).map(|name| code(name)).collect();
        let more = if left_out.names.len() > NAMED || left_out.files > left_out.names.len() { ", …" } else { "" };
        let (files, reason) = (plural(left_out.files, "file", "files"), text(&left_out.reason()));
        writeln!(out, "- left out: {files}, {reason}: {}{more}", names.join(", "))?;
    }
    Ok(())
}

fn table(rows: &Table, out: &mut dyn Write) -> io::Result<()> {
    let Some((head, rest)) = rows.split_first() else { return Ok(()) };
    let line = |row: &[String]| row.iter().map(|c| format!(" {} |", text(c))).collect::<String>();
    writeln!(out, "|{}\n|---|{}", line(head), "--:|".repeat(head.len().saturating_sub(1)))?;
    for row in rest {
        writeln!(out, "|{}", line(row))?;
    }
    writeln!(out)
}

fn words(unit: &UnitEntry) -> String {
    let words = text(&unit.description.text);
    if words.is_empty() { "(no words)".to_string() } else { words }
}
