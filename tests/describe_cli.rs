//! `tch-audit describe`, `milan convert` and `check --checkpoint`: words from MILAN and from other programs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tch::{CModule, Kind, Tensor};
use tch_audit::describe::{Status, read_table};
use tempfile::TempDir;

const TINY: &str = "tests/golden/milan/milan-tiny.pth";

/// Drawn photographs, a traced model, its exemplars.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("describe-cli");
    let _ = std::fs::remove_dir_all(&root);
    let probe = tch_audit::probe::drawn(2, 48, 1).unwrap();
    for i in 0..probe.len() {
        let folder = root.join("photos").join(&probe.classes()[probe.label(i).unwrap()]);
        std::fs::create_dir_all(&folder).unwrap();
        probe.image(i).save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    let waves = |shape: &[i64], pitch: f64| {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, tch::Device::Cpu)) * pitch).sin().reshape(shape) * 0.4
    };
    let (one, head) = (waves(&[4, 3, 3, 3], 1.7), waves(&[10, 4], 0.9));
    let _ = one.get(3).fill_(0.0);
    let none = None::<&Tensor>;
    let mut forward = |xs: &[Tensor]| {
        let x = xs[0].conv2d(&one, none, [2, 2], [1, 1], [1, 1], 1).relu();
        vec![x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).linear(&head, none)]
    };
    let example = Tensor::zeros([2, 3, 48, 48], (Kind::Float, tch::Device::Cpu));
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(root.join("model.pt")).unwrap();
    let milan = root.join("milan");
    let made = run(&[
        "exemplars",
        &text(&root.join("model.pt")),
        "--probe",
        &text(&root.join("photos")),
        "--input",
        "3x48x48",
        "--k",
        "3",
        "--out",
        &text(&root.join("exemplars")),
        "--milan",
        &text(&milan),
    ]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    root
});

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tch-audit")).args(arguments).output().unwrap()
}

/// `describe` of the exemplars, with more flags, to a file.
fn describe(more: &[&str], out: &Path) -> Output {
    let (exemplars, photos) = (text(&ROOT.join("exemplars")), text(&ROOT.join("photos")));
    let mut arguments = vec!["describe", "--exemplars", &exemplars, "--probe", &photos, "--out", out.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

#[track_caller]
fn refused(output: Output, parts: &[&str]) {
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(parts.iter().all(|p| err.contains(p)), "{err}");
    assert!(!err.contains("panicked"), "{err}");
}

#[test]
fn milan_describes_saved_exemplars_ours_and_its_own_alike() {
    let out = TempDir::new().unwrap();
    let (ours, theirs) = (out.path().join("ours.csv"), out.path().join("theirs.csv"));
    let described = describe(&["--checkpoint", TINY], &ours);
    let err = String::from_utf8(described.stderr).unwrap();
    assert!(described.status.success() && err.contains("described 3 of 4 units, 1 dead"), "{err}");
    let milan = text(&ROOT.join("milan"));
    let again = run(&["describe", "--milan", &milan, "--checkpoint", TINY, "--out", &text(&theirs)]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    let (ours, theirs) = (read_table(ours).unwrap(), read_table(theirs).unwrap());
    let said = |units: &[tch_audit::describe::DescribedUnit]| {
        units.iter().map(|u| (u.id.to_string(), u.description.text.clone())).collect::<Vec<_>>()
    };
    assert_eq!(said(&ours), said(&theirs));
    assert_eq!(ours.iter().filter(|u| u.description.status == Status::Dead).count(), 1);
    assert!(ours.iter().all(|u| !u.description.text.is_empty()));
}

#[test]
fn a_converted_checkpoint_describes_as_the_official_one() {
    let out = TempDir::new().unwrap();
    let converted = out.path().join("tiny.safetensors");
    let ran = run(&["milan", "convert", TINY, &text(&converted)]);
    let err = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success() && err.contains("11 words") && err.contains("40 features"), "{err}");
    let (a, b) = (out.path().join("a.csv"), out.path().join("b.csv"));
    assert!(describe(&["--checkpoint", TINY], &a).status.success());
    assert!(describe(&["--checkpoint", converted.to_str().unwrap()], &b).status.success());
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    for strategy in ["greedy", "beam", "mi-greedy", "mi-beam"] {
        let path = out.path().join(strategy);
        let more = ["--checkpoint", TINY, "--strategy", strategy, "--beam", "4", "--length", "5"];
        assert!(describe(&more, &path).status.success(), "{strategy}");
    }
    refused(run(&["milan", "convert", TINY, &text(&out.path().join("tiny.bin"))]), &[".safetensors"]);
    refused(run(&["milan", "convert", "Cargo.toml", &text(&converted)]), &["Cargo.toml", "neither a zip archive"]);
    refused(
        describe(&["--checkpoint", TINY, "--beam", "400"], &out.path().join("c")),
        &["beam size", "400", "1 to 15"],
    );
    assert!(!out.path().join("c").exists());
}

#[test]
fn check_with_milan_has_its_words_and_our_evidence() {
    let out = TempDir::new().unwrap();
    let policy = out.path().join("squares.toml");
    std::fs::write(
        &policy,
        "level = \"deny\"\nreason = \"a test\"\n[match]\nany = [\"squares\", \"circles\", \"stripes\"]\nconcepts = [\"text\"]\nmin-auc = 0.9\n",
    )
    .unwrap();
    let report = out.path().join("report");
    let (model, photos) = (text(&ROOT.join("model.pt")), text(&ROOT.join("photos")));
    let ran = run(&[
        "check",
        &model,
        "--probe",
        &photos,
        "--input",
        "3x48x48",
        "--k",
        "3",
        "--checkpoint",
        TINY,
        "--policies",
        &text(&policy),
        "--out",
        &text(&report),
    ]);
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{err}");
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(report.join("report.json")).unwrap()).unwrap();
    assert!(json["settings"]["describer"].as_str().unwrap().starts_with("milan "), "{}", json["settings"]);
    let units = json["units"].as_array().unwrap();
    let words = ["circles", "squares", "stripes", "areas", "blue", "green", "red", "white", "yellow", "the"];
    let live: Vec<&serde_json::Value> = units.iter().filter(|u| u["description"]["status"] == "described").collect();
    assert!(!live.is_empty());
    for unit in live {
        let said = unit["description"]["text"].as_str().unwrap().to_lowercase();
        assert!(said.split([' ', '.', ',']).filter(|w| !w.is_empty()).all(|w| words.contains(&w)), "{said}");
        assert!(!unit["evidence"].as_array().unwrap().is_empty());
    }
    refused(run(&["check", &model, "--probe", &photos, "--describer", "milan"]), &["--checkpoint"]);
    refused(run(&["check", &model, "--probe", &photos, "--checkpoint", "absent.pth"]), &["absent.pth"]);
}

/// Answers each question with the unit's name.
const ECHO: &str = r#"sed -n 's/^{"unit":"\([^"]*\)".*/{"unit":"\1","description":"sees \1","score":1.5}/p'"#;

#[test]
#[cfg(unix)]
fn a_program_is_asked_and_its_answers_are_the_descriptions() {
    let out = TempDir::new().unwrap();
    let table = out.path().join("table.csv");
    let ran = describe(&["--command", ECHO], &table);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let units = read_table(&table).unwrap();
    assert_eq!(units.len(), 4);
    for unit in units {
        match unit.description.status {
            Status::Dead => assert_eq!(unit.id.unit, 3),
            _ => assert_eq!(unit.description.text, format!("sees {}", unit.id)),
        }
    }
    // The pictures are there.
    let looks = r#"while read -r line; do for f in $(printf '%s' "$line" | tr '"' '\n' | grep '^/.*\.png$'); do test -s "$f" || exit 9; done; printf '%s\n' "$line" | sed 's/^{"unit":"\([^"]*\)".*/{"unit":"\1","description":"looked"}/'; done"#;
    let ran = describe(&["--command", looks], &table);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
#[cfg(unix)]
fn a_program_that_fails_is_an_error_that_says_how() {
    let out = TempDir::new().unwrap();
    let table = out.path().join("table.csv");
    let with = |command: &str| describe(&["--command", command, "--timeout", "1.5"], &table);
    refused(with("echo no model here >&2; exit 3"), &["exit status: 3", "after 0 of 3 answers", "no model here"]);
    refused(with("echo nonsense"), &["`nonsense`", "\"description\""]);
    refused(
        with(r#"echo '{"unit":"x/0","description":"y"}'; cat >/dev/null"#),
        &["an answer for x/0", "the units asked about"],
    );
    refused(with("absent-program-of-no-name"), &["absent-program-of-no-name"]);
    let clock = Instant::now();
    refused(with("sleep 600 & sleep 600"), &["no answer for 1.5 s", "0 of 3"]);
    assert!(clock.elapsed() < Duration::from_secs(60));
    refused(describe(&["--command", " "], &table), &["command line"]);
    refused(describe(&[], &table), &["--checkpoint", "--command"]);
    assert!(!table.exists());
}
