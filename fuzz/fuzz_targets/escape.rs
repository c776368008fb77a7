//! Whatever text a report holds, every format shows it and obeys none of it.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tch_audit::UnitId;
use tch_audit::describe::{DescribedUnit, Description};
use tch_audit::policy::{self, Baseline, Level, Policies};
use tch_audit::report::{Format, Report, csv};

#[derive(Debug, Arbitrary)]
struct Input {
    file: String,
    policy: String,
    reason: String,
    waiver: String,
    units: Vec<(String, u8, String)>,
    command: String,
    model: String,
}

/// Text as a string of TOML.
fn quoted(text: &str) -> String {
    serde_json::to_string(&text.replace('\u{7f}', "")).expect("a string")
}

fuzz_target!(|input: Input| {
    let reason = if input.reason.trim().is_empty() { "r".to_string() } else { input.reason.clone() };
    let waiver = if input.waiver.trim().is_empty() { "w".to_string() } else { input.waiver.clone() };
    let text = format!(
        "level='deny'\nreason={}\n[match]\nany=['/./', 'text']\n[lints]\nunmatched-rule='warn'\n[[waive]]\nsite='*'\n\
         unit=[1, 3]\nreason={}",
        quoted(&reason),
        quoted(&waiver)
    );
    let name: String = input.policy.chars().take(40).collect();
    let Ok(policies) = Policies::parse(&name, &text) else { return };
    let mut units: Vec<DescribedUnit> = input
        .units
        .iter()
        .take(30)
        .map(|(site, unit, words)| DescribedUnit {
            id: UnitId::new(site, usize::from(unit % 4)),
            description: Description::words(words),
        })
        .collect();
    units.sort_by(|a, b| a.id.cmp(&b.id));
    units.dedup_by(|a, b| a.id == b.id);
    let mut outcome = policy::check(&policies, &units, "2026-11-25".parse().expect("a date"));
    let (known, _) = units.split_at(units.len() / 2);
    let before = policy::check(&policies, known, "2026-11-25".parse().expect("a date"));
    Baseline::of(&before, &input.file).apply(&mut outcome, Level::Warn);
    let mut report = Report::of_descriptions(&units, &input.file);
    report.model.name = input.model.clone();
    report.judge(&outcome, |_| Some(input.command.clone()));
    let report = report.finish();

    for format in Format::ALL {
        let mut out = Vec::new();
        format.write(&report, &mut out).expect("memory");
        let text = String::from_utf8(out).expect("UTF-8");
        let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
        let hidden = |c: char| c != '\n' && tch_audit::diagnostic::is_hidden(c);
        match format {
            Format::Json | Format::Sarif => assert!(is_json(&text)),
            Format::Jsonl => assert!(text.lines().all(is_json)),
            Format::Junit => drop(roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"))),
            Format::Csv => {
                let mut reader = ::csv::Reader::from_reader(text.as_bytes());
                let rows: Vec<_> = reader.records().map(|r| r.expect("a row")).collect();
                assert_eq!(rows.len(), units.len());
                assert!(rows.iter().all(|r| r.len() == csv::COLUMNS.len()));
                let formula = |cell: &str| cell.starts_with(['=', '@', '\t', '\r']);
                assert!(!rows.iter().any(|r| formula(&r[0]) || formula(&r[3])));
            }
            Format::Github => {
                let lines: Vec<&str> = text.split_terminator('\n').collect();
                let (_, rest) = lines.split_last().expect("the verdict");
                assert!(rest.iter().all(|l| ["::error ", "::warning "].iter().any(|c| l.starts_with(c))));
                assert!(!text.contains(hidden), "{text:?}");
            }
            Format::Text => assert!(!text.contains(hidden), "{text:?}"),
            Format::Markdown => assert!(!text.contains(hidden) && !text.contains("<script"), "{text:?}"),
            _ => {}
        }
    }
});
