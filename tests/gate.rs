//! The gate: `check` on descriptions and finished reports, baselines, levels, configuration, formats, `policies`.

use assert_cmd::Command;
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

mod common;
use common::data;

const POLICY: &str =
    "level = \"deny\"\naction = \"zero\"\nreason = \"it reads\"\n[match]\nany = [\"text\", \"letter\"]\n";
const WORDS: &str =
    "layer,unit,description\nconv1,0,black text\nconv1,1,grass\nlayer4,0,\"letters, red\"\nlayer4,1,sky\n";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// A folder with a policy `text.toml` in `policies/` and descriptions of four units, two of them of text.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write(&folder, "policies/text.toml", POLICY);
    write(&folder, "words.csv", WORDS);
    folder
}

fn write(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn read(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn run(folder: &TempDir, arguments: &[&str]) -> Ran {
    let output = Command::cargo_bin("tch-audit")
        .unwrap()
        .args(arguments)
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `check` of the descriptions against the policies of the folder, with more arguments.
fn check(folder: &TempDir, more: &[&str]) -> Ran {
    let base = ["check", "--descriptions", "words.csv", "--policies", "policies", "--today", "2026-11-25"];
    run(folder, &[&base, more].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[test]
fn descriptions_fail_then_are_waived_then_pass() {
    let folder = folder();
    let ran = check(&folder, &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.contains("denied: 2 units violate text"), "{}", ran.out);

    let waiver = "[[waive]]\nsite = 'conv1'\nunit = 0\nreason = 'the test has text'\nexpires = 2026-12-31\n";
    write(&folder, "policies/text.toml", format!("{POLICY}{waiver}[[waive]]\ndescription = 'letter'\nreason = 'r'\n"));
    let ran = check(&folder, &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.ends_with("clean: 4 units hold to 1 policy; 2 waived\n"), "{}", ran.out);

    // One day later than the last, the finding is back.
    let late = check(&folder, &["--today", "2027-01-01"]);
    assert_eq!(late.code, 2, "two days are one too many: {}", late.err);
    let late =
        run(&folder, &["check", "--descriptions", "words.csv", "--policies", "policies", "--today", "2027-01-01"]);
    assert_eq!(late.code, 1);
    assert!(late.out.contains("warn[expired-waiver] text: the waiver of site `conv1`, unit 0 expired"), "{}", late.out);

    write(&folder, "words.csv", "layer,unit,description\nconv1,0,grass\n");
    assert_eq!(check(&folder, &[]).code, 0);
}

#[test]
fn a_site_whose_name_has_wildcards_is_waived_and_scoped_by_its_name() {
    for site in ["classifier[4]", "{a}", "what?", "x*[!y]"] {
        let folder = folder();
        write(&folder, "words.csv", format!("layer,unit,description\n{site},0,black text\nother,0,letters\n"));
        let waiver = format!("[[waive]]\nsite = '{site}'\nunit = 0\nreason = 'known'\n");
        write(&folder, "policies/text.toml", format!("{POLICY}{waiver}[scope]\nsites = ['{site}']\n"));
        let ran = check(&folder, &["-D", "unmatched-glob", "-D", "unmatched-waiver"]);
        assert_eq!(ran.code, 0, "{site}: {}{}", ran.out, ran.err);
        assert!(ran.out.ends_with("1 waived\n"), "{site}: {}", ran.out);

        write(&folder, "policies/text.toml", format!("{POLICY}[scope]\nsites = ['{site}']\n"));
        let ran = check(&folder, &["-D", "unmatched-glob"]);
        assert_eq!(ran.code, 1, "{site}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("denied: 1 unit violates text"), "{site}: {}", ran.out);

        write(&folder, "policies/text.toml", format!("{POLICY}[scope]\nexclude = ['{site}', 'other']\n"));
        let ran = check(&folder, &["-A", "empty-scope", "-D", "unmatched-glob"]);
        assert_eq!(ran.code, 0, "{site}: {}{}", ran.out, ran.err);
    }
}

#[test]
fn only_what_is_new_fails_against_a_baseline() {
    let folder = folder();
    let ran = check(&folder, &["--baseline", "known.json", "--write-baseline"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("baseline: 2 findings in known.json"), "{}", ran.err);
    assert!(ran.out.ends_with("clean: 4 units hold to 1 policy; 2 known\n"), "{}", ran.out);
    assert_eq!(check(&folder, &["--baseline", "known.json"]).code, 0);
    write(&folder, "words.csv", format!("{WORDS}layer4,2,text\n"));
    let ran = check(&folder, &["--baseline", "known.json", "--format", "jsonl"]);
    assert_eq!(ran.code, 1);
    let lines: Vec<Value> = ran.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let standings: Vec<&str> =
        lines.iter().filter(|l| l["type"] == "finding").map(|l| l["standing"]["is"].as_str().unwrap()).collect();
    assert_eq!(standings, ["known", "known", "new"]);
    // What is gone is said, and fails when asked to.
    write(&folder, "words.csv", "layer,unit,description\nconv1,0,text\n");
    assert!(check(&folder, &["--baseline", "known.json"]).out.contains("warn[stale-baseline] layer4/0"));
    let ran = check(&folder, &["--baseline", "known.json", "-D", "stale-baseline"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.ends_with("denied: 1 stale-baseline; 1 known\n"), "{}", ran.out);
}

#[test]
fn levels_are_set_by_flags() {
    let folder = folder();
    assert_eq!(check(&folder, &["-W", "text"]).code, 0);
    let ran = check(&folder, &["-A", "text"]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.ends_with("not judged: every policy allows\n"), "{}", ran.out);
    write(&folder, "policies/text.toml", POLICY.replace("deny", "warn"));
    assert_eq!(check(&folder, &[]).code, 0);
    assert_eq!(check(&folder, &["-D", "text"]).code, 1);
    assert_eq!(check(&folder, &["--deny=text,empty-scope"]).code, 1);
}

#[test]
fn a_finished_report_is_judged_again() {
    let folder = folder();
    assert_eq!(check(&folder, &["--out", "first"]).code, 1);
    assert_eq!(names(&folder.path().join("first")), ["neurons.csv", "report.json", "report.md"]);
    let again = ["check", "first/report.json", "--policies", "policies", "--out", "second"];
    assert_eq!(run(&folder, &again).code, 1);
    // The same but for the command that finds it again.
    let without = |name: &str| {
        let mut report: Value = serde_json::from_str(&read(&folder, name)).unwrap();
        for finding in report["findings"].as_array_mut().unwrap() {
            finding["reproduce"] = Value::Null;
        }
        report
    };
    assert_eq!(without("first/report.json"), without("second/report.json"));
    write(&folder, "other.toml", "level = 'deny'\nreason = 'r'\n[match]\nany = ['walrus']\n");
    let ran = run(&folder, &["check", "first/report.json", "--policies", "other.toml"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    // Our own table of units is a table of descriptions as well.
    let ran = run(&folder, &["check", "--descriptions", "first/neurons.csv", "--policies", "policies"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
}

#[test]
fn files_of_milan_and_clip_dissect_are_read_as_they_are() {
    let Some(data) = data("descriptions").map(|d| d.canonicalize().unwrap()) else { return };
    let folder = TempDir::new().unwrap();
    for (file, units) in [("milan_resnet50_imagenet.csv", 4904), ("clip_dissect_resnet50_imagenet.csv", 3904)] {
        let path = data.join(file);
        let ran = run(&folder, &["check", "--descriptions", path.to_str().unwrap(), "--format", "json"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(report["counts"]["units"], units);
        let finding = &report["findings"][0];
        assert!(finding["because"][0].is_string() && finding["fingerprint"].is_string());
        assert!(finding["reproduce"].as_str().unwrap().starts_with("tch-audit check --descriptions "));
    }
}

#[test]
fn every_format_goes_where_it_is_sent() {
    let folder = folder();
    let formats = ["json", "jsonl", "csv", "markdown", "sarif", "junit", "github", "text"];
    let targets: Vec<String> = formats.iter().flat_map(|f| ["--format".to_string(), format!("{f}=out.{f}")]).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let ran = check(&folder, &targets);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.contains("denied: 2 units"), "the summary is printed as well: {}", ran.out);
    for format in formats {
        let file = read(&folder, &format!("out.{format}"));
        assert_eq!(check(&folder, &["--format", format]).out, file, "{format}");
        assert_eq!(check(&folder, &["--format", format, "--quiet", "--threads", "1"]).out, file, "{format}");
    }
    let ran = check(&folder, &["--quiet"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", ""));
}

#[test]
fn a_format_that_fails_does_not_silence_the_others() {
    let folder = folder();
    fs::create_dir_all(folder.path().join("folder.sarif/x")).unwrap();
    // That it is a folder is seen before anything is done.
    let ran = check(&folder, &["--format", "sarif=folder.sarif", "--format", "json=out.json"]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("folder.sarif: it is a folder") && !folder.path().join("out.json").exists(),
        "{}",
        ran.err
    );
    // A full disk is not.
    if Path::new("/dev/full").exists() {
        let targets = ["--format", "sarif=/dev/full", "--format", "json=out.json", "--format", "junit"];
        let ran = check(&folder, &targets);
        assert_eq!(ran.code, 2);
        assert!(ran.err.contains("format sarif: cannot write /dev/full"), "{}", ran.err);
        assert!(ran.out.contains("<testsuites") && read(&folder, "out.json").ends_with("}\n"));
    }
}

#[test]
fn a_configuration_says_what_flags_say_and_flags_win() {
    let folder = folder();
    let config = "descriptions = 'words.csv'\npolicies = ['policies']\nwarn = 'text'\nformat = ['json=out.json', \
                  'junit=out.xml']\ntoday = 2026-11-25\nquiet = true\n";
    write(
        &folder,
        "ci/audit.toml",
        config.replace("'words.csv'", "'../words.csv'").replace("['policies']", "'../policies'"),
    );
    let ran = run(&folder, &["check", "--config", "ci/audit.toml"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    assert_eq!(names(&folder.path().join("ci")), ["audit.toml", "out.json", "out.xml"]);
    let report: Value = serde_json::from_str(&read(&folder, "ci/out.json")).unwrap();
    assert_eq!(report["policies"][0]["level"], "warn");

    // The level, the format and what is judged: all said by flags.
    let ran = run(&folder, &["check", "-D", "text", "--format", "github", "--config", "ci/audit.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.out.starts_with("::error "), "{}", ran.out);
    fs::rename(folder.path().join("ci/out.json"), folder.path().join("old.json")).unwrap();
    let ran = run(&folder, &["--color", "never", "check", "old.json", "--config", "ci/audit.toml"]);
    assert_eq!(ran.code, 0, "the report is judged, not the descriptions: {}", ran.err);
}

#[test]
fn a_configuration_knows_every_flag_of_check() {
    let folder = folder();
    let help = run(&folder, &["check", "--help"]).out;
    let flags: Vec<String> = help
        .lines()
        .filter_map(|l| l.trim_start().split_once("--").filter(|(before, _)| before.len() <= 4))
        .map(|(_, rest)| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect())
        .collect();
    assert!(flags.len() > 20, "{flags:?}");
    write(&folder, "audit.toml", "x = 1\n");
    let listed = run(&folder, &["check", "--config", "audit.toml"]).err;
    for flag in flags.iter().filter(|f| !["config", "help"].contains(&f.as_str())) {
        assert!(listed.contains(&format!("{flag},")) || listed.contains(&format!(", {flag}")), "{flag} in {listed}");
    }
    assert!(listed.contains("model,") && listed.contains("audit.toml:1:1"), "{listed}");
}

#[test]
fn what_is_read_is_never_overwritten() {
    let folder = folder();
    for more in [
        &["--format", "json=words.csv"][..],
        &["--format", "json=policies/../policies/text.toml", "--policies", "policies/text.toml"],
        &["--baseline", "words.csv", "--write-baseline"],
    ] {
        let base = ["check", "--descriptions", "words.csv"];
        let ran = run(&folder, &[&base, more].concat());
        assert_eq!(ran.code, 2, "{}", ran.out);
        assert!(ran.err.contains("would overwrite what is read"), "{}", ran.err);
    }
    // Nor a report by that of its own judgement.
    assert_eq!(check(&folder, &["--out", "first"]).code, 1);
    let before = read(&folder, "first/report.json");
    let ran = run(&folder, &["check", "first/report.json", "--out", "first"]);
    assert!(ran.code == 2 && ran.err.contains("--out: first/report.json would overwrite"), "{}", ran.err);
    assert_eq!(read(&folder, "first/report.json"), before);
    // Nor what is something else than the baseline that it is taken for.
    write(&folder, "notes.txt", "mine");
    assert_eq!(check(&folder, &["--baseline", "notes.txt", "--write-baseline"]).code, 2);
    assert_eq!((read(&folder, "words.csv"), read(&folder, "notes.txt")), (WORDS.to_string(), "mine".to_string()));
}

#[test]
fn a_baseline_keeps_what_it_knows_of_policies_that_are_not_judged() {
    let folder = folder();
    write(&folder, "sky.toml", "level = 'deny'\nreason = 'r'\n[match]\nany = ['sky']\n");
    let both = ["--policies", "sky.toml", "--baseline", "known.json"];
    assert_eq!(check(&folder, &[&both[..], &["--write-baseline"]].concat()).code, 0);
    // Now only one of the two policies is judged, then the other is only allowed.
    assert_eq!(check(&folder, &["--baseline", "known.json", "--write-baseline"]).code, 0);
    assert_eq!(check(&folder, &[&both[..], &["-A", "text", "--write-baseline"]].concat()).code, 0);
    assert_eq!(check(&folder, &both).code, 0);
}

#[test]
fn what_is_tolerated_is_no_error_in_any_format() {
    let folder = folder();
    write(&folder, "policies/text.toml", format!("{POLICY}[limits]\nmax-units = 2\n"));
    let ran = check(&folder, &["--format", "github"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "clean: 4 units hold to 1 policy\n"));
    let log: Value = serde_json::from_str(&check(&folder, &["--format", "sarif"]).out).unwrap();
    assert!(log["runs"][0]["results"].as_array().unwrap().iter().all(|r| r["level"] == "note"));
    let text = check(&folder, &[]).out;
    assert!(text.contains("  tolerated  text  conv1/0") && !text.contains("  deny  text  conv1"), "{text}");
}

#[test]
fn judging_nothing_is_not_clean() {
    let folder = folder();
    write(&folder, "words.csv", "layer,unit,description\nconv1,0,\nconv1,1,\n");
    let ran = check(&folder, &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.out.ends_with("not judged: no unit could match 1 policy\n"), "{}", ran.out);
    assert!(ran.out.contains("warn[empty-scope] text: there was no unit to judge: none of the 2"), "{}", ran.out);
    assert_eq!(check(&folder, &["-D", "empty-scope"]).code, 1);
    let xml = check(&folder, &["--format", "junit"]).out;
    assert!(xml.contains("<skipped"), "{xml}");
}

#[test]
fn strange_names_of_files_are_harmless() {
    let folder = TempDir::new().unwrap();
    let strange = "a <script>'\"&, %0A=cmd() \u{1b}[31m\u{202e}\n::error::x";
    write(&folder, &format!("{strange}.toml"), POLICY);
    write(&folder, &format!("{strange}.csv"), WORDS.replace("black text", "\"text <script> \u{1b}[2J\"\"\r\n=cmd()\""));
    let (policy, words) = (format!("{strange}.toml"), format!("{strange}.csv"));
    for format in ["json", "jsonl", "csv", "markdown", "sarif", "junit", "github", "text"] {
        let ran = run(&folder, &["check", "--descriptions", &words, "--policies", &policy, "--format", format]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(!ran.out.contains('\u{1b}') || format == "csv", "{format}");
        assert!(!(ran.out.contains("<script") && ["markdown", "junit"].contains(&format)), "{format}");
        match format {
            "json" | "sarif" => drop(serde_json::from_str::<Value>(&ran.out).unwrap()),
            "jsonl" => ran.out.lines().for_each(|l| drop(serde_json::from_str::<Value>(l).unwrap())),
            "junit" => drop(roxmltree::Document::parse(&ran.out).unwrap()),
            "github" => assert_eq!(ran.out.lines().count(), 3, "{}", ran.out),
            _ => {}
        }
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf8_are_harmless() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.csv");
    fs::rename(folder.path().join("words.csv"), folder.path().join(name)).unwrap();
    for format in ["json", "sarif", "junit", "text"] {
        let output = Command::cargo_bin("tch-audit")
            .unwrap()
            .args(["check", "--policies", "policies", "--format", format, "--descriptions"])
            .arg(name)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8(output.stdout).is_ok());
    }
}

#[test]
fn init_never_overwrites() {
    let folder = TempDir::new().unwrap();
    let ran = run(&folder, &["policies", "init"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let all = names(&folder.path().join("policies"));
    assert!(all.contains(&"text.toml".to_string()) && all.contains(&"template.toml".to_string()), "{all:?}");
    assert_eq!(run(&folder, &["policies", "test", "policies"]).code, 0);

    fs::remove_file(folder.path().join("policies/faces.toml")).unwrap();
    write(&folder, "policies/text.toml", "mine");
    let ran = run(&folder, &["policies", "init"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("nothing was written") && ran.err.contains("policies/text.toml"), "{}", ran.err);
    assert_eq!(read(&folder, "policies/text.toml"), "mine");
    assert!(!folder.path().join("policies/faces.toml").exists());
    assert_eq!(run(&folder, &["policies", "init", "--only", "faces"]).code, 0);

    assert_eq!(run(&folder, &["policies", "init", "new/spurious.toml"]).code, 0);
    assert_eq!(names(&folder.path().join("new")), ["spurious.toml"]);
    let ran = run(&folder, &["policies", "init", "--only", "fases"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean `faces`"), "{}", ran.err);
}

#[test]
fn tests_of_policies_fail_with_their_place() {
    let folder = folder();
    let tests = "[[test]]\ndescription = 'texture'\nmatches = true\n[[test]]\ndescription = 'Letters'\nmatches = false\n\
                 [[test]]\ndescription = 'grass'\nmatches = false\n";
    write(&folder, "policies/text.toml", format!("{POLICY}{tests}"));
    let ran = run(&folder, &["policies", "test", "policies"]);
    assert_eq!(ran.code, 1);
    for part in [
        "policies/text.toml:6:1: failed: `texture` does not match, and should",
        "policies/text.toml:9:1: failed: `Letters` matches, and should not: its word `Letters` matches `letter`",
        "text  1 passed, 2 failed",
    ] {
        assert!(ran.out.contains(part), "{part} not in {}", ran.out);
    }
    assert_eq!(run(&folder, &["policies", "test"]).code, 0, "those that are shipped");
    let listed = run(&folder, &["policies", "list", "policies"]).out;
    assert_eq!(listed, "text  deny   zero  it reads\n");
}

#[test]
fn policies_are_evaluated_on_labels() {
    let folder = folder();
    write(
        &folder,
        "labels.csv",
        "description,text,unsure\ntext,1,0\nletters,0,0\ngrass,0,0\nwriting,1,0\nword,1,1\ntexture,0,0\n",
    );
    let own = ["policies", "evaluate", "policies", "--labels", "labels.csv"];
    let ran = run(&folder, &own);
    assert_eq!(ran.code, 2, "it has no [labels]: {}", ran.out);
    let flags = ["--policy", "text", "--positive", "text", "--leave-out", "unsure"];
    let ran = run(&folder, &[&own[..], &flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    for part in [
        "text: 5 rows, 1 left out: precision 0.500, recall 0.500, F1 0.500, 2 errors (1 false, 1 missed)",
        "labels.csv:3:1: `letters`: false (its word `letters` matches `letter`",
        "labels.csv:5:1: `writing`: missed",
    ] {
        assert!(ran.out.contains(part), "{part} not in {}", ran.out);
    }
    write(&folder, "policies/text.toml", format!("{POLICY}[labels]\npositive = ['text']\nleave-out = ['unsure']\n"));
    assert_eq!(run(&folder, &own).out, ran.out);
}

#[test]
fn codes_are_explained_and_the_rest_is_generated() {
    let folder = TempDir::new().unwrap();
    let ran = run(&folder, &["explain", "expired-waiver"]);
    assert!(ran.code == 0 && ran.out.starts_with("expired-waiver\n\nThe date in `expires`"), "{}", ran.out);
    assert!(run(&folder, &["explain"]).out.lines().filter(|l| !l.starts_with(' ')).count() > 30);
    let ran = run(&folder, &["explain", "expired-wavier"]);
    assert!(ran.code == 2 && ran.err.contains("did you mean `expired-waiver`"), "{}", ran.err);
    for (arguments, part) in [
        (vec!["completions", "bash"], "--write-baseline"),
        (vec!["completions", "zsh"], "--write-baseline"),
        (vec!["completions", "fish"], "write-baseline"),
        (vec!["man"], ".TH tch-audit"),
        (vec!["schema"], "\"title\": \"A report of tch-audit\""),
        (vec!["schema", "baseline"], "fingerprint"),
    ] {
        let ran = run(&folder, &arguments);
        assert!(ran.code == 0 && ran.out.contains(part), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(run(&folder, &["man", "--out", "man"]).code, 0);
    assert!(names(&folder.path().join("man")).contains(&"tch-audit-check.1".to_string()));
}

#[test]
fn nobody_reading_on_is_no_error() {
    let folder = folder();
    let mut program = std::process::Command::new(assert_cmd::cargo::cargo_bin("tch-audit"))
        .args(["check", "--descriptions", "words.csv", "--policies", "policies"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
