//! Random networks, random units: pruned and zeroed exactly, or refused with every byte as it was.

#[path = "common/random.rs"]
mod random;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestError, TestRng, TestRunner};
use random::{Block, HEADS, Net, PATTERNS, PLAIN, Recipe, build};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::{Cost, NoOptimizer, PrunePlan, Slice, ZeroPlan};
use tch_audit::graph::SiteKind;
use tch_audit::{Error, Model, UnitId};

/// How far outputs may differ, as a share of the largest.
const TOLERANCE: f64 = 1e-4;

#[derive(Debug, Default)]
struct Counts {
    exact: BTreeMap<&'static str, usize>,
    refused: BTreeMap<(&'static str, bool), usize>,
}

impl Counts {
    fn exact(&self) -> usize {
        self.exact.values().sum()
    }

    fn refused(&self) -> usize {
        self.refused.values().sum()
    }
}

/// Every tensor that the network reads: parameters, buffers, constants in closures.
fn bytes(net: &Net, model: &Model) -> Vec<Tensor> {
    model.parameters().iter().map(|(_, t)| t).chain(&net.constants).map(|t| t.detach().copy()).collect()
}

fn same(before: &[Tensor], after: &[Tensor]) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(a, b)| a.size() == b.size() && a.equal(b))
}

fn close(a: &Tensor, b: &Tensor) -> Result<(), String> {
    if a.size() != b.size() {
        return Err(format!("shape {:?}, expected {:?}", a.size(), b.size()));
    }
    let (difference, scale) = ((a - b).abs().max().double_value(&[]), b.abs().max().double_value(&[]));
    if difference <= TOLERANCE * scale.max(1e-3) {
        Ok(())
    } else {
        Err(format!("differs by {difference:.2e} of {scale:.2e}"))
    }
}

/// What the model computes with `slices` at 0; its numbers are put back.
fn zeroed_by_hand(model: &Model, slices: &[Slice], input: &Tensor) -> Tensor {
    let named: Vec<(&Slice, &Tensor)> =
        slices.iter().filter_map(|s| Some((s, model.parameter(&s.parameter)?))).collect();
    let copies: Vec<Tensor> = named.iter().map(|(_, t)| t.detach().copy()).collect();
    for (slice, tensor) in &named {
        let _ = tensor.detach().index_fill_(slice.dimension, &Tensor::from_slice(&slice.indices), 0.0);
    }
    let output = model.forward(input);
    // Back to front: a tensor may have slices in two dimensions.
    for ((_, tensor), copy) in named.iter().zip(&copies).rev() {
        tensor.detach().copy_(copy);
    }
    output.unwrap()
}

fn shapes_follow(model: &Model, before: &[Tensor], slices: &[Slice]) -> Result<(), String> {
    for ((name, now), before) in model.parameters().iter().zip(before) {
        let mut expected = before.shallow_clone();
        for slice in slices.iter().filter(|s| s.parameter == *name) {
            let size = before.size()[slice.dimension as usize];
            let kept: Vec<i64> = (0..size).filter(|i| !slice.indices.contains(i)).collect();
            expected = expected.index_select(slice.dimension, &Tensor::from_slice(&kept));
        }
        if now.size() != expected.size() || !now.detach().equal(&expected) {
            return Err(format!("`{name}` is {:?}, it should be {:?} of what it was", now.size(), expected.size()));
        }
    }
    Ok(())
}

/// Prunes `units` and takes it back; the reason when refused. `Err` is a bug.
fn prune(net: &Net, model: &Model, units: &[UnitId], deeper: bool) -> Result<Option<(Reason, bool)>, String> {
    let x = &net.input;
    // The plan is verified on one input, and must hold on any.
    let other = Tensor::randn([2, 3, 8, 10], (Kind::Float, Device::Cpu)) * 1.5;
    let graph = Traced::new(model, x).map_err(|e| e.to_string())?;
    let before = bytes(net, model);
    let outputs = [x, &other].map(|x| model.forward(x).unwrap());
    let untouched = || {
        if !same(&before, &bytes(net, model)) {
            return Err("not every byte is back".to_string());
        }
        let now = [x, &other].map(|x| model.forward(x).unwrap());
        if now == outputs { Ok(()) } else { Err("the bytes are back, the output is not".to_string()) }
    };
    let plan = match PrunePlan::new(&graph, units) {
        Ok(plan) => plan,
        Err(Error::Refused { kind, .. }) => return untouched().map(|()| Some((kind, false))),
        Err(other) => return Err(format!("planning: {other}")),
    };
    let missing = units.iter().find(|u| !plan.coupled.contains(u));
    if let Some(missing) = missing {
        return Err(format!("{missing} is not in the plan"));
    }
    let masks = PrunePlan::masks(&graph, units).map_err(|e| format!("masks: {e}"))?;
    let masked = [x, &other].map(|x| graph.read_masked(&[], &masks, x, |_, _| Ok(())));
    let by_hand = [x, &other].map(|x| zeroed_by_hand(model, &plan.slices, x));
    untouched()?;
    let pruned = match plan.apply(&graph, x, NoOptimizer) {
        Ok(pruned) => pruned,
        // A plan that relies on nothing in the model's code and computes something else is a wrong plan.
        Err(Error::RolledBack { kind: Reason::Silent, reason }) if plan.relies_on.is_empty() => {
            return Err(format!("{reason}\n{plan}"));
        }
        Err(Error::Refused { kind, .. } | Error::RolledBack { kind, .. }) => {
            return untouched().map(|()| Some((kind, true)));
        }
        Err(other) => return Err(format!("applying: {other}")),
    };
    let judge = || {
        for (i, input) in [x, &other].into_iter().enumerate() {
            let output = model.forward(input).map_err(|e| format!("the pruned model on input {i}: {e}"))?;
            let masked = masked[i].as_ref().map_err(|e| format!("masking: {e}"))?;
            close(&output, masked).map_err(|e| format!("input {i}: pruned, not as masked: {e}"))?;
            close(&output, &by_hand[i]).map_err(|e| format!("input {i}: pruned, not as zeroed by hand: {e}"))?;
        }
        shapes_follow(model, &before, &plan.slices)?;
        let again = Traced::new(model, x).map_err(|e| format!("tracing the pruned model: {e}"))?;
        let (expected, recount) = (Cost::of(&graph), Cost::of(&again));
        if plan.before != expected || plan.after != recount {
            return Err(format!("{:?} to {:?}; counted {expected:?} to {recount:?}", plan.before, plan.after));
        }
        if plan.after.parameters >= plan.before.parameters || plan.after.flops > plan.before.flops {
            return Err(format!("{} became {}", plan.before, plan.after));
        }
        if deeper {
            // What is left is a model like any other.
            let of_layers: Vec<_> = again.sites().iter().filter(|s| s.kind == SiteKind::Layer).collect();
            let site = of_layers[of_layers.len() / 2];
            prune(net, model, &[UnitId::new(&site.name, site.units - 1)], false)
                .map_err(|e| format!("pruned once more at {}/{}: {e}", site.name, site.units - 1))?;
        }
        Ok(())
    };
    judge().map_err(|e| format!("{e}\n{plan}"))?;
    pruned.undo().map_err(|e| e.to_string())?;
    untouched().map(|()| None)
}

/// Zeroes `units` and takes it back; the reason when refused. `Err` is a bug.
fn zero(net: &Net, model: &Model, units: &[UnitId]) -> Result<Option<(Reason, bool)>, String> {
    let x = &net.input;
    let graph = Traced::new(model, x).map_err(|e| e.to_string())?;
    let (before, output) = (bytes(net, model), model.forward(x).unwrap());
    let untouched = || {
        let back = same(&before, &bytes(net, model)) && model.forward(x).unwrap() == output;
        if back { Ok(()) } else { Err("not everything is back".to_string()) }
    };
    let plan = match ZeroPlan::zero(&graph, units) {
        Ok(plan) => plan,
        Err(Error::Refused { kind, .. }) => return untouched().map(|()| Some((kind, false))),
        Err(other) => return Err(format!("planning: {other}")),
    };
    let masked = graph.read_masked(&[], plan.masks(), x, |_, _| Ok(()));
    match plan.apply(&graph, x) {
        Ok(applied) => {
            let now = model.forward(x).map_err(|e| e.to_string())?;
            let masked = masked.map_err(|e| format!("masking: {e}"))?;
            close(&now, &masked).map_err(|e| format!("zeroed, not as masked: {e}\n{plan}"))?;
            applied.undo().map_err(|e| e.to_string())?;
            untouched().map(|()| None)
        }
        // Whatever makes a plan wrong is known before it is applied.
        Err(error) => untouched().and_then(|()| Err(format!("applying: {error}\n{plan}"))),
    }
}

/// One to three units, of one site or of several.
fn some_units(graph: &Traced<'_>, rng: &mut fastrand::Rng, kinds: &[SiteKind], several: bool) -> Vec<UnitId> {
    let sites: Vec<_> = graph.sites().iter().filter(|s| kinds.contains(&s.kind)).collect();
    let mut chosen = BTreeSet::new();
    for _ in 0..if several { 2 } else { 1 } {
        // The classifier's units are the output: refused, and soon known.
        let again = |s: &&tch_audit::graph::Site| s.name.starts_with("head.fc") || s.name.starts_with("head.map");
        let mut any = || sites[rng.usize(..sites.len())];
        let site = Some(any()).filter(|s| !again(s)).unwrap_or_else(any);
        let count = if several { 1 } else { rng.usize(1..4) };
        chosen.extend((0..count).map(|_| UnitId::new(&site.name, rng.usize(..site.units))));
    }
    chosen.into_iter().collect()
}

fn recipes(patterns: std::ops::Range<usize>, heads: std::ops::Range<usize>) -> impl Strategy<Value = Recipe> {
    let blocks = proptest::collection::vec((patterns, any::<u64>()), 1..4);
    (blocks, heads, any::<u64>()).prop_map(|(blocks, head, seed): (Vec<Block>, _, _)| Recipe { blocks, head, seed })
}

/// A fixed number of networks, the same in every run.
fn for_random_networks(
    cases: u32,
    recipes: impl Strategy<Value = Recipe>,
    test: impl Fn(&Recipe, &Net) -> Result<(), String>,
) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let last = RefCell::new(String::new());
    let run = |recipe: Recipe| -> TestCaseResult {
        let net = build(&recipe);
        test(&recipe, &net).map_err(|why| {
            *last.borrow_mut() = format!("{net:?}\n{why}");
            TestCaseError::fail(why)
        })
    };
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(&recipes, run) {
        match error {
            TestError::Fail(_, recipe) => panic!("{recipe:?}\n{}", last.borrow()),
            TestError::Abort(why) => panic!("{why}"),
        }
    }
}

const ALL_KINDS: &[SiteKind] = &[SiteKind::Layer, SiteKind::Raw, SiteKind::Scope, SiteKind::Heads];

#[test]
fn random_networks_are_pruned_exactly_or_refused_untouched() {
    let counts = RefCell::new(Counts::default());
    for_random_networks(120, recipes(0..PATTERNS.len(), 0..HEADS), |recipe, net| {
        let model = Model::new(&net.vs, net);
        let graph = Traced::new(&model, &net.input).map_err(|e| e.to_string())?;
        let mut rng = fastrand::Rng::with_seed(recipe.seed ^ 1);
        for request in 0..8 {
            let units = some_units(&graph, &mut rng, ALL_KINDS, request % 4 == 3);
            let done = prune(net, &model, &units, request % 4 == 0).map_err(|e| format!("prune {units:?}: {e}"))?;
            let mut counts = counts.borrow_mut();
            match done {
                None => *counts.exact.entry("pruned").or_default() += 1,
                Some((reason, late)) => *counts.refused.entry((reason.name(), late)).or_default() += 1,
            }
        }
        Ok(())
    });
    let counts = counts.into_inner();
    eprintln!("{counts:?}");
    assert!(counts.exact() > 500 && counts.refused() > 200, "{counts:?}");
}

#[test]
fn random_networks_are_zeroed_exactly_or_refused_untouched() {
    let counts = RefCell::new(Counts::default());
    for_random_networks(120, recipes(0..PATTERNS.len(), 0..HEADS), |recipe, net| {
        let model = Model::new(&net.vs, net);
        let graph = Traced::new(&model, &net.input).map_err(|e| e.to_string())?;
        let mut rng = fastrand::Rng::with_seed(recipe.seed ^ 2);
        for request in 0..8 {
            let units = some_units(&graph, &mut rng, ALL_KINDS, request % 4 == 3);
            let done = zero(net, &model, &units).map_err(|e| format!("zero {units:?}: {e}"))?;
            let mut counts = counts.borrow_mut();
            match done {
                None => *counts.exact.entry("zeroed").or_default() += 1,
                Some((reason, late)) => *counts.refused.entry((reason.name(), late)).or_default() += 1,
            }
        }
        Ok(())
    });
    let counts = counts.into_inner();
    eprintln!("{counts:?}");
    assert!(counts.exact() > 600 && counts.refused() > 60, "{counts:?}");
}

#[test]
fn hidden_layers_of_chains_residuals_concatenations_and_flattened_maps_are_never_refused() {
    for_random_networks(30, recipes(0..PLAIN, 0..HEADS), |recipe, net| {
        let model = Model::new(&net.vs, net);
        let graph = Traced::new(&model, &net.input).map_err(|e| e.to_string())?;
        let mut rng = fastrand::Rng::with_seed(recipe.seed ^ 3);
        let hidden = graph.select(&["auto"]).map_err(|e| e.to_string())?;
        for site in hidden {
            let units: BTreeSet<usize> = (0..rng.usize(1..4)).map(|_| rng.usize(..site.units)).collect();
            let units: Vec<UnitId> = units.into_iter().map(|u| UnitId::new(&site.name, u)).collect();
            if let Some(refused) = prune(net, &model, &units, false).map_err(|e| format!("prune {units:?}: {e}"))? {
                return Err(format!("{units:?} is refused: {refused:?}"));
            }
        }
        Ok(())
    });
}
