//! The callback on tch's own training example: a residual network made of closures, with a convolution and its batch norm
//! on one path, so that names collide.

use tch::nn::{self, FuncT, ModuleT, OptimizerConfig, SequentialT};
use tch::{Device, Tensor};
use tch_audit::Traced;
use tch_audit::audit::Settings;
use tch_audit::auditor::{Auditor, Every};
use tch_audit::edit::ZeroPlan;
use tch_audit::edit::repair::LastLayer;
use tch_audit::evidence::painted::{self, Painted};
use tch_audit::graph::SiteKind;
use tch_audit::policy::Policies;
use tch_audit::probe::{self, paint};
use tch_audit::{Model, UnitId};

const WIDTH: i64 = 4;

fn conv_bn(path: &nn::Path, inputs: i64, outputs: i64) -> SequentialT {
    let config = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
    nn::seq_t()
        .add(nn::conv2d(path, inputs, outputs, 3, config))
        .add(nn::batch_norm2d(path, outputs, Default::default()))
        .add_fn(|x| x.relu())
}

fn layer<'a>(path: &nn::Path, inputs: i64, outputs: i64) -> FuncT<'a> {
    let pre = conv_bn(&path.sub("pre"), inputs, outputs);
    let (b1, b2) = (conv_bn(&path.sub("b1"), outputs, outputs), conv_bn(&path.sub("b2"), outputs, outputs));
    nn::func_t(move |x, train| {
        let pre = x.apply_t(&pre, train).max_pool2d_default(2);
        let y = pre.apply_t(&b1, train).apply_t(&b2, train);
        pre + y
    })
}

fn fast_resnet(path: &nn::Path) -> SequentialT {
    nn::seq_t()
        .add(conv_bn(&path.sub("pre"), 3, WIDTH))
        .add(layer(&path.sub("layer1"), WIDTH, 2 * WIDTH))
        .add(conv_bn(&path.sub("inter"), 2 * WIDTH, 4 * WIDTH))
        .add_fn(|x| x.max_pool2d_default(2))
        .add(layer(&path.sub("layer2"), 4 * WIDTH, 8 * WIDTH))
        .add_fn(|x| x.max_pool2d_default(4).flat_view())
        .add(nn::linear(path.sub("linear"), 8 * WIDTH, 10, Default::default()))
        .add_fn(|x| x * 0.125)
}

/// Batch norms that have seen something.
fn warm_up(net: &SequentialT) -> Tensor {
    let x = probe::drawn(1, 32, 5).unwrap().tensor(0..10).unwrap();
    let _ = tch::no_grad(|| net.forward_t(&x, true));
    x
}

#[test]
fn the_callback_works_in_the_example_s_training_loop() {
    tch::manual_seed(1);
    let data = probe::drawn(4, 32, 7).unwrap();
    let (images, labels) = (data.tensor(0..data.len()).unwrap(), data.labels().unwrap());
    let vs = nn::VarStore::new(Device::Cpu);
    let net = fast_resnet(&vs.root());
    let mut opt = nn::Sgd { momentum: 0.9, dampening: 0., wd: 5e-4, nesterov: true }.build(&vs, 0.1).unwrap();
    let mut options = painted::Options::default();
    (options.images, options.bootstrap) = (6, 10);
    let painted = Painted::new(paint::bank().into_iter().take(4).collect(), options).unwrap();
    let mut settings = Settings::painting(painted);
    settings.exemplars.k = 3;
    let mut auditor = Auditor::builder()
        .probe(probe::drawn(1, 32, 9).unwrap())
        .policies(Policies::shipped().unwrap())
        .settings(settings)
        .every(Every::Epochs(2))
        .build()
        .unwrap();
    for epoch in 1..=3 {
        for start in [0, 20] {
            let flipped = tch::vision::dataset::augmentation(&images.narrow(0, start, 20), true, 4, 8);
            let loss = net.forward_t(&flipped, true).cross_entropy_for_logits(&labels.narrow(0, start, 20));
            opt.backward_step(&loss);
            auditor.after_step((&vs, &net)).unwrap();
        }
        auditor.after_epoch(epoch, (&vs, &net)).unwrap();
    }
    let report = auditor.finish((&vs, &net)).unwrap().report;
    assert_eq!(report.history.iter().map(|h| h.epoch).collect::<Vec<_>>(), [2, 3]);
    let sites: Vec<(&str, usize)> = report.model.sites.iter().map(|s| (s.name.as_str(), s.units)).collect();
    assert_eq!(
        sites,
        [
            ("pre", 4),
            ("layer1.pre", 8),
            ("layer1.b1", 8),
            ("layer1.b2", 8),
            ("inter", 16),
            ("layer2.pre", 32),
            ("layer2.b1", 32),
            ("layer2.b2", 32)
        ]
    );
    assert_eq!(report.units.len(), 140);
    assert!(report.accuracy.is_some());
}

#[test]
fn sites_have_the_names_of_the_paths_although_the_variables_have_numbers() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = fast_resnet(&vs.root());
    assert!(vs.variables().keys().any(|n| n.contains("__")), "a convolution and its batch norm share a path");
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &warm_up(&net)).unwrap();
    let find = |name: &str| graph.site(name).unwrap_or_else(|e| panic!("{e}"));
    for (name, kind, units, size) in [
        ("pre", SiteKind::Layer, 4, 32),
        ("layer1.b1", SiteKind::Layer, 8, 16),
        ("layer1.b1@raw", SiteKind::Raw, 8, 16),
        ("layer1", SiteKind::Scope, 8, 16),
        ("inter", SiteKind::Layer, 16, 16),
        ("layer2", SiteKind::Scope, 32, 4),
        ("linear", SiteKind::Layer, 10, 1),
    ] {
        let site = find(name);
        assert_eq!((site.kind, site.units, site.size), (kind, units, (size, size)), "{name}");
    }
}

#[test]
fn its_units_can_be_zeroed_and_put_back() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = fast_resnet(&vs.root());
    let x = warm_up(&net);
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &x).unwrap();
    let before = model.forward(&x).unwrap();
    for (site, unit) in [("pre", 0), ("layer1.b1", 7), ("layer1", 2), ("inter", 15), ("layer2.b1", 31), ("layer2", 30)]
    {
        let id = UnitId::new(site, unit);
        let plan = ZeroPlan::zero(&graph, std::slice::from_ref(&id)).unwrap_or_else(|e| panic!("{id}: {e}"));
        let applied = plan.apply(&graph, &x).unwrap_or_else(|e| panic!("{id}: {e}"));
        let _ = graph
            .read(&graph.select(&[site]).unwrap(), &x, |_, a| {
                assert_eq!(a.select(1, unit as i64).abs().max().double_value(&[]), 0.0, "{id}");
                Ok(())
            })
            .unwrap();
        applied.undo().unwrap();
        assert_eq!(model.forward(&x).unwrap(), before, "{id}");
    }
    let coupled = ZeroPlan::zero(&graph, &[UnitId::new("layer1", 2)]).unwrap().coupled;
    let stream: Vec<&str> = coupled.iter().map(|u| u.site.as_str()).filter(|s| !s.contains("@raw")).collect();
    assert_eq!(stream, ["layer1", "layer1.b2", "layer1.pre"], "both layers that add to the stream lose it");
}

#[test]
fn the_last_layer_is_found_through_the_constant_factor() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = fast_resnet(&vs.root());
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &warm_up(&net)).unwrap();
    let layer = LastLayer::of(&graph).unwrap();
    let data = probe::drawn(2, 32, 5).unwrap();
    let (features, numbers) = layer.features(&graph, &[], &data).unwrap();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert_eq!(features.size(), [20, 8 * WIDTH]);
    let logits = layer.current(&model).unwrap().logits(&features) * 0.125;
    let output = model.forward(&data.tensor(0..20).unwrap()).unwrap();
    assert!((logits - output).abs().max().double_value(&[]) < 1e-5);
}
