//! Whatever text a report holds, every format shows it and obeys none of it.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use tch_audit::UnitId;
use tch_audit::describe::{DescribedUnit, Description, Status};
use tch_audit::evidence::ConceptEvidence;
use tch_audit::stats::Accuracy;
use tch_audit::policy::{self, Baseline, Code, Level, Location, Notice, Policies};
use tch_audit::report::*;

#[derive(Debug, Arbitrary)]
struct Input {
    of_model: bool,
    denied: bool,
    file: String,
    policy: String,
    reason: String,
    waiver: String,
    units: Vec<Unit>,
    because: Option<String>,
    command: Option<String>,
    notice: Option<(Option<String>, String)>,
    model: String,
    class: String,
    skipped: String,
    warning: Option<String>,
    edit: Option<String>,
    history: Option<String>,
}

#[derive(Debug, Arbitrary)]
struct Unit {
    site: String,
    number: u8,
    words: String,
    dead: bool,
    concept: Option<String>,
    source: String,
}

/// Text as a string of TOML.
fn quoted(text: &str) -> String {
    serde_json::to_string(&text.replace('\u{7f}', "")).expect("a string")
}

/// A report of the input's texts, with new, known and waived findings.
fn report(input: &Input) -> Option<Report> {
    let or = |text: &str, other: &str| if text.trim().is_empty() { other.to_string() } else { text.to_string() };
    let text = format!(
        "level='{}'\nreason={}\n[match]\nany=['/(?s)./', 'text']\n[lints]\nunmatched-rule='warn'\n[[waive]]\nsite='*'\n\
         unit=[1, 3]\nreason={}",
        if input.denied { "deny" } else { "warn" },
        quoted(&or(&input.reason, "r")),
        quoted(&or(&input.waiver, "w"))
    );
    let name: String = input.policy.chars().take(40).collect();
    let policies = Policies::parse(&name, &text).ok()?;
    let unit = |u: &Unit| {
        let mut description = Description::words(&u.words);
        if u.dead {
            description.status = Status::Dead;
        }
        let evidence = |concept: &String| ConceptEvidence {
            concept: concept.clone(),
            source: u.source.clone(),
            iou: Some(0.5),
            effect: Some(-1.0),
            auc: Some(0.5),
            auc_low: Some(0.0),
            auc_high: Some(1.0),
            share: Some(0.25),
            r: None,
        };
        let evidence = u.concept.iter().map(evidence).collect();
        DescribedUnit { id: UnitId::new(&u.site, usize::from(u.number % 4)), description, evidence }
    };
    let mut units: Vec<DescribedUnit> = input.units.iter().take(30).map(unit).collect();
    units.sort_by(|a, b| a.id.cmp(&b.id));
    units.dedup_by(|a, b| a.id == b.id);
    let today = "2026-11-25".parse().expect("a date");
    let mut outcome = policy::check(&policies, &units, today);
    let (known, _) = units.split_at(units.len() / 2);
    Baseline::of(&policy::check(&policies, known, today), &input.file).apply(&mut outcome, Level::Warn);

    let mut report = Report::of_descriptions(&units, &input.file);
    report.judge(&outcome, |_| input.command.clone());
    if input.of_model {
        report.origin = Origin::Model;
    }
    let location = Location { file: input.file.clone(), line: 1, column: 1 };
    if let Some(because) = &input.because {
        report.findings.iter_mut().for_each(|f| f.because = vec![because.clone(), because.clone()]);
        report.findings.iter_mut().for_each(|f| f.location = location.clone());
        report.policies.iter_mut().for_each(|p| p.location = location.clone());
    }
    if let Some((policy, message)) = &input.notice {
        let level = if input.denied { Level::Deny } else { Level::Warn };
        let (policy, message) = (policy.clone(), message.clone());
        report.notices.push(Notice { code: Code::StaleBaseline, level, policy, message, location });
    }
    report.model.name = input.model.clone();
    report.probe.classes = vec![input.class.clone(), input.class.clone()];
    report.probe.skipped = vec![SkippedImage { path: input.skipped.clone(), reason: input.reason.clone() }];
    report.settings.describer = input.skipped.clone();
    let accuracy = Accuracy::new(1, 2);
    let warning = input.warning.clone();
    report.accuracy = warning.is_some().then_some(ModelAccuracy { accuracy, chance: 0.5, warning });
    report.edit = input.edit.as_ref().map(|text| {
        let evaluation = |name: &str, before| Evaluation {
            name: name.to_string(),
            before: Accuracy::new(before, 2),
            edited: accuracy,
            ..Evaluation::default()
        };
        let evaluations = vec![evaluation(text, 2), evaluation(&input.class, 0)];
        let validation = vec![SweepAccuracy { name: text.clone(), accuracy, repaired: None }];
        let flagged: Vec<UnitId> = units.iter().map(|u| u.id.clone()).collect();
        EditReport {
            action: text.clone(),
            chosen: flagged.iter().take(1).cloned().collect(),
            coupled: flagged.clone(),
            left_out: flagged.iter().map(|u| LeftOut { unit: u.clone(), reason: text.clone() }).collect(),
            flagged,
            sweep: vec![SweepPoint { removed: 1, validation }],
            gap: Gap::between(&evaluations, text, &input.class),
            evaluations,
            verification: text.clone(),
        }
    });
    report.history = input
        .history
        .iter()
        .chain(&input.history)
        .map(|name| HistoryEntry {
            evaluations: vec![NamedAccuracy { name: name.clone(), accuracy }],
            ..HistoryEntry::default()
        })
        .collect();
    Some(report.finish())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// One annotation: four properties in their order, and a message.
fn check_annotation(line: &str) {
    let command = ["::error ", "::warning "].iter().find_map(|c| line.strip_prefix(c)).expect("a command");
    let (properties, _) = command.split_once("::").expect("a message");
    let keys: Vec<&str> = properties.split(',').filter_map(|p| Some(p.split_once('=')?.0)).collect();
    assert_eq!(keys, ["file", "line", "col", "title"], "{line}");
}

/// No HTML but the tags of code, and no row of a table with more or fewer bars than its head.
fn check_markdown(text: &str) {
    let tags = text.replace("<code>", "").replace("</code>", "");
    assert!(!tags.contains('<'), "{text}");
    let mut bars = None;
    for line in text.lines() {
        let n = line.matches('|').count();
        match (line.starts_with('|'), bars) {
            (false, _) => bars = None,
            (true, None) => bars = Some(n),
            (true, Some(expected)) => assert_eq!(n, expected, "{line}\nin\n{text}"),
        }
    }
}

fn check_csv(text: &str, report: &Report) {
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a head"), csv::COLUMNS.as_slice());
    let rows: Vec<::csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), report.units.len());
    // Site, description, concept, policies: the rest are this crate's own words and numbers.
    for cell in rows.iter().flat_map(|row| [0, 3, 7, 13].map(|i| &row[i])) {
        assert!(!cell.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell:?}");
    }
    // What is there is there as it was, but for the quote before a formula, which can be taken away again.
    for (row, unit) in rows.iter().zip(&report.units) {
        assert_eq!(row[3].strip_prefix('\'').unwrap_or(&row[3]), unit.description.text);
    }
}

fuzz_target!(|input: Input| {
    let Some(report) = report(&input) else { return };
    let mut written = BTreeMap::new();
    for format in Format::ALL {
        let mut out = Vec::new();
        format.write(&report, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("UTF-8");
        let hidden = |c: char| c != '\n' && tch_audit::diagnostic::is_hidden(c);
        match format {
            Format::Json | Format::Sarif => assert!(is_json(&text)),
            Format::Jsonl => assert!(text.lines().all(is_json)),
            Format::Junit => drop(roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"))),
            Format::Csv => check_csv(&text, &report),
            Format::Github => {
                let lines: Vec<&str> = text.split_terminator('\n').collect();
                let (verdict, rest) = lines.split_last().expect("the verdict");
                rest.iter().for_each(|line| check_annotation(line));
                assert!(!verdict.contains("::error ") || !verdict.starts_with("::"), "{verdict}");
                assert!(!text.contains(hidden), "{text:?}");
            }
            Format::Text => assert!(!text.contains(hidden), "{text:?}"),
            Format::Markdown => {
                assert!(!text.contains(hidden), "{text:?}");
                check_markdown(&text);
            }
            _ => {}
        }
        written.insert(format, text);
    }
    let source = tch_audit::diagnostic::Source::new("f", written.remove(&Format::Json).expect("JSON"));
    assert_eq!(json::read(&source).expect("what was written"), report);
});
