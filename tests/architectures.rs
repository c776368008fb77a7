//! Networks of `tch::vision`: random units pruned exactly, or refused; hidden convolutions of plain networks never refused.

#[path = "../examples/common/networks.rs"]
mod networks;

use networks::{Built, randomise};
use tch::{Device, Kind, Tensor};
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan, ZeroPlan};
use tch_audit::{Error, Model, UnitId};

/// What pruning `pairs` random units of a network gave: how many were exact, and why the others were refused.
fn prune(name: &str, pairs: usize) -> (usize, Vec<Reason>) {
    let (_, build, size) = networks::ALL.iter().find(|(n, ..)| *n == name).unwrap();
    let Built { vs, net } = build();
    randomise(&vs);
    let model = Model::new(&vs, net.as_ref());
    // Small images where the network takes them: where the last pooling is global.
    let global = ["resnet", "squeezenet", "mobilenet", "efficientnet"].iter().any(|n| name.starts_with(n));
    let size = if global { 96 } else { *size };
    tch::manual_seed(5);
    let x = Tensor::randn([1, 3, size, size], (Kind::Float, Device::Cpu));
    let graph = Traced::new(&model, &x).unwrap();
    let layers = graph.select(&["auto"]).unwrap();
    let before: Vec<Tensor> = model.parameters().iter().map(|(_, t)| t.detach().copy()).collect();
    let output = model.forward(&x).unwrap();
    let mut rng = fastrand::Rng::with_seed(9);
    let (mut exact, mut refused) = (0, Vec::new());
    for _ in 0..pairs {
        let site = &layers[rng.usize(..layers.len())];
        let units = [UnitId::new(&site.name, rng.usize(..site.units))];
        match PrunePlan::new(&graph, &units).and_then(|plan| plan.apply(&graph, &x, NoOptimizer)) {
            Ok(pruned) => {
                let small = model.forward(&x).unwrap();
                pruned.undo().unwrap();
                let masks = PrunePlan::masks(&graph, &units).unwrap();
                let masked = graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap();
                let (by, scale) = ((small - &masked).abs().max(), masked.abs().max());
                assert!(by.double_value(&[]) <= 1e-4 * scale.double_value(&[]), "{name} {}: {by:?}", units[0]);
                exact += 1;
            }
            Err(Error::Refused { kind, .. } | Error::RolledBack { kind, .. }) => refused.push(kind),
            Err(other) => panic!("{name} {}: {other}", units[0]),
        }
        match ZeroPlan::zero(&graph, &units).and_then(|plan| plan.apply(&graph, &x)) {
            Ok(zeroed) => zeroed.undo().unwrap(),
            Err(Error::Refused { .. }) => {}
            Err(other) => panic!("{name} {}: {other}", units[0]),
        }
    }
    let same = before.iter().zip(model.parameters()).all(|(a, (_, b))| a.equal(b));
    assert!(same && model.forward(&x).unwrap() == output, "{name}: every byte is back");
    (exact, refused)
}

#[test]
fn hidden_convolutions_of_plain_networks_are_pruned_exactly() {
    for name in ["resnet18", "resnet50", "densenet121", "squeezenet1_1", "inception_v3"] {
        assert_eq!(prune(name, 5), (5, Vec::new()), "{name}");
    }
}

#[test]
fn what_flows_through_depthwise_convolutions_is_refused() {
    for name in ["mobilenet_v2", "efficientnet_b0"] {
        let (exact, refused) = prune(name, 8);
        assert!(exact > 0, "{name}: squeeze-and-excitation and projections can go");
        assert!(refused.iter().all(|r| *r == Reason::GroupedConvolution) && !refused.is_empty(), "{name}: {refused:?}");
    }
}

#[test]
fn transformers_lose_hidden_units_and_keep_their_width() {
    let (exact, refused) = prune("dinov2_vit_small", 8);
    assert!(exact > 0);
    assert!(refused.iter().all(|r| matches!(r, Reason::NormOverChannels | Reason::Layout)), "{refused:?}");
    let (_, build, _) = networks::ALL.iter().find(|(n, ..)| *n == "dinov2_vit_small").unwrap();
    let Built { vs, net } = build();
    randomise(&vs);
    let model = Model::new(&vs, net.as_ref());
    let x = Tensor::randn([1, 3, 224, 224], (Kind::Float, Device::Cpu));
    let graph = Traced::new(&model, &x).unwrap();
    for layer in ["blocks.0.mlp.fc1", "blocks.11.mlp.fc1"] {
        let plan = PrunePlan::new(&graph, &[UnitId::new(layer, 100), UnitId::new(layer, 7)]).unwrap();
        plan.apply(&graph, &x, NoOptimizer).unwrap().undo().unwrap();
    }
    // Heads can be masked and zeroed; how many there are stands in the code.
    let head = [UnitId::new("blocks.3.attn@heads", 2)];
    assert_eq!(graph.site("blocks.3.attn@heads").unwrap().units, 6);
    ZeroPlan::zero(&graph, &head).unwrap().apply(&graph, &x).unwrap().undo().unwrap();
    let error = PrunePlan::new(&graph, &head).and_then(|plan| plan.apply(&graph, &x, NoOptimizer)).unwrap_err();
    assert!(matches!(error, Error::RolledBack { kind: Reason::Code | Reason::Silent, .. }), "{error}");
}
