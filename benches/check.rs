//! What `check` costs on descriptions: 5,000 of them against 12 policies, from files on disk to a verdict and its summary.
//!
//! The floor is the reading of the table alone. Everything runs on one thread, so seconds are CPU seconds.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tch_audit::describe;
use tch_audit::policy::{Date, Loader, check, shipped_files};
use tch_audit::report::{Format, Report};

const UNITS: usize = 5_000;
const POLICIES: usize = 12;
const ROUNDS: usize = 31;

fn main() -> tch_audit::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (table, policies) = (folder.path().join("words.csv"), folder.path().join("policies"));
    write(&table, &policies).expect("a temporary folder can be written to");
    let names = ["read the table", "load the policies", "check", "report", "text", "SARIF", "JSON"];
    let mut stages: [(&str, Vec<f64>); 7] = names.map(|name| (name, Vec::new()));
    let mut found = 0;
    for _ in 0..ROUNDS {
        let mut clock = Instant::now();
        let mut lap = |stage: usize| {
            stages[stage].1.push(1e3 * clock.elapsed().as_secs_f64());
            clock = Instant::now();
        };
        let units = describe::read_table(&table)?;
        lap(0);
        let policies = Loader::new().load_dir(&policies)?;
        lap(1);
        let outcome = check(&policies, &units, Date::today());
        lap(2);
        found = outcome.findings.len();
        let mut report = Report::of_descriptions(&units, "words.csv");
        report.judge(&outcome, |_| None);
        let report = report.finish();
        lap(3);
        for (stage, format) in [Format::Text, Format::Sarif, Format::Json].into_iter().enumerate() {
            let mut out = Vec::new();
            format.write(&report, &mut out).expect("memory");
            black_box(out);
            lap(4 + stage);
        }
    }
    println!("{UNITS} descriptions, {POLICIES} policies, {found} findings, median of {ROUNDS} rounds");
    let mut total = 0.0;
    let text = 4;
    for (i, (name, times)) in stages.iter_mut().enumerate() {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        total += if i <= text { median } else { 0.0 };
        println!("  {name:18} {median:6.2} ms");
    }
    println!("  {:18} {total:6.2} ms", "all up to text");
    Ok(())
}

/// Descriptions of which about a third are different, and the shipped policies, some of them twice.
fn write(table: &Path, policies: &Path) -> std::io::Result<()> {
    const THINGS: [&str; 12] = [
        "dogs",
        "lettering",
        "a woman's face",
        "horizontal lines",
        "red circles",
        "text on signs",
        "grass",
        "car wheels",
        "the eyes of animals",
        "hands holding tools",
        "watermarks",
        "textured surfaces",
    ];
    const LOOKS: [&str; 11] =
        ["black", "white", "blurry", "small", "large", "round", "shiny", "striped", "old", "wooden", "bright"];
    let mut text = String::from("layer,unit,description\n");
    for unit in 0..UNITS {
        let (look, thing, other) = (LOOKS[unit % 11], THINGS[unit % 12], THINGS[unit / 12 % 12]);
        let _ = writeln!(text, "layer{},{},\"{look} {thing}, and {other}\"", unit % 6, unit / 6);
    }
    std::fs::write(table, text)?;
    std::fs::create_dir_all(policies)?;
    for (i, (name, text)) in shipped_files().cycle().take(POLICIES).enumerate() {
        std::fs::write(policies.join(format!("{i:02}-{name}.toml")), text)?;
    }
    Ok(())
}
