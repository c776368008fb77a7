//! Reports: the same bytes every time, whole files or none, and nothing from outside that is obeyed instead of shown.

use image::{Rgb, RgbImage};
use std::error::Error as _;
use std::fs;
use std::io::Write;
use tch_audit::describe::{ConceptEvidence, Description, Status};
use tch_audit::evaluate::stats::Accuracy;
use tch_audit::exemplars::{Exemplar, UnitExemplars};
use tch_audit::policy::{Action, Level, Verdict};
use tch_audit::report::*;
use tch_audit::{Error, Region, UnitId};

const NASTY: &str =
    "=cmd|'/C calc'!A0 <script>alert(1)</script> | *bold* [x](javascript:y) \u{1b}[31mred\u{1b}[0m\nnext";

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for render in [json::write, csv::write, markdown::write, terminal::write] {
        let (first, second) = (rendered(&sample(), render), rendered(&sample().finish(), render));
        assert!(!first.is_empty() && first == second);
    }
}

#[test]
fn the_order_in_which_stages_deliver_does_not_show() {
    let mut shuffled = sample();
    shuffled.units.reverse();
    shuffled.findings.reverse();
    shuffled.policies.reverse();
    shuffled.probe.skipped.reverse();
    assert_eq!(shuffled.finish(), sample());
}

#[test]
fn json_reads_back_the_same_and_ends_with_a_newline() {
    let text = rendered(&sample(), json::write);
    assert!(text.ends_with("}\n"));
    assert_eq!(json::read(&text, "report.json").unwrap(), sample());
}

#[test]
fn timings_are_the_last_object_and_the_only_difference_between_equal_runs() {
    let (a, mut b) = (sample(), sample());
    b.run = Run { date: "tomorrow".into(), stages: vec![Stage { name: "observe".into(), seconds: 9.0 }] };
    let (a_json, b_json) = (rendered(&a, json::write), rendered(&b, json::write));
    let before_run = |t: &str| t.split("\n  \"run\": {").next().unwrap().to_string();
    assert_ne!(a_json, b_json);
    assert_eq!(before_run(&a_json), before_run(&b_json));
    assert!(a_json[before_run(&a_json).len()..].matches("\n  \"").count() == 1, "run is not last");
    assert_eq!(rendered(&a, markdown::write), rendered(&b, markdown::write));
    assert_eq!(rendered(&a, csv::write), rendered(&b, csv::write));
}

#[test]
fn another_schema_version_is_refused_by_name() {
    let text = rendered(&sample(), json::write).replace("\"schema_version\": 1", "\"schema_version\": 7");
    let message = json::read(&text, "old.json").unwrap_err().to_string();
    assert!(message.contains("old.json") && message.contains("received 7, allowed 1"), "{message}");
    assert!(json::read("[", "x").is_err());
}

#[test]
fn json_refuses_numbers_that_it_cannot_say() {
    let mut report = sample();
    report.units[0].level = f32::NAN;
    let mut out = Vec::new();
    assert_eq!(json::write(&report, &mut out).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert!(out.is_empty());
}

#[test]
fn counts_have_their_denominators() {
    let counts = sample().counts;
    assert_eq!((counts.units, counts.described, counts.abstained, counts.dead), (5, 3, 1, 1));
    assert_eq!((counts.distinct_descriptions, counts.sharing_a_description), (2, 2));
}

#[test]
fn csv_has_one_row_per_unit_and_no_formula() {
    let mut report = sample();
    report.units[0].description.text = NASTY.into();
    report.units[1].id.site = "@raw".into();
    let text = rendered(&report, csv::write);
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().unwrap().iter().collect::<Vec<_>>(), csv::COLUMNS);
    let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), report.units.len());
    assert_eq!(&rows[0][3], format!("'{NASTY}"));
    assert_eq!(&rows[1][0], "'@raw");
    let flagged = rows.iter().find(|r| &r[0] == "layer3.1.conv2" && &r[1] == "17").unwrap();
    assert_eq!((&flagged[13], &flagged[7], &flagged[9]), ("text", "text", "3.25"));
}

#[test]
fn markdown_shows_what_came_from_outside_and_obeys_none_of_it() {
    let mut report = sample();
    for unit in &mut report.units {
        unit.description.text = NASTY.into();
    }
    report.policies[0].reason = NASTY.into();
    report.findings[0].because = vec![NASTY.into()];
    report.model.name = NASTY.into();
    report.probe.skipped[0].path = NASTY.into();
    let text = rendered(&report, markdown::write);
    for harmful in ["<script", "\u{1b}", "*bold*", "[x]("] {
        assert!(!text.contains(harmful), "{harmful:?} in\n{text}");
    }
    assert!(text.contains("&lt;script&gt;"));
    // No cell was split: every row of a table has as many bars as its head.
    let mut bars = None;
    for line in text.lines() {
        let n = line.matches('|').count();
        match (line.starts_with('|'), bars) {
            (false, _) => bars = None,
            (true, None) => bars = Some(n),
            (true, Some(expected)) => assert_eq!(n, expected, "{line}"),
        }
    }
}

#[test]
fn markdown_leads_with_the_verdict_and_shows_the_exemplars_of_findings() {
    let text = rendered(&sample(), markdown::write);
    let place = |needle: &str| text.find(needle).unwrap_or_else(|| panic!("no {needle:?} in\n{text}"));
    assert!(place("**Denied:**") < place("## Policies"));
    assert!(place("## Findings") < place("](pictures/layer3.1.conv2-17.png)"));
    assert!(place("## Findings") < place("## What the edit did"));
    place("recovered 20 % of this gap; with the last layer refitted, 60 %");
    place("The edit did better than every draw.");
}

#[test]
fn the_gap_is_told_honestly_when_random_units_do_as_well() {
    let mut report = sample();
    let gap = report.edit.as_mut().unwrap().gap.as_mut().unwrap();
    gap.recovered_controls_repaired = vec![0.7, 0.65];
    assert!(rendered(&report, markdown::write).contains("The edit did no better than random units."));
    let gap = report.edit.as_mut().unwrap().gap.as_mut().unwrap();
    gap.recovered_repaired_only = Some(0.6);
    assert!(rendered(&report, terminal::write).contains("zeroing added nothing to it"));
}

#[test]
fn a_gap_needs_two_measured_evaluations_and_a_difference() {
    let evaluations = sample().edit.unwrap().evaluations;
    let gap = Gap::between(&evaluations, "clean", "wrong stamp").unwrap();
    assert!((gap.before_gap - 0.5).abs() < 1e-12 && (gap.recovered_zeroed - 0.2).abs() < 1e-12);
    assert_eq!(Gap::between(&evaluations, "wrong stamp", "clean"), None);
    assert_eq!(Gap::between(&evaluations, "clean", "nothing"), None);
}

#[test]
fn the_terminal_ends_with_the_verdict_and_obeys_no_codes() {
    let mut report = sample();
    report.units.iter_mut().for_each(|u| u.description.text = NASTY.into());
    report.probe.classes = vec![NASTY.into()];
    let text = rendered(&report, terminal::write);
    assert_eq!(text.lines().last(), Some("denied: 2 units violate text; 1 zeroed"));
    assert!(!text.contains('\u{1b}'), "{text:?}");
    for needle in ["layer3.1.conv2/17", "81.0 %", "recovered", "5: 3 described in 2 ways, 1 abstained, 1 dead"] {
        assert!(text.contains(needle), "no {needle:?} in\n{text}");
    }
    let findings = text.lines().filter(|l| l.starts_with("  deny  text"));
    assert!(findings.map(|l| l.chars().count()).all(|n| n <= 100));
}

#[test]
fn the_terminal_is_coloured_only_where_allowed() {
    let mut out = Vec::new();
    terminal::write_styled(&sample(), terminal::Style { color: true, width: 80 }, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().contains("\u{1b}[31m"));
}

#[test]
fn verdicts_name_what_happened() {
    let mut report = sample();
    report.edit = None;
    report.policies[1].level = Level::Warn;
    assert_eq!(report.clone().finish().verdict, "warned: 2 units violate text");
    report.policies[1].verdict = Verdict::Tolerated;
    assert_eq!(report.clone().finish().verdict, "clean: 5 units hold to 2 policies");
    report.policies.clear();
    let report = report.finish();
    assert!(report.verdict.starts_with("not judged") && !report.denied);
}

#[test]
fn accuracy_near_chance_is_warned_about() {
    assert!(ModelAccuracy::new(Accuracy::new(11, 100), 10).warning.is_some());
    assert!(ModelAccuracy::new(Accuracy::new(70, 100), 2).warning.is_none());
    assert!(ModelAccuracy::new(Accuracy::new(81, 100), 10).warning.is_none());
    assert!(ModelAccuracy::new(Accuracy::new(0, 0), 10).warning.is_none());
}

#[test]
fn files_appear_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    write_atomically(&path, |out| out.write_all(b"old")).unwrap();
    let failed = write_atomically(&path, |out| {
        out.write_all(b"half")?;
        Err(std::io::Error::other("interrupted"))
    });
    let error = failed.unwrap_err();
    assert!(error.to_string().contains("a.txt"), "{error}");
    assert_eq!(error.source().unwrap().to_string(), "interrupted");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
    assert!(write_atomically(&folder.path().join("none/b.txt"), |_| Ok(())).is_err());
}

#[test]
fn write_all_writes_every_file_twice_the_same() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = write_all(&sample(), a.path(), &sheet).unwrap();
    write_all(&sample(), b.path(), &sheet).unwrap();
    assert_eq!(names.len(), 3 + 4);
    for path in names {
        let other = b.path().join(path.strip_prefix(a.path()).unwrap());
        assert_eq!(fs::read(&path).unwrap(), fs::read(other).unwrap());
    }
}

#[test]
fn one_failing_renderer_does_not_silence_the_others() {
    let folder = tempfile::tempdir().unwrap();
    // Two files cannot be replaced, because folders stand in their place.
    fs::create_dir_all(folder.path().join("neurons.csv/x")).unwrap();
    fs::create_dir_all(folder.path().join("pictures/layer3.1.conv2-17.png/x")).unwrap();
    let error = write_all(&sample(), folder.path(), &sheet).unwrap_err();
    let Error::Several { errors } = &error else { panic!("{error}") };
    assert_eq!(errors.len(), 2);
    let text = error.to_string();
    assert!(text.contains("neurons.csv") && text.contains("conv2-17.png"), "{text}");
    assert!(folder.path().join("report.json").is_file() && folder.path().join("report.md").is_file());
    assert!(folder.path().join("pictures/layer3.1.conv2-4.png").is_file());
}

/// Writes the sample where one can look at it: `TCH_AUDIT_SAMPLE=dir cargo test --test report -- --ignored`.
#[test]
#[ignore = "writes files for the eye"]
fn sample_report() {
    let Some(folder) = std::env::var_os("TCH_AUDIT_SAMPLE") else { return println!("skipped: no TCH_AUDIT_SAMPLE") };
    let folder = std::path::Path::new(&folder);
    write_all(&sample(), folder, &sheet).unwrap();
    for (name, color) in [("terminal.txt", false), ("terminal.ansi", true)] {
        let style = terminal::Style { color, width: 110 };
        write_atomically(&folder.join(name), |out| terminal::write_styled(&sample(), style, out)).unwrap();
    }
}

fn rendered(report: &Report, render: fn(&Report, &mut dyn Write) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    render(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// A picture of fifteen drawn images with a plate on them.
fn sheet(id: &UnitId) -> Option<RgbImage> {
    let plate = |i: usize| (4 + (i * 5) % 9, 6 + (i * 7) % 13);
    let top = (0..15)
        .map(|image| {
            let (px, py) = plate(image);
            let region = Region::from_fn(32, 32, |y, x| {
                let (dx, dy) = (x as f64 - px as f64 - 7.5, y as f64 - py as f64 - 3.5);
                (dx / 10.0).powi(2) + (dy / 6.0).powi(2) < 1.0
            });
            Exemplar { image, activation: 9.0 - image as f32 / 4.0, map: Vec::new(), region }
        })
        .collect();
    let unit = UnitExemplars { id: id.clone(), level: 0.5, minimum: 0.0, maximum: 9.0, dead: false, top };
    picture::contact_sheet(&unit, |i| {
        let (px, py) = plate(i);
        Some(RgbImage::from_fn(32, 32, |x, y| {
            let (dx, dy) = ((x as usize).wrapping_sub(px), (y as usize).wrapping_sub(py));
            if dx < 15 && dy < 7 {
                let ink = (dx * 7 + dy * (3 + id.unit % 5)) % 5 < 2 && dy > 0 && dy < 6;
                return if ink { Rgb([10, 10, 10]) } else { Rgb([250, 250, 245]) };
            }
            Rgb([(80 + 5 * x + 7 * i as u32) as u8, (200 - 4 * y) as u8, (90 + 3 * (x + y) + 9 * i as u32) as u8])
        }))
    })
}

fn unit(site: &str, unit: usize, text: &str, status: Status, effect: f64) -> UnitEntry {
    let score = if status == Status::Described { 1.75 } else { 0.0 };
    let evidence = ConceptEvidence {
        concept: if text.contains("text") { "text" } else { "stripes" }.into(),
        iou: 0.213,
        effect,
        auc: 0.97,
        auc_low: 0.94,
        auc_high: 0.99,
        share: 0.8,
    };
    let dead = status == Status::Dead;
    let name = |i: usize| format!("test/cat/{i:04}.jpg");
    let exemplars = if dead { 0 } else { 3 };
    let entry = UnitEntry {
        id: UnitId::new(site, unit),
        description: Description {
            text: text.into(),
            status,
            score,
            log_likelihood: -0.1,
            log_prior: -1.85,
            alternatives: Vec::new(),
            evidence: if dead { Vec::new() } else { vec![evidence] },
        },
        level: 0.1,
        minimum: 0.0,
        maximum: if dead { 0.0 } else { 3.3 },
        dead,
        exemplars: (0..exemplars).map(|i| ExemplarEntry { image: i, name: name(i), activation: 3.3 }).collect(),
        picture: None,
    };
    if dead { entry } else { entry.with_picture() }
}

fn finding(unit: usize) -> ReportedFinding {
    ReportedFinding {
        code: "denied-concept".into(),
        policy: "text".into(),
        level: Level::Deny,
        unit: UnitId::new("layer3.1.conv2", unit),
        because: vec!["it is described as `text` (effect +3.25 sd, AUC 0.97 [0.94, 0.99], IoU 0.213)".into()],
        location: "policies/text.toml:1:9".into(),
    }
}

fn policy(name: &str, findings: usize, verdict: Verdict, reason: &str) -> ReportedPolicy {
    ReportedPolicy {
        name: name.into(),
        level: Level::Deny,
        action: Action::Zero,
        reason: reason.into(),
        file: format!("policies/{name}.toml"),
        units: 5,
        findings,
        limit: 0,
        verdict,
    }
}

fn evaluation(name: &str, before: u64, zeroed: u64, repaired: u64, alone: u64) -> Evaluation {
    let of = |correct| Accuracy::new(correct, 1000);
    let control = |draw: usize| Control {
        draw,
        zeroed: of(before - 10 * draw as u64),
        repaired: Some(of(before + 5 * draw as u64)),
    };
    Evaluation {
        name: name.into(),
        before: of(before),
        zeroed: of(zeroed),
        zeroed_p: 0.0312,
        zeroed_repaired: Some(of(repaired)),
        repaired_p: Some(1e-9),
        repaired_only: Some(of(alone)),
        controls: (0..5).map(control).collect(),
    }
}

fn sample() -> Report {
    let evaluations = vec![
        evaluation("clean", 810, 790, 805, 808),
        evaluation("right stamp", 930, 900, 890, 925),
        evaluation("wrong stamp", 310, 410, 610, 400),
    ];
    let gap = Gap::between(&evaluations, "clean", "wrong stamp");
    let validation = |name: &str, correct| SweepAccuracy {
        name: name.into(),
        accuracy: Accuracy::new(correct, 500),
        repaired: Some(Accuracy::new(correct + 20, 500)),
    };
    let point = |removed: usize| SweepPoint {
        removed,
        validation: vec![
            validation("clean", 400 - removed as u64),
            validation("wrong stamp", 160 + 50 * removed as u64),
        ],
    };
    let ids = |units: &[usize]| units.iter().map(|&u| UnitId::new("layer3.1.conv2", u)).collect::<Vec<_>>();
    let site = |name: &str, units| SiteInfo { name: name.into(), kind: "layer".into(), units, height: 8, width: 8 };
    let history = |epoch: u64| HistoryEntry {
        epoch,
        step: 390 * epoch,
        described: 2 + epoch as usize / 3,
        abstained: 2,
        dead: 1,
        flagged: epoch as usize / 2,
        changed: 3 - epoch as usize / 2,
        evaluations: vec![NamedAccuracy { name: "clean".into(), accuracy: Accuracy::new(200 + 100 * epoch, 1000) }],
    };
    Report {
        model: ModelInfo {
            name: "resnet20_cifar10.pt".into(),
            parameters: 272_474,
            sites: vec![site("layer1.0.conv1", 1), site("layer3.1.conv2", 4)],
        },
        probe: ProbeInfo {
            images: 1000,
            classes: ["airplane", "automobile", "cat"].map(String::from).to_vec(),
            skipped: ["cat/broken.jpg", "dog/half.png"]
                .map(|p| SkippedImage { path: p.into(), reason: "unexpected end of file".into() })
                .to_vec(),
            preprocess: InputFormat {
                channels: 3,
                height: 32,
                width: 32,
                mean: vec![0.4914, 0.4822, 0.4465],
                std: vec![0.247, 0.2435, 0.2616],
            },
            fingerprint: "9f3a51c2e07b44d1".into(),
        },
        settings: Settings {
            k: 15,
            quantile: 0.99,
            seed: 7,
            sites: vec!["auto".into()],
            describer: "concepts v1, 42 concepts, seed 7".into(),
        },
        accuracy: Some(ModelAccuracy::new(Accuracy::new(811, 1000), 10)),
        policies: vec![
            policy("text", 2, Verdict::Violated, "A network of photographs must not read captions."),
            policy("borders", 0, Verdict::Clean, "Frames come from the scanner, not from the thing."),
        ],
        findings: vec![finding(4), finding(17)],
        warnings: vec![ReportedWarning {
            code: "unmatched-rule".into(),
            about: "text".into(),
            message: "`caption` matched no unit".into(),
            location: Some("policies/text.toml:6:20".into()),
        }],
        edit: Some(EditReport {
            action: "zero".into(),
            flagged: ids(&[17, 4]),
            chosen: ids(&[17]),
            coupled: vec![UnitId::new("layer3.1.conv2", 17), UnitId::new("layer3.1.conv2@raw", 17)],
            not_zeroed: Vec::new(),
            sweep: (0..3).map(point).collect(),
            evaluations,
            gap,
            verification: "The zeroed model's outputs equal the masked model's on 32 images.".into(),
        }),
        history: (1..4).map(history).collect(),
        units: vec![
            unit("layer3.1.conv2", 17, "text", Status::Described, 3.25),
            unit("layer3.1.conv2", 4, "text", Status::Described, 2.5),
            unit("layer1.0.conv1", 0, "horizontal stripes", Status::Described, 1.2),
            unit("layer3.1.conv2", 9, "nothing in the bank", Status::Abstained, 0.1),
            unit("layer3.1.conv2", 11, "dead: it never varies", Status::Dead, 0.0),
        ],
        run: Run { date: String::new(), stages: vec![Stage { name: "observe".into(), seconds: 1.5 }] },
        ..Report::default()
    }
    .finish()
}
