//! Every request of `golden/pruning`: pruned exactly as the reference says, or refused for the right kind of reason.

mod common;

use common::golden;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::{CModule, Tensor};
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan, Slice};
use tch_audit::{Error, Model};

#[derive(Deserialize)]
struct Network {
    outputs: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    roots: Vec<Root>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Root {
    param: String,
    dim: i64,
    channels: Vec<i64>,
}

#[derive(Deserialize)]
struct Expected {
    group: Option<Vec<(String, i64, Vec<i64>)>>,
    decision: String,
    #[serde(default)]
    decision_by_file: BTreeMap<String, String>,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    new_shapes: BTreeMap<String, Vec<i64>>,
    params_after: Option<u64>,
}

struct Io(BTreeMap<String, Tensor>);

impl Io {
    fn read(folder: &Path) -> Self {
        Self(Tensor::read_safetensors(folder.join("io.safetensors")).unwrap().into_iter().collect())
    }

    /// `output`, or `output.0`, `output.1`, …
    fn tensors(&self, name: &str, count: usize) -> Vec<&Tensor> {
        let own = (0..count).filter_map(|i| self.0.get(&format!("{name}.{i}"))).collect::<Vec<_>>();
        if own.is_empty() { self.0.get(name).into_iter().collect() } else { own }
    }
}

/// The kinds of the reference that a reason of ours answers to.
fn kinds(reason: Reason) -> &'static [&'static str] {
    match reason {
        Reason::Output => &["output"],
        Reason::Input => &["input"],
        Reason::Empty => &["empty", "broadcast"],
        Reason::Request => &["request"],
        Reason::NormOverChannels => &["norm_over_channels"],
        Reason::MixesChannels => &["mixes_channels"],
        Reason::GroupedConvolution => &["grouped_convolution"],
        Reason::Layout => &["layout"],
        Reason::Broadcast => &["broadcast"],
        Reason::Code => &["code"],
        Reason::Silent => &["silent"],
        _ => &[],
    }
}

fn state(model: &Model) -> Vec<(String, Tensor)> {
    model.parameters().iter().map(|(n, t)| (n.clone(), t.detach().copy())).collect()
}

fn unchanged(before: &[(String, Tensor)], model: &Model) -> bool {
    before.iter().zip(model.parameters()).all(|((_, a), (_, b))| a.size() == b.size() && a.equal(b))
}

/// Largest difference of the outputs, as a share of the scale that the reference uses.
fn difference(outputs: &[Tensor], expected: &[&Tensor]) -> f64 {
    assert_eq!(outputs.len(), expected.len());
    let one = |(a, b): (&Tensor, &&Tensor)| {
        assert_eq!(a.size(), b.size());
        (a - *b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1.0)
    };
    outputs.iter().zip(expected).map(one).fold(0.0, f64::max)
}

fn run(module: &CModule, x: &Tensor) -> Vec<Tensor> {
    fn collect(value: tch::IValue, into: &mut Vec<Tensor>) {
        match value {
            tch::IValue::Tensor(t) => into.push(t),
            tch::IValue::Tuple(all) => all.into_iter().for_each(|v| collect(v, into)),
            other => panic!("{other:?}"),
        }
    }
    let mut all = Vec::new();
    collect(module.forward_is(&[tch::IValue::Tensor(x.shallow_clone())]).unwrap(), &mut all);
    all
}

/// What a request asks for.
fn slices(case: &Case) -> Vec<Slice> {
    let slice = |r: &Root| Slice { parameter: r.param.clone(), dimension: r.dim, indices: r.channels.clone() };
    case.roots.iter().map(slice).collect()
}

/// One request on one file. `Ok(true)` when pruned, `Ok(false)` when refused, both as they should be.
fn request(folder: &Path, file: &str, network: &Network, case: &Case, io: &Io) -> Result<bool, String> {
    let input = &io.0["input"];
    let mut module = CModule::load(folder.join(file)).map_err(|e| e.to_string())?;
    module.set_eval();
    let model = Model::script(&module).map_err(|e| e.to_string())?;
    let graph = Traced::new(&model, input).map_err(|e| e.to_string())?;
    let before = state(&model);
    let slices = slices(case);
    let kind = file.trim_end_matches(".pt");
    let decision = case.expected.decision_by_file.get(kind).unwrap_or(&case.expected.decision);
    let plan = PrunePlan::of_slices(&graph, &slices);
    let done = plan.as_ref().map_err(|e| e.to_string()).cloned();
    let outcome = plan.and_then(|plan| plan.apply(&graph, input, NoOptimizer));
    match (decision.as_str(), outcome) {
        ("prune", Ok(pruned)) => {
            let plan = done?;
            let group: Vec<(String, i64, Vec<i64>)> =
                plan.slices.iter().map(|s| (s.parameter.clone(), s.dimension, s.indices.clone())).collect();
            let mut expected = case.expected.group.clone().unwrap_or_default();
            expected.sort();
            if group != expected {
                return Err(format!("the group is\n  {group:?}, it should be\n  {expected:?}"));
            }
            for (name, shape) in &case.expected.new_shapes {
                let now = model.parameter(name).map(Tensor::size);
                if now.as_ref() != Some(shape) {
                    return Err(format!("{name} has shape {now:?}, it should have {shape:?}"));
                }
            }
            let count: usize = module.named_parameters().unwrap().iter().map(|(_, t)| t.numel()).sum();
            if case.expected.params_after.is_some_and(|after| after != count as u64) {
                return Err(format!("{count} parameters are left, it should be {:?}", case.expected.params_after));
            }
            let name = format!("{}.zeroed", case.case.replace('.', "_"));
            let expected = io.tensors(&name, network.outputs);
            let by = tch::no_grad(|| difference(&run(&module, input), &expected));
            if by > 2e-5 {
                return Err(format!("the output differs by {by:e}"));
            }
            pruned.undo().map_err(|e| e.to_string())?;
            if !unchanged(&before, &model) {
                return Err("undo did not put every byte back".into());
            }
            Ok(true)
        }
        ("refuse", Err(Error::Refused { kind, reason, .. } | Error::RolledBack { kind, reason })) => {
            if !unchanged(&before, &model) {
                return Err("refused, but the model changed".into());
            }
            let given: BTreeSet<&str> = case.expected.reasons.iter().filter_map(|r| r.split(':').next()).collect();
            if !kinds(kind).iter().any(|k| given.contains(k)) {
                return Err(format!("refused as {kind:?} ({reason}), expected one of {given:?}"));
            }
            Ok(false)
        }
        ("prune", Err(error)) => Err(format!("refused: {error}")),
        ("refuse", Ok(_)) => Err("pruned, but it should be refused".into()),
        (_, Err(error)) => Err(error.to_string()),
        (other, Ok(_)) => Err(format!("unknown decision {other}")),
    }
}

/// The networks in a folder.
fn networks(root: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(root).unwrap().flatten().map(|e| e.path());
    let mut folders: Vec<_> = all.filter(|p| p.join("cases.json").exists()).collect();
    folders.sort();
    folders
}

/// Answers every request of a folder of networks; returns how many were pruned and refused.
fn answer_all(root: &Path) -> (usize, usize) {
    let folders = networks(root);
    let (mut pruned, mut refused, mut wrong) = (0, 0, Vec::new());
    for folder in &folders {
        let network: Network = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let io = Io::read(folder);
        for case in &network.cases {
            for file in ["scripted.pt", "traced.pt"] {
                if !folder.join(file).exists() {
                    continue;
                }
                let name = format!("{} {file} {}", folder.file_name().unwrap().to_string_lossy(), case.case);
                match request(folder, file, &network, case, &io) {
                    Ok(true) => pruned += 1,
                    Ok(false) => refused += 1,
                    Err(why) => wrong.push(format!("{name}: {why}")),
                }
            }
        }
    }
    eprintln!("{pruned} pruned, {refused} refused, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    (pruned, refused)
}

#[test]
fn every_request_is_answered_as_the_reference_answers_it() {
    let Some(root) = golden("pruning") else { return };
    let (pruned, refused) = answer_all(&root);
    assert!(pruned > 0 && refused > 0);
}

/// A few of the networks travel with the crate.
#[test]
fn the_requests_that_come_with_the_crate_are_answered_as_the_reference_answers_them() {
    let (pruned, refused) = answer_all(Path::new("tests/golden/pruning"));
    assert!(pruned >= 20 && refused >= 20, "{pruned} pruned, {refused} refused");
}

/// Five rounds in one process, with passes with gradients in between: on fresh modules the answers stay the same; a module
/// that has itself run with gradients, and that the JIT has rewritten, is pruned exactly or refused.
#[test]
fn five_rounds_with_gradients_in_between_are_never_wrong() {
    let root = golden("pruning").unwrap_or_else(|| PathBuf::from("tests/golden/pruning"));
    let (mut exact, mut refused) = (0, 0);
    for folder in networks(&root) {
        let network: Network = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let io = Io::read(&folder);
        let input = &io.0["input"];
        let Some(case) = network.cases.iter().find(|c| c.expected.decision == "prune") else { continue };
        for file in ["scripted.pt", "traced.pt"].into_iter().filter(|f| folder.join(f).exists()) {
            let name = format!("{} {file} {}", folder.display(), case.case);
            let mut module = CModule::load(folder.join(file)).unwrap();
            module.set_eval();
            for round in 0..5 {
                assert_eq!(request(&folder, file, &network, case, &io), Ok(true), "{name}, round {round}");
                // The same module over and over, with gradients before every round but the first.
                let model = Model::script(&module).unwrap();
                let before = state(&model);
                let graph = Traced::new(&model, input).unwrap();
                match PrunePlan::of_slices(&graph, &slices(case)).and_then(|p| p.apply(&graph, input, NoOptimizer)) {
                    Ok(pruned) => {
                        let expected = io.tensors(&format!("{}.zeroed", case.case.replace('.', "_")), network.outputs);
                        let by = tch::no_grad(|| difference(&run(&module, input), &expected));
                        assert!(by <= 2e-5, "{name}, round {round}: {by:e}");
                        pruned.undo().unwrap();
                        exact += 1;
                    }
                    Err(Error::Refused { .. } | Error::RolledBack { .. } | Error::Unknown { .. }) => refused += 1,
                    Err(other) => panic!("{name}, round {round}: {other}"),
                }
                assert!(unchanged(&before, &model), "{name}, round {round}: every byte is back");
                let sum: Tensor = run(&module, input).iter().map(|t| t.sum(tch::Kind::Float)).sum();
                sum.backward();
            }
        }
    }
    eprintln!("modules that have run with gradients: {exact} times exact, {refused} times refused");
    assert!(exact > 4 * refused, "{exact} exact, {refused} refused");
}
