//! The callback: it leaves a training as it was, audits when it should, and an edit does what the report says.

#[path = "auditor/fixture.rs"]
mod fixture;
#[path = "auditor/loops.rs"]
mod loops;
#[path = "auditor/networks.rs"]
mod networks;
#[path = "auditor/resume.rs"]
mod resume;

use fixture::*;
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_audit::Error;
use tch_audit::auditor::{Auditor, AuditorBuilder, Every};
use tch_audit::probe::{self, Probe};
use tch_audit::report::Report;

/// Two epochs with random batches, random flips and dropout; the auditor, if any, is called as a user would.
fn train(every: Option<Every>) -> Vec<(String, Tensor)> {
    tch::manual_seed(3);
    let data = probe::drawn(3, SIDE, 5).unwrap();
    let (images, labels) = (data.tensor(0..data.len()).unwrap(), data.labels().unwrap());
    let vs = nn::VarStore::new(Device::Cpu);
    let net = restless(&vs);
    let mut opt = nn::Sgd { momentum: 0.9, wd: 5e-4, ..Default::default() }.build(&vs, 0.1).unwrap();
    let mut auditor = every.map(|every| plain(&data).every(every).build().unwrap());
    for epoch in 1..=2 {
        for _ in 0..4 {
            let batch = Tensor::randperm(data.len() as i64, (Kind::Int64, Device::Cpu)).narrow(0, 0, 12);
            let mut x = images.index_select(0, &batch);
            if Tensor::rand([1], (Kind::Float, Device::Cpu)).double_value(&[0]) < 0.5 {
                x = x.flip([3]);
            }
            // One number: the generator keeps the other of the pair, which is part of its state.
            x += 0.1 * Tensor::randn([1], (Kind::Float, Device::Cpu));
            let loss = net.forward_t(&x, true).cross_entropy_for_logits(&labels.index_select(0, &batch));
            opt.backward_step(&loss);
            if let Some(auditor) = &mut auditor {
                auditor.after_step((&vs, &net)).unwrap();
            }
        }
        if let Some(auditor) = &mut auditor {
            auditor.after_epoch(epoch, (&vs, &net)).unwrap();
        }
    }
    if let Some(auditor) = &mut auditor {
        let finished = auditor.finish((&vs, &net)).unwrap();
        assert!(finished.report.history.len() > 1 && finished.report.edit.is_none());
    }
    let mut all = variables(&vs);
    all.extend(vs.trainable_variables().iter().enumerate().map(|(i, t)| (format!("gradient {i}"), t.grad().copy())));
    all.push(("next draw".to_string(), Tensor::randn([1], (Kind::Float, Device::Cpu))));
    all
}

#[test]
fn a_training_with_the_auditor_ends_at_the_same_weights_bit_for_bit() {
    let _alone = alone();
    let without = train(None);
    assert_same(&without, &train(None));
    assert_same(&without, &train(Some(Every::Epochs(1))));
    assert_same(&without, &train(Some(Every::Steps(3))));
}

#[test]
fn an_audit_leaves_gradients_statistics_generator_and_modes_as_they_were() {
    let _alone = alone();
    let data = probe::drawn(2, SIDE, 5).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = restless(&vs);
    let _ = vs.trainable_variables()[0].set_requires_grad(false);
    let x = data.tensor(0..data.len()).unwrap();
    net.forward_t(&x, true).cross_entropy_for_logits(&data.labels().unwrap()).backward();
    let state = || {
        let gradient = |(name, t): (String, Tensor)| {
            let grad = t.grad();
            (name, t.requires_grad(), grad.defined().then(|| grad.copy()))
        };
        let mut all: Vec<_> = vs.variables().into_iter().map(gradient).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let draw = |n: i64| Tensor::randn([n], (Kind::Float, Device::Cpu));
    tch::manual_seed(8);
    let expected = (draw(1), draw(5));
    let (weights, before) = (variables(&vs), state());
    assert!(before.iter().any(|(_, _, g)| g.is_some()), "there are gradients to lose");

    let mut auditor = plain(&data).every(Every::Steps(1)).build().unwrap();
    tch::manual_seed(8);
    let first = draw(1);
    auditor.after_step((&vs, &net)).unwrap();
    assert_eq!((first, draw(5)), expected, "the generator, the kept half of a pair included");
    assert_same(&weights, &variables(&vs));
    for ((name, requires, grad), (_, required, graded)) in state().iter().zip(&before) {
        assert_eq!(requires, required, "{name}");
        assert!(grad == graded, "the gradient of {name}");
    }

    let probing = Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    assert!((&probing * 2).requires_grad(), "gradient mode is still on");
    tch::no_grad(|| {
        auditor.after_step((&vs, &net)).unwrap();
        assert!(!(&probing * 2).requires_grad(), "gradient mode is still off");
    });
}

#[test]
fn an_audit_that_fails_puts_the_generator_back_as_well() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = nn::func_t(|x, _| {
        let x = x + x.rand_like();
        if x.size()[0] > 0 { panic!("broken on purpose") } else { x }
    });
    let mut auditor = plain(&noise(4, 1)).build().unwrap();
    tch::manual_seed(8);
    let expected = Tensor::rand([3], (Kind::Float, Device::Cpu));
    tch::manual_seed(8);
    auditor.after_epoch(1, (&vs, &net)).unwrap_err();
    assert_eq!(Tensor::rand([3], (Kind::Float, Device::Cpu)), expected);
}

#[test]
fn audits_happen_when_the_schedule_says_and_once_at_the_end() {
    let _alone = alone();
    let probe = noise(8, 1);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let history = |every: Every, epochs: u64, steps: u64| {
        let mut auditor = plain(&probe).every(every).build().unwrap();
        for epoch in 1..=epochs {
            (0..steps).for_each(|_| drop(auditor.after_step((&vs, &net)).unwrap()));
            auditor.after_epoch(epoch, (&vs, &net)).unwrap();
        }
        let report = auditor.finish((&vs, &net)).unwrap().report;
        report.history.iter().map(|h| (h.epoch, h.step)).collect::<Vec<_>>()
    };
    assert_eq!(history(Every::Epochs(2), 5, 3), [(2, 6), (4, 12), (5, 15)]);
    assert_eq!(history(Every::Epochs(2), 4, 3), [(2, 6), (4, 12)], "the last audit is not counted twice");
    assert_eq!(history(Every::Steps(3), 2, 4).iter().map(|h| h.1).collect::<Vec<_>>(), [3, 6, 8]);
    assert_eq!(history(Every::Never, 3, 2), [(3, 6)]);
}

#[test]
fn finish_writes_the_three_reports() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/er");
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = plain(&noise(16, 1)).name("planted").reports(&out).build().unwrap();
    assert!(!out.join("report.json").exists(), "not before the first audit");
    let found = auditor.after_epoch(1, (&vs, &net)).unwrap();
    let json = std::fs::read_to_string(out.join("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), **found.report().unwrap(), "after every audit");
    let finished = auditor.finish((&vs, &net)).unwrap();
    let json = std::fs::read_to_string(out.join("report.json")).unwrap();
    let read: Report = serde_json::from_str(&json).unwrap();
    assert_eq!(read, *finished.report);
    assert_eq!((read.model.name.as_str(), read.units.len()), ("planted", 12));
    let csv = std::fs::read_to_string(out.join("neurons.csv")).unwrap();
    assert_eq!(csv.lines().count(), 13, "a row per unit and the header");
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("conv/0") && markdown.contains("marks"), "{markdown}");
    assert!(finished.summary().contains("marks"));
}

#[test]
fn deny_fails_exactly_when_a_deny_policy_is_violated() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let finish = |level: &str, concept: &str| {
        let builder = plain(&noise(32, 1)).policies(policies(level, "none", concept));
        builder.build().unwrap().finish((&vs, &net)).unwrap()
    };
    let finished = finish("deny", "mark");
    let flagged: Vec<String> = finished.report.findings.iter().map(|f| f.unit.to_string()).collect();
    assert_eq!(flagged, ["conv/0", "conv/1", "conv/2", "conv/3"], "the units that look for red, and no other");
    match finished.deny() {
        Err(Error::Denied { violations }) => assert_eq!(violations, "4 units violate marks"),
        other => panic!("{other:?}"),
    }
    assert!(finished.denied() && !finish("warn", "mark").denied());
    assert_eq!(format!("{:?}", finished.deny().unwrap_err()), "denied: 4 units violate marks", "what main prints");
    assert!(finish("warn", "mark").deny().is_ok(), "violated, but of level warn");
    assert!(finish("allow", "mark").deny().is_ok());
    assert!(finish("deny", "mirror").deny().is_ok(), "not violated");
}

#[test]
fn a_fix_zeroes_what_misleads_and_reports_what_that_did() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let finished = fixing(3).build().unwrap().finish((&vs, &net)).unwrap();
    let edit = finished.report.edit.clone().expect("an edit");
    assert_eq!((finished.zeroed(), finished.pruned()), (edit.chosen.as_slice(), &[][..]));
    assert_eq!(edit.flagged.len(), 4);
    assert!(!edit.chosen.is_empty() && edit.flagged.starts_with(&edit.chosen));
    for unit in &edit.chosen {
        assert!(edit.coupled.contains(unit));
        assert!(edit.coupled.iter().any(|c| c.unit == unit.unit && c.site == "conv@raw"), "{:?}", edit.coupled);
    }
    let removed: Vec<usize> = edit.sweep.iter().map(|s| s.removed).collect();
    assert_eq!(removed, [0, 1, 2, 3, 4]);
    let names: Vec<&str> = edit.sweep[0].validation.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["clean", "marked"]);
    assert!(edit.sweep.iter().all(|s| s.validation.iter().all(|v| v.repaired.is_some() && v.accuracy.total == 80)));

    let [clean, marked] = edit.evaluations.as_slice() else { panic!("{:?}", edit.evaluations) };
    assert_eq!((clean.before.rate(), marked.before.rate()), (1.0, 0.5), "as planted");
    assert_eq!((clean.before.total, clean.controls.len(), marked.controls.len()), (60, 10, 10), "ten draws by default");
    assert!(marked.controls.iter().all(|c| c.repaired.is_some()));
    assert!(marked.edited_repaired.unwrap().rate() > 0.9 && clean.edited_repaired.unwrap().rate() > 0.9, "{edit:#?}");
    assert!(marked.repaired_p.unwrap() < 0.01 && marked.repaired_only.is_some());
    let gap = edit.gap.expect("a gap");
    assert_eq!((gap.clean_name.as_str(), gap.shifted_name.as_str(), gap.before_gap), ("clean", "marked", 0.5));
    assert_eq!(gap.recovered_controls.len(), 10);
    assert!(gap.recovered_repaired.unwrap() > 0.8, "{gap:?}");
    assert!(edit.verification.contains("whole group at 0"), "{}", edit.verification);

    // The report says of the network what the network now does.
    let test = with_marks(&noise(60, 3));
    let output = tch::no_grad(|| net.forward_t(&test.tensor(0..60).unwrap(), false)).argmax(1, false);
    let right = output.eq_tensor(&test.labels().unwrap()).sum(Kind::Int64).int64_value(&[]);
    assert_eq!(right as u64, marked.edited_repaired.unwrap().correct);
}

#[test]
fn zeroed_units_are_zero_and_after_step_keeps_them_so() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let data = with_marks(&noise(32, 9));
    let (x, y) = (data.tensor(0..32).unwrap(), data.labels().unwrap());
    let mut opt = nn::Sgd { momentum: 0.9, wd: 1e-3, ..Default::default() }.build(&vs, 0.01).unwrap();
    let mut step = || opt.backward_step(&net.forward_t(&x, true).cross_entropy_for_logits(&y));
    (0..3).for_each(|_| step());
    let mut auditor = fixing(3).build().unwrap();
    let chosen = auditor.finish((&vs, &net)).unwrap().zeroed().to_vec();
    assert!(!chosen.is_empty());
    let all = vs.variables();
    let largest = || {
        let rows: Vec<i64> = chosen.iter().map(|u| u.unit as i64).collect();
        let rows = Tensor::from_slice(&rows);
        let largest = |name: &str| all[name].index_select(0, &rows).abs().max().double_value(&[]);
        (largest("conv.weight"), largest("conv.bias"))
    };
    assert_eq!(largest(), (0.0, 0.0));
    let others = all["conv.weight"].detach().copy();
    let mut moved = false;
    for _ in 0..10 {
        step();
        moved |= largest() != (0.0, 0.0);
        auditor.after_step((&vs, &net)).unwrap();
        assert_eq!(largest(), (0.0, 0.0));
    }
    assert!(moved, "training would have revived them");
    assert!(all["conv.weight"] != others, "the others go on learning");
}

#[test]
fn flagged_units_leave_the_live_network_and_the_training_goes_on() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let (x, y) = (noise(32, 9).tensor(0..32).unwrap(), noise(32, 9).labels().unwrap());
    let sgd = || nn::Sgd { momentum: 0.9, wd: 1e-3, ..Default::default() }.build(&vs, 0.01);
    let mut opt = sgd().unwrap();
    let loss = |net: &nn::SequentialT| net.forward_t(&x, true).cross_entropy_for_logits(&y);
    (0..3).for_each(|_| opt.backward_step(&loss(&net)));
    // A loss of the old shapes that somebody still holds.
    let held = loss(&net);
    held.backward();
    let mut auditor = fixing(3).policies(policies("deny", "prune", "mark")).build().unwrap();
    let mut rebuilt = 0;
    assert!(auditor.after_epoch(1, (&vs, &net)).unwrap().pruned().is_empty(), "not before it is asked to");
    let found = auditor
        .prune((&vs, &net), || {
            rebuilt += 1;
            opt = sgd()?;
            Ok(())
        })
        .unwrap();
    assert!(!found.audited() && found.zeroed().is_empty(), "these weights were just audited");
    let pruned = found.pruned().to_vec();
    assert!(!pruned.is_empty() && pruned.iter().all(|u| u.site == "conv" && u.unit < RED as usize), "{pruned:?}");
    let left = RED + BRIGHT - pruned.len() as i64;
    let shape = |name: &str| vs.variables()[name].size();
    assert_eq!((rebuilt, shape("conv.weight"), shape("fc.weight")), (1, vec![left, 3, 1, 1], vec![2, left]));
    assert!(vs.variables().values().all(|t| !t.grad().defined() || t.grad().size() == t.size()));
    for _ in 0..5 {
        opt.backward_step(&loss(&net));
        auditor.after_step((&vs, &net)).unwrap();
    }
    assert!(loss(&net).double_value(&[]).is_finite());
    // Fewer units now; what was pruned is in the history, and what is left is judged anew at the end.
    let report = auditor.finish((&vs, &net)).unwrap().report;
    assert_eq!(report.units.len() as i64, left);
    assert_eq!(report.history[0].pruned, pruned);
    assert!(report.findings.iter().all(|f| (f.unit.unit as i64) < left));
    drop(held);
}

#[test]
fn an_optimizer_that_cannot_be_rebuilt_leaves_the_network_as_it_was() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let before = variables(&vs);
    let mut auditor = fixing(3).policies(policies("deny", "prune", "mark")).build().unwrap();
    let broken = || Err(tch::TchError::Torch("no optimizer today".to_string()));
    let error = auditor.prune((&vs, &net), broken).unwrap_err().to_string();
    assert!(error.contains("no optimizer today"), "{error}");
    assert_same(&before, &variables(&vs));
}

#[test]
fn finish_prunes_what_policies_want_pruned_and_says_so() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = fixing(3).policies(policies("deny", "prune", "mark")).build().unwrap();
    let finished = auditor.finish((&vs, &net)).unwrap();
    let edit = finished.report.edit.as_ref().expect("an edit");
    assert_eq!(edit.action, "prune");
    let left = RED + BRIGHT - edit.chosen.len() as i64;
    assert!(!edit.chosen.is_empty() && vs.variables()["fc.weight"].size() == [2, left]);
    assert!(finished.summary().contains("flagged units pruned"), "{}", finished.summary());
    // The report says of the network what the network now does.
    let test = with_marks(&noise(60, 3));
    let output = tch::no_grad(|| net.forward_t(&test.tensor(0..60).unwrap(), false)).argmax(1, false);
    let right = output.eq_tensor(&test.labels().unwrap()).sum(Kind::Int64).int64_value(&[]);
    assert_eq!(right as u64, edit.evaluations[1].edited_repaired.unwrap().correct);
}

#[test]
fn test_images_choose_nothing() {
    let _alone = alone();
    let fixed = |test_seed| {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = planted(&vs);
        let finished = fixing(test_seed).build().unwrap().finish((&vs, &net)).unwrap();
        let edit = finished.report.edit.clone().unwrap();
        (variables(&vs), edit)
    };
    let ((weights, edit), (others, other)) = (fixed(3), fixed(4));
    assert_same(&weights, &others);
    assert_eq!((edit.chosen, edit.flagged, edit.sweep), (other.chosen, other.flagged, other.sweep));
}

#[test]
fn without_fix_nothing_is_edited() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let before = variables(&vs);
    let report = fixing(3).fix(false).build().unwrap().finish((&vs, &net)).unwrap().report;
    assert!(report.edit.is_none() && report.denied);
    assert_eq!(report.history[0].evaluations.len(), 2, "accuracies are in the history all the same");
    assert_same(&before, &variables(&vs));
}

#[test]
fn equal_runs_give_equal_reports_but_for_the_clock() {
    let _alone = alone();
    let run = || {
        let folder = tempfile::tempdir().unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let net = planted(&vs);
        let mut auditor = fixing(3).reports(folder.path()).build().unwrap();
        auditor.after_epoch(1, (&vs, &net)).unwrap();
        let _ = auditor.finish((&vs, &net)).unwrap();
        let json = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
        let run = json.rfind("\"run\"").unwrap();
        let other = ["neurons.csv", "report.md"].map(|f| std::fs::read_to_string(folder.path().join(f)).unwrap());
        (json[..run].to_string(), other)
    };
    let (first, second) = (run(), run());
    assert_eq!(first, second);
    let json: serde_json::Value = serde_json::from_str(&format!("{}\"run\": 0}}", first.0)).unwrap();
    assert!(json["edit"]["chosen"].as_array().is_some_and(|c| !c.is_empty()));
}

fn invalid(builder: AuditorBuilder) -> String {
    match builder.build() {
        Err(error @ Error::Invalid { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_builder_names_what_is_missing_or_makes_no_sense() {
    let _alone = alone();
    let probe = noise(4, 1);
    let message = invalid(Auditor::builder().policies(policies("warn", "none", "mark")));
    assert!(message.contains("probe"), "{message}");
    let message = invalid(Auditor::builder().probe(probe.clone()));
    assert!(message.contains("policies"), "{message}");
    let message = invalid(plain(&probe).every(Every::Epochs(0)));
    assert!(message.contains("Epochs(0)") && message.contains("1 or more"), "{message}");
    invalid(plain(&probe).every(Every::Steps(0)));
    let message = invalid(plain(&probe).fix(true));
    assert!(message.contains("evaluat"), "{message}");
    let message = invalid(plain(&probe).resume(true));
    assert!(message.contains("`reports`"), "{message}");
    let twice = plain(&probe).evaluate("clean", probe.clone(), probe.clone());
    let message = invalid(twice.evaluate("clean", probe.clone(), probe.clone()));
    assert!(message.contains("`clean` twice"), "{message}");

    let images = (0..4).map(|i| probe.image(i).clone()).collect();
    let unlabelled = Probe::from_images(images, None, None, probe.preprocess().clone()).unwrap();
    let message = invalid(plain(&probe).evaluate("clean", probe.clone(), unlabelled));
    assert!(message.contains("test images of evaluation `clean`") && message.contains("without labels"), "{message}");
    let none = probe.select(&[]).unwrap();
    let message = invalid(plain(&none));
    assert!(message.contains("probe") && message.contains("no image"), "{message}");
    let message = invalid(plain(&probe).evaluate("clean", none, probe.clone()));
    assert!(message.contains("validation images of evaluation `clean`"), "{message}");
}

#[test]
fn an_unknown_site_is_told_with_the_nearest_names() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = plain(&noise(4, 1)).sites(["cnov"]).build().unwrap();
    match auditor.after_epoch(1, (&vs, &net)) {
        Err(Error::Unknown { kind, name, nearest }) => {
            assert_eq!((kind, name.as_str()), ("site", "cnov"));
            assert_eq!(nearest.first().map(String::as_str), Some("conv"), "{nearest:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_network_that_panics_is_an_error_with_what_it_said() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let conv = nn::conv2d(vs.root() / "conv", 3, 4, 3, Default::default());
    let net = nn::func_t(move |x, train| {
        let x = x.apply_t(&conv, train);
        if x.size()[0] > 1 { panic!("no more than one image") } else { x }
    });
    let mut auditor = plain(&noise(4, 1)).build().unwrap();
    match auditor.finish((&vs, &net)) {
        Err(Error::Forward { message, input }) => {
            assert!(message.contains("no more than one image"), "{message}");
            assert_eq!(input, [4, 3, 16, 16]);
        }
        other => panic!("{other:?}"),
    }
    let wide = nn::func_t(|x, _| x.matmul(&Tensor::zeros([3, 3], (Kind::Float, Device::Cpu))));
    assert!(matches!(auditor.finish((&vs, &wide)), Err(Error::Forward { .. })), "libtorch's own complaint");
}

#[test]
fn weights_that_are_nan_are_reported_by_site_and_unit() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let _ = tch::no_grad(|| vs.variables()["conv.weight"].get(5).fill_(f64::NAN));
    match plain(&noise(4, 1)).build().unwrap().finish((&vs, &net)) {
        Err(Error::NonFinite { site, unit, image, value }) => {
            assert_eq!((site.as_str(), unit, image.as_str()), ("conv", 5, "image-0"));
            assert!(value.is_nan());
        }
        other => panic!("{other:?}"),
    }
}
