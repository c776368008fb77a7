//! `tch-audit edit` and `tch-audit sites`: files, journal, tables, and what they say when something is wrong.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tch::{CModule, Device, Kind, Tensor};
use tch_audit::Model;
use tempfile::TempDir;

mod common;
use common::{data, golden};

const CIFAR: [&str; 6] = ["--input", "3x32x32", "--mean", ".4914,.4822,.4465", "--std", ".2023,.1994,.2010"];
const QUICK: [&str; 6] = ["--limit", "40", "--severities", "1", "--controls", "1"];

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tch-audit"));
    command.env("NO_COLOR", "1");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Ran {
    let output = program().args(arguments).current_dir(folder).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// As [`run`], which must succeed. Returns standard output.
#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let ran = run(folder, arguments);
    assert_eq!(ran.code, 0, "{arguments:?}\n{}{}", ran.out, ran.err);
    ran.out
}

/// Exit code 2, nothing on standard output, one message that holds all of `parts`, and the folder as it was.
#[track_caller]
fn refused(folder: &Path, arguments: &[&str], parts: &[&str]) -> String {
    let before = contents(folder);
    let ran = run(folder, arguments);
    assert_eq!(ran.code, 2, "{arguments:?}\n{}{}", ran.out, ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
    // A model with several outputs is told about first.
    assert!(ran.err.lines().any(|line| line.starts_with("error")), "{}", ran.err);
    for part in parts {
        assert!(ran.err.contains(part), "{arguments:?}: no `{part}` in: {}", ran.err);
    }
    for frame in ["frame #", ".cpp:", "libtorch_cpu", "panicked"] {
        assert!(!ran.err.contains(frame), "{}", ran.err);
    }
    let after = contents(folder);
    let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(&before), "{arguments:?} left something");
    assert!(after == before, "{arguments:?} changed a file");
    ran.err
}

/// Every file and folder below a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.insert(path.clone(), b"a folder".to_vec());
            all.extend(contents(&path));
        } else if path.is_file() {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

/// The file names of a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

/// A folder with copies of scripted golden networks, as NAME.pt.
fn networks(wanted: &[&str]) -> Option<TempDir> {
    let root = golden("pruning")?;
    let folder = TempDir::new().unwrap();
    for name in wanted {
        fs::write(folder.path().join(format!("{name}.pt")), fs::read(root.join(name).join("scripted.pt")).unwrap())
            .unwrap();
    }
    Some(folder)
}

/// A folder with the trained network as model.pt, and the folder of test images.
fn trained() -> Option<(TempDir, String)> {
    let (models, images) = (data("models")?, data("cifar10")?);
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("model.pt"), fs::read(models.join("resnet20_cifar10.pt")).unwrap()).unwrap();
    let images = fs::canonicalize(images.join("test")).unwrap();
    Some((folder, images.to_str().unwrap().to_string()))
}

/// Kind, shape and bytes of every parameter and buffer.
fn numbers(model: &Path) -> BTreeMap<String, (Kind, Vec<i64>, Vec<u8>)> {
    let model = Model::load(model).unwrap();
    let bytes = |tensor: &Tensor| {
        let flat = tensor.detach().contiguous().view([-1]);
        let size = tensor.kind().elt_size_in_bytes() * tensor.numel();
        let mut bytes = vec![0u8; size];
        flat.copy_data_u8(&mut bytes, tensor.numel());
        (tensor.kind(), tensor.size(), bytes)
    };
    model.parameters().iter().map(|(name, tensor)| (name.clone(), bytes(tensor))).collect()
}

fn shapes(model: &Path) -> BTreeMap<String, Vec<i64>> {
    numbers(model).into_iter().map(|(name, (_, shape, _))| (name, shape)).collect()
}

/// The journal's entries of a file, oldest first.
fn entries(folder: &Path, file: &str) -> Vec<Value> {
    let journal: Value = serde_json::from_slice(&fs::read(folder.join("edits.json")).unwrap()).unwrap();
    assert_eq!(journal["version"], 1);
    journal["edits"].as_array().unwrap().iter().filter(|e| e["file"] == file).cloned().collect()
}

fn output(model: &Path, input: &Tensor) -> Tensor {
    let model = CModule::load(model).unwrap();
    tch::no_grad(|| model.forward_ts(&[input.shallow_clone()]).unwrap())
}

/// `edit METHOD MODEL --site SITE --units UNITS --input 3x16x16 --out OUT`.
fn edit<'a>(method: &'a str, model: &'a str, site: &'a str, units: &'a str, out: &'a str) -> Vec<&'a str> {
    vec!["edit", method, model, "--site", site, "--units", units, "--input", "3x16x16", "--out", out]
}

#[test]
fn a_pruned_file_has_the_shapes_of_the_plan_and_the_output_of_zeroed_units() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let out = done(folder, &edit("prune", "chain_bn.pt", "conv2", "1,5-7", "pruned.pt"));
    for part in ["4 units pruned", "conv2.weight dimension 0: 1, 5, 6, 7", "verified", "written: pruned.pt"] {
        assert!(out.contains(part), "no `{part}` in {out}");
    }
    assert_eq!(names(folder), ["chain_bn.pt", "edits", "edits.json", "pruned.pt"]);
    let entry = entries(folder, "pruned.pt").pop().unwrap();
    let mut expected = shapes(&folder.join("chain_bn.pt"));
    for slice in entry["slices"].as_array().unwrap() {
        let shape = expected.get_mut(slice["parameter"].as_str().unwrap()).unwrap();
        shape[slice["dimension"].as_u64().unwrap() as usize] -= slice["indices"].as_array().unwrap().len() as i64;
    }
    assert_eq!(expected["conv2.weight"][0], 16 - 4);
    assert_eq!(expected["conv3.weight"][1], 16 - 4);
    assert_eq!(shapes(&folder.join("pruned.pt")), expected);
    done(folder, &edit("zero", "chain_bn.pt", "conv2", "1,5-7", "zeroed.pt"));
    tch::manual_seed(1);
    let input = Tensor::randn([3, 3, 16, 16], (Kind::Float, Device::Cpu));
    let [whole, pruned, zeroed] = ["chain_bn.pt", "pruned.pt", "zeroed.pt"].map(|f| output(&folder.join(f), &input));
    assert!((&pruned - &zeroed).abs().max().double_value(&[]) < 1e-5);
    assert!((&whole - &zeroed).abs().max().double_value(&[]) > 1e-3, "the units do nothing");
}

#[test]
fn a_zeroed_file_keeps_its_shapes_and_has_zeros_where_the_plan_says() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    done(folder, &edit("zero", "chain_bn.pt", "conv1", "0,3", "zeroed.pt"));
    assert_eq!(shapes(&folder.join("zeroed.pt")), shapes(&folder.join("chain_bn.pt")));
    let model = Model::load(folder.join("zeroed.pt")).unwrap();
    let sums = model.parameter("conv1.weight").unwrap().abs().sum_dim_intlist([1i64, 2, 3].as_slice(), false, None);
    let silent: Vec<bool> = Vec::<f32>::try_from(sums).unwrap().iter().map(|x| *x == 0.0).collect();
    assert_eq!(silent.iter().filter(|s| **s).count(), 2);
    assert!(silent[0] && silent[3]);
}

#[test]
fn the_journal_says_what_was_done() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "2", "pruned.pt"));
    let entries = entries(folder, "pruned.pt");
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!(entry["from"], "chain_bn.pt");
    assert_eq!(entry["method"], "prune");
    assert_eq!(entry["units"], json!([{"site": "conv1", "unit": 2}]));
    assert!(entry["coupled"].as_array().unwrap().contains(&json!({"site": "conv1@raw", "unit": 2})));
    let slice = json!({"parameter": "conv2.weight", "dimension": 1, "indices": [2]});
    assert!(entry["slices"].as_array().unwrap().contains(&slice));
    let hash = blake3::hash(&fs::read(folder.join("pruned.pt")).unwrap());
    assert_eq!(entry["blake3"], hash.to_hex().as_str());
    // A filter of 3x3x3, 4 numbers of its norm, and what 16 filters of 3x3 read of it.
    let count = |when: &str, what: &str| entry[when][what].as_u64().unwrap();
    assert_eq!(count("before", "parameters") - count("after", "parameters"), 27 + 4 + 16 * 9);
    assert!(count("after", "flops") < count("before", "flops"));
    assert_eq!(entry["input"], json!([2, 3, 16, 16]));
    assert!(folder.join(entry["originals"].as_str().unwrap()).is_file());
}

#[test]
fn three_edits_across_folders_are_taken_back_one_by_one_to_the_byte() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    for name in ["one", "two", "back"] {
        fs::create_dir(folder.join(name)).unwrap();
    }
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "1,4", "one/a.pt"));
    // Unit 3 of what is left of the layer.
    done(folder, &edit("zero", "one/a.pt", "conv1", "3", "two/b.pt"));
    done(folder, &edit("prune", "two/b.pt", "conv3", "0-4", "two/c.pt"));
    assert_eq!(entries(&folder.join("two"), "c.pt").len(), 3);
    // Each folder holds all that it takes to go back.
    fs::remove_dir_all(folder.join("one/edits")).unwrap();
    done(folder, &["edit", "undo", "two/c.pt", "--out", "back/b.pt"]);
    assert!(numbers(&folder.join("back/b.pt")) == numbers(&folder.join("two/b.pt")));
    done(folder, &["edit", "undo", "back/b.pt", "--out", "back/a.pt"]);
    assert!(numbers(&folder.join("back/a.pt")) == numbers(&folder.join("one/a.pt")));
    let out = done(folder, &["edit", "undo", "back/a.pt", "--out", "back/model.pt"]);
    assert!(
        out.contains("taken back: 2 units of chain_bn.pt pruned") && out.contains("written: back/model.pt"),
        "{out}"
    );
    assert!(numbers(&folder.join("back/model.pt")) == numbers(&folder.join("chain_bn.pt")));
    refused(folder, &["edit", "undo", "back/model.pt", "--out", "back/x.pt"], &["back/model.pt", "cannot take"]);
}

#[test]
fn the_numbers_are_the_same_after_undo_whatever_the_method_and_network() {
    let all = ["bottleneck", "two_heads", "vit_heads_flex", "shared_twice", "tied_weights", "channel_buffer"];
    let Some(folder) = networks(&all) else { return };
    let folder = folder.path();
    let mut undone = 0;
    for name in all {
        let model = format!("{name}.pt");
        let input = if name == "tied_weights" { "12" } else { "3x16x16" };
        let table = done(folder, &["sites", &model, "--input", input]);
        for method in ["zero", "prune"] {
            let column = if method == "zero" { 5 } else { 6 };
            let row =
                table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|w| w.get(column) == Some(&"yes"));
            let Some(row) = row else { continue };
            done(
                folder,
                &["edit", method, &model, "--site", row[0], "--units", "1", "--input", input, "--out", "new.pt"],
            );
            assert!(
                numbers(&folder.join("new.pt")) != numbers(&folder.join(&model)),
                "{name} {method}: nothing changed"
            );
            done(folder, &["edit", "undo", "new.pt", "--out", "old.pt"]);
            assert!(numbers(&folder.join("old.pt")) == numbers(&folder.join(&model)), "{name} {method}");
            undone += 1;
        }
    }
    assert!(undone > 8, "{undone}");
}

#[test]
fn models_in_one_folder_have_chains_of_their_own() {
    let Some(folder) = networks(&["chain_bn", "chain_bias"]) else { return };
    let folder = folder.path();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "a.pt"));
    done(folder, &edit("prune", "chain_bias.pt", "features.0", "0", "b.pt"));
    done(folder, &edit("zero", "a.pt", "conv2", "0", "aa.pt"));
    assert_eq!(
        [entries(folder, "a.pt").len(), entries(folder, "b.pt").len(), entries(folder, "aa.pt").len()],
        [1, 1, 2]
    );
    done(folder, &["edit", "undo", "b.pt", "--out", "b0.pt"]);
    assert!(numbers(&folder.join("b0.pt")) == numbers(&folder.join("chain_bias.pt")));
    // A file that is written again starts anew, and keeps nothing of before.
    done(folder, &edit("zero", "chain_bias.pt", "features.0", "1", "aa.pt"));
    assert_eq!(entries(folder, "aa.pt").len(), 1);
    let kept = names(&folder.join("edits"));
    assert_eq!(kept, ["a.pt.1.safetensors", "aa.pt.1.safetensors", "b.pt.1.safetensors"]);
    done(folder, &["edit", "undo", "aa.pt", "--out", "aa0.pt"]);
    assert!(numbers(&folder.join("aa0.pt")) == numbers(&folder.join("chain_bias.pt")));
}

#[test]
fn undo_leaves_nothing_of_what_it_took_back() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    fs::create_dir(folder.join("back")).unwrap();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "a.pt"));
    done(folder, &["edit", "undo", "a.pt", "--out", "back/model.pt"]);
    assert_eq!(names(&folder.join("back")), ["edits.json", "model.pt"]);
    assert!(entries(&folder.join("back"), "model.pt").is_empty());
}

#[test]
fn a_file_that_has_changed_cannot_be_taken_back_and_has_no_past() {
    let Some(folder) = networks(&["chain_bn", "chain_bias"]) else { return };
    let folder = folder.path();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "a.pt"));
    // Another model under the same name.
    fs::copy(folder.join("chain_bias.pt"), folder.join("a.pt")).unwrap();
    refused(folder, &["edit", "undo", "a.pt", "--out", "b.pt"], &["a.pt", "has changed since the edit"]);
    done(folder, &edit("zero", "a.pt", "features.0", "1", "c.pt"));
    assert_eq!(entries(folder, "c.pt").len(), 1, "the edits of another model");
    done(folder, &["edit", "undo", "c.pt", "--out", "d.pt"]);
    assert!(numbers(&folder.join("d.pt")) == numbers(&folder.join("chain_bias.pt")));
}

#[test]
fn a_journal_that_cannot_be_used_stops_everything_before_anything_is_written() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    fs::create_dir(folder.join("good")).unwrap();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "good/a.pt"));
    for (journal, part) in [
        ("{\"version\": 1,", "EOF"),
        ("{\"version\": 2, \"edits\": []}", "version 2"),
        ("{\"version\": 1, \"edits\": [], \"more\": 1}", "more"),
        ("", "EOF"),
    ] {
        fs::create_dir(folder.join("bad")).unwrap();
        fs::write(folder.join("bad/edits.json"), journal).unwrap();
        let parts = ["bad/edits.json", part, "version 1"];
        refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "bad/x.pt"), &parts);
        refused(folder, &edit("zero", "chain_bn.pt", "conv1", "0", "bad/x.pt"), &parts);
        refused(folder, &["edit", "undo", "good/a.pt", "--out", "bad/x.pt"], &parts);
        fs::copy(folder.join("good/a.pt"), folder.join("bad/a.pt")).unwrap();
        refused(folder, &["edit", "undo", "bad/a.pt", "--out", "good/x.pt"], &parts);
        fs::remove_dir_all(folder.join("bad")).unwrap();
    }
    fs::create_dir_all(folder.join("folder/edits.json")).unwrap();
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "folder/x.pt"), &["folder/edits.json"]);
    fs::create_dir(folder.join("file")).unwrap();
    fs::write(folder.join("file/edits"), "").unwrap();
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "file/x.pt"), &["file/edits"]);
}

#[test]
fn a_kept_original_that_is_missing_or_torn_is_named() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "a.pt"));
    let kept = folder.join("edits/a.pt.1.safetensors");
    let bytes = fs::read(&kept).unwrap();
    fs::write(&kept, &bytes[..100]).unwrap();
    refused(folder, &["edit", "undo", "a.pt", "--out", "b.pt"], &["edits/a.pt.1.safetensors"]);
    fs::remove_file(&kept).unwrap();
    refused(folder, &["edit", "undo", "a.pt", "--out", "b.pt"], &["edits/a.pt.1.safetensors", "No such file"]);
    refused(folder, &edit("zero", "a.pt", "conv2", "0", "b.pt"), &["edits/a.pt.1.safetensors", "No such file"]);
}

#[test]
fn a_dry_run_shows_the_plan_and_writes_nothing() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let before = contents(folder);
    for method in ["prune", "zero"] {
        let what =
            ["edit", method, "chain_bn.pt", "--site", "conv1", "--units", "2", "--input", "3x16x16", "--dry-run"];
        let out = done(folder, &what);
        assert!(out.starts_with(&format!("1 unit would be {method}")), "{out}");
        assert!(out.contains("conv1.weight dimension 0: 2") && out.contains("verified"), "{out}");
        assert!(!out.contains("written"), "{out}");
    }
    assert!(contents(folder) == before);
}

#[test]
fn a_mask_says_what_it_does_and_writes_nothing() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let before = contents(folder);
    let mask = ["edit", "mask", "chain_bn.pt", "--site", "conv1", "--units", "0-2", "--input", "3x16x16"];
    let out = done(folder, &mask);
    assert!(out.starts_with("3 units masked: ") && out.lines().count() == 1, "{out}");
    assert!(!out.contains("at most 0.000e0"), "{out}");
    assert!(contents(folder) == before);
    refused(folder, &[&mask[..], &["--out", "x.pt"]].concat(), &["--out", "mask", "edit zero"]);
}

/// `report.json` of an audit that found `words` (site, unit, description): every text is denied and to be
/// zeroed, every colour warned of, every shape allowed, and unit 1 of conv1 is waived.
fn findings(folder: &Path, words: &str) {
    let policies = folder.join("policies");
    fs::create_dir_all(&policies).unwrap();
    let waiver = "[[waive]]\nsite = \"conv1\"\nunit = 1\nreason = \"it may\"\nexpires = 2999-12-31\n";
    for (name, level, more) in [("text", "deny", waiver), ("color", "warn", ""), ("shape", "allow", "")] {
        let action = if name == "text" { "zero" } else { "none" };
        let text = format!(
            "level = \"{level}\"\naction = \"{action}\"\nreason = \"a test\"\n[match]\nany = [\"{name}\"]\n{more}"
        );
        fs::write(policies.join(format!("{name}.toml")), text).unwrap();
    }
    fs::write(folder.join("words.csv"), format!("layer,unit,description\n{words}")).unwrap();
    let ran = run(
        folder,
        &["check", "--descriptions", "words.csv", "--policies", "policies", "--format", "json=report.json", "-q"],
    );
    assert!(ran.code < 2, "{}", ran.err);
}

#[test]
fn findings_that_policies_want_edited_are_and_what_cannot_be_is_left_out_and_named() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    findings(folder, "conv1,0,text\nconv1,1,text\nconv1,2,color\nconv1,3,shape\nconv1,4,grass\nfc,0,text\n");
    for (method, all, edited) in
        [("prune", &[][..], &[0][..]), ("prune", &["--all"], &[0, 2]), ("zero", &["--all"], &[0, 2])]
    {
        let what =
            ["edit", method, "chain_bn.pt", "--findings", "report.json", "--input", "3x16x16", "--out", "new.pt"];
        let ran = run(folder, &[&what[..], all].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.err.contains("fc/0 is left out") && ran.err.contains("output"), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        let units = &entries(folder, "new.pt")[0]["units"];
        let mut units: Vec<u64> = units.as_array().unwrap().iter().map(|u| u["unit"].as_u64().unwrap()).collect();
        units.sort_unstable();
        assert_eq!(units, edited, "text, and with --all colour; not waived, allowed or fine");
    }
}

#[test]
fn findings_of_which_nothing_is_left_are_refused() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let what = ["edit", "prune", "chain_bn.pt", "--findings", "report.json", "--input", "3x16x16", "--out", "x.pt"];
    refused(folder, &what, &["report.json", "No such file"]);
    findings(folder, "conv1,1,text\nconv1,3,shape\nconv1,4,grass\n");
    refused(folder, &what, &["--findings", "report.json", "no finding that counts"]);
    findings(folder, "conv1,2,color\n");
    refused(folder, &what, &["--findings", "report.json", "`action`", "--all", "its 1 finding"]);
    let everything = ["edit", "prune", "chain_bn.pt", "--site", "conv1", "--units", "1", "--all", "--dry-run"];
    refused(folder, &everything, &["--all", "--site"]);
    findings(folder, "conv9,1,text\n");
    refused(folder, &what, &["conv9", "did you mean", "`conv1`"]);
    findings(folder, "conv1,99,text\n");
    refused(folder, &what, &["conv1", "99", "0 to 11"]);
    fs::write(folder.join("report.json"), "{}").unwrap();
    refused(folder, &what, &["report.json"]);
    refused(folder, &[&what[..], &["--site", "conv1"]].concat(), &["--findings", "--site"]);
}

#[test]
fn findings_that_all_concern_the_output_leave_nothing_to_edit() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    findings(folder, "fc,0,text\nfc,2,text\n");
    let before = contents(folder);
    let what = ["edit", "prune", "chain_bn.pt", "--findings", "report.json", "--input", "3x16x16", "--out", "x.pt"];
    let ran = run(folder, &what);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("fc/0 is left out") && ran.err.contains("fc/2 is left out"), "{}", ran.err);
    assert!(ran.err.contains("error: none of the 2 units can be pruned"), "{}", ran.err);
    assert!(contents(folder) == before);
}

#[test]
fn an_evaluation_has_a_row_for_each_corruption_and_is_the_same_each_time() {
    let Some((folder, images)) = trained() else { return };
    let folder = folder.path();
    let evaluated = |method: &str, seed: &str| {
        let base = ["edit", method, "model.pt", "--site", "layer3.0.conv1", "--units", "0-7", "--evaluate", &images];
        let where_to = if method == "mask" { vec![] } else { vec!["--out", "new.pt"] };
        done(folder, &[&base[..], &CIFAR, &QUICK, &["--no-attacks", "--seed", seed], &where_to].concat())
    };
    let out = evaluated("prune", "3");
    let rows =
        ["clean", "painted text", "gaussian-noise", "gaussian-blur", "brightness", "contrast", "jpeg", "pixelate"];
    for row in rows.iter().chain(&["occlusion", "change by severity"]) {
        assert!(out.lines().any(|l| l.trim_start().starts_with(row)), "no `{row}` in {out}");
    }
    assert!(out.contains("before, %") && out.contains("after, %") && out.contains("controls"), "{out}");
    assert!(!out.contains("fgsm") && !out.contains("pgd"), "{out}");
    assert!(out.lines().all(|l| l.chars().count() <= 120), "{out}");
    let file = fs::read(folder.join("new.pt")).unwrap();
    assert_eq!(evaluated("prune", "3"), out);
    assert!(fs::read(folder.join("new.pt")).unwrap() == file, "the file differs");
    assert!(evaluated("mask", "3").contains("clean"));
}

#[test]
fn an_evaluation_attacks_unless_told_not_to() {
    let Some((folder, images)) = trained() else { return };
    let base =
        ["edit", "zero", "model.pt", "--site", "layer3.0.conv1", "--units", "0", "--dry-run", "--evaluate", &images];
    let out =
        done(folder.path(), &[&base[..], &CIFAR, &["--limit", "20", "--severities", "1", "--controls", "0"]].concat());
    assert!(out.contains("\n  fgsm ") && out.contains("\n  pgd "), "{out}");
    assert!(!out.contains("controls"), "{out}");
}

#[test]
fn images_that_cannot_be_evaluated_on_are_refused_before_anything_is_written() {
    let Some((folder, images)) = trained() else { return };
    let folder = folder.path();
    let jpegs = || fs::read_dir(Path::new(&images).join("cat")).unwrap().map(|e| e.unwrap().path()).take(2);
    fs::create_dir_all(folder.join("void/class")).unwrap();
    fs::create_dir(folder.join("flat")).unwrap();
    for class in 0..11 {
        fs::create_dir_all(folder.join(format!("eleven/{class:02}"))).unwrap();
        jpegs().for_each(|f| assert!(fs::copy(&f, folder.join(format!("eleven/{class:02}/a.jpg"))).unwrap() > 0));
    }
    jpegs().for_each(|f| assert!(fs::copy(&f, folder.join("flat").join(f.file_name().unwrap())).unwrap() > 0));
    let unit = ["--site", "layer3.0.conv1", "--units", "0"];
    for method in ["prune", "mask"] {
        let base = [&["edit", method, "model.pt"][..], &unit, &CIFAR].concat();
        let base = if method == "mask" { base } else { [&base[..], &["--out", "x.pt"]].concat() };
        let with = |more: &[&str], parts: &[&str]| refused(folder, &[&base[..], more].concat(), parts);
        with(&["--evaluate", "void"], &["void", "no image", "a sub-folder"]);
        with(&["--evaluate", "absent"], &["--evaluate", "absent", "No such file"]);
        with(&["--evaluate", "flat"], &["--evaluate", "flat", "without classes", "one sub-folder per class"]);
        with(
            &["--evaluate", "eleven", "--severities", "1", "--no-attacks"],
            &["accuracy: not measured: 11 class folders, the model has 10 outputs", "--classes FILE"],
        );
        with(&["--evaluate", &images, "--severities", "6"], &["--severities", "6", "1 to 5"]);
        with(&["--evaluate", &images, "--severities", "0"], &["--severities", "0", "1 to 5"]);
        with(&["--evaluate", &images, "--limit", "0"], &["--limit", "0", "at least 1"]);
        with(&["--evaluate", &images, "--seed", "x"], &["--seed", "x"]);
        with(&["--severities", "1"], &["--evaluate"]);
        with(&["--limit", "5"], &["--evaluate"]);
    }
    let vector = [&["edit", "mask", "model.pt"][..], &unit, &["--input", "10", "--evaluate", &images]].concat();
    refused(folder, &vector, &["--input", "one number", "images"]);
}

#[test]
fn some_of_the_classes_are_evaluated_on_where_all_are_listed() {
    let Some((folder, images)) = trained() else { return };
    let folder = folder.path();
    let all = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    for class in ["truck", "cat", "ship"] {
        fs::create_dir_all(folder.join("some").join(class)).unwrap();
        for file in fs::read_dir(Path::new(&images).join(class)).unwrap().map(|e| e.unwrap().path()).take(12) {
            fs::copy(&file, folder.join("some").join(class).join(file.file_name().unwrap())).unwrap();
        }
    }
    fs::write(folder.join("all.txt"), all.join("\n")).unwrap();
    fs::write(folder.join("three.txt"), "cat\nship\ntruck\n").unwrap();
    let base = ["edit", "zero", "model.pt", "--site", "layer3.0.conv1", "--units", "0", "--evaluate", "some"];
    let base = [&base[..], &CIFAR, &["--no-attacks", "--severities", "1", "--controls", "0"]].concat();
    let missing = "accuracy: not measured: 3 class folders, the model has 10 outputs";
    refused(folder, &[&base[..], &["--out", "x.pt"]].concat(), &[missing, "--classes FILE"]);
    let three = [&base[..], &["--out", "x.pt", "--classes", "three.txt"]].concat();
    refused(folder, &three, &["--classes", "3 lines", "allowed 10"]);
    let ran = run(folder, &[&base[..], &["--dry-run", "--classes", "all.txt", "--limit-per-class", "10"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("evaluated on 30 images; 6 beyond the limit per class"), "{}", ran.err);
    let clean = ran.out.lines().find(|l| l.trim_start().starts_with("clean")).unwrap();
    let before: f64 = clean.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(before > 60.0, "the network knows trucks, cats and ships: {clean}");
    let both = [&base[..], &["--dry-run", "--limit", "3", "--limit-per-class", "3"]].concat();
    refused(folder, &both, &["--limit"]);
}

#[test]
fn wrong_units_are_refused_with_what_is_allowed() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    for method in ["prune", "zero", "mask"] {
        let with = |more: &[&str], parts: &[&str]| {
            let out: &[&str] = if method == "mask" { &[] } else { &["--out", "x.pt"] };
            let all = [&["edit", method, "chain_bn.pt", "--input", "3x16x16"], out, more].concat();
            refused(folder, &all, parts)
        };
        with(&["--site", "conv11", "--units", "1"], &["conv11", "did you mean", "`conv1`"]);
        with(&["--site", "conv1", "--units", "12"], &["conv1", "received 12", "0 to 11"]);
        with(&["--site", "conv1", "--units", "3-12"], &["conv1", "received 12", "0 to 11"]);
        if method != "prune" {
            continue; // what cannot be read has nothing to do with the method
        }
        with(&["--site", "conv1", "--units", ""], &["--units", "received nothing", "3,17 or 0-7"]);
        with(&["--site", "conv1", "--units", "1,,2"], &["--units", "`1,,2`", "3,17 or 0-7"]);
        with(&["--site", "conv1", "--units", "7-3"], &["--units", "7-3", "smaller number first"]);
        with(&["--site", "conv1", "--units", "-1"], &["--units", "`-1`", "3,17 or 0-7"]);
        with(&["--site", "conv1", "--units", "1-2-3"], &["--units", "`1-2-3`", "3,17 or 0-7"]);
        with(&["--site", "conv1", "--units", "one"], &["--units", "`one`", "3,17 or 0-7"]);
        let err = with(&["--site", "conv1", "--units", "0-99999999"], &["--units", "0-99999999", "at most"]);
        assert!(!err.contains("smaller"), "{err}");
        with(&["--site", "conv1", "--units", "99999999999999999999"], &["--units", "99999999999999999999"]);
        with(&["--site", "conv1", "--site", "conv2", "--units", "1"], &["2 --site", "1 --units", "for each --site"]);
        with(&["--site", "conv1"], &["1 --site", "0 --units"]);
        with(&["--units", "1"], &["--site", "--findings"]);
        with(&[], &["which units", "--site", "--findings"]);
    }
}

#[test]
fn units_that_cannot_go_exactly_are_refused_with_the_reason() {
    let Some(folder) = networks(&["chain_bn", "depthwise", "vit_heads_flex", "two_heads"]) else { return };
    let folder = folder.path();
    let prune = |model: &str, site: &str, units: &str, parts: &[&str]| {
        refused(folder, &edit("prune", &format!("{model}.pt"), site, units, "x.pt"), parts);
    };
    prune("chain_bn", "fc", "0", &["cannot prune fc/0", "output"]);
    prune("two_heads", "cls", "0", &["cannot prune cls/0", "output"]);
    refused(folder, &edit("zero", "chain_bn.pt", "fc", "0", "x.pt"), &["cannot zero fc/0", "output"]);
    prune("chain_bn", "conv1", "0-11", &["cannot prune conv1/0", "nothing would be left"]);
    prune("depthwise", "b1.conv.3", "0", &["depthwise convolution", "b1.conv.3.weight"]);
    prune("vit_heads_flex", "blocks.0.fc2", "3", &["layer norm", "mean and variance"]);
    // One unit that cannot go stops those that could.
    let both = ["edit", "prune", "chain_bn.pt", "--site", "conv1", "--units", "0", "--site", "fc", "--units", "1"];
    refused(folder, &[&both[..], &["--input", "3x16x16", "--out", "x.pt"]].concat(), &["output"]);
}

#[test]
fn what_did_not_run_is_not_edited_behind_its_back() {
    let folder = TempDir::new().unwrap();
    let with = |mut line: Vec<&'static str>, rest: &[&'static str]| {
        line.extend(rest);
        line
    };
    let paths = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/branches/paths.pt");
    fs::copy(paths, folder.path().join("paths.pt")).unwrap();
    let at = |input: &'static str, method: &'static str, site: &'static str| {
        vec!["edit", method, "paths.pt", "--input", input, "--site", site, "--units", "1", "--out"]
    };
    // A second method reads the first layer.
    for method in ["prune", "zero"] {
        let parts = ["`embed`", "did not run", "`stem.weight`", "--allow-unseen-code"];
        refused(folder.path(), &with(at("3x4x4", method, "stem"), &["o.pt"]), &parts);
    }
    // Which layer follows depends on the size, whichever of the two was traced.
    let branch = "`if x.size(2) > 8: x = F.relu(s.down(x))` (make.py, line 11), which depends on the size of the input";
    refused(folder.path(), &with(at("3x4x4", "prune", "tail"), &["o.pt"]), &[branch, "(with `down.weight`)"]);
    refused(folder.path(), &with(at("3x16x16", "prune", "tail"), &["o.pt"]), &[branch, "other channels"]);
    refused(folder.path(), &with(at("3x16x16", "prune", "down"), &["o.pt"]), &[branch, "other channels"]);
    // No other code is concerned; `probabilities` is made of `forward`.
    assert!(done(folder.path(), &with(at("3x4x4", "prune", "mid"), &["a.pt"])).contains("verified"));
    assert!(done(folder.path(), &with(at("3x4x4", "zero", "tail"), &["b.pt"])).contains("verified"));
    let allowed = with(at("3x4x4", "prune", "tail"), &["c.pt", "--allow-unseen-code"]);
    let plan = done(folder.path(), &allowed);
    assert!(plan.contains("note: the branch") && plan.contains("verified"), "{plan}");
    let mask = ["edit", "mask", "paths.pt", "--input", "3x4x4", "--site", "mid", "--units", "1", "--allow-unseen-code"];
    refused(folder.path(), &mask, &["--allow-unseen-code", "mask"]);
}

#[test]
fn a_layer_norm_over_tokens_is_refused() {
    let Some(folder) = networks(&["layer_norm_mlp"]) else { return };
    // Tokens [N, 6, 12] cannot be said; the network takes [N, 1, 6, 12] as well.
    let base = ["edit", "prune", "layer_norm_mlp.pt", "--site", "embed", "--units", "0", "--out", "x.pt", "--input"];
    refused(folder.path(), &[&base[..], &["1x6x12"]].concat(), &["embed/0", "layer norm"]);
    refused(folder.path(), &[&base[..], &["6x12"]].concat(), &["--input", "6x12", "3x224x224", "one number"]);
}

#[test]
fn a_frozen_model_can_only_be_masked() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path();
    let weight = (Tensor::arange(6 * 27, (Kind::Float, Device::Cpu)) * 1.7).sin().reshape([6, 3, 3, 3]);
    let head = (Tensor::arange(4 * 6, (Kind::Float, Device::Cpu)) * 0.9).sin().reshape([4, 6]);
    let none = None::<&Tensor>;
    // Traced with its weights as constants, as those of a frozen module are.
    let mut forward = |xs: &[Tensor]| {
        let x = xs[0].conv2d(&weight, none, [1, 1], [1, 1], [1, 1], 1).relu();
        vec![x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>).linear(&head, none)]
    };
    let example = Tensor::zeros([2, 3, 16, 16], (Kind::Float, Device::Cpu));
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[example], &mut forward)).unwrap();
    module.save(folder.join("frozen.pt")).unwrap();
    let table = done(folder, &["sites", "frozen.pt", "--input", "3x16x16"]);
    let site = table.lines().nth(1).unwrap().split_whitespace().next().unwrap();
    for method in ["prune", "zero"] {
        refused(folder, &edit(method, "frozen.pt", site, "0", "x.pt"), &["frozen", "without freezing"]);
    }
    let out = done(folder, &["edit", "mask", "frozen.pt", "--site", site, "--units", "0", "--input", "3x16x16"]);
    assert!(out.contains("1 unit masked"), "{out}");
}

#[test]
fn what_is_no_model_is_named() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let bytes = fs::read(folder.join("chain_bn.pt")).unwrap();
    fs::write(folder.join("torn.pt"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.join("notes.pt"), "not a model").unwrap();
    for method in ["prune", "zero"] {
        refused(folder, &edit(method, "torn.pt", "conv1", "0", "x.pt"), &["torn.pt", "the beginning of a zip archive"]);
        refused(folder, &edit(method, "notes.pt", "conv1", "0", "x.pt"), &["notes.pt", "TorchScript"]);
        refused(folder, &edit(method, "absent.pt", "conv1", "0", "x.pt"), &["absent.pt", "No such file"]);
    }
    for model in ["torn.pt", "notes.pt", "absent.pt"] {
        refused(folder, &["sites", model, "--input", "3x16x16"], &[model]);
        refused(folder, &["edit", "mask", model, "--site", "conv1", "--units", "0"], &[model]);
    }
}

#[test]
fn an_output_that_is_not_finite_is_refused() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let model = Model::load(folder.join("chain_bn.pt")).unwrap();
    let _ = tch::no_grad(|| model.parameter("conv2.weight").unwrap().get(0).fill_(f64::NAN));
    model.save(folder.join("nan.pt")).unwrap();
    for method in ["prune", "zero"] {
        refused(folder, &edit(method, "nan.pt", "conv1", "0", "x.pt"), &["not finite"]);
        // What is not finite itself can go.
        done(folder, &edit(method, "nan.pt", "conv2", "0", "fine.pt"));
    }
    let mask = ["edit", "mask", "nan.pt", "--site", "conv1", "--units", "0", "--input", "3x16x16"];
    refused(folder, &mask, &["not finite"]);
}

#[test]
fn places_where_nothing_can_be_written_are_refused() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    fs::create_dir(folder.join("folder")).unwrap();
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "a.pt"));
    let undo = |out: &'static str| vec!["edit", "undo", "a.pt", "--out", out];
    let all = |out: &'static str| {
        vec![edit("prune", "chain_bn.pt", "conv1", "0", out), edit("zero", "chain_bn.pt", "conv1", "0", out), undo(out)]
    };
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "chain_bn.pt"), &["chain_bn.pt", "would overwrite"]);
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "folder/../chain_bn.pt"), &["would overwrite"]);
    refused(folder, &undo("a.pt"), &["a.pt", "would overwrite"]);
    for what in all("absent/x.pt") {
        refused(folder, &what, &["--out", "absent/x.pt", "no folder absent"]);
    }
    for what in all("folder") {
        refused(folder, &what, &["--out", "folder", "it is a folder"]);
    }
    for what in all("folder/edits.json").into_iter().chain(all("folder/edits")) {
        refused(folder, &what, &["folder/edits", "journal"]);
    }
    if cfg!(target_os = "linux") {
        for what in all("/proc/x.pt") {
            refused(folder, &what, &["--out", "/proc"]);
        }
    }
    refused(folder, &["edit", "undo", "a.pt"], &["--out"]);
    let nowhere = ["edit", "prune", "chain_bn.pt", "--site", "conv1", "--units", "0", "--input", "3x16x16"];
    refused(folder, &nowhere, &["--out", "--dry-run"]);
    refused(folder, &[&nowhere[..], &["--out", "x.pt", "--dry-run"]].concat(), &["--out", "--dry-run"]);
}

#[cfg(unix)]
#[test]
fn links_pipes_and_folders_without_permission_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    std::os::unix::fs::symlink("chain_bn.pt", folder.join("link.pt")).unwrap();
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "link.pt"), &["would overwrite"]);
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "pipe"), &["--out", "pipe or device"]);
    let locked = folder.join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // The administrator can write everywhere.
    if tempfile::tempfile_in(&locked).is_err() {
        refused(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "locked/x.pt"), &["--out", "locked", "denied"]);
    }
}

#[test]
fn a_wrong_input_is_refused() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    for (input, parts) in [
        ("4x16x16", vec!["forward pass failed", "[2, 4, 16, 16]", "3 channels"]),
        ("3x32", vec!["--input", "3x32", "3x224x224", "one number"]),
        ("0x16x16", vec!["[2, 0, 16, 16]"]),
        ("10", vec!["forward pass failed", "[2, 10]"]),
        ("many", vec!["--input", "many"]),
        ("-3x16x16", vec!["-3"]),
    ] {
        let base = ["edit", "prune", "chain_bn.pt", "--site", "conv1", "--units", "0", "--input", input];
        refused(folder, &[&base[..], &["--out", "x.pt"]].concat(), &parts);
        assert_eq!(run(folder, &["sites", "chain_bn.pt", "--input", input]).code, 2, "{input}");
    }
}

#[test]
fn undo_of_a_file_without_an_edit_says_so() {
    let Some(folder) = networks(&["chain_bn"]) else { return };
    let folder = folder.path();
    let undo = |model: &'static str| vec!["edit", "undo", model, "--out", "x.pt"];
    refused(folder, &undo("absent.pt"), &["absent.pt", "No such file"]);
    refused(folder, &undo("chain_bn.pt"), &["chain_bn.pt", "edits.json", "no edit"]);
    done(folder, &edit("prune", "chain_bn.pt", "conv1", "0", "chain_bn2.pt"));
    refused(folder, &undo("chain_bn.pt"), &["chain_bn.pt", "did you mean", "`chain_bn2.pt`"]);
}

/// The rows of a table of sites: name, depth, mask, zero, prune, the rest.
fn rows(table: &str) -> Vec<(String, usize, [bool; 3], String)> {
    let yes = |word: &str| match word {
        "yes" => true,
        "no" | "some" => false,
        other => panic!("`{other}` in {table}"),
    };
    let mut lines: Vec<&str> = table.lines().collect();
    assert!(lines.pop().unwrap().contains(" sites; "), "{table}");
    // Layers that cannot be audited come after the table.
    lines.truncate(lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len()));
    assert!(lines[0].starts_with("site ") && lines[0].ends_with("mask  zero  prune  one unit goes"), "{table}");
    let row = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let depth = (line.len() - line.trim_start().len()) / 2;
        (words[0].to_string(), depth, [yes(words[4]), yes(words[5]), yes(words[6])], words[7..].join(" "))
    };
    lines[1..].iter().map(row).collect()
}

#[test]
fn every_layer_of_every_network_is_listed() {
    let Some(root) = golden("pruning") else { return };
    let mut networks = 0;
    for name in names(&root) {
        let folder = root.join(&name);
        let Ok(io) = Tensor::read_safetensors(folder.join("io.safetensors")) else { continue };
        let input = io.iter().find(|(n, _)| n == "input").unwrap().1.size();
        if input.len() == 3 {
            continue; // tokens
        }
        let input: Vec<String> = input[1..].iter().map(ToString::to_string).collect();
        let table = done(&folder, &["sites", "scripted.pt", "--input", &input.join("x")]);
        let rows = rows(&table);
        for (site, _, can, text) in &rows {
            assert!(can[0], "{name}: {site} cannot be masked");
            assert_eq!(can[1] && can[2], !text.contains("not"), "{name}: {site}: {text}");
            assert_eq!(text.contains("alone") || text.contains("with "), can[1] || can[2], "{name}: {site}: {text}");
        }
        networks += 1;
        // Weights of their own with two or more dimensions make a layer; what is used otherwise is not one.
        if ["tied_weights", "vit_mha", "shared_twice"].contains(&name.as_str()) {
            continue;
        }
        for (parameter, shape) in shapes(&folder.join("scripted.pt")) {
            let Some(layer) = parameter.strip_suffix(".weight").filter(|_| shape.len() > 1) else { continue };
            assert!(rows.iter().any(|(site, ..)| site == layer), "{name}: no {layer} in\n{table}");
        }
    }
    assert!(networks > 30, "{networks}");
}

#[test]
fn sites_agree_with_what_edit_does() {
    let all = ["two_heads", "depthwise"];
    let Some(folder) = networks(&all) else { return };
    let folder = folder.path();
    for name in all {
        let model = format!("{name}.pt");
        let table = done(folder, &["sites", &model, "--input", "3x16x16"]);
        for (site, _, [_, zero, prune], text) in rows(&table).into_iter().step_by(2) {
            for (method, can) in [("zero", zero), ("prune", prune)] {
                let what = ["edit", method, &model, "--site", &site, "--units", "0", "--input", "3x16x16", "--dry-run"];
                let ran = run(folder, &what);
                assert_eq!(ran.code == 0, can, "{name}: {method} {site}: {text}\n{}", ran.err);
            }
        }
    }
}

#[test]
fn reasons_are_those_of_the_network() {
    let Some(folder) = networks(&["chain_bn", "depthwise", "vit_heads_flex", "generator"]) else { return };
    let folder = folder.path();
    let of = |model: &str, input: &str, site: &str| {
        let rows = rows(&done(folder, &["sites", model, "--input", input]));
        let row = rows.into_iter().find(|(name, ..)| name == site).unwrap();
        (row.2, row.3)
    };
    assert_eq!(of("chain_bn.pt", "3x16x16", "conv2"), ([true; 3], "alone".to_string()));
    let output = ([true, false, false], "not: it is an output of the model".to_string());
    assert_eq!(of("chain_bn.pt", "3x16x16", "fc"), output);
    assert_eq!(of("generator.pt", "10", "rgb"), output);
    assert_eq!(of("generator.pt", "10", "fc").0, [true; 3]);
    let (can, text) = of("depthwise.pt", "3x16x16", "b1.conv.0");
    assert!(can == [true, true, false] && text.contains("not pruned: a depthwise convolution"), "{text}");
    let (can, text) = of("vit_heads_flex.pt", "3x16x16", "blocks.0.fc2");
    assert!(can == [true, true, false] && text.contains("not pruned: a layer norm"), "{text}");
    assert_eq!(of("vit_heads_flex.pt", "3x16x16", "blocks.0.attn@heads").0, [true; 3]);
}

#[test]
fn scopes_come_before_what_is_in_them_and_raw_shows_more() {
    let Some(folder) = networks(&["vit_heads_flex"]) else { return };
    let plain = done(folder.path(), &["sites", "vit_heads_flex.pt", "--input", "3x16x16"]);
    let plain = rows(&plain);
    for (i, (name, depth, ..)) in plain.iter().enumerate() {
        let around = |(other, ..): &&(String, usize, [bool; 3], String)| name.starts_with(&format!("{other}."));
        assert_eq!(plain[..i].iter().filter(around).count(), *depth, "{name}");
        assert_eq!(plain[i..].iter().filter(around).count(), 0, "{name} is before a scope around it");
    }
    assert!(plain.iter().any(|(_, depth, ..)| *depth == 3));
    let raw = done(folder.path(), &["sites", "vit_heads_flex.pt", "--input", "3x16x16", "--raw"]);
    let raw = rows(&raw);
    let without: Vec<_> = raw.iter().filter(|(name, ..)| !name.ends_with("@raw")).map(|r| &r.0).collect();
    assert_eq!(without, plain.iter().map(|r| &r.0).collect::<Vec<_>>());
    assert!(raw.len() > plain.len() + 5);
}

#[test]
fn sites_are_the_same_each_time_and_with_any_number_of_threads() {
    let Some((folder, _)) = trained() else { return };
    let first = done(folder.path(), &["sites", "model.pt", "--input", "3x32x32"]);
    assert!(first.contains("with 21 sites, conv1 to layer3.2.conv2"), "{first}");
    for more in [&[][..], &["--threads", "1"], &["--threads", "2"]] {
        assert_eq!(done(folder.path(), &[&["sites", "model.pt", "--input", "3x32x32"], more].concat()), first);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_evaluation_leaves_a_whole_file_or_none() {
    let Some((folder, images)) = trained() else { return };
    let folder = folder.path();
    for wait_for_the_journal in [false, true] {
        let mut child = program()
            .args(["edit", "prune", "model.pt", "--site", "layer3.0.conv1", "--units", "0", "--out", "new.pt"])
            .args(["--evaluate", &images, "--limit", "100", "--controls", "0", "--no-attacks"])
            .args(CIFAR)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if wait_for_the_journal {
            while !folder.join("edits.json").exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        } else {
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), None, "it ended before it was interrupted");
        if wait_for_the_journal {
            done(folder, &["edit", "undo", "new.pt", "--out", "old.pt"]);
            assert!(numbers(&folder.join("old.pt")) == numbers(&folder.join("model.pt")));
        } else if folder.join("new.pt").exists() {
            numbers(&folder.join("new.pt"));
        }
        for name in ["new.pt", "edits.json"] {
            let _ = fs::remove_file(folder.join(name));
        }
    }
}

#[test]
fn help_of_edit_teaches_within_100_columns() {
    for (arguments, parts) in [
        (&["edit", "--help"][..], &["mask", "zero", "prune", "undo", "Exit codes:", "Examples:"][..]),
        (&["edit", "prune", "--help"], &["--site", "--units", "0-7", "--findings", "--dry-run", "--evaluate", "sites"]),
        (&["edit", "undo", "--help"], &["--out", "edits.json"]),
    ] {
        let out = done(Path::new("."), arguments);
        for part in parts {
            assert!(out.contains(part), "no `{part}` in {out}");
        }
        assert!(out.lines().all(|l| l.chars().count() <= 100), "{out}");
    }
}
