//! Files that are no model, models that want something else than they get, and models that are still in training.

use super::{BENCH, check, refused, tch_audit, text};
use std::fs;
use tch::{CModule, Device, Kind, Tensor};
use tempfile::TempDir;

/// A network traced on so many images of 3 x 16 x 16.
fn traced(name: &str, images: i64, mut forward: impl FnMut(&Tensor) -> Vec<Tensor>) -> String {
    let example = Tensor::ones([images, 3, 16, 16], (Kind::Float, Device::Cpu));
    let mut forward = |xs: &[Tensor]| forward(&xs[0]);
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(BENCH.path(name)).unwrap();
    name.to_string()
}

fn features(xs: &Tensor) -> Tensor {
    let weight = Tensor::arange(6 * 27, (Kind::Float, Device::Cpu)).sin().reshape([6, 3, 3, 3]);
    xs.conv2d(&weight, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1).relu()
}

fn head(features: &Tensor) -> Tensor {
    let weight = Tensor::arange(60, (Kind::Float, Device::Cpu)).cos().reshape([10, 6]);
    features.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).linear(&weight, None::<&Tensor>)
}

fn sites(model: &str, more: &[&str]) -> super::Ran {
    let model = text(&BENCH.path(model));
    tch_audit(&[["sites", &model, "--input", "3x16x16"].as_slice(), more].concat())
}

#[test]
fn files_of_other_programs_are_named_with_the_remedy() {
    let mut safetensors = 2_u64.to_le_bytes().to_vec();
    safetensors.extend(b"{}");
    let module = b"\x80\x02c__main__\nNet\n)\x81.";
    let archive = |path: &std::path::Path| {
        let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file("saved/data.pkl", stored).unwrap();
        std::io::Write::write_all(&mut zip, module).unwrap();
        zip.finish().unwrap();
    };
    fs::write(BENCH.path("w.safetensors"), safetensors).unwrap();
    fs::write(BENCH.path("empty.pt"), "").unwrap();
    archive(&BENCH.path("module.pt"));
    let whole = fs::read(BENCH.path("model.pt")).unwrap();
    fs::write(BENCH.path("half.pt"), &whole[..whole.len() / 2]).unwrap();
    for (file, parts) in [
        ("w.safetensors", ["safetensors", "weights without code"]),
        ("empty.pt", ["empty file", "download it again"]),
        (
            "module.pt",
            ["a file of torch.save with a whole module (of class `__main__.Net`)", "torch.jit.script(model)"],
        ),
        ("half.pt", ["the beginning of a zip archive", "download it again"]),
    ] {
        refused(file, &[], &parts);
    }
}

#[test]
fn one_of_several_outputs_is_chosen() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/outputs/dict.pt");
    fs::copy(golden, BENCH.path("dict.pt")).unwrap();
    let ran = sites("dict.pt", &[]);
    let outputs = "0 or `features` [1, 6, 16, 16], 1 or `logits` [1, 10]";
    assert!(ran.err.contains(&format!("2 tensors ({outputs})")), "{}", ran.err);
    for name in ["logits", "1"] {
        let ran = sites("dict.pt", &["--model-output", name]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    }
    let ran = sites("dict.pt", &["--model-output", "logit"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains(&format!("received `logit`, allowed {outputs}")), "{}", ran.err);
    // The accuracy needs one number per class.
    let (ran, out) = check("dict.pt", &["--model-output", "logits"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = fs::read_to_string(out.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["accuracy"]["accuracy"]["total"].as_u64() > Some(0), "{}", report["accuracy"]);
}

#[test]
fn images_with_channels_last_are_given_so() {
    let example = Tensor::ones([2, 16, 16, 3], (Kind::Float, Device::Cpu));
    let mut forward = |xs: &[Tensor]| vec![head(&features(&xs[0].permute([0, 3, 1, 2])))];
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(BENCH.path("nhwc.pt")).unwrap();
    refused("nhwc.pt", &[], &["--layout nhwc"]);
    traced("nchw.pt", 2, |xs| vec![head(&features(xs))]);
    let table = |model: &str, more: &[&str]| {
        let folder = TempDir::new().unwrap();
        let file = text(&folder.path().join("n.csv"));
        let (ran, _out) = check(model, &[&["--format", &format!("csv={file}")], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        fs::read_to_string(&file).unwrap()
    };
    assert_eq!(table("nhwc.pt", &["--layout", "nhwc"]), table("nchw.pt", &[]));
}

#[test]
fn a_file_that_takes_one_image_is_shown_one_at_a_time() {
    let model = traced("one.pt", 1, |xs| vec![head(&features(xs).view([1, 6, 16, 16]))]);
    refused(&model, &[], &["traced for a fixed batch of 1", "--batch-size 1"]);
    let (ran, out) = check(&model, &["--batch-size", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let report = fs::read_to_string(out.path().join("report/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert!(report["accuracy"]["accuracy"]["total"].as_u64() > Some(0), "{}", report["accuracy"]);
}

#[test]
fn training_mode_is_named_and_two_runs_are_equal() {
    let model = traced("training.pt", 2, |xs| vec![head(&features(xs).dropout(0.5, true))]);
    let ran = sites(&model, &[]);
    assert!(ran.err.starts_with("warning: the model computes as in training: dropout is on"), "{}", ran.err);
    assert!(ran.err.contains("model.eval()"), "{}", ran.err);
    let run = || {
        let (ran, out) = check(&model, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("warn[training-mode]"), "{}", ran.out);
        super::without_run(&out.path().join("report"))
    };
    assert_eq!(run(), run());
    let (ran, out) = check(&model, &["-D", "training-mode"]);
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("denied: 1 training-mode"), "{}", ran.out);
    // A finished report keeps it.
    let report = text(&out.path().join("report/report.json"));
    let clean = text(&BENCH.path("clean.toml"));
    let again = |more: &[&str]| tch_audit(&[["check", &report, "--policies", &clean].as_slice(), more].concat()).code;
    assert_eq!((again(&["-D", "training-mode"]), again(&[]), again(&["-A", "training-mode"])), (1, 0, 0));
    // Without it nothing is said.
    let ran = sites(&traced("evaluation.pt", 2, |xs| vec![head(&features(xs).dropout(0.5, false))]), &[]);
    assert_eq!(ran.err, "");
}
