//! Zeroing: exact or refused, reversible, and lasting.

mod common;

use common::{data, golden};
use std::collections::BTreeMap;
use tch::nn::{self, Module, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::edit::ZeroPlan;
use tch_audit::{Error, Model, UnitId};

fn noise(shape: &[i64]) -> Tensor {
    tch::manual_seed(5);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn bytes(model: &Model) -> Vec<(String, Tensor)> {
    model.parameters().iter().map(|(n, t)| (n.clone(), t.detach().copy())).collect()
}

fn same(a: &[(String, Tensor)], b: &[(String, Tensor)]) -> bool {
    a.iter().zip(b).all(|((_, x), (_, y))| x == y)
}

/// The first, a middle and the last unit of every site of every golden network: zeroed exactly, or refused with the model untouched.
#[test]
fn zeroing_equals_masking_the_whole_group_on_every_golden_network_or_is_refused() {
    let Some(root) = golden("pruning") else { return };
    let (mut exact, mut refused) = (0, BTreeMap::<String, usize>::new());
    let mut folders: Vec<_> =
        std::fs::read_dir(root).unwrap().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    for folder in folders {
        for file in ["scripted.pt", "traced.pt"] {
            let io = Tensor::read_safetensors(folder.join("io.safetensors")).unwrap();
            let input = &io.iter().find(|(n, _)| n == "input").unwrap().1;
            let model = Model::load(folder.join(file)).unwrap();
            let graph = Traced::new(&model, input).unwrap();
            let (before, output) = (bytes(&model), model.forward(input).unwrap());
            for site in graph.sites() {
                for unit in std::collections::BTreeSet::from([0, site.units / 2, site.units - 1]) {
                    let id = UnitId::new(&site.name, unit);
                    match ZeroPlan::zero(&graph, std::slice::from_ref(&id)) {
                        Ok(plan) => {
                            assert!(plan.coupled.contains(&id));
                            let applied = plan
                                .apply(&graph, input)
                                .unwrap_or_else(|e| panic!("{} {file} {id}: {e}", folder.display()));
                            applied.undo().unwrap();
                            exact += 1;
                        }
                        Err(Error::Refused { reason, .. }) => *refused.entry(reason).or_default() += 1,
                        Err(other) => panic!("{} {file} {id}: {other}", folder.display()),
                    }
                }
            }
            assert!(same(&before, &bytes(&model)), "{folder:?}: the parameters are back, to the bit");
            assert_eq!(model.forward(input).unwrap(), output);
        }
    }
    eprintln!("{exact} units zeroed exactly; refused: {refused:#?}");
    assert!(exact > 600, "{exact}");
}

#[test]
fn a_residual_stream_is_zeroed_as_a_group_and_the_plan_lists_it() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18(&vs.root(), 10);
    randomise_statistics(&vs);
    let model = Model::new(&vs, &net);
    let x = noise(&[2, 3, 64, 64]);
    let graph = Traced::new(&model, &x).unwrap();
    let plan = ZeroPlan::zero(&graph, &[UnitId::new("layer3", 7)]).unwrap();
    let sites: Vec<&str> = plan.coupled.iter().map(|u| u.site.as_str()).filter(|s| !s.contains("@raw")).collect();
    assert_eq!(
        sites,
        [
            "layer3",
            "layer3.0",
            "layer3.0.conv2",
            "layer3.0.downsample",
            "layer3.0.downsample.0",
            "layer3.1",
            "layer3.1.conv2"
        ]
    );
    let before = model.forward(&x).unwrap();
    let applied = plan.apply(&graph, &x).unwrap();
    assert_ne!(model.forward(&x).unwrap(), before);
    let mut silent = Vec::new();
    let _ = graph
        .read(&graph.select(&["layer3", "layer3.0"]).unwrap(), &x, |_, a| {
            silent.push(a.select(1, 7).abs().max().double_value(&[]));
            Ok(())
        })
        .unwrap();
    assert_eq!(silent, [0.0, 0.0]);
    applied.undo().unwrap();
    assert_eq!(model.forward(&x).unwrap(), before);
}

/// Fresh batch norms have weight 1 and bias 0, which hides mistakes.
fn randomise_statistics(vs: &nn::VarStore) {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::manual_seed(11);
    tch::no_grad(|| {
        for (name, mut t) in variables {
            if t.dim() == 1 {
                let _ = if name.ends_with("var") { t.uniform_(0.5, 1.5) } else { t.normal_(0.2, 0.5) };
            }
        }
    });
}

#[test]
fn a_sigmoid_unit_is_zeroed_by_those_that_read_it() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (a, b) =
        (nn::linear(vs.root() / "a", 6, 8, Default::default()), nn::linear(vs.root() / "b", 8, 3, Default::default()));
    let net = nn::func(move |x| b.forward(&a.forward(x).sigmoid()));
    let model = Model::new(&vs, &net);
    let x = noise(&[4, 6]);
    let graph = Traced::new(&model, &x).unwrap();
    let plan = ZeroPlan::zero(&graph, &[UnitId::new("a", 2)]).unwrap();
    assert_eq!((plan.slices[0].parameter.as_str(), plan.slices[0].dimension), ("b.weight", 1));
    plan.apply(&graph, &x).unwrap().undo().unwrap();
}

#[test]
fn outputs_and_unknown_units_are_refused_by_name() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (a, b) =
        (nn::linear(vs.root() / "a", 6, 8, Default::default()), nn::linear(vs.root() / "b", 8, 3, Default::default()));
    let net = nn::func(move |x| b.forward(&a.forward(x).relu()));
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &noise(&[4, 6])).unwrap();
    let message = |site: &str, unit| ZeroPlan::zero(&graph, &[UnitId::new(site, unit)]).unwrap_err().to_string();
    assert!(message("b", 0).contains("b/0") && message("b", 0).contains("output of the model"));
    assert!(message("a", 8).contains("received 8, allowed 0 to 7"), "{}", message("a", 8));
    assert!(message("aa", 0).contains("did you mean `a`"), "{}", message("aa", 0));
}

#[test]
fn a_layer_used_twice_loses_the_unit_in_both_uses() {
    let vs = nn::VarStore::new(Device::Cpu);
    let (fc, out) = (
        nn::linear(vs.root() / "fc", 5, 5, Default::default()),
        nn::linear(vs.root() / "out", 5, 2, Default::default()),
    );
    let net = nn::func(move |x| out.forward(&fc.forward(&fc.forward(x).relu()).relu()));
    let model = Model::new(&vs, &net);
    let x = noise(&[4, 5]);
    let graph = Traced::new(&model, &x).unwrap();
    let plan = ZeroPlan::zero(&graph, &[UnitId::new("fc#1", 3)]).unwrap();
    let sites: Vec<&str> = plan.coupled.iter().map(|u| u.site.as_str()).collect();
    assert_eq!(sites, ["fc#1", "fc#1@raw", "fc#2", "fc#2@raw"]);
    plan.apply(&graph, &x).unwrap().undo().unwrap();
}

#[test]
fn zeroed_units_stay_zero_through_further_training() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = vs.root();
    let net = nn::seq_t()
        .add(nn::conv2d(&p / "conv", 3, 8, 3, nn::ConvConfig { bias: false, ..Default::default() }))
        .add(nn::batch_norm2d(&p / "bn", 8, Default::default()))
        .add_fn(|x| x.relu().adaptive_avg_pool2d([1, 1]).flat_view())
        .add(nn::linear(&p / "fc", 8, 4, Default::default()));
    let x = noise(&[16, 3, 12, 12]);
    let y = Tensor::arange(16, (Kind::Int64, Device::Cpu)).remainder(4);
    let mut opt = nn::Sgd { momentum: 0.9, dampening: 0., wd: 1e-2, nesterov: true }.build(&vs, 0.1).unwrap();
    let mut step = || opt.backward_step(&net.forward_t(&x, true).cross_entropy_for_logits(&y));
    (0..5).for_each(|_| step());
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &x).unwrap();
    let applied = ZeroPlan::zero(&graph, &[UnitId::new("conv", 2)]).unwrap().apply(&graph, &x).unwrap();
    for _ in 0..20 {
        step();
        applied.enforce().unwrap();
        let site = graph.select(&["conv"]).unwrap();
        let _ = graph
            .read(&site, &x, |_, a| {
                assert_eq!(a.select(1, 2).abs().max().double_value(&[]), 0.0);
                assert!(a.abs().max().double_value(&[]) > 0.0, "the others live");
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn an_edit_that_does_not_verify_is_rolled_back_to_the_bit() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = nn::linear(vs.root() / "fc", 4, 6, Default::default());
    let out = nn::linear(vs.root() / "out", 6, 2, Default::default());
    // A model that looks at its own weights: no graph shows that.
    let spy = fc.ws.shallow_clone();
    let net = nn::func(move |x| {
        let zeroed = spy.select(0, 1).abs().sum(Kind::Float).double_value(&[]) == 0.0;
        out.forward(&fc.forward(x).relu()) + if zeroed { 1.0 } else { 0.0 }
    });
    let model = Model::new(&vs, &net);
    let x = noise(&[3, 4]);
    let graph = Traced::new(&model, &x).unwrap();
    let before = bytes(&model);
    let error = ZeroPlan::zero(&graph, &[UnitId::new("fc", 1)]).unwrap().apply(&graph, &x).unwrap_err();
    assert!(matches!(error, Error::RolledBack { .. }), "{error}");
    assert!(same(&before, &bytes(&model)));
}

#[test]
fn every_residual_unit_of_a_published_torchscript_network_can_be_zeroed() {
    let Some(models) = data("models") else { return };
    for file in ["resnet20_cifar10.pt", "resnet20_cifar10_traced.pt"] {
        let model = Model::load(models.join(file)).unwrap();
        let x = noise(&[2, 3, 32, 32]);
        let graph = Traced::new(&model, &x).unwrap();
        for (site, unit) in
            [("conv1", 3), ("layer1", 3), ("layer2.0.conv1", 9), ("layer1.2.conv2", 0), ("layer3.2", 60)]
        {
            let plan = ZeroPlan::zero(&graph, &[UnitId::new(site, unit)]);
            let plan = match plan {
                Ok(plan) => plan,
                Err(Error::Refused { reason, .. }) => {
                    eprintln!("{file} {site}/{unit}: {reason}");
                    continue;
                }
                Err(other) => panic!("{other}"),
            };
            plan.apply(&graph, &x).unwrap().undo().unwrap();
        }
        let plan = ZeroPlan::zero(&graph, &[UnitId::new("layer1", 3)]).unwrap();
        let sites: Vec<&str> = plan.coupled.iter().map(|u| u.site.as_str()).filter(|s| !s.contains("@raw")).collect();
        let blocks = [
            "conv1",
            "layer1",
            "layer1.0",
            "layer1.0.conv2",
            "layer1.1",
            "layer1.1.conv2",
            "layer1.2",
            "layer1.2.conv2",
        ];
        assert_eq!(sites, blocks, "{file}");
    }
}

#[test]
fn a_weight_that_is_used_twice_takes_the_biases_of_both_uses_with_it() {
    let vs = nn::VarStore::new(Device::Cpu);
    let weight = vs.root().var("weight", &[4, 4, 3, 3], nn::Init::Randn { mean: 0.0, stdev: 0.3 });
    let first = vs.root().var("first", &[4], nn::Init::Const(0.5));
    let second = vs.root().var("second", &[4], nn::Init::Const(0.5));
    let head = nn::linear(&vs.root() / "head", 4, 3, Default::default());
    let model = Model::from_fn(&vs, |xs| {
        let conv = |x: &Tensor, bias: &Tensor| x.conv2d(&weight, Some(bias), [1, 1], [1, 1], [1, 1], 1).relu();
        let x = conv(&conv(xs, &first), &second);
        head.forward(&x.mean_dim([2_i64, 3].as_slice(), false, Kind::Float))
    });
    let xs = noise(&[2, 4, 6, 6]);
    let traced = Traced::new(&model, &xs).unwrap();
    let site = traced.sites().iter().find(|s| s.name.ends_with("#1")).unwrap().name.clone();
    let plan = ZeroPlan::zero(&traced, &[UnitId::new(&site, 2)]).unwrap();
    let parameters: Vec<&str> = plan.slices.iter().map(|s| s.parameter.as_str()).collect();
    assert!(parameters.contains(&"first") && parameters.contains(&"second"), "{parameters:?}");
    plan.apply(&traced, &xs).unwrap().undo().unwrap();
}
