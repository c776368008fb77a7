//! `check` writes what a model does on images beside its report: it goes on when it was killed, keeps words when it is
//! repeated, and judges what `exemplars` made.

use super::{BENCH, Ran, check, tch_audit, text, without_run};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn folder_of(out: &TempDir) -> String {
    text(&out.path().join("report"))
}

fn kept(folder: &str) -> u64 {
    let json = std::fs::read_to_string(Path::new(folder).join("report.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&json).unwrap()["run"]["kept"].as_u64().unwrap()
}

#[track_caller]
fn clean(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_report() {
    let clock = Instant::now();
    let (ran, whole) = check("model.pt", &[]);
    clean(&ran);
    let length = clock.elapsed().as_secs_f64();
    let whole = without_run(&whole.path().join("report"));
    let mut rng = fastrand::Rng::with_seed(11);
    let mut killed = 0;
    while killed < 6 {
        let out = TempDir::new().unwrap();
        loop {
            let mut child = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
            child.args(["check", &text(&BENCH.path("model.pt")), "--probe", &text(&BENCH.path("photos"))]);
            child.args(["--input", "3x16x16", "--policies", &text(&BENCH.path("clean.toml"))]);
            child.args(["--out", &folder_of(&out)]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = child.spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(length * 1.2 * rng.f64()));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            killed += 1;
        }
        assert!(without_run(&out.path().join("report")) == whole);
    }
}

#[test]
fn a_repeated_run_keeps_words_and_says_so() {
    let (ran, out) = check("model.pt", &[]);
    clean(&ran);
    let folder = folder_of(&out);
    assert_eq!(kept(&folder), 0);
    assert!(!ran.out.contains("kept"), "{}", ran.out);
    let first = without_run(Path::new(&folder));

    let (ran, _other) = check("model.pt", &["--out", &folder]);
    clean(&ran);
    assert_eq!(kept(&folder), 14);
    assert!(ran.out.contains("14 units keep their words from an earlier run"), "{}", ran.out);
    assert!(ran.err.contains("what the units do on these images is known from an earlier run"), "{}", ran.err);
    assert!(without_run(Path::new(&folder)) == first);

    let (ran, _other) = check("model.pt", &["--out", &folder, "--fresh"]);
    clean(&ran);
    assert_eq!(kept(&folder), 0);
    // What another run left makes way.
    let (ran, _other) = check("model.pt", &["--out", &folder, "--k", "5"]);
    clean(&ran);
    assert_eq!(kept(&folder), 0);
    // One site of what is known is known.
    let sites = tch_audit(&["sites", &text(&BENCH.path("model.pt")), "--input", "3x16x16"]).out;
    let row = sites.lines().find(|line| line.contains(" layer ")).unwrap();
    let site = row.split_whitespace().next().unwrap().to_string();
    let (ran, _other) = check("model.pt", &["--out", &folder, "--k", "5", "--sites", &site]);
    clean(&ran);
    assert_eq!(kept(&folder), 6);
    assert!(ran.err.contains("is known from an earlier run"), "{}", ran.err);
}

#[test]
fn words_that_fail_a_run_are_looked_at_anew() {
    let (ran, out) = check("model.pt", &["--policies", &text(&BENCH.path("deny.toml"))]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let folder = folder_of(&out);
    let (ran, _other) = check("model.pt", &["--policies", &text(&BENCH.path("deny.toml")), "--out", &folder]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let findings = ran.out.lines().filter(|line| line.trim_start().starts_with("deny ")).count() as u64;
    assert!(findings > 0 && kept(&folder) == 14 - findings, "{} of 14 kept: {}", kept(&folder), ran.out);

    // Somebody else's words, however they got there, decide nothing.
    let words = Path::new(&folder).join("study/words.jsonl");
    let said = std::fs::read_to_string(&words).unwrap();
    std::fs::write(&words, said.replace("\"text\":\"", "\"text\":\"a walrus and ")).unwrap();
    let (ran, _other) = check("model.pt", &["--out", &folder]);
    clean(&ran);
    assert_eq!(kept(&folder), 0);
    assert!(!std::fs::read_to_string(Path::new(&folder).join("report.json")).unwrap().contains("a walrus and"));
}

#[test]
fn exemplars_made_in_shards_are_judged_without_another_pass() {
    let made = TempDir::new().unwrap();
    let exemplars = text(&made.path().join("exemplars"));
    let (model, photos) = (text(&BENCH.path("model.pt")), text(&BENCH.path("photos")));
    for shard in ["1/2", "2/2"] {
        let base = ["exemplars", &model, "--probe", &photos, "--input", "3x16x16", "--out", &exemplars];
        clean(&tch_audit(&[&base[..], &["--batch-size", "64", "--shard", shard]].concat()));
    }
    let (unmerged, _out) = check("model.pt", &["--exemplars", &exemplars]);
    assert!(unmerged.code == 2 && unmerged.err.contains("merge"), "{}", unmerged.err);
    clean(&tch_audit(&["exemplars", "merge", &exemplars, &exemplars]));
    let (ran, out) = check("model.pt", &["--exemplars", &exemplars]);
    clean(&ran);
    assert!(!out.path().join("report/study/exemplars.safetensors").exists());
    let (whole, own) = check("model.pt", &[]);
    clean(&whole);
    assert!(without_run(&out.path().join("report")) == without_run(&own.path().join("report")));

    let (other, _out) = check("grey.pt", &["--input", "1x28x28", "--exemplars", &exemplars]);
    assert!(other.code == 2 && other.err.contains("the model's fingerprint"), "{}", other.err);
    let fewer = check("model.pt", &["--exemplars", &exemplars, "--limit-per-class", "1"]).0;
    assert!(fewer.code == 2 && fewer.err.contains("allowed"), "{}", fewer.err);
    let both = check("model.pt", &["--exemplars", &exemplars, "--k", "3"]).0;
    assert!(both.code == 2 && both.err.contains("--k"), "{}", both.err);
}
