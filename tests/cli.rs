//! The command line: exit codes, files, and what it says when something is wrong.

#[path = "cli/study.rs"]
mod study;

#[path = "cli/odd.rs"]
mod odd;

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tch::{CModule, Kind, Tensor};
use tempfile::TempDir;

mod common;
use common::data;

/// What all tests share: drawn photographs in class folders, traced models, policies.
struct Bench {
    root: PathBuf,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    // One place for all runs: what is static is never dropped, and would leave a folder behind each time.
    let bench = Bench { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli") };
    let _ = std::fs::remove_dir_all(&bench.root);
    let probe = tch_audit::probe::drawn(3, 16, 1).unwrap();
    for i in 0..probe.len() {
        let class = &probe.classes()[probe.label(i).unwrap()];
        let folder = bench.path("photos").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        probe.image(i).save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    traced(&bench.path("model.pt"), 3, 16, None);
    traced(&bench.path("grey.pt"), 1, 28, None);
    traced(&bench.path("nan.pt"), 3, 16, Some(2));
    // Every unit among whose evidence is painted text has an AUC of at least 0 for it: some of the 14 do.
    bench.write("deny.toml", "level = \"deny\"\nreason = \"a test\"\n[match]\nconcepts = [\"text\"]\nmin-auc = 0.0\n");
    // No description has this word.
    bench.write("clean.toml", "level = \"deny\"\nreason = \"a test\"\n[match]\nany = [\"walrus\"]\n");
    bench.write("notes.txt", "not a model");
    bench
});

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
}

/// A small network with fixed weights, traced: two convolutions and a linear layer. Its weights are constants, as those
/// of a frozen module are. `broken`: this filter of the first layer is NaN.
fn traced(path: &Path, channels: i64, size: i64, broken: Option<i64>) {
    let waves = |shape: &[i64], pitch: f64| {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, tch::Device::Cpu)) * pitch).sin().reshape(shape) * 0.4
    };
    let (one, two, head) = (waves(&[6, channels, 3, 3], 1.7), waves(&[8, 6, 3, 3], 2.3), waves(&[10, 8], 0.9));
    if let Some(unit) = broken {
        let _ = one.select(0, unit).fill_(f64::NAN);
    }
    let none = None::<&Tensor>;
    let mut forward = |xs: &[Tensor]| {
        let x = xs[0].conv2d(&one, none, [1, 1], [1, 1], [1, 1], 1).relu();
        let x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        let x = x.conv2d(&two, none, [1, 1], [1, 1], [1, 1], 1).relu();
        vec![x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).linear(&head, none)]
    };
    let example = Tensor::zeros([2, channels, size, size], (Kind::Float, tch::Device::Cpu));
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(path).unwrap();
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn tch_audit<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ran {
    let output = Command::cargo_bin("tch-audit").unwrap().args(arguments).env("NO_COLOR", "1").output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `check` of a file of the bench on its photographs, with more arguments, into a fresh folder below the one returned.
fn check(model: &str, more: &[&str]) -> (Ran, TempDir) {
    let out = TempDir::new().unwrap();
    let folder = out.path().join("report");
    let (model, photos) = (BENCH.path(model), BENCH.path("photos"));
    let mut arguments: Vec<String> = vec!["check".into(), text(&model)];
    let given = |flag: &str| more.contains(&flag);
    let mut default = |flag: &str, value: String| {
        if !given(flag) {
            arguments.extend([flag.to_string(), value]);
        }
    };
    default("--probe", text(&photos));
    default("--input", "3x16x16".to_string());
    default("--policies", text(&BENCH.path("clean.toml")));
    default("--out", text(&folder));
    arguments.extend(more.iter().map(|m| m.to_string()));
    (tch_audit(&arguments), out)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// Exit code 2, one `error:` that holds all of `parts`, no C++ frames, no file left behind.
#[track_caller]
fn refused(model: &str, more: &[&str], parts: &[&str]) -> String {
    let (ran, out) = check(model, more);
    assert_eq!(ran.code, 2, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("error"), "{}", ran.err);
    for part in parts {
        assert!(ran.err.contains(part), "no `{part}` in: {}", ran.err);
    }
    for frame in ["frame #", ".cpp:", "libtorch_cpu", "panicked"] {
        assert!(!ran.err.contains(frame), "{}", ran.err);
    }
    assert!(ran.out.is_empty(), "{}", ran.out);
    let folder = out.path().join("report");
    let left = std::fs::read_dir(&folder).map(|files| files.count()).unwrap_or(0);
    assert_eq!(left, 0, "files in {}", folder.display());
    ran.err
}

/// The report without its last part, `run`, which holds date and timings.
fn without_run(folder: &Path) -> String {
    let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(value["run"].is_object());
    json[..json.rfind("\"run\":").unwrap()].to_string()
}

#[test]
fn a_model_without_findings_is_clean() {
    let (ran, out) = check("model.pt", &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("30 images, 10 classes"), "{}", ran.out);
    assert!(ran.out.contains("14: "), "6 and 8 units: {}", ran.out);
    let folder = out.path().join("report");
    for name in ["report.json", "neurons.csv", "report.md"] {
        assert!(folder.join(name).metadata().unwrap().len() > 100, "{name}");
    }
    let csv = std::fs::read_to_string(folder.join("neurons.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 14, "a heading and one line per unit");
}

#[test]
fn a_deny_policy_that_finds_something_exits_with_1_and_still_reports() {
    let (ran, out) = check("model.pt", &["--policies", &text(&BENCH.path("deny.toml"))]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let json = std::fs::read_to_string(out.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["denied"], true);
    assert!(!report["findings"].as_array().unwrap().is_empty());
}

#[test]
fn every_finding_says_how_to_see_it_again() {
    let deny = text(&BENCH.path("deny.toml"));
    let (_, out) = check("model.pt", &["--policies", &deny]);
    let findings = |folder: &Path| {
        let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&json).unwrap();
        report["findings"].as_array().unwrap().clone()
    };
    let all = findings(&out.path().join("report"));
    let last = all.last().unwrap();
    let command = last["reproduce"].as_str().unwrap();
    let site = last["unit"]["site"].as_str().unwrap();
    assert!(command.ends_with(&format!("--sites {site}")), "{command}");
    // No word of it needs quotes here.
    let again = out.path().join("again");
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--out", again.to_str().unwrap()]).collect();
    assert_eq!(tch_audit(&words).code, 1);
    // Only its site is looked at, and what is found there is the same to the last digit.
    let of_site: Vec<_> = all.iter().filter(|f| f["unit"]["site"] == site).cloned().collect();
    assert_eq!(findings(&again), of_site);
}

#[test]
fn a_warn_policy_that_finds_something_exits_with_0() {
    BENCH.write("warn.toml", "level = \"warn\"\nreason = \"a test\"\n[match]\nconcepts = [\"text\"]\nmin-auc = 0.0\n");
    let (ran, _out) = check("model.pt", &["--policies", &text(&BENCH.path("warn.toml"))]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("warn"), "{}", ran.out);
}

#[test]
fn equal_runs_are_equal_bytes_whatever_the_number_of_threads() {
    let deny = text(&BENCH.path("deny.toml"));
    let (_, first) = check("model.pt", &["--policies", &deny]);
    let first = first.path().join("report");
    for threads in ["2", "1", "4"] {
        let (_, other) = check("model.pt", &["--policies", &deny, "--threads", threads]);
        let other = other.path().join("report");
        assert!(without_run(&first) == without_run(&other), "report.json differs with {threads} threads");
        let mut names = vec!["neurons.csv".to_string()];
        for entry in std::fs::read_dir(first.join("pictures")).unwrap() {
            names.push(format!("pictures/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
        for name in names.iter().filter(|n| first.join(n).is_file()) {
            let same = std::fs::read(first.join(name)).unwrap() == std::fs::read(other.join(name)).unwrap();
            assert!(same, "{name} differs with {threads} threads");
        }
    }
}

#[test]
fn a_missing_model_is_named() {
    refused("absent.pt", &[], &["absent.pt", "No such file"]);
}

#[test]
fn a_file_that_is_not_torchscript_is_named() {
    refused("notes.txt", &[], &["notes.txt", "TorchScript"]);
}

#[test]
fn a_missing_probe_folder_is_named() {
    refused("model.pt", &["--probe", "absent-photos"], &["absent-photos", "No such file"]);
}

#[test]
fn a_probe_folder_without_images_says_what_is_expected() {
    let empty = TempDir::new().unwrap();
    refused("model.pt", &["--probe", &text(empty.path())], &["no image", "JPEG, PNG"]);
}

#[test]
fn an_unknown_policy_key_is_shown_with_caret_and_nearest_key() {
    BENCH.write("wrong.toml", "levle = \"deny\"\nreason = \"a test\"\n[match]\nany = [\"text\"]\n");
    let wrong = text(&BENCH.path("wrong.toml"));
    let err = refused("model.pt", &["--policies", &wrong], &["wrong.toml:1:1", "levle", "`level`"]);
    assert!(err.starts_with("error[unknown-key]: "), "{err}");
    assert!(err.lines().any(|l| l.contains("^^^^^")), "{err}");
}

#[test]
fn a_missing_policy_file_stops() {
    refused("model.pt", &["--policies", "absent.toml"], &["absent.toml"]);
}

#[test]
fn an_unknown_site_suggests_the_nearest() {
    let ran = tch_audit(&["sites", &text(&BENCH.path("model.pt")), "--input", "3x16x16"]);
    let site = ran.out.lines().nth(1).and_then(|l| l.split_whitespace().next()).unwrap().to_string();
    let misspelt = format!("{site}x");
    refused("model.pt", &["--sites", &misspelt], &[&misspelt, "did you mean", &format!("`{site}`")]);
}

#[test]
fn a_wrong_input_shape_is_one_line() {
    let err = refused("model.pt", &["--input", "1x16x16"], &["forward pass failed", "[1, 1, 16, 16]", "channels"]);
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
}

#[test]
fn an_input_that_is_no_shape_is_refused() {
    refused("model.pt", &["--input", "many"], &["--input", "3x224x224"]);
    refused("model.pt", &["--input", "4x16x16"], &["channels", "4", "1 or 3"]);
    refused("model.pt", &["--input", "3x0x16"], &["height", "0"]);
}

#[test]
fn a_mean_of_two_numbers_is_refused() {
    refused("model.pt", &["--mean", "0.5,0.5"], &["--mean", "2 numbers", "3"]);
    refused("model.pt", &["--std", "0.5,0,0.5"], &["std", "above 0"]);
}

#[test]
fn no_threads_are_refused() {
    refused("model.pt", &["--threads", "0"], &["--threads", "0"]);
}

#[test]
fn an_out_folder_that_cannot_be_is_refused_before_the_audit() {
    let file = text(&BENCH.path("clean.toml"));
    refused("model.pt", &["--out", &file], &["clean.toml"]);
    refused("model.pt", &["--out", &format!("{file}/report")], &["clean.toml"]);
    if cfg!(target_os = "linux") {
        refused("model.pt", &["--out", "/proc/tch-audit"], &["/proc/tch-audit"]);
    }
}

#[test]
fn an_activation_that_is_nan_names_site_unit_and_image() {
    let err = refused("nan.pt", &[], &["NaN", "unit 2", "bars/00.png", "nan.pt"]);
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
}

#[test]
fn a_greyscale_model_is_audited() {
    let (ran, _out) = check("grey.pt", &["--input", "1x28x28"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("14: "), "{}", ran.out);
}

#[test]
fn a_corrupt_image_is_named_or_left_out_and_listed() {
    let photos = TempDir::new().unwrap();
    for i in 0..2 {
        std::fs::copy(BENCH.path("photos/bars/00.png"), photos.path().join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(photos.path().join("torn.png"), b"\x89PNG\r\n\x1a\nand no more").unwrap();
    let folder = text(photos.path());
    refused("model.pt", &["--probe", &folder], &["torn.png", "not a readable image"]);
    let (ran, out) = check("model.pt", &["--probe", &folder, "--skip-corrupt"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("1 file left out: 1 unreadable ("), "{}", ran.out);
    assert!(std::fs::read_to_string(out.path().join("report/report.json")).unwrap().contains("torn.png"));
}

#[test]
fn what_is_left_out_of_the_probe_is_in_one_line() {
    let photos = TempDir::new().unwrap();
    let put = |name: &str| {
        let path = photos.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(BENCH.path("photos/bars/00.png"), path).unwrap();
    };
    for name in
        ["a/1.png", "a/2.png", "b/1.png", "b/telephone.heic.png", "a/@eaDir/1.png/THUMB.jpg", "__MACOSX/a/._1.png"]
    {
        put(name);
    }
    std::fs::write(photos.path().join("b/one.heic"), b"\0\0\0\x18ftypheic").unwrap();
    std::fs::write(photos.path().join("b/torn.png"), b"\x89PNG").unwrap();
    let (ran, out) = check("model.pt", &["--probe", &text(photos.path()), "--skip-corrupt", "--limit-per-class", "2"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let line = "4 images, 2 classes, 3 files left out: 1 heic is not read (b/one.heic), 2 in folders of other programs \
                (@eaDir, __MACOSX); 1 beyond the limit per class";
    assert!(ran.out.contains(line), "{}", ran.out);
    let report = std::fs::read_to_string(out.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["probe"]["left_out"].as_array().unwrap().len(), 4, "{}", report["probe"]["left_out"]);
    let (ran, _out) = check("model.pt", &["--probe", &text(photos.path()), "--skip-corrupt"]);
    assert!(
        ran.out.contains("4 images, 2 classes, 4 files left out: ") && ran.out.contains("1 unreadable ("),
        "{}",
        ran.out
    );
}

#[test]
fn classes_that_may_not_be_the_outputs_give_no_accuracy() {
    let mut folders: Vec<String> = std::fs::read_dir(BENCH.path("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders.len(), 10, "the network has 10 outputs");
    let folders: Vec<String> = folders.into_iter().step_by(2).collect();
    let (n, photos) = (folders.len(), TempDir::new().unwrap());
    for folder in &folders {
        std::fs::create_dir(photos.path().join(folder)).unwrap();
        for file in std::fs::read_dir(BENCH.path("photos").join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            std::fs::copy(&file, photos.path().join(folder).join(file.file_name().unwrap())).unwrap();
        }
    }
    let photos = text(photos.path());
    let check = |more: &[&str]| check("model.pt", &[&["--probe", &photos], more].concat());
    let refused = |more: &[&str], parts: &[&str]| refused("model.pt", &[&["--probe", &photos], more].concat(), parts);
    let (ran, out) = check(&["--color", "never"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let reason = format!("not measured: {n} class folders, the model has 10 outputs");
    assert!(ran.out.contains(&format!("accuracy  {reason}")) && ran.out.contains("--classes FILE"), "{}", ran.out);
    assert!(!ran.err.contains("WARN") && !ran.err.contains('\u{1b}'), "{}", ran.err);
    for file in ["report.md", "report.json"] {
        let written = std::fs::read_to_string(out.path().join("report").join(file)).unwrap();
        assert!(written.contains(reason.strip_prefix("not measured: ").unwrap()), "{file}");
    }
    let (ran, _out) = check(&["--quiet"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "", ""));

    let lists = TempDir::new().unwrap();
    let list = |name: &str, lines: &[String]| {
        let path = lists.path().join(name);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        text(&path)
    };
    let others = |n: usize| (0..n).map(|i| format!("other {i}")).collect::<Vec<_>>();
    let right = |lines: &[String]| {
        let (ran, out) = check(&["--classes", &list("classes.txt", lines)]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains(&format!("{n} of 10 classes")) && ran.out.contains("chance 10.0 %"), "{}", ran.out);
        let report = std::fs::read_to_string(out.path().join("report/report.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert!(report["accuracy_missing"].is_null());
        report["accuracy"]["accuracy"]["correct"].as_u64().unwrap()
    };
    // Each image is right for one of the ten turns of the list, and for no other.
    let all: Vec<String> = folders.iter().cloned().chain(others(10 - n)).collect();
    let turned = |by: usize| (0..10).map(|i| all[(i + by) % 10].clone()).collect::<Vec<_>>();
    let sum: u64 = (0..10).map(|by| right(&turned(by))).sum();
    assert_eq!(sum as usize, 3 * n);

    let mut misspelt = all.clone();
    misspelt[0] += "s";
    let parts =
        [format!("class folder `{}`", folders[0]), "none of the 10 classes".into(), format!("`{}s`", folders[0])];
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    refused(&["--classes", &list("misspelt.txt", &misspelt)], &parts);
    let received = format!("received {n} lines");
    let short = [received.as_str(), "allowed 10: one for each output"];
    refused(&["--classes", &list("short.txt", &folders)], &short);
    refused(&["--classes", &text(&lists.path().join("none.txt"))], &["--classes", "none.txt"]);
}

#[test]
fn sites_of_a_module_without_parameters_can_be_read_and_left_out() {
    let ran = tch_audit(&["sites", &text(&BENCH.path("model.pt")), "--input", "3x16x16"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let rows: Vec<&str> = ran.out.lines().skip(1).filter(|l| l.contains(" layer ")).collect();
    assert_eq!(rows.len(), 3, "{}", ran.out);
    assert!(rows.iter().all(|row| row.contains(" yes   no    no ")), "{}", ran.out);
    assert!(
        rows[0].ends_with("not: its weights have no name (a frozen module: export it without freezing)"),
        "{}",
        rows[0]
    );
}

#[test]
fn sites_of_a_trained_network_have_their_parameters_names() {
    let Some(models) = data("models") else { return };
    let ran = tch_audit(&["sites", &text(&models.join("resnet20_cifar10.pt")), "--input", "1x3x32x32"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let row = ran.out.lines().find(|l| l.trim_start().starts_with("layer3.1.conv2 ")).unwrap();
    assert!(row.contains("64") && row.contains("8x8") && row.contains("alone"), "{row}");
}

#[test]
fn help_teaches_within_100_columns() {
    for (arguments, parts) in [
        (vec!["--help"], vec!["Exit codes:", "Examples:", "check", "sites"]),
        (vec!["check", "--help"], vec!["--probe", "--input", "--mean", "near chance", "3x32x32", "Exit codes:"]),
        (vec!["sites", "--help"], vec!["@raw", "scope", "--input"]),
    ] {
        let ran = tch_audit(&arguments);
        assert_eq!(ran.code, 0);
        for part in parts {
            assert!(ran.out.contains(part), "no `{part}` in {}", ran.out);
        }
        let wide: Vec<&str> = ran.out.lines().filter(|l| l.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:?}");
    }
}

#[test]
fn no_arguments_and_unknown_flags_exit_with_2() {
    assert_eq!(tch_audit::<&str>(&[]).code, 2);
    let ran = tch_audit(&["check", "--prob", "photos"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--probe"), "{}", ran.err);
}
