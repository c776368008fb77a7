//! Refitting the last layer, choosing how many units go, and the random units that an edit is compared with.

use image::{Rgb, RgbImage};
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::edit::repair::LastLayer;
use tch_audit::evaluate::Methods;
use tch_audit::evaluate::choose::{self, choose};
use tch_audit::evaluate::compare::{self, compare};
use tch_audit::evaluate::{Evaluation, correct};
use tch_audit::probe::{Changed, Corrupt, ImageFolder, Images, Labels, Preprocess, Probe, Selected, example, labels};
use tch_audit::{Error, Model, UnitId};

const SIDE: usize = 8;

/// Noise that is mostly red, green or blue, in turns.
fn colours(n: usize, seed: u64) -> Probe {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut image = |i: usize| {
        RgbImage::from_fn(SIDE as u32, SIDE as u32, |_, _| {
            Rgb(std::array::from_fn(|c| if c == i % 3 { rng.u8(120..220) } else { rng.u8(20..120) }))
        })
    };
    let images = (0..n).map(&mut image).collect();
    let labels = Labels::new((0..n).map(|i| i % 3).collect(), ["red", "green", "blue"]).unwrap();
    Probe::from_images(images, None, Some(labels), Preprocess::plain(3, SIDE, SIDE).unwrap()).unwrap()
}

fn evaluation(seed: u64) -> Evaluation {
    Evaluation::new("clean", colours(48, seed), colours(30, seed + 1)).unwrap()
}

/// Two layers side by side. `eye` has a unit for each colour and a spare one; nothing listens to the six of `idle`.
fn planted(vs: &nn::VarStore) -> impl ModuleT + use<> {
    let p = vs.root();
    let mut eye = nn::conv2d(&p / "eye", 3, 4, 1, Default::default());
    let idle = nn::conv2d(&p / "idle", 3, 6, 1, Default::default());
    let mut fc = nn::linear(&p / "fc", 10, 3, Default::default());
    let float = (Kind::Float, Device::Cpu);
    tch::no_grad(|| {
        eye.ws.copy_(&Tensor::cat(&[Tensor::eye(3, float), Tensor::full([1, 3], 0.3, float)], 0).view([4, 3, 1, 1]));
        let _ = eye.bs.as_mut().unwrap().zero_();
        fc.ws.copy_(&Tensor::cat(&[Tensor::eye(3, float) * 10, Tensor::zeros([3, 7], float)], 1));
        let _ = fc.bs.as_mut().unwrap().zero_();
    });
    nn::func_t(move |x, train| {
        let seen = Tensor::cat(&[x.apply_t(&eye, train).relu(), x.apply_t(&idle, train).relu()], 1);
        seen.adaptive_avg_pool2d([1, 1]).flat_view().apply_t(&fc, train)
    })
}

fn ids(site: &str, units: impl IntoIterator<Item = usize>) -> Vec<UnitId> {
    units.into_iter().map(|u| UnitId::new(site, u)).collect()
}

fn right(graph: &Traced<'_>, images: &dyn Images) -> f64 {
    let right = correct(graph, &[], images).unwrap();
    right.iter().filter(|r| **r).count() as f64 / right.len() as f64
}

#[test]
fn refitting_mends_a_spoilt_last_layer_is_deterministic_and_can_be_taken_back() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    // The classes' rows, moved on by one: always wrong.
    let mut weight = vs.variables()["fc.weight"].shallow_clone();
    let spoilt = weight.detach().roll(1, 0);
    tch::no_grad(|| weight.copy_(&spoilt));
    let model = Model::new(&vs, &net);
    let (fit_on, test) = (colours(48, 1), colours(30, 2));
    let graph = Traced::new(&model, &test.tensor(0..1).unwrap()).unwrap();
    assert_eq!(right(&graph, &test), 0.0);
    let variables = || vs.variables().into_iter().map(|(n, t)| (n, t.detach().copy())).collect::<Vec<_>>();
    let before: std::collections::BTreeMap<String, Tensor> = variables().into_iter().collect();

    let layer = LastLayer::of(&graph).unwrap();
    let (features, numbers) = layer.features(&graph, &[], &fit_on).unwrap();
    assert_eq!(numbers, (0..48).collect::<Vec<_>>());
    let labels = labels(&fit_on, &numbers).unwrap();
    assert_eq!(labels, fit_on.labels().unwrap());
    let refit = layer.refit(&model, &features, &labels).unwrap();
    assert!(variables().iter().all(|(n, t)| *t == before[n]), "fitting alone changes nothing");
    assert!(vs.trainable_variables().iter().all(|t| !t.grad().defined()), "and leaves no gradients");

    let again = layer.refit(&model, &features, &labels).unwrap();
    assert_eq!(again.pull, refit.pull);
    assert_eq!(again.logits(&features), refit.logits(&features), "same images, same weights");

    let old = layer.install(&model, &refit).unwrap();
    assert!(right(&graph, &test) > 0.9);
    assert!(vs.trainable_variables().iter().all(Tensor::requires_grad), "still trainable");
    let _ = layer.install(&model, &old).unwrap();
    assert!(variables().iter().all(|(n, t)| *t == before[n]), "back, to the bit");
}

#[test]
fn a_network_that_does_not_end_in_a_linear_layer_is_refused_with_the_reason() {
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root() / "conv", 3, 4, 3, Default::default());
    let x = Tensor::rand([1, 3, 8, 8], (Kind::Float, Device::Cpu));
    let refusal = |net: &dyn ModuleT| {
        let model = Model::new(&vs, net);
        match LastLayer::of(&Traced::new(&model, &x).unwrap()) {
            Err(Error::Refused { action: "repair", reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let reason = refusal(&conv);
    assert!(reason.contains("ends in `conv`"), "{reason}");
    let pooled = nn::func_t(move |x, train| x.apply_t(&conv, train).mean_dim([2i64, 3].as_slice(), false, Kind::Float));
    let reason = refusal(&pooled);
    assert!(reason.contains("not in a linear layer"), "{reason}");
}

#[test]
fn nothing_is_removed_when_nothing_helps() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let model = Model::new(&vs, &net);
    let evaluations = [evaluation(1)];
    let graph = Traced::new(&model, &example(&evaluations[0].validation, 1).unwrap()).unwrap();
    let layer = LastLayer::of(&graph).unwrap();
    for layer in [None, Some(&layer)] {
        let candidates = ids("eye", 0..3);
        let choice =
            choose(&graph, (&candidates, &Methods::default()), &evaluations, layer, &choose::Options::default())
                .unwrap();
        assert_eq!(choice.removed, 0);
        assert_eq!(choice.sweep.iter().map(|s| s.removed).collect::<Vec<_>>(), [0, 1, 2, 3], "though all were tried");
        let mut order = choice.order;
        order.sort();
        assert_eq!((order, choice.refused), (candidates, Vec::new()));
    }
}

#[test]
fn units_that_cannot_be_zeroed_are_listed_with_the_reason() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let model = Model::new(&vs, &net);
    let evaluations = [evaluation(1)];
    let graph = Traced::new(&model, &example(&evaluations[0].validation, 1).unwrap()).unwrap();
    let candidates = [UnitId::new("fc", 1), UnitId::new("eye", 3)];
    let choice =
        choose(&graph, (&candidates, &Methods::default()), &evaluations, None, &choose::Options::default()).unwrap();
    assert_eq!(choice.order, ids("eye", [3]));
    let [(unit, reason)] = choice.refused.as_slice() else { panic!("{:?}", choice.refused) };
    assert_eq!(*unit, UnitId::new("fc", 1));
    assert!(reason.contains("output of the model"), "{reason}");
}

#[test]
fn random_controls_come_from_the_same_layers_as_the_chosen_units() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let model = Model::new(&vs, &net);
    let evaluations = [evaluation(1)];
    let graph = Traced::new(&model, &example(&evaluations[0].validation, 1).unwrap()).unwrap();
    let layer = LastLayer::of(&graph).unwrap();
    let before: Vec<Tensor> = model.parameters().iter().map(|(_, t)| t.detach().copy()).collect();
    let run = |units: &[UnitId], draws| {
        let mut options = compare::Options::default();
        options.draws = draws;
        let mut outcome = compare(&graph, (units, &Methods::default()), &evaluations, Some(&layer), &options).unwrap();
        assert!(outcome.refit.is_some());
        outcome.comparisons.remove(0)
    };
    assert_eq!(compare::Options::default().draws, 10);

    let idle = run(&ids("idle", [0, 1, 2]), 10);
    assert_eq!((idle.before.rate(), idle.edited, idle.edited_p), (1.0, idle.before, 1.0));
    assert_eq!(idle.controls.len(), 10);
    assert!(idle.controls.iter().all(|(zeroed, _)| *zeroed == idle.before), "three others that nothing listens to");

    // The spare unit of `eye`: every other unit of that layer is needed.
    let spare = run(&ids("eye", [3]), 10);
    assert_eq!(spare.edited, spare.before);
    assert!(spare.controls.iter().all(|(zeroed, repaired)| zeroed.rate() < 0.7 && repaired.is_some()));

    let mut mixed = ids("eye", [3]);
    mixed.extend(ids("idle", 0..3));
    let mixed = run(&mixed, 5);
    let lost: Vec<f64> = mixed.controls.iter().map(|(zeroed, _)| zeroed.rate()).collect();
    assert_eq!(lost.len(), 5);
    assert!(lost.iter().all(|rate| (0.6..0.7).contains(rate)), "exactly one unit of `eye` in each: {lost:?}");

    let most = run(&ids("eye", [0, 1, 3]), 5);
    assert!(most.controls.is_empty(), "one unit of `eye` is left, not three");
    assert!(model.parameters().iter().zip(&before).all(|((_, t), b)| t == b), "measured by masking");
}

#[test]
fn evaluations_of_a_folder_are_those_of_its_loaded_images_and_unreadable_ones_shift_no_label() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let model = Model::new(&vs, &net);
    let (images, root) = (colours(48, 1), tempfile::tempdir().unwrap());
    for (class, name) in ["0-red", "1-green", "2-blue"].iter().enumerate() {
        std::fs::create_dir(root.path().join(name)).unwrap();
        for k in 0..16 {
            images.image(3 * k + class).save(root.path().join(format!("{name}/{k:02}.png"))).unwrap();
        }
    }
    let preprocess = Preprocess::plain(3, SIDE, SIDE).unwrap();
    let open = || ImageFolder::open(root.path()).preprocess(preprocess.clone()).corrupt(Corrupt::Skip);
    let (loaded, stream) = (open().load().unwrap(), open().stream().unwrap());
    let graph = Traced::new(&model, &example(&stream, 1).unwrap()).unwrap();
    let layer = LastLayer::of(&graph).unwrap();
    let darker = |_: usize, image: &RgbImage| {
        let mut image = image.clone();
        image.iter_mut().for_each(|v| *v /= 2);
        image
    };
    let shown = |images: &dyn Images| {
        let half = Selected::new(images, (0..images.len()).step_by(2).collect()).unwrap();
        let dark = Changed::new(&half, "darker", darker);
        (correct(&graph, &[], &half).unwrap(), correct(&graph, &[], &dark).unwrap())
    };
    assert_eq!(shown(&loaded), shown(&stream));
    let candidates = ids("eye", 0..4);
    let run = |validation: std::sync::Arc<dyn Images>, test: std::sync::Arc<dyn Images>| {
        let dark = Evaluation::new("dark", Changed::new(validation.clone(), "darker", darker), test.clone()).unwrap();
        let evaluations = [Evaluation::new("clean", validation, test).unwrap(), dark];
        let units = (candidates.as_slice(), &Methods::default());
        let choice = choose(&graph, units, &evaluations, Some(&layer), &choose::Options::default()).unwrap();
        let mut options = compare::Options::default();
        options.draws = 2;
        let units = (&candidates[..1], &Methods::default());
        let outcome = compare(&graph, units, &evaluations, Some(&layer), &options).unwrap();
        format!("{choice:?} {:?}", outcome.comparisons)
    };
    let (loaded, stream) = (std::sync::Arc::new(loaded), std::sync::Arc::new(stream));
    assert_eq!(run(loaded.clone(), loaded.clone()), run(stream.clone(), stream.clone()));

    assert_eq!(right(&graph, stream.as_ref()), 1.0);
    std::fs::write(root.path().join("0-red/00.png"), "bad").unwrap();
    std::fs::write(root.path().join("1-green/05.png"), "bad").unwrap();
    let right = correct(&graph, &[], stream.as_ref()).unwrap();
    assert!(right.len() == 46 && right.iter().all(|r| *r), "with labels one off, many would be wrong");
    let (features, numbers) = layer.features(&graph, &[], stream.as_ref()).unwrap();
    assert_eq!((features.size()[0], numbers.len()), (46, 46));
    assert!(!numbers.contains(&0) && !numbers.contains(&21));
}

#[test]
fn labels_that_may_not_be_the_outputs_refit_and_measure_nothing() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let model = Model::new(&vs, &net);
    let root = tempfile::tempdir().unwrap();
    let images = colours(48, 1);
    for (class, name) in [(2, "blue"), (1, "green")] {
        std::fs::create_dir(root.path().join(name)).unwrap();
        for k in 0..16 {
            images.image(3 * k + class).save(root.path().join(format!("{name}/{k:02}.png"))).unwrap();
        }
    }
    let open = || ImageFolder::open(root.path()).preprocess(Preprocess::plain(3, SIDE, SIDE).unwrap());
    let (some, listed) = (open().load().unwrap(), open().classes(["red", "green", "blue"]).stream().unwrap());
    let graph = Traced::new(&model, &example(&some, 1).unwrap()).unwrap();
    let layer = LastLayer::of(&graph).unwrap();
    let sentence = "accuracy: not measured: 2 class folders, the model has 3 outputs";
    let refused = |result: tch_audit::Result<String>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NotMeasured { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(sentence) && text.contains("--classes FILE"), "{text}");
    };
    refused(correct(&graph, &[], &some).map(|right| format!("{right:?}")));
    let evaluations = [Evaluation::new("clean", some.clone(), some.clone()).unwrap()];
    let units = ids("eye", 0..2);
    let units = (units.as_slice(), &Methods::default());
    for layer in [None, Some(&layer)] {
        let options = choose::Options::default();
        refused(choose(&graph, units, &evaluations, layer, &options).map(|choice| format!("{choice:?}")));
        let options = compare::Options::default();
        refused(compare(&graph, units, &evaluations, layer, &options).map(|outcome| format!("{outcome:?}")));
    }
    // Blue is the third output and not the first, as the folder is.
    assert_eq!(right(&graph, &listed), 1.0);

    let parts = tempfile::tempdir().unwrap();
    for name in ["train", "val", "Test"] {
        std::fs::create_dir(parts.path().join(name)).unwrap();
        images.image(0).save(parts.path().join(name).join("1.png")).unwrap();
    }
    let parts = ImageFolder::open(parts.path()).preprocess(some.preprocess().clone()).load().unwrap();
    let text = correct(&graph, &[], &parts).unwrap_err().to_string();
    assert!(text.contains("the folders `Test`, `train`, `val` are parts of a data set"), "{text}");

    // A network of twelve outputs, and folders 0 to 11: 10 comes before 2.
    let numbered = tempfile::tempdir().unwrap();
    for class in 0..12 {
        std::fs::create_dir(numbered.path().join(class.to_string())).unwrap();
        images.image(class).save(numbered.path().join(format!("{class}/1.png"))).unwrap();
    }
    let wide = nn::seq_t().add_fn(|x| x.view([x.size()[0], -1]).narrow(1, 0, 12));
    let twelve = Model::new(&vs, &wide);
    let twelve = Traced::new(&twelve, &example(&some, 1).unwrap()).unwrap();
    let open = || ImageFolder::open(numbered.path()).preprocess(some.preprocess().clone());
    let text = correct(&twelve, &[], &open().load().unwrap()).unwrap_err().to_string();
    assert!(text.contains("numbers that are sorted as text, `11` before `2`") && text.contains("--classes"), "{text}");
    // Who lists them says in which order they are, be it that of the text.
    let mut order: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    assert_eq!(correct(&twelve, &[], &open().classes(order.clone()).stream().unwrap()).unwrap().len(), 12);
    order.sort();
    assert_eq!(correct(&twelve, &[], &open().classes(order).stream().unwrap()).unwrap().len(), 12);
}
