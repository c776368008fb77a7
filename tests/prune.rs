//! Pruning by hand: in the middle of training, through files, through the journal, and all that must fail cleanly.

mod common;

use common::golden;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use tch::nn::{self, Module, ModuleT, Optimizer, OptimizerConfig, VarStore};
use tch::{CModule, Device, Kind, TchError, Tensor};
use tch_audit::Reason;
use tch_audit::Traced;
use tch_audit::edit::journal::{Journal, Originals};
use tch_audit::edit::{Cost, Edit, Method, NoOptimizer, PrunePlan, Pruned, Slice, ZeroPlan, load_pruned};
use tch_audit::{Error, Model, UnitId};

fn noise(shape: &[i64]) -> Tensor {
    // Without the generator that tests side by side share.
    let n = shape.iter().product::<i64>();
    ((Tensor::arange(n, (Kind::Float, Device::Cpu)) * 12.9898).sin() * 43.7585).frac().reshape(shape)
}

/// The bits of every parameter: NaN is equal to itself.
fn bits(model: &Model) -> Vec<Tensor> {
    let bits = |t: &Tensor| if t.kind() == Kind::Float { t.detach().view_dtype(Kind::Int).copy() } else { t.copy() };
    model.parameters().iter().map(|(_, t)| bits(t)).collect()
}

fn same(before: &[Tensor], model: &Model) -> bool {
    let now = bits(model);
    before.len() == now.len() && before.iter().zip(&now).all(|(a, b)| a.size() == b.size() && a.equal(b))
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && (a - b).abs().max().double_value(&[]) <= 1e-5 * b.abs().max().double_value(&[]).max(1e-3)
}

fn units(site: &str, which: impl IntoIterator<Item = usize>) -> Vec<UnitId> {
    which.into_iter().map(|u| UnitId::new(site, u)).collect()
}

fn kind(error: &Error) -> Option<Reason> {
    match error {
        Error::Refused { kind, .. } | Error::RolledBack { kind, .. } => Some(*kind),
        _ => None,
    }
}

/// Traces, plans and applies.
fn prune(model: &Model, x: &Tensor, units: &[UnitId]) -> Result<Pruned, Error> {
    let graph = Traced::new(model, x)?;
    PrunePlan::new(&graph, units)?.apply(&graph, x, NoOptimizer)
}

/// `fc` (4 to 6), something, `out` (6 to 2).
fn two_layers(vs: &VarStore, between: impl Fn(&Tensor) -> Tensor + Send + 'static) -> impl ModuleT {
    let fc = nn::linear(vs.root() / "fc", 4, 6, Default::default());
    let out = nn::linear(vs.root() / "out", 6, 2, Default::default());
    nn::func(move |x| out.forward(&between(&fc.forward(x))))
}

// In the middle of training.

fn training_goes_on(build: impl Fn(&VarStore) -> Result<Optimizer, TchError>) {
    let vs = VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18(&vs.root(), 10);
    let (x, y) = (noise(&[4, 3, 32, 32]), Tensor::from_slice(&[1i64, 0, 7, 3]));
    let optimizer = RefCell::new(build(&vs).unwrap());
    let loss = || net.forward_t(&x, true).cross_entropy_for_logits(&y);
    for _ in 0..2 {
        optimizer.borrow_mut().backward_step(&loss());
    }
    // Gradients that nobody has used yet, and a loss of the old graph that somebody holds.
    loss().backward();
    let held = loss();

    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &x).unwrap();
    let wanted = [units("layer2.0.conv1", [0, 5, 77]), units("layer3", [8, 200])].concat();
    let plan = PrunePlan::new(&graph, &wanted).unwrap();
    let expected = graph.read_masked(&[], &PrunePlan::masks(&graph, &wanted).unwrap(), &x, |_, _| Ok(()));
    let rebuilt = RefCell::new(0);
    let rebuild = || {
        *rebuilt.borrow_mut() += 1;
        *optimizer.borrow_mut() = build(&vs)?;
        Ok(())
    };
    let pruned = plan.apply(&graph, &x, rebuild).unwrap();
    assert_eq!(*rebuilt.borrow(), 1);
    assert!(close(&model.forward(&x).unwrap(), &expected.unwrap()));
    let shape = |name: &str| model.parameter(name).unwrap().size();
    assert_eq!(shape("layer2.0.conv1.weight"), [125, 64, 3, 3]);
    assert_eq!(shape("layer2.0.bn1.running_var"), [125]);
    assert_eq!(shape("layer2.0.conv2.weight"), [128, 125, 3, 3]);
    assert_eq!(shape("layer3.1.conv2.weight"), [254, 256, 3, 3]);
    assert_eq!(shape("layer4.0.conv1.weight"), [512, 254, 3, 3]);
    for (name, t) in vs.variables() {
        let gradient = t.grad();
        assert!(!gradient.defined() || gradient.size() == t.size(), "{name}: a gradient of the old shape");
        let trainable = !name.contains("running");
        assert_eq!((t.requires_grad(), t.is_leaf()), (trainable, true), "{name}");
    }

    let shapes = || model.parameters().iter().map(|(_, t)| t.size()).collect::<Vec<_>>();
    let (before, start) = (shapes(), loss().double_value(&[]));
    let mut last = f64::NAN;
    for _ in 0..4 {
        let now = loss();
        optimizer.borrow_mut().backward_step(&now);
        last = now.double_value(&[]);
        assert!(last.is_finite());
    }
    assert!(last < start, "{start} became {last}: nothing is learned");
    assert_eq!(shapes(), before);
    // The old graph may fail, but takes nothing with it.
    let _ = held.f_backward();
    drop(pruned);
    for t in vs.trainable_variables() {
        t.grad().defined().then(|| t.grad().zero_());
    }
    optimizer.borrow_mut().backward_step(&loss());
    assert_eq!(shapes(), before);
    assert!(loss().double_value(&[]).is_finite());
}

#[test]
fn a_resnet_pruned_while_it_learns_goes_on_learning_with_momentum() {
    training_goes_on(|vs| nn::Sgd { momentum: 0.9, wd: 1e-4, ..Default::default() }.build(vs, 0.01));
}

#[test]
fn a_resnet_pruned_while_it_learns_goes_on_learning_with_adam() {
    training_goes_on(|vs| nn::Adam::default().build(vs, 1e-3));
}

#[test]
fn an_optimizer_that_cannot_be_rebuilt_takes_the_edit_back() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let graph = Traced::new(&model, &x).unwrap();
    let (before, output) = (bits(&model), model.forward(&x).unwrap());
    let plan = PrunePlan::new(&graph, &units("fc", [1])).unwrap();
    let seen = RefCell::new(Vec::new());
    let fails = || {
        *seen.borrow_mut() = model.parameter("fc.weight").unwrap().size();
        Err(TchError::Torch("no such optimizer".to_string()))
    };
    let error = plan.apply(&graph, &x, fails).unwrap_err();
    assert_eq!(*seen.borrow(), [5, 4], "it is called with the model pruned");
    assert!(error.to_string().contains("no such optimizer"), "{error}");
    assert!(same(&before, &model));
    assert_eq!(model.forward(&x).unwrap(), output);
}

#[test]
fn an_optimizer_closure_that_panics_leaves_every_byte_as_it_was() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let graph = Traced::new(&model, &x).unwrap();
    let before = bits(&model);
    let plan = PrunePlan::new(&graph, &units("fc", [1])).unwrap();
    let panics = || -> Result<(), TchError> { panic!("the learning rate is not a number") };
    let apply = || plan.apply(&graph, &x, panics).map(drop);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply));
    assert!(!matches!(outcome, Ok(Ok(()))));
    assert!(same(&before, &model));
}

#[test]
fn undo_puts_every_tensor_back_into_its_own_memory() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let places = || model.parameters().iter().map(|(_, t)| t.data_ptr()).collect::<Vec<_>>();
    let (before, old, output) = (bits(&model), places(), model.forward(&x).unwrap());
    let pruned = prune(&model, &x, &units("fc", [0, 5])).unwrap();
    let names: Vec<&str> = pruned.originals().map(|(n, _)| n).collect();
    assert_eq!(names, ["fc.bias", "fc.weight", "out.weight"]);
    assert_ne!(places(), old);
    pruned.undo().unwrap();
    assert_eq!(places(), old);
    assert!(same(&before, &model));
    assert_eq!(model.forward(&x).unwrap(), output);
}

#[test]
fn a_model_is_pruned_again_and_again_until_one_channel_is_left() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let first = prune(&model, &x, &units("fc", [3])).unwrap();
    let between = bits(&model);
    // Units are counted anew.
    let second = prune(&model, &x, &units("fc", [0, 4])).unwrap();
    assert_eq!(model.parameter("out.weight").unwrap().size(), [2, 3]);
    second.undo().unwrap();
    assert!(same(&between, &model));
    first.undo().unwrap();
    let _ = prune(&model, &x, &units("fc", 0..5)).unwrap();
    let before = bits(&model);
    let error = prune(&model, &x, &units("fc", [0])).unwrap_err();
    assert_eq!(kind(&error), Some(Reason::Empty), "{error}");
    assert!(same(&before, &model));
}

#[test]
fn a_graph_of_before_the_edit_prunes_nothing_wrong() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let graph = Traced::new(&model, &x).unwrap();
    let stale = PrunePlan::new(&graph, &units("fc", [5])).unwrap();
    let _ = prune(&model, &x, &units("fc", [0])).unwrap();
    let before = bits(&model);
    let error = stale.apply(&graph, &x, NoOptimizer).unwrap_err();
    assert!(matches!(&error, Error::Shape { .. }) && error.to_string().contains("trace it again"), "{error}");
    // Units that are still there are others now.
    let stale = PrunePlan::new(&graph, &units("fc", [2])).unwrap();
    assert!(stale.apply(&graph, &x, NoOptimizer).is_err());
    assert!(same(&before, &model));
}

// What is refused.

#[test]
fn what_cannot_go_is_refused_with_its_reason() {
    let vs = VarStore::new(Device::Cpu);
    let p = vs.root();
    let (conv, after) =
        (nn::conv2d(&p / "conv", 3, 3, 1, Default::default()), nn::conv2d(&p / "after", 3, 4, 1, Default::default()));
    let fc = nn::linear(&p / "fc", 4, 2, Default::default());
    let net = nn::func(move |x| {
        let x = after.forward(&(x + conv.forward(x))).relu();
        fc.forward(&x.adaptive_avg_pool2d([1, 1]).flat_view())
    });
    let (model, x) = (Model::new(&vs, &net), noise(&[2, 3, 5, 5]));
    let before = bits(&model);
    for (site, which, reason) in [
        ("fc", vec![0], Reason::Output),
        ("conv", vec![1], Reason::Input),
        ("after", vec![0, 1, 2, 3], Reason::Empty),
        ("after", vec![], Reason::Request),
    ] {
        let error = prune(&model, &x, &units(site, which)).unwrap_err();
        assert_eq!(kind(&error), Some(reason), "{site}: {error}");
        assert!(matches!(error, Error::Refused { action: "prune", .. }), "{error}");
    }
    let unknown = prune(&model, &x, &units("aftr", [0])).unwrap_err();
    assert!(unknown.to_string().contains("did you mean `after`"), "{unknown}");
    let outside = prune(&model, &x, &units("after", [4])).unwrap_err();
    assert!(outside.to_string().contains("received 4, allowed 0 to 3"), "{outside}");
    assert!(same(&before, &model));
}

#[test]
fn slices_that_are_not_there_are_refused() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, Tensor::relu);
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let graph = Traced::new(&model, &x).unwrap();
    let of = |parameter: &str, dimension, indices: &[i64]| {
        let slice = Slice { parameter: parameter.into(), dimension, indices: indices.to_vec() };
        PrunePlan::of_slices(&graph, &[slice])
    };
    for (dimension, indices) in [(0, vec![]), (0, vec![6]), (0, vec![-1]), (2, vec![0]), (-1, vec![0])] {
        let error = of("fc.weight", dimension, &indices).unwrap_err();
        assert_eq!(kind(&error), Some(Reason::Request), "{dimension} {indices:?}: {error}");
    }
    assert!(of("fc.wait", 0, &[0]).unwrap_err().to_string().contains("did you mean `fc.weight`"));
    assert_eq!(of("fc.bias", 0, &[2]).unwrap().slices, PrunePlan::new(&graph, &units("fc", [2])).unwrap().slices);
}

#[test]
fn operators_without_a_rule_are_refused_by_name() {
    type Between = fn(&Tensor) -> Tensor;
    let all: [(&str, Between); 4] = [
        ("cdist", |x| {
            Tensor::cdist(&x.unsqueeze(-1), &x.unsqueeze(-1), 2.0, None).sum_dim_intlist(
                [2].as_slice(),
                false,
                None::<Kind>,
            )
        }),
        ("cummax", |x| x.cummax(1).0),
        ("logcumsumexp", |x| x.logcumsumexp(1)),
        ("topk", |x| x.topk(6, 1, true, true).0),
    ];
    for (name, between) in all {
        let vs = VarStore::new(Device::Cpu);
        let net = two_layers(&vs, between);
        let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
        let before = bits(&model);
        let error = prune(&model, &x, &units("fc@raw", [2])).unwrap_err();
        assert_eq!(kind(&error), Some(Reason::UnknownOperator), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
        assert!(same(&before, &model));
    }
}

#[test]
fn einsum_over_the_channels_is_exact_or_refused() {
    let vs = VarStore::new(Device::Cpu);
    let weight = vs.root().var("mix", &[6, 6], nn::Init::Uniform { lo: 0.1, up: 1.0 });
    let net = two_layers(&vs, move |x| Tensor::einsum("ni,ij->nj", &[x, &weight], None::<i64>));
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let (before, output) = (bits(&model), model.forward(&x).unwrap());
    let graph = Traced::new(&model, &x).unwrap();
    match prune(&model, &x, &units("fc@raw", [2])) {
        Ok(pruned) => {
            let now = model.forward(&x).unwrap();
            pruned.undo().unwrap();
            let masks = PrunePlan::masks(&graph, &units("fc@raw", [2])).unwrap();
            assert!(close(&now, &graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap()));
        }
        Err(error) => assert!(kind(&error).is_some(), "{error}"),
    }
    assert!(same(&before, &model));
    assert_eq!(model.forward(&x).unwrap(), output);
}

#[test]
fn a_model_that_looks_at_the_shapes_of_its_weights_is_rolled_back() {
    let vs = VarStore::new(Device::Cpu);
    let fc = nn::linear(vs.root() / "fc", 4, 6, Default::default());
    let out = nn::linear(vs.root() / "out", 6, 2, Default::default());
    let spy = fc.ws.shallow_clone();
    let net = nn::func(move |x| out.forward(&fc.forward(x).relu()) + if spy.size()[0] < 6 { 1.0 } else { 0.0 });
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let (before, output) = (bits(&model), model.forward(&x).unwrap());
    let error = prune(&model, &x, &units("fc", [1])).unwrap_err();
    assert!(matches!(error, Error::RolledBack { kind: Reason::Silent, .. }), "{error}");
    assert!(same(&before, &model));
    assert_eq!(model.forward(&x).unwrap(), output);
}

#[test]
fn a_model_that_panics_once_it_is_pruned_is_rolled_back() {
    let vs = VarStore::new(Device::Cpu);
    let net = two_layers(&vs, |x| {
        assert_eq!(x.size()[1], 6, "six features, nothing else");
        x.relu()
    });
    let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
    let (before, output) = (bits(&model), model.forward(&x).unwrap());
    let error = prune(&model, &x, &units("fc", [1])).unwrap_err();
    assert!(matches!(error, Error::RolledBack { kind: Reason::Code, .. }), "{error}");
    assert!(error.to_string().contains("six features"), "{error}");
    assert!(same(&before, &model));
    assert_eq!(model.forward(&x).unwrap(), output);
}

#[test]
fn weights_that_are_not_numbers_are_an_error_unless_they_are_what_leaves() {
    for (row, works) in [(4, false), (1, true)] {
        let vs = VarStore::new(Device::Cpu);
        let net = two_layers(&vs, Tensor::relu);
        let (model, x) = (Model::new(&vs, &net), noise(&[3, 4]));
        let _ = model.parameter("fc.weight").unwrap().detach().get(row).fill_(f64::NAN);
        let before = bits(&model);
        match (works, prune(&model, &x, &units("fc", [1]))) {
            (false, Err(error)) => {
                assert!(matches!(error, Error::RolledBack { kind: Reason::NotFinite, .. }), "{error}");
            }
            (true, Ok(pruned)) => {
                assert!(model.forward(&x).unwrap().isfinite().all().int64_value(&[]) == 1);
                pruned.undo().unwrap();
            }
            (_, other) => panic!("row {row}: {other:?}"),
        }
        assert!(same(&before, &model), "row {row}");
    }
}

#[test]
fn both_halves_of_a_split_layer_are_masked_where_they_are() {
    let vs = VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root() / "conv", 3, 8, 1, Default::default());
    let out = nn::linear(vs.root() / "out", 4, 2, Default::default());
    let net = nn::func(move |x| {
        let halves = conv.forward(x).chunk(2, 1);
        // The second half comes first, and both go on alone.
        let gate = halves[1].sigmoid();
        out.forward(&(halves[0].tanh() * gate).mean_dim([2, 3].as_slice(), false, None::<Kind>))
    });
    let (model, x) = (Model::new(&vs, &net), noise(&[2, 3, 5, 5]));
    let graph = Traced::new(&model, &x).unwrap();
    for unit in [1, 6] {
        let wanted = units("conv", [unit]);
        let masks = PrunePlan::masks(&graph, &wanted).unwrap();
        let masked = graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap();
        let pruned = prune(&model, &x, &wanted).unwrap();
        assert!(close(&model.forward(&x).unwrap(), &masked), "conv/{unit}");
        assert_eq!(model.parameter("conv.weight").unwrap().size(), [6, 3, 1, 1]);
        pruned.undo().unwrap();
    }
}

/// With one example a view of a parameter looks like an activation.
#[test]
fn masks_never_write_to_a_parameter() {
    let vs = VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root() / "conv", 3, 4, 1, Default::default());
    let scale = vs.root().var("scale", &[4], nn::Init::Uniform { lo: 0.5, up: 1.5 });
    let out = nn::linear(vs.root() / "out", 4, 2, Default::default());
    let net = nn::func(move |x| {
        let x = conv.forward(x) * scale.view([1, -1, 1, 1]);
        out.forward(&x.mean_dim([2, 3].as_slice(), false, None::<Kind>))
    });
    let (model, x) = (Model::new(&vs, &net), noise(&[1, 3, 5, 5]));
    let graph = Traced::new(&model, &x).unwrap();
    let (before, wanted) = (bits(&model), units("conv@raw", [2]));
    let masks = PrunePlan::masks(&graph, &wanted).unwrap();
    let masked = graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap();
    assert!(same(&before, &model));
    let pruned = prune(&model, &x, &wanted).unwrap();
    assert_eq!(model.parameter("scale").unwrap().size(), [3]);
    assert!(close(&model.forward(&x).unwrap(), &masked));
    pruned.undo().unwrap();
    assert!(same(&before, &model));
}

#[test]
fn zeroing_follows_shared_normalisations_and_shifts_of_any_shape() {
    let conv = |vs: &VarStore, name: &str| nn::conv2d(vs.root() / name, 3, 4, 1, Default::default());
    let out = |vs: &VarStore| nn::linear(vs.root() / "out", 4, 2, Default::default());
    let mean = |x: &Tensor| x.mean_dim([2, 3].as_slice(), false, None::<Kind>);
    let x = noise(&[2, 3, 4, 4]);
    let check = |vs: &VarStore, net: &dyn ModuleT, of: &str| {
        let model = Model::new(vs, net);
        let graph = Traced::new(&model, &x).unwrap();
        let before = bits(&model);
        let plan = ZeroPlan::zero(&graph, &units(of, [1])).unwrap();
        let masked = graph.read_masked(&[], plan.masks(), &x, |_, _| Ok(())).unwrap();
        let applied = plan.apply(&graph, &x).unwrap_or_else(|e| panic!("{e}\n{plan}"));
        assert!(close(&model.forward(&x).unwrap(), &masked));
        applied.undo().unwrap();
        assert!(same(&before, &model));
    };
    let vs = VarStore::new(Device::Cpu);
    let (a, b, last) = (conv(&vs, "a"), conv(&vs, "b"), out(&vs));
    let norm = nn::batch_norm2d(vs.root() / "bn", 4, Default::default());
    let bias = |mut t: Tensor| tch::no_grad(|| t.copy_(&noise(&t.size())));
    bias(norm.bs.as_ref().unwrap().shallow_clone());
    let net = nn::func(move |x| {
        let (a, b) = (norm.forward_t(&a.forward(x), false), norm.forward_t(&b.forward(x), false));
        last.forward(&mean(&(a + b.relu() * 2.0)))
    });
    check(&vs, &net, "b");
    for shape in [vec![4, 1, 1], vec![1, 4, 4, 4], vec![4]] {
        let vs = VarStore::new(Device::Cpu);
        let (a, last) = (conv(&vs, "a"), out(&vs));
        // Of the last shape it shifts columns, not channels.
        let shift = vs.root().var("shift", &shape, nn::Init::Uniform { lo: 0.5, up: 1.5 });
        let net = nn::func(move |x| last.forward(&mean(&(a.forward(x) + &shift))));
        check(&vs, &net, "a");
    }
}

// Through files.

fn small(vs: &VarStore) -> nn::SequentialT {
    let p = vs.root();
    nn::seq_t()
        .add(nn::conv2d(&p / "conv1", 3, 8, 3, nn::ConvConfig { bias: false, ..Default::default() }))
        .add(nn::batch_norm2d(&p / "bn1", 8, Default::default()))
        .add_fn(|x| x.relu())
        .add(nn::conv2d(&p / "conv2", 8, 6, 3, Default::default()))
        .add_fn(|x| x.relu().adaptive_avg_pool2d([1, 1]).flat_view())
        .add(nn::linear(&p / "fc", 6, 4, Default::default()))
}

#[test]
fn a_pruned_network_is_loaded_into_one_that_was_just_built_in_full_size() {
    let folder = tempfile::tempdir().unwrap();
    let x = noise(&[2, 3, 9, 9]);
    for file in ["pruned.safetensors", "pruned.ot"] {
        let path = folder.path().join(file);
        let vs = VarStore::new(Device::Cpu);
        let net = small(&vs);
        let model = Model::new(&vs, &net);
        let _ = prune(&model, &x, &[units("conv1", [0, 7]), units("conv2", [3])].concat()).unwrap();
        vs.save(&path).unwrap();

        let fresh = VarStore::new(Device::Cpu);
        let again = small(&fresh);
        load_pruned(&fresh, &path).unwrap();
        let loaded = Model::new(&fresh, &again);
        assert_eq!(loaded.parameter("conv2.weight").unwrap().size(), [5, 6, 3, 3]);
        assert!(same(&bits(&model), &loaded), "{file}");
        assert_eq!(loaded.forward(&x).unwrap(), model.forward(&x).unwrap(), "{file}");
        // It learns, and can be pruned further.
        let mut optimizer = nn::Adam::default().build(&fresh, 1e-3).unwrap();
        let labels = Tensor::from_slice(&[0i64, 3]);
        optimizer.backward_step(&again.forward_t(&x, true).cross_entropy_for_logits(&labels));
        assert!(fresh.variables()["conv1.weight"].grad().size() == [6, 3, 3, 3]);
        let _ = prune(&loaded, &x, &units("conv1", [2])).unwrap();

        // Files of the full size load as well.
        let full = VarStore::new(Device::Cpu);
        let whole = small(&full);
        full.save(&path).unwrap();
        let fresh = VarStore::new(Device::Cpu);
        let again = small(&fresh);
        load_pruned(&fresh, &path).unwrap();
        assert_eq!(again.forward_t(&x, false), whole.forward_t(&x, false));
    }
}

#[test]
fn a_file_that_does_not_fit_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let vs = VarStore::new(Device::Cpu);
    let net = small(&vs);
    let model = Model::new(&vs, &net);
    let before = bits(&model);
    type Named = Vec<(String, Tensor)>;
    let saved = |name: &str, change: &dyn Fn(&mut Named)| -> PathBuf {
        let mut all: Named = vs.variables().into_iter().map(|(n, t)| (n, t.detach().copy() + 1)).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        change(&mut all);
        let path = folder.path().join(name);
        Tensor::write_safetensors(&all, &path).unwrap();
        path
    };
    let place = |all: &[(String, Tensor)], name: &str| all.iter().position(|(n, _)| n == name).unwrap();
    let extra = saved("extra.safetensors", &|all| all.push(("conv3.weight".into(), noise(&[2, 2]))));
    let missing = saved("missing.safetensors", &|all| drop(all.remove(place(all, "fc.weight"))));
    let larger = saved("larger.safetensors", &|all| {
        let i = place(all, "fc.weight");
        all[i].1 = noise(&[4, 7]);
    });
    let flat = saved("flat.safetensors", &|all| {
        let i = place(all, "fc.weight");
        all[i].1 = noise(&[4]);
    });
    let empty = saved("empty.safetensors", &|all| {
        let i = place(all, "fc.weight");
        all[i].1 = noise(&[4, 0]);
    });
    let garbage = folder.path().join("garbage.safetensors");
    std::fs::write(&garbage, b"no tensors at all").unwrap();
    let message = |path: &Path| load_pruned(&vs, path).unwrap_err();
    assert!(matches!(message(&folder.path().join("none.safetensors")), Error::Io { .. }));
    assert!(matches!(message(&garbage), Error::Torch { .. }));
    let unknown = message(&extra);
    assert!(unknown.to_string().contains("conv3.weight") && unknown.to_string().contains("conv2.weight"), "{unknown}");
    assert!(matches!(&message(&missing), Error::Unknown { name, .. } if name == "fc.weight"));
    for path in [&larger, &flat, &empty] {
        let error = message(path);
        assert!(matches!(error, Error::Shape { .. }) && error.to_string().contains("fc.weight"), "{error}");
    }
    assert!(same(&before, &model), "nothing is changed by a file that does not fit");
}

// Through the journal.

struct Edited {
    folder: tempfile::TempDir,
    x: Tensor,
    /// What the original, the zeroed and the pruned model compute.
    outputs: Vec<Tensor>,
}

impl Edited {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn edit(method: Method, (from, to): (&Path, &Path), units: &[UnitId], x: &Tensor) {
    let model = Model::load(from).unwrap();
    let graph = Traced::new(&model, x).unwrap();
    let edit = Edit::new(method, &graph, units).unwrap();
    let originals = Originals::before(&edit, &graph).unwrap();
    let edited = edit.apply(&graph, x, NoOptimizer).unwrap();
    let after = Traced::new(&model, x).unwrap();
    let costs = (Cost::of(&graph), Cost::of(&after));
    let entry = Journal::save(&model, (from, to), &edit, costs, edited.difference(), &x.size(), &originals).unwrap();
    assert_eq!((entry.method, entry.units.as_slice()), (method, units));
}

/// `model.pt`, `zeroed.pt` made of it, `pruned.pt` made of that.
fn edited() -> Option<Edited> {
    let own = golden("pruning")?.join("chain_bn");
    let folder = tempfile::tempdir().unwrap();
    let [model, zeroed, pruned] = ["model.pt", "zeroed.pt", "pruned.pt"].map(|n| folder.path().join(n));
    std::fs::copy(own.join("scripted.pt"), &model).unwrap();
    let io = Tensor::read_safetensors(own.join("io.safetensors")).unwrap();
    let named = |name: &str| io.iter().find(|(n, _)| n == name).unwrap().1.shallow_clone();
    let x = named("input");
    edit(Method::Zero, (&model, &zeroed), &units("conv2", [1, 6]), &x);
    edit(Method::Prune, (&zeroed, &pruned), &units("conv1", [0, 11]), &x);
    let outputs: Vec<Tensor> = [&model, &zeroed, &pruned].map(|f| Model::load(f).unwrap().forward(&x).unwrap()).into();
    assert!(close(&outputs[0], &named("output")));
    assert!(!close(&outputs[0], &outputs[1]) && !close(&outputs[1], &outputs[2]));
    Some(Edited { folder, x, outputs })
}

#[test]
fn edits_are_taken_back_through_files_one_after_the_other() {
    let Some(edited) = edited() else { return };
    let run = |name: &str| Model::load(edited.path(name)).unwrap().forward(&edited.x).unwrap();
    let pruned = edited.path("pruned.pt");
    assert_eq!(Model::load(&pruned).unwrap().parameter("conv1.weight").unwrap().size(), [10, 3, 3, 3]);
    let journal = Journal::beside(&pruned).unwrap();
    let methods: Vec<Method> = journal.of("pruned.pt").map(|e| e.method).collect();
    assert_eq!(methods, [Method::Zero, Method::Prune]);
    let last = journal.of("pruned.pt").next_back().unwrap();
    assert!(last.after.parameters < last.before.parameters && last.after.flops < last.before.flops);

    let taken = Journal::undo(&pruned, &edited.path("once.pt")).unwrap();
    assert_eq!((taken.method, taken.units.as_slice()), (Method::Prune, units("conv1", [0, 11]).as_slice()));
    assert_eq!(run("once.pt"), edited.outputs[1]);
    let taken = Journal::undo(&edited.path("once.pt"), &edited.path("twice.pt")).unwrap();
    assert_eq!(taken.method, Method::Zero);
    assert_eq!(run("twice.pt"), edited.outputs[0]);
    let nothing_left = Journal::undo(&edited.path("twice.pt"), &edited.path("thrice.pt")).unwrap_err();
    assert!(nothing_left.to_string().contains("twice.pt"), "{nothing_left}");
    assert!(!edited.path("thrice.pt").exists());
    // The files that were edited are what they were.
    for (name, output) in ["model.pt", "zeroed.pt", "pruned.pt"].into_iter().zip(&edited.outputs) {
        assert_eq!(run(name), *output, "{name}");
    }
}

#[test]
fn edits_are_taken_back_in_the_file_itself() {
    let Some(edited) = edited() else { return };
    let pruned = edited.path("pruned.pt");
    let run = || Model::load(&pruned).unwrap().forward(&edited.x).unwrap();
    let _ = Journal::undo(&pruned, &pruned).unwrap();
    assert_eq!(run(), edited.outputs[1]);
    let _ = Journal::undo(&pruned, &pruned).unwrap();
    assert_eq!(run(), edited.outputs[0]);
    assert!(Journal::undo(&pruned, &pruned).is_err());
    assert_eq!(Journal::beside(&pruned).unwrap().of("zeroed.pt").count(), 1, "other files keep their edits");
}

#[test]
fn a_file_that_has_changed_since_its_edit_is_not_touched() {
    let Some(edited) = edited() else { return };
    let (pruned, out) = (edited.path("pruned.pt"), edited.path("out.pt"));
    Model::load(edited.path("model.pt")).unwrap().save(&pruned).unwrap();
    let journal = std::fs::read(edited.path("edits.json")).unwrap();
    let error = Journal::undo(&pruned, &out).unwrap_err();
    assert!(error.to_string().contains("pruned.pt") && error.to_string().contains("changed"), "{error}");
    assert!(!out.exists());
    assert_eq!(std::fs::read(edited.path("edits.json")).unwrap(), journal);
}

#[test]
fn a_corrupt_journal_is_an_error_that_names_it() {
    let Some(edited) = edited() else { return };
    let (pruned, out) = (edited.path("pruned.pt"), edited.path("out.pt"));
    let whole = std::fs::read_to_string(edited.path("edits.json")).unwrap();
    let cut = whole[..whole.len() / 2].to_string();
    let newer = whole.replacen("\"version\": 1", "\"version\": 2", 1);
    assert_ne!(newer, whole);
    for wrong in ["", "[]", "no json", cut.as_str(), newer.as_str()] {
        std::fs::write(edited.path("edits.json"), wrong).unwrap();
        let error = Journal::undo(&pruned, &out).unwrap_err();
        assert!(error.to_string().contains("edits.json"), "{wrong}: {error}");
        assert!(!out.exists());
    }
    std::fs::write(edited.path("edits.json"), &whole).unwrap();
    std::fs::remove_dir_all(edited.path("edits")).unwrap();
    let error = Journal::undo(&pruned, &out).unwrap_err();
    assert!(error.to_string().contains("pruned.pt.2.safetensors"), "{error}");
    assert!(!out.exists());
}

/// Traced over tensors that no module holds: they become constants, as the weights of a frozen module are.
#[test]
fn a_frozen_module_is_refused_as_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frozen.pt");
    let (one, two) = (noise(&[6, 3, 3, 3]), noise(&[2, 6]));
    let none = || None::<&Tensor>;
    let mut forward = |xs: &[Tensor]| {
        let x = xs[0].conv2d(&one, none(), [1, 1], [1, 1], [1, 1], 1).relu();
        vec![x.mean_dim([2, 3].as_slice(), false, None::<Kind>).linear(&two, none())]
    };
    let x = noise(&[2, 3, 6, 6]);
    let module = tch::no_grad(|| CModule::create_by_tracing("Net", "forward", &[x.copy()], &mut forward)).unwrap();
    module.save(&path).unwrap();
    let model = Model::load(&path).unwrap();
    assert!(model.is_frozen());
    let output = model.forward(&x).unwrap();
    let graph = Traced::new(&model, &x).unwrap();
    let site = graph.sites()[0].name.clone();
    let error = PrunePlan::new(&graph, &units(&site, [0])).unwrap_err();
    assert_eq!(kind(&error), Some(Reason::Frozen), "{site}: {error}");
    assert!(error.to_string().contains("without freezing"), "{error}");
    assert_eq!(model.forward(&x).unwrap(), output);
}
