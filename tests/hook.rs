//! The hook: what is seen of a forward pass, and what happens when something goes wrong in it.

#[path = "hook/coverage.rs"]
mod coverage;

use tch::nn::{self, Module, ModuleT};
use tch::{CModule, Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::{Error, Model, hook};

mod common;
use common::{data, golden};

fn names(forward: impl FnOnce()) -> Vec<String> {
    let mut names = Vec::new();
    hook::observe(
        &[],
        |_| (),
        |e| {
            names.push(e.name().to_string());
            Ok(())
        },
        forward,
    )
    .unwrap();
    names
}

#[test]
fn every_operator_of_a_resnet18_is_seen_with_its_parameters() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18(&vs.root(), 10);
    let model = Model::new(&vs, &net);
    let x = Tensor::rand([1, 3, 64, 64], (Kind::Float, Device::Cpu));
    let named: Vec<Tensor> = model.parameters().iter().map(|(_, t)| t.shallow_clone()).collect();
    let (mut known, mut seen, mut ops) = (Vec::new(), std::collections::BTreeSet::new(), 0);
    let numbers = std::cell::RefCell::new(Vec::new());
    let _ = hook::observe(
        &named,
        |n| numbers.borrow_mut().extend_from_slice(n),
        |e| {
            ops += 1;
            known = numbers.borrow().clone();
            seen.extend(e.input_numbers().into_iter().filter(|n| known.contains(n)));
            Ok(())
        },
        || tch::no_grad(|| net.forward_t(&x, false)),
    )
    .unwrap();
    assert_eq!(ops, 69);
    assert_eq!(seen.len(), named.len(), "every parameter and running statistic is read by some operator");
}

#[test]
fn only_outermost_operators_are_reported() {
    let x = Tensor::rand([1, 3, 8, 8], (Kind::Float, Device::Cpu));
    let w = Tensor::rand([4, 3, 3, 3], (Kind::Float, Device::Cpu));
    assert_eq!(names(|| drop(x.conv2d(&w, None::<&Tensor>, [1, 1], [1, 1], [1, 1], 1))), ["aten::conv2d"]);
}

#[test]
fn what_autograd_does_is_not_reported() {
    let w = Tensor::rand([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let loss = (&w * &w).sum(Kind::Float);
    // The seed of the backward pass is made before autograd takes over.
    assert_eq!(names(|| loss.backward()), ["aten::ones_like"]);
    assert!(w.grad().defined());
}

#[test]
fn in_place_operators_keep_the_number_and_views_share_the_storage() {
    let x = Tensor::rand([2, 3], (Kind::Float, Device::Cpu));
    let mut numbers = Vec::new();
    hook::observe(
        std::slice::from_ref(&x),
        |_| (),
        |e| {
            let outputs = e.outputs();
            let seen = &outputs[0].tensors()[0];
            numbers.push((e.name().to_string(), seen.number, seen.storage));
            Ok(())
        },
        || {
            let mut x = x.shallow_clone();
            let _ = x.relu_();
            let _ = x.view([6]);
        },
    )
    .unwrap();
    assert_eq!((numbers[0].0.as_str(), numbers[0].1), ("aten::relu_", 0));
    assert_ne!(numbers[1].1, 0);
    assert_eq!(numbers[0].2, numbers[1].2);
}

#[test]
fn a_number_is_never_reused_for_a_new_tensor_at_an_old_address() {
    let mut numbers = Vec::new();
    let x = Tensor::rand([16], (Kind::Float, Device::Cpu));
    hook::observe(
        &[],
        |_| (),
        |e| {
            numbers.extend(e.output_numbers());
            Ok(())
        },
        || (0..50).for_each(|_| drop(&x + 1.0)),
    )
    .unwrap();
    let distinct: std::collections::BTreeSet<_> = numbers.iter().collect();
    assert_eq!(distinct.len(), 50);
}

#[test]
fn the_observers_own_tensor_work_is_not_observed() {
    let x = Tensor::rand([4], (Kind::Float, Device::Cpu));
    let mut calls = 0;
    hook::observe(
        &[],
        |_| (),
        |e| {
            calls += 1;
            drop(e.output().unwrap().relu());
            Ok(())
        },
        || drop(x.exp()),
    )
    .unwrap();
    assert_eq!(calls, 1);
}

#[test]
fn an_observer_that_panics_is_stopped_and_the_pass_runs_to_its_end() {
    let x = Tensor::rand([4], (Kind::Float, Device::Cpu));
    let (mut calls, mut ended) = (0, false);
    let result = hook::observe(
        &[],
        |_| (),
        |_| {
            calls += 1;
            panic!("seven")
        },
        || {
            drop(x.exp().relu().sin());
            ended = true
        },
    );
    assert!(matches!(result, Err(Error::ObserverPanicked { message }) if message == "seven"));
    assert_eq!((calls, ended), (1, true));
    assert_eq!(names(|| drop(x.exp())), ["aten::exp"], "the next observation works");
}

#[test]
fn an_observers_error_is_returned_after_the_pass() {
    let x = Tensor::rand([4], (Kind::Float, Device::Cpu));
    let result = hook::observe(&[], |_| (), |_| Err(Error::NestedObservation), || drop(x.exp().relu()));
    assert!(matches!(result, Err(Error::NestedObservation)));
}

#[test]
fn observations_do_not_nest() {
    let x = Tensor::rand([4], (Kind::Float, Device::Cpu));
    let inner = hook::observe(&[], |_| (), |_| Ok(()), || hook::observe(&[], |_| (), |_| Ok(()), || drop(x.exp())));
    assert!(matches!(inner, Ok(Err(Error::NestedObservation))));
    assert_eq!(names(|| drop(x.exp())), ["aten::exp"]);
}

#[test]
fn an_operator_that_throws_has_no_outputs_and_ends_cleanly() {
    let a = Tensor::rand([2, 3], (Kind::Float, Device::Cpu));
    let mut outputs = Vec::new();
    let failed = hook::observe(
        &[],
        |_| (),
        |e| {
            outputs.push(e.outputs().len());
            Ok(())
        },
        || {
            let failed = a.f_matmul(&a).is_err();
            drop(a.exp());
            failed
        },
    )
    .unwrap();
    assert!(failed);
    assert_eq!(outputs, [0, 1]);
}

#[test]
fn other_threads_are_not_observed() {
    let seen = names(|| {
        std::thread::spawn(|| drop(Tensor::rand([4], (Kind::Float, Device::Cpu)).exp())).join().unwrap();
    });
    assert!(seen.is_empty());
}

#[test]
fn a_forward_pass_that_panics_is_an_error_of_one_line() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::linear(vs.root() / "fc", 8, 2, Default::default());
    let model = Model::new(&vs, &net);
    let error = model.forward(&Tensor::zeros([1, 7], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
    assert!(error.contains("[1, 7]") && error.contains("cannot be multiplied"), "{error}");
    assert!(!error.contains("frame #") && !error.contains('\n'), "{error}");
    assert!(Traced::new(&model, &Tensor::zeros([1, 7], (Kind::Float, Device::Cpu))).is_err());
    assert!(Traced::new(&model, &Tensor::zeros([1, 8], (Kind::Float, Device::Cpu))).is_ok());
}

#[test]
fn gradients_are_as_they_were_after_a_pass_that_failed() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::func_t(|_, _| panic!("no"));
    assert!(Model::new(&vs, &net).forward(&Tensor::zeros([1], (Kind::Float, Device::Cpu))).is_err());
    let w = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    assert!((&w * 2.0).requires_grad());
}

#[test]
fn random_numbers_go_on_as_if_nothing_had_run() {
    tch::manual_seed(3);
    let expected = Vec::<f32>::try_from(Tensor::rand([4], (Kind::Float, Device::Cpu))).unwrap();
    tch::manual_seed(3);
    hook::with_rng_restored(Device::Cpu, || drop(Tensor::rand([100], (Kind::Float, Device::Cpu)))).unwrap();
    assert_eq!(Vec::<f32>::try_from(Tensor::rand([4], (Kind::Float, Device::Cpu))).unwrap(), expected);
}

#[test]
fn two_models_that_share_a_parameter_each_see_it_under_their_own_name() {
    let shared = nn::VarStore::new(Device::Cpu);
    let w = shared.root().sub("w").var("weight", &[4, 4], nn::init::DEFAULT_KAIMING_UNIFORM);
    let mut other = nn::VarStore::new(Device::Cpu);
    let first = {
        let w = w.shallow_clone();
        nn::func(move |x| x.linear(&w, None::<&Tensor>).relu())
    };
    let b = other.root().sub("out").var("bias", &[4], nn::Init::Const(0.1));
    other.variables_.lock().unwrap().named_variables.insert("trunk.weight".into(), w.shallow_clone());
    let second = nn::func(move |x: &Tensor| x.linear(&w, Some(&b)).tanh());
    let x = Tensor::rand([2, 4], (Kind::Float, Device::Cpu));
    let (one, two) = (Model::new(&shared, &first), Model::new(&other, &second));
    let site = |m: &Model| Traced::new(m, &x).unwrap().sites()[0].name.clone();
    assert_eq!((site(&one).as_str(), site(&two).as_str()), ("w", "trunk"));
    other.freeze();
}

/// Every golden network, scripted and traced: its sites are found again in five passes, with gradients in between.
#[test]
fn sites_are_found_again_in_five_passes_with_gradients_in_between() {
    let Some(root) = golden("pruning") else { return };
    let mut checked = 0;
    for network in std::fs::read_dir(root).unwrap().flatten().filter(|e| e.path().is_dir()) {
        for file in ["scripted.pt", "traced.pt"] {
            let path = network.path().join(file);
            let io = Tensor::read_safetensors(network.path().join("io.safetensors")).unwrap();
            let input = &io.iter().find(|(n, _)| n == "input").unwrap().1;
            let module = CModule::load(&path).unwrap();
            let model = Model::script(&module).unwrap();
            let graph = Traced::new(&model, input).unwrap();
            assert!(!graph.sites().is_empty(), "{path:?}");
            let mut first: Option<Vec<Vec<u8>>> = None;
            for pass in 0..5 {
                if pass == 2 {
                    // With gradients, which makes the JIT rewrite the module.
                    let _ = module.forward_is(&[tch::IValue::Tensor(input.shallow_clone())]).unwrap();
                }
                let mut read = vec![Vec::new(); graph.sites().len()];
                let output = graph.read(graph.sites(), input, |i, a| {
                    let flat: Vec<f32> = a.contiguous().view([-1]).try_into().unwrap();
                    read[i] = flat.iter().flat_map(|x| x.to_le_bytes()).collect();
                    Ok(())
                });
                if pass >= 2 && matches!(output, Err(Error::SiteNotSeen { .. })) {
                    eprintln!("{path:?}: rewritten by the JIT, and said so");
                    break;
                }
                let _ = output.unwrap_or_else(|e| panic!("{path:?} pass {pass}: {e}"));
                match &first {
                    None => first = Some(read),
                    Some(first) => assert!(*first == read, "{path:?} pass {pass}: a site has another value"),
                }
            }
            checked += 1;
        }
    }
    assert!(checked >= 68, "{checked}");
}

#[test]
fn a_site_that_other_inputs_pass_by_is_not_blamed_on_gradients() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/branches/paths.pt");
    let model = Model::load(file).unwrap();
    let traced = Traced::new(&model, &Tensor::zeros([1, 3, 16, 16], (Kind::Float, Device::Cpu))).unwrap();
    let down = traced.site("down").unwrap().clone();
    let small = Tensor::zeros([1, 3, 4, 4], (Kind::Float, Device::Cpu));
    let error = traced.read(&[down], &small, |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.contains("`down`") && error.contains("depends on the size of the input"), "{error}");
    assert!(!error.contains("gradients"), "{error}");
}

#[test]
fn layers_scopes_and_raw_sites_of_torchscript_modules_are_named_as_in_python() {
    let Some(models) = data("models") else { return };
    for file in ["resnet20_cifar10.pt", "resnet20_cifar10_traced.pt"] {
        let model = Model::load(models.join(file)).unwrap();
        let graph = Traced::new(&model, &Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu))).unwrap();
        let layer3 = graph.site("layer3").unwrap();
        assert_eq!((layer3.units, layer3.size), (64, (8, 8)), "{file}");
        assert_eq!(graph.site("layer2.1").unwrap().size, (16, 16));
        assert_eq!(graph.site("layer2.0.conv1@raw").unwrap().units, 32);
        assert_eq!(graph.select(&["auto"]).unwrap().len(), 19, "all 19 convolutions, not the classifier");
        let error = graph.site("layer3.0.cov1").unwrap_err().to_string();
        assert!(error.contains("layer3.0.conv1"), "{error}");
    }
}

#[test]
fn a_layer_used_twice_has_a_site_for_each_use() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = nn::linear(vs.root() / "fc", 4, 4, Default::default());
    let net = nn::func(move |x| fc.forward(&fc.forward(x).relu()).tanh());
    let model = Model::new(&vs, &net);
    let x = Tensor::rand([3, 4], (Kind::Float, Device::Cpu));
    let graph = Traced::new(&model, &x).unwrap();
    let names: Vec<&str> = graph.sites().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["fc#1", "fc#1@raw", "fc#2", "fc#2@raw"]);
    let error = graph.site("fc").unwrap_err().to_string();
    assert!(error.contains("used 2 times") && error.contains("fc#1, fc#2"), "{error}");
    let mut maxima = Vec::new();
    let y = graph
        .read(&graph.select(&["fc#1", "fc#2"]).unwrap(), &x, |_, a| {
            maxima.push(a.copy());
            Ok(())
        })
        .unwrap();
    assert_eq!(maxima[1], y);
    assert_ne!(maxima[0], maxima[1]);
}

#[test]
fn a_masked_unit_is_zero_for_every_later_operator_and_the_model_is_untouched() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18_no_final_layer(&vs.root());
    let model = Model::new(&vs, &net);
    let x = Tensor::rand([2, 3, 64, 64], (Kind::Float, Device::Cpu));
    let before = model.forward(&x).unwrap();
    let graph = Traced::new(&model, &x).unwrap();
    let site = graph.site("layer4").unwrap().clone();
    assert_eq!(site.units, 512);
    let masks = [tch_audit::graph::Mask { site, units: vec![3, 500] }];
    let masked = graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap();
    let masked = masked.view([2, 512]);
    assert_eq!(masked.select(1, 3).abs().max().double_value(&[]), 0.0);
    assert_eq!(masked.select(1, 4), before.view([2, 512]).select(1, 4));
    assert_eq!(net.forward_t(&x, false), before);
}
