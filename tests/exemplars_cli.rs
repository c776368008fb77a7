//! `tch-audit exemplars`: killed anywhere, in shards, on damaged photographs, with wrong flags.

mod common;

use common::data;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tch::{CModule, Kind, Tensor};
use tch_audit::exemplars::{Exemplars, FILE, import_npy};
use tempfile::TempDir;

struct Bench {
    root: PathBuf,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    // What is static is never dropped: one place for all runs.
    let bench = Bench { root: Path::new(env!("CARGO_TARGET_TMPDIR")).join("exemplars-cli") };
    let _ = std::fs::remove_dir_all(&bench.root);
    let probe = tch_audit::probe::drawn(12, 16, 1).unwrap();
    for i in 0..probe.len() {
        let folder = bench.path("photos").join(&probe.classes()[probe.label(i).unwrap()]);
        std::fs::create_dir_all(&folder).unwrap();
        probe.image(i).save(folder.join(format!("{i:03}.png"))).unwrap();
    }
    traced(&bench.path("model.pt"), 1.7);
    traced(&bench.path("other.pt"), 1.8);
    bench
});

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn traced(path: &Path, pitch: f64) {
    let waves = |shape: &[i64], pitch: f64| {
        let n: i64 = shape.iter().product();
        (Tensor::arange(n, (Kind::Float, tch::Device::Cpu)) * pitch).sin().reshape(shape) * 0.4
    };
    let (one, two, head) = (waves(&[6, 3, 3, 3], pitch), waves(&[8, 6, 3, 3], 2.3), waves(&[10, 8], 0.9));
    let none = None::<&Tensor>;
    let mut forward = |xs: &[Tensor]| {
        let x = xs[0].conv2d(&one, none, [1, 1], [1, 1], [1, 1], 1).relu();
        let x = x.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        let x = x.conv2d(&two, none, [1, 1], [1, 1], [1, 1], 1).relu();
        vec![x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).linear(&head, none)]
    };
    let example = Tensor::zeros([2, 3, 16, 16], (Kind::Float, tch::Device::Cpu));
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(path).unwrap();
}

/// `tch-audit exemplars model.pt --probe photos --out OUT` and more.
fn command(model: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
    command.arg("exemplars").arg(BENCH.path(model)).arg("--probe").arg(BENCH.path("photos"));
    command.args(["--input", "3x16x16", "--batch-size", "4", "--checkpoint-every", "1", "--out"]).arg(out).args(more);
    command
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{err}");
    err
}

#[track_caller]
fn refused(mut command: Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(parts.iter().all(|p| err.contains(p)), "{err}");
    assert!(!err.contains("panicked") && !err.contains("frame #"), "{err}");
}

fn whole() -> Vec<u8> {
    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let out = TempDir::new().unwrap();
        succeeds(command("model.pt", out.path(), &[]).output().unwrap());
        std::fs::read(out.path().join(FILE)).unwrap()
    });
    WHOLE.clone()
}

#[test]
fn killed_at_any_moment_it_goes_on_to_the_same_bytes() {
    let whole = whole();
    let kills: usize = std::env::var("TCH_AUDIT_KILLS").map_or(25, |n| n.parse().unwrap());
    let clock = Instant::now();
    succeeds(command("model.pt", TempDir::new().unwrap().path(), &[]).output().unwrap());
    let length = clock.elapsed().as_secs_f64();
    let mut rng = fastrand::Rng::with_seed(5);
    let (mut killed, mut results) = (0, 0);
    while killed < kills {
        let out = TempDir::new().unwrap();
        loop {
            let mut child = command("model.pt", out.path(), &["--quiet"]).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs_f64(length * 1.2 * rng.f64()));
            child.kill().unwrap();
            if child.wait().unwrap().success() {
                break;
            }
            killed += 1;
            let finished = out.path().join(FILE);
            assert!(!finished.exists() || std::fs::read(finished).unwrap() == whole);
        }
        assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole);
        results += 1;
    }
    println!("{killed} kills, {results} runs that came to their end");
}

#[test]
fn the_number_of_threads_does_not_matter() {
    for threads in ["1", "2", "8"] {
        let out = TempDir::new().unwrap();
        succeeds(command("model.pt", out.path(), &["--threads", threads]).output().unwrap());
        assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole(), "{threads} threads");
    }
}

/// Of earlier versions, whose maxima were an option.
#[test]
fn asking_for_maxima_is_allowed_and_changes_nothing() {
    let out = TempDir::new().unwrap();
    succeeds(command("model.pt", out.path(), &["--maxima"]).output().unwrap());
    assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole());
}

/// The line that the documentation shows for GNU parallel; where that is not installed, with xargs.
#[test]
fn shards_in_parallel_give_the_same_bytes() {
    let out = TempDir::new().unwrap();
    let program = env!("CARGO_BIN_EXE_tch-audit");
    let line = format!(
        "'{program}' exemplars '{}' --probe '{}' --input 3x16x16 --batch-size 4 --out '{}' --quiet --shard {{}}/5",
        BENCH.path("model.pt").display(),
        BENCH.path("photos").display(),
        out.path().display()
    );
    let parallel = Command::new("parallel").arg("--version").output().is_ok_and(|o| o.status.success());
    let line = if parallel {
        format!("seq 5 | parallel -j 2 {}", line.replace('\'', ""))
    } else {
        println!("GNU parallel is not installed: xargs instead");
        format!("seq 5 | xargs -P 2 -I{{}} sh -c \"{line}\"")
    };
    succeeds(Command::new("sh").arg("-c").arg(&line).output().unwrap());
    let merge = |parts: &[PathBuf]| {
        let mut command = Command::new(program);
        command.args(["exemplars", "merge"]).arg(out.path()).args(parts);
        command
    };
    succeeds(merge(&[out.path().to_path_buf()]).output().unwrap());
    assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole());
    std::fs::remove_file(out.path().join("shard-2-of-5.pass-1.state")).unwrap();
    refused(merge(&[out.path().to_path_buf()]), &["batches 6 to 11", "missing"]);
}

#[test]
fn pictures_crops_and_milans_layout_are_written() {
    let out = TempDir::new().unwrap();
    let milan = out.path().join("milan");
    let more = ["--pictures", "--milan", milan.to_str().unwrap(), "--k", "3", "--weakest", "2"];
    let err = succeeds(command("model.pt", out.path(), &more).output().unwrap());
    assert!(err.contains("120 images") && err.contains("drew"), "{err}");
    let exemplars = Exemplars::load(out.path()).unwrap();
    let live = exemplars.units.iter().filter(|u| !u.dead).count();
    assert_eq!(std::fs::read_dir(out.path().join("pictures")).unwrap().count(), live);
    let (back, _) = import_npy(&milan).unwrap();
    assert_eq!(back.units.len(), exemplars.units.len());
    let mut export = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
    export.args(["exemplars", "export"]).arg(out.path()).arg("--probe").arg(BENCH.path("photos"));
    refused(
        {
            let mut none = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
            none.args(["exemplars", "export"]).arg(out.path()).arg("--probe").arg(BENCH.path("photos"));
            none
        },
        &["nothing to export", "--pictures"],
    );
    succeeds(export.arg("--crops").output().unwrap());
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let out = TempDir::new().unwrap();
    let none = out.path().join("none");
    let run = |more: &[&str]| command("model.pt", &none, more);
    refused(run(&["--sites", "nowhere"]), &["no site named `nowhere`"]);
    refused(run(&["--k", "0"]), &["--k"]);
    refused(run(&["--quantile", "1.5"]), &["quantile", "1.5"]);
    refused(run(&["--shard", "5/4"]), &["shard", "5/4"]);
    refused(run(&["--budget", "10B"]), &["budget", "at least"]);
    refused(run(&["--units", "conv"]), &["SITE:UNITS"]);
    let mut grey = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
    grey.arg("exemplars").arg(BENCH.path("model.pt")).arg("--probe").arg(BENCH.path("photos")).arg("--out").arg(&none);
    grey.args(["--input", "1x16x16"]);
    refused(grey, &["forward pass failed"]);
    refused(command("absent.pt", &none, &[]), &["absent.pt"]);
    assert!(!none.exists());
    // A file where the folder should be.
    let file = out.path().join("file");
    std::fs::write(&file, "x").unwrap();
    refused(command("model.pt", &file, &[]), &["file"]);
    // A state of another model.
    let begun = out.path().join("begun");
    succeeds(command("model.pt", &begun, &["--shard", "1/2"]).output().unwrap());
    refused(command("other.pt", &begun, &["--shard", "1/2"]), &["fingerprint", "another folder"]);
    refused(command("model.pt", &begun, &["--shard", "1/2", "--k", "3"]), &["`options.k` = 15", "allowed 3"]);
    succeeds(command("model.pt", &begun, &["--shard", "1/2"]).output().unwrap());
}

#[test]
fn an_estimate_runs_nothing() {
    let out = TempDir::new().unwrap();
    let none = out.path().join("none");
    let output = command("model.pt", &none, &["--estimate"]).output().unwrap();
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    succeeds(output);
    assert!(said.contains("14 units, 1 pass, 120 forward images") && said.contains("to hold all units"), "{said}");
    assert!(!none.exists());
}

/// Damaged files in `folder`, and what must be said of each.
fn damage(folder: &Path) -> Vec<(PathBuf, &'static str)> {
    let encoded = |format| {
        let image = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let (png, jpeg) = (encoded(image::ImageFormat::Png), encoded(image::ImageFormat::Jpeg));
    let mut lying = png.clone();
    lying[16..24].copy_from_slice(&[0x7f; 8]);
    let mut made = Vec::new();
    for (name, bytes, reason) in [
        ("cut.jpg", jpeg[..jpeg.len() / 2].to_vec(), "end too early"),
        ("cut.png", png[..png.len() / 2].to_vec(), ""),
        ("empty.png", Vec::new(), "empty"),
        ("text.jpg", b"not an image".to_vec(), "its content is not JPEG, PNG"),
        ("lying.png", lying, ""),
    ] {
        for copy in 0..4 {
            let path = folder.join(format!("{copy}-{name}"));
            std::fs::write(&path, &bytes).unwrap();
            made.push((path, reason));
        }
    }
    made
}

/// Thousands of real photographs of mixed kinds, among them damaged ones: finished, every bad file named.
#[test]
fn four_thousand_photographs_and_every_damaged_one_is_named() {
    let Some(folder) = data("imagenet-samples") else { return };
    let mut photographs: Vec<PathBuf> = images_below(&folder);
    if let Some(more) = data("cifar10") {
        photographs.extend(images_below(&more));
    }
    photographs.sort();
    // Evenly from all kinds.
    let step = (photographs.len() / 4000).max(1);
    let photos = TempDir::new().unwrap();
    let mut count = 0;
    for (i, path) in photographs.iter().step_by(step).take(4000).enumerate() {
        let name = format!("{i:05}-{}", path.file_name().unwrap().to_string_lossy());
        std::fs::copy(path, photos.path().join(name)).unwrap();
        count += 1;
    }
    let bad = damage(photos.path());
    let out = TempDir::new().unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
        command.arg("exemplars").arg(BENCH.path("model.pt")).arg("--probe").arg(photos.path());
        command.args(["--input", "3x16x16", "--out"]).arg(out.path()).args(more);
        command
    };
    refused(run(&[]), &["0-cut.jpg", "not a readable image"]);
    let err = succeeds(run(&["--skip-corrupt"]).output().unwrap());
    assert!(
        err.contains(&format!("{count} images"))
            && err.contains(&format!("{} files left out: {} unreadable", bad.len(), bad.len())),
        "{err}"
    );
    for (path, reason) in &bad {
        let line = err.lines().find(|l| l.contains(path.to_str().unwrap()));
        assert!(line.is_some_and(|l| l.contains(reason)), "{} in {err}", path.display());
    }
    assert_eq!(err.lines().filter(|l| l.contains("left out /")).count(), bad.len());
    println!("{count} photographs, {} damaged files: {}", bad.len(), err.lines().last().unwrap_or_default());
    let exemplars = Exemplars::load(out.path()).unwrap();
    assert_eq!(exemplars.images, count);
}

fn images_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(images_below(&path));
        } else if path.extension().is_some_and(|e| ["jpg", "jpeg", "JPEG", "png"].iter().any(|x| e == *x)) {
            found.push(path);
        }
    }
    found
}
