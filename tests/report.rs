//! Reports: the same bytes every time, whole files or none, and nothing from outside that is obeyed instead of shown.

mod common;

use common::with;
use image::{Rgb, RgbImage};
use std::error::Error as _;
use std::fs;
use std::io::Write;
use tch_audit::describe::{Description, Status};
use tch_audit::diagnostic::Source;
use tch_audit::evidence::ConceptEvidence;
use tch_audit::exemplars::{Exemplar, Sketch, UnitExemplars};
use tch_audit::policy::{Action, Because, Code, Finding, Level, Location, Notice, PolicySummary, Standing, Verdict};
use tch_audit::probe::{LeftOutFiles, Why};
use tch_audit::report::*;
use tch_audit::stats::Accuracy;
use tch_audit::{Error, Region, UnitId};

const NASTY: &str =
    "=cmd|'/C calc'!A0 <script>alert(1)</script> | *bold* [x](javascript:y) \u{1b}[31mred\u{1b}[0m\nnext";

#[test]
fn rendering_twice_gives_the_same_bytes() {
    for format in Format::ALL {
        let (first, second) = (written(&sample(), format), written(&sample().finish(), format));
        assert!(!first.is_empty() && first == second, "{format}");
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
    assert_eq!(read(&text).unwrap(), sample());
}

#[test]
fn timings_are_the_last_object_and_the_only_difference_between_equal_runs() {
    let (a, mut b) = (sample(), sample());
    b.run = Run { date: "tomorrow".into(), stages: vec![Stage { name: "observe".into(), seconds: 9.0 }], kept: 3 };
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
    let message = read(&text).unwrap_err().to_string();
    assert!(
        message.contains("old.json:2:3") && message.contains("version 7") && message.contains("expected: 1"),
        "{message}"
    );
    assert!(read("[").unwrap_err().to_string().contains("old.json:1:"));
    let twice = rendered(&sample(), json::write).replace("\"unit\": 17\n", "\"unit\": 4\n");
    assert!(read(&twice).unwrap_err().to_string().contains("layer3.1.conv2/4 twice"));
}

#[test]
fn json_refuses_numbers_that_it_cannot_say() {
    let mut report = sample();
    report.units[0].level = Some(f32::NAN);
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
    report.findings[0].description = NASTY.into();
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
    assert!((gap.before_gap - 0.5).abs() < 1e-12 && (gap.recovered_edited - 0.2).abs() < 1e-12);
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
    terminal::write_styled(&sample(), with(terminal::Style::default(), |s| (s.color, s.width) = (true, 80)), &mut out)
        .unwrap();
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
fn what_was_left_out_and_why_nothing_was_measured_is_in_every_report() {
    let left_out = |why, what: &str, files, names: &[&str]| {
        let names = names.iter().map(|n| n.to_string()).collect();
        LeftOutFiles { why, what: what.into(), files, more: false, names }
    };
    let mut report = sample();
    report.probe.left_out = vec![
        left_out(Why::KindNotRead, "heic", 3, &["cat/1.heic", "cat/<2>.heic", "dog/1.heic"]),
        left_out(Why::OtherProgram, "@eaDir", 4, &["cat/@eaDir"]),
        left_out(Why::Unreadable, "", 2, &["cat/broken.jpg", "dog/half.png"]),
        left_out(Why::BeyondLimit, "", 40, &["cat/9.jpg"]),
    ];
    report.probe.classes_present = 2;
    report.accuracy = None;
    report.accuracy_missing = Some("2 class folders, the model has 3 outputs".into());
    let report = report.finish();
    let line = "1,000 images, 2 of 3 classes, 9 files left out: 3 heic are not read (cat/1.heic, cat/<2>.heic, …), 4 in \
                folders of other programs (@eaDir), 2 unreadable (cat/broken.jpg, dog/half.png); 40 beyond the limit per \
                class";
    assert_eq!(report.probe.line(), line);
    let terminal = written(&report, Format::Text);
    assert!(terminal.contains(&format!("probe     {line}\n")), "{terminal}");
    assert!(terminal.contains("accuracy  not measured: 2 class folders, the model has 3 outputs\n"), "{terminal}");
    let markdown = written(&report, Format::Markdown);
    assert!(markdown.contains("9 files left out") && !markdown.contains("cat/<2>.heic |"), "{markdown}");
    assert!(markdown.contains("| accuracy | not measured: 2 class folders, the model has 3 outputs |"), "{markdown}");
    assert!(markdown.contains("- left out: 4 files, in folders of another program"), "{markdown}");
    let json: serde_json::Value = serde_json::from_str(&written(&report, Format::Json)).unwrap();
    let first = &json["probe"]["left_out"][0];
    assert_eq!((first["why"].as_str(), first["what"].as_str()), (Some("kind-not-read"), Some("heic")));
    assert_eq!((first["files"].as_u64(), first["names"].as_array().map(Vec::len)), (Some(3), Some(3)));
    assert_eq!(json["accuracy_missing"].as_str(), Some("2 class folders, the model has 3 outputs"));
}

#[test]
fn files_appear_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    Format::Csv.save(&sample(), &path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), written(&sample(), Format::Csv));
    let mut broken = sample();
    broken.units[0].level = Some(f32::NAN);
    let error = Format::Json.save(&broken, &path).unwrap_err();
    assert!(error.to_string().contains("a.txt"), "{error}");
    assert!(error.source().unwrap().to_string().contains("NaN"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), written(&sample(), Format::Csv));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
    assert!(Format::Text.save(&sample(), folder.path().join("none/b.txt")).is_err());
    #[cfg(unix)]
    {
        let link = folder.path().join("link.txt");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Format::Jsonl.save(&sample(), &link).unwrap();
        assert!(link.is_symlink() && fs::read_to_string(&path).unwrap() == written(&sample(), Format::Jsonl));
    }
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
        let style = with(terminal::Style::default(), |s| (s.color, s.width) = (color, 110));
        let mut file = fs::File::create(folder.join(name)).unwrap();
        terminal::write_styled(&sample(), style, &mut file).unwrap();
    }
}

// ---- formats for machines ----

/// A report with one finding of every standing, and nasty text everywhere.
fn mixed(nasty: &str) -> Report {
    let mut report = sample();
    report.edit = None;
    let waived = Standing::Waived { reason: nasty.into(), expires: None, location: place(9, 1) };
    report.findings.push(Finding { standing: waived, ..finding(9) });
    report.findings.push(Finding { standing: Standing::Known, ..finding(11) });
    for unit in &mut report.units {
        unit.description.text = nasty.into();
    }
    for finding in &mut report.findings {
        finding.description = nasty.into();
        finding.because = vec![nasty.into()];
        finding.reproduce = Some(nasty.into());
        finding.location.file = nasty.into();
    }
    for policy in &mut report.policies {
        policy.reason = nasty.into();
        policy.location.file = nasty.into();
    }
    report.notices[0].message = nasty.into();
    report.notices[0].location.file = nasty.into();
    report.model.name = nasty.into();
    report.probe.classes = vec![nasty.into()];
    report.finish()
}

fn nasty_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        NASTY,
        "",
        "\u{0}\u{1}\u{7f}\u{9b}2J\u{202e}\u{2028}\u{feff}\u{fffe}\u{10ffff}",
        "a,b\"c'd\r\n::error file=x::y %0A ]]> <![CDATA[ &amp; \\ {}",
        "=1+1",
        "http://example.com www.example.com @user #1 ![x](y) <!-- -->",
    ]
    .map(String::from)
    .to_vec();
    texts.push("long ".repeat(200_000));
    texts
}

/// The official schema; the package that generates its types from it carries it.
fn sarif_schema() -> serde_json::Value {
    // Packages of other systems only need not be there.
    let version = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host");
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == "serde-sarif").expect("a development dependency");
    let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap());
    let text = fs::read_to_string(manifest.with_file_name("src").join("schema.json")).unwrap();
    // One of its patterns (that of `language`, which is not used here) closes a bracket that it does not open.
    let pattern = "-[a-zA-Z]{2}]?$";
    assert!(text.contains(pattern));
    serde_json::from_str(&text.replace(pattern, "-[a-zA-Z]{2}$")).unwrap()
}

#[test]
fn sarif_holds_to_the_official_schema_whatever_the_text() {
    let schema = sarif_schema();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    let check = |report: &Report| {
        let log: serde_json::Value = serde_json::from_str(&written(report, Format::Sarif)).unwrap();
        let faults: Vec<String> = validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:?}");
        let typed: serde_sarif::sarif::Sarif = serde_json::from_value(log.clone()).unwrap();
        assert_eq!(typed.runs.len(), 1);
        log
    };
    check(&Report::default().finish());
    nasty_texts().iter().for_each(|text| drop(check(&mixed(text))));
    assert!(validator.validate(&serde_json::json!({ "version": "2.1.0" })).is_err(), "the schema is not empty");

    let log = check(&sample());
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    // Two findings and a notice, each with a place, a rule that is there and a fingerprint.
    assert_eq!(results.len(), 3);
    for result in results {
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "policies/text.toml");
        assert!(place["region"]["startLine"].as_u64().unwrap() > 0);
        assert!(result["partialFingerprints"]["tchAuditFinding/v1"].as_str().unwrap().len() == 32);
    }
    let finding = results.iter().find(|r| r["ruleId"] == "policy/text").unwrap();
    assert_eq!(finding["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "layer3.1.conv2/4");
    assert_eq!((&finding["level"], &run["invocations"][0]["exitCode"]), (&"error".into(), &1.into()));
    // The line is that of the file, counted from 1: the notice stands in line 6.
    let notice = results.iter().find(|r| r["ruleId"] == "lint/unmatched-rule").unwrap();
    assert_eq!(notice["locations"][0]["physicalLocation"]["region"]["startLine"], 6);
}

#[test]
fn sarif_tells_what_is_waived_and_known() {
    let log: serde_json::Value = serde_json::from_str(&written(&mixed("x"), Format::Sarif)).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let of = |unit: usize| {
        let fingerprint = format!("{unit:032x}");
        results.iter().find(|r| r["partialFingerprints"]["tchAuditFinding/v1"] == fingerprint.as_str()).unwrap()
    };
    assert_eq!(of(9)["suppressions"][0]["justification"], "x");
    assert_eq!((&of(11)["baselineState"], &of(4)["baselineState"]), (&"unchanged".into(), &"new".into()));
    assert_eq!(of(4)["suppressions"], serde_json::json!([]));
}

#[test]
fn sarif_stays_below_the_limits_of_github_and_says_so() {
    let mut report = mixed(&"words ".repeat(100));
    let finding = report.findings[0].clone();
    report.findings = (0..30_000)
        .map(|unit| Finding {
            unit: UnitId::new("s", unit),
            level: if unit % 3 == 0 { Level::Deny } else { Level::Warn },
            description: String::new(),
            ..finding.clone()
        })
        .collect();
    let text = written(&report.finish(), Format::Sarif);
    assert!(text.len() < 10_000_000, "{}", text.len());
    let log: serde_json::Value = serde_json::from_str(&text).unwrap();
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert!(results.len() <= sarif::MAX_RESULTS && results.len() > 3_000, "{}", results.len());
    let said = run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"].as_str().unwrap();
    assert!(said.starts_with(&format!("{} of 30001 results are shown", results.len())), "{said}");
    // What fails the run comes first.
    assert!(results.iter().skip(1).take(5_000).all(|r| r["level"] == "error"));
}

#[test]
fn junit_is_xml_whose_numbers_add_up() {
    for text in nasty_texts() {
        let xml = written(&mixed(&text), Format::Junit);
        let document = roxmltree::Document::parse(&xml).unwrap_or_else(|e| panic!("{e}"));
        let root = document.root_element();
        assert_eq!(root.tag_name().name(), "testsuites");
        let number =
            |node: roxmltree::Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
        let (mut tests, mut failures) = (0, 0);
        for suite in root.children().filter(|n| n.is_element()) {
            assert_eq!(suite.tag_name().name(), "testsuite");
            let cases: Vec<_> = suite.children().filter(|n| n.has_tag_name("testcase")).collect();
            let failed = cases.iter().filter(|c| c.children().any(|n| n.has_tag_name("failure"))).count();
            assert_eq!((number(suite, "tests"), number(suite, "failures")), (cases.len(), failed));
            for case in cases {
                assert!(case.attribute("name").is_some() && case.attribute("classname").is_some());
            }
            (tests, failures) = (tests + number(suite, "tests"), failures + number(suite, "failures"));
        }
        assert_eq!((number(root, "tests"), number(root, "failures")), (tests, failures));
    }
}

#[test]
fn junit_lists_passes_and_fails_what_denies() {
    let xml = written(&sample(), Format::Junit);
    let document = roxmltree::Document::parse(&xml).unwrap();
    let case = |class: &str, name: &str| {
        let found =
            |n: &roxmltree::Node<'_, '_>| n.attribute("classname") == Some(class) && n.attribute("name") == Some(name);
        let case = document.descendants().filter(|n| n.has_tag_name("testcase")).find(found).unwrap();
        let failure = case.children().find(|n| n.has_tag_name("failure"));
        (
            failure.and_then(|f| f.attribute("message").map(str::to_string)),
            case.children().filter(|n| n.is_element()).count(),
        )
    };
    // Two sites and two policies, and a case about each policy.
    assert_eq!(document.descendants().filter(|n| n.has_tag_name("testcase")).count(), 6);
    assert_eq!(case("layer3.1.conv2", "text").0.unwrap(), "2 units: A network of photographs must not read captions.");
    assert_eq!(case("layer1.0.conv1", "text"), (None, 0));
    assert_eq!(case("layer3.1.conv2", "borders"), (None, 0));
    assert_eq!(case("policies", "text"), (None, 1));

    let mut clean = sample();
    clean.findings.clear();
    clean.policies.clear();
    clean.notices.clear();
    let xml = written(&clean.finish(), Format::Junit);
    assert_eq!(xml.matches("<testcase").count(), 1, "nothing found is one pass: {xml}");
}

#[test]
fn annotations_are_one_line_each_and_end_with_the_verdict() {
    for nasty in nasty_texts() {
        let text = written(&mixed(&nasty), Format::Github);
        let lines: Vec<&str> = text.lines().collect();
        let (last, rest) = lines.split_last().unwrap();
        assert!(last.starts_with("denied: "), "{last}");
        // Two new findings and a notice; what is known or waived is not told.
        assert_eq!(rest.len(), 3, "{text:.2000}");
        for line in rest {
            assert!(line.starts_with("::error file=") || line.starts_with("::warning file="), "{line:.200}");
            assert!(!line.contains(['\u{1b}', '\r', '\u{2028}']));
        }
    }
    let text = written(&sample(), Format::Github);
    let first = text.lines().next().unwrap();
    assert!(first.starts_with(
        "::error file=policies/text.toml,line=1,col=9,title=denied-concept%3A text::layer3.1.conv2/4 (text): "
    ));
}

#[test]
fn every_line_of_jsonl_is_an_object_with_a_type() {
    for nasty in nasty_texts() {
        let text = written(&mixed(&nasty), Format::Jsonl);
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let kinds: Vec<&str> = lines.iter().map(|l| l["type"].as_str().unwrap()).collect();
        let count = |kind: &str| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!((kinds[0], count("policy"), count("finding"), count("notice"), count("unit")), ("run", 2, 4, 1, 5));
        let finding = lines.iter().find(|l| l["type"] == "finding").unwrap();
        assert_eq!(finding["description"], nasty.as_str());
        assert_eq!(finding["evidence"][0]["matched"], "text");
    }
}

#[test]
fn text_and_markdown_obey_nothing() {
    for nasty in nasty_texts() {
        for format in [Format::Text, Format::Markdown] {
            let text = written(&mixed(&nasty), format);
            let hidden = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202e}' | '\u{2028}' | '\u{feff}');
            assert!(!text.contains(hidden), "{format}: {:?}", text.chars().find(|c| hidden(*c)));
            assert!(format == Format::Text || !text.contains("<script"));
        }
    }
}

#[test]
fn what_is_waived_or_known_does_not_flag_a_unit() {
    let report = mixed("x");
    let flagged = report.flagged_by();
    let has = |unit: usize| flagged.contains_key(&UnitId::new("layer3.1.conv2", unit));
    assert_eq!([4, 17, 9, 11].map(has), [true, true, false, true]);
    let text = written(&report, Format::Text);
    assert!(text.contains("  known  text"), "{text}");
}

#[test]
fn the_published_schemas_are_those_of_the_code_and_reports_hold_to_them() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let schemas = [("report-1.json", json::schema()), ("baseline-1.json", tch_audit::policy::baseline::schema())];
    for (name, schema) in &schemas {
        let published = fs::read_to_string(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(
            serde_json::from_str::<serde_json::Value>(&published).unwrap() == *schema,
            "schemas/{name} is out of date: tch-audit schema > schemas/{name}"
        );
    }
    let validator = jsonschema::draft202012::new(&schemas[0].1).unwrap();
    for report in [sample(), mixed(NASTY), Report::default().finish()] {
        let value: serde_json::Value = serde_json::from_str(&written(&report, Format::Json)).unwrap();
        let faults: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    assert!(validator.validate(&serde_json::json!({})).is_err());
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse::<Format>().unwrap(), format);
    }
    assert!("sarfi".parse::<Format>().unwrap_err().to_string().contains("did you mean `sarif`"));
}

fn read(text: &str) -> tch_audit::Result<Report> {
    json::read(&Source::new("old.json", text))
}

fn written(report: &Report, format: Format) -> String {
    let mut out = Vec::new();
    format.write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
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
    let unit = UnitExemplars {
        id: id.clone(),
        level: 0.5,
        minimum: 0.0,
        maximum: 9.0,
        dead: false,
        top,
        weakest: Vec::new(),
        random: Vec::new(),
        sketch: Sketch::default(),
    };
    picture::contact_sheet(&unit, picture::Framing::Whole, |i| {
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
        source: "painted".into(),
        iou: Some(0.213),
        effect: Some(effect),
        auc: Some(0.97),
        auc_low: Some(0.94),
        auc_high: Some(0.99),
        share: Some(0.8),
        r: None,
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
        },
        evidence: if dead { Vec::new() } else { vec![evidence] },
        level: Some(0.1),
        minimum: Some(0.0),
        maximum: Some(if dead { 0.0 } else { 3.3 }),
        dead,
        exemplars: (0..exemplars).map(|i| ExemplarEntry { image: i, name: name(i), activation: 3.3 }).collect(),
        picture: None,
    };
    if dead { entry } else { entry.with_picture() }
}

fn place(line: usize, column: usize) -> Location {
    Location { file: "policies/text.toml".into(), line, column }
}

fn finding(unit: usize) -> Finding {
    let matched = Because::Word { entry: "text".into(), matched: "text".into(), start: 0, end: 4 };
    Finding {
        code: Code::DeniedConcept,
        policy: "text".into(),
        level: Level::Deny,
        action: Action::Zero,
        unit: UnitId::new("layer3.1.conv2", unit),
        description: "text".into(),
        standing: Standing::New,
        because: vec!["it is described as `text` (effect +3.25 sd, AUC 0.97 [0.94, 0.99], IoU 0.213)".into()],
        evidence: vec![matched],
        location: place(1, 9),
        fingerprint: format!("{unit:032x}"),
        reproduce: Some("tch-audit check model.pt --probe photos --sites layer3.1.conv2".into()),
    }
}

fn policy(name: &str, findings: usize, verdict: Verdict, reason: &str) -> PolicySummary {
    PolicySummary {
        name: name.into(),
        level: Level::Deny,
        action: Action::Zero,
        reason: reason.into(),
        location: place(1, 9),
        sites: vec!["layer1.0.conv1".into(), "layer3.1.conv2".into()],
        units: 5,
        described: 3,
        findings,
        known: 0,
        waived: 0,
        limit: 0,
        reachable: true,
        verdict,
        rules: Vec::new(),
    }
}

fn evaluation(name: &str, before: u64, edited: u64, repaired: u64, alone: u64) -> Evaluation {
    let of = |correct| Accuracy::new(correct, 1000);
    let control = |draw: usize| Control {
        draw,
        edited: of(before - 10 * draw as u64),
        repaired: Some(of(before + 5 * draw as u64)),
    };
    Evaluation {
        name: name.into(),
        before: of(before),
        edited: of(edited),
        edited_p: 0.0312,
        edited_repaired: Some(of(repaired)),
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
        pruned: Vec::new(),
    };
    Report {
        model: ModelInfo {
            name: "resnet20_cifar10.pt".into(),
            parameters: 272_474,
            sites: vec![site("layer1.0.conv1", 1), site("layer3.1.conv2", 4)],
            ..ModelInfo::default()
        },
        probe: ProbeInfo {
            images: 1000,
            classes: ["airplane", "automobile", "cat"].map(String::from).to_vec(),
            classes_present: 3,
            skipped: ["cat/broken.jpg", "dog/half.png"]
                .map(|p| SkippedImage { path: p.into(), reason: "unexpected end of file".into() })
                .to_vec(),
            left_out: LeftOutFiles::unreadable(["cat/broken.jpg", "dog/half.png"]).into_iter().collect(),
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
            sources: vec!["painted".into()],
            sayings: None,
        },
        accuracy: Some(ModelAccuracy::new(Accuracy::new(811, 1000), 10)),
        policies: vec![
            policy("text", 2, Verdict::Violated, "A network of photographs must not read captions."),
            policy("borders", 0, Verdict::Clean, "Frames come from the scanner, not from the thing."),
        ],
        findings: vec![finding(4), finding(17)],
        notices: vec![Notice {
            code: Code::UnmatchedRule,
            level: Level::Warn,
            policy: Some("text".into()),
            message: "`caption` matched no unit".into(),
            location: place(6, 20),
        }],
        edit: Some(EditReport {
            action: "zero".into(),
            flagged: ids(&[17, 4]),
            chosen: ids(&[17]),
            coupled: vec![UnitId::new("layer3.1.conv2", 17), UnitId::new("layer3.1.conv2@raw", 17)],
            left_out: Vec::new(),
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
        run: Run { date: String::new(), stages: vec![Stage { name: "observe".into(), seconds: 1.5 }], kept: 0 },
        ..Report::default()
    }
    .finish()
}
