//! Whose network it is: nothing is borrowed between calls, several have names, and a closure will do.

use super::fixture::*;
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, TchError, Tensor};
use tch_audit::auditor::Every;
use tch_audit::edit::NoOptimizer;
use tch_audit::report::Report;
use tch_audit::{Error, Model};

/// Makes units look for red, or not.
fn look_for_red(vs: &nn::VarStore, red: bool) {
    let row = if red { [1.0f32, -0.5, -0.5] } else { [1.0 / 3.0; 3] };
    let row = Tensor::from_slice(&row).view([1, 3, 1, 1]);
    tch::no_grad(|| vs.variables()["conv.weight"].narrow(0, 0, RED).copy_(&row));
}

#[test]
fn the_store_is_free_between_calls() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let best = folder.path().join("best.safetensors");
    let mut vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = plain(&noise(32, 1)).build().unwrap();
    let first = auditor.after_epoch(1, (&vs, &net)).unwrap();
    vs.save(&best).unwrap();
    look_for_red(&vs, false);
    vs.freeze();
    let second = auditor.after_epoch(2, (&vs, &net)).unwrap();
    assert_eq!((first.findings().len(), second.findings().len()), (4, 0));
    vs.load(&best).unwrap();
    vs.unfreeze();
    let finished = auditor.finish((&vs, &net)).unwrap();
    assert!(finished.audited(), "not the weights of the last audit");
    assert_eq!(finished.findings(), first.findings());
    vs.freeze();
    assert!(!auditor.finish((&vs, &net)).unwrap().audited(), "the same numbers, frozen or not");
}

#[test]
fn a_copy_of_the_store_can_be_finished_in_its_place() {
    let _alone = alone();
    let (vs, mut copy) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
    let (net, other) = (planted(&vs), planted(&copy));
    look_for_red(&copy, false);
    let mut auditor = fixing(3).build().unwrap();
    assert_eq!(auditor.after_epoch(1, (&vs, &net)).unwrap().findings().len(), 4);
    copy.copy(&vs).unwrap();
    let before = variables(&vs);
    let finished = auditor.finish((&copy, &other)).unwrap();
    assert!(!finished.audited() && !finished.zeroed().is_empty(), "the same network elsewhere");
    assert_same(&before, &variables(&vs));
    let unit = finished.zeroed()[0].unit as i64;
    let largest = |vs: &nn::VarStore| vs.variables()["conv.weight"].get(unit).abs().max().double_value(&[]);
    assert!(largest(&copy) == 0.0 && largest(&vs) > 0.0);
    // What is kept at zero is kept so in whatever store is given.
    let _ = auditor.after_step((&vs, &net)).unwrap();
    assert_eq!(largest(&vs), 0.0);
}

#[test]
fn zeroed_units_of_a_parameter_that_is_not_there_are_an_error() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = fixing(3).build().unwrap();
    assert!(!auditor.prune((&vs, &net), NoOptimizer).unwrap().zeroed().is_empty());
    let other = nn::VarStore::new(Device::Cpu);
    let net = nn::seq().add(nn::conv2d(other.root() / "konv", 3, 4, 1, Default::default()));
    match auditor.after_step((&other, &net)) {
        Err(Error::Unknown { kind, name, nearest }) => {
            assert_eq!((kind, nearest.first().map(String::as_str)), ("parameter", Some("konv.bias")), "{name}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn two_networks_by_name_do_not_mix() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (vs, teacher_vs) = (nn::VarStore::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
    let (net, teacher_net) = (planted(&vs), planted(&teacher_vs));
    look_for_red(&teacher_vs, false);
    let mut auditor = fixing(3).name("student").reports(folder.path()).every(Every::Steps(2)).build().unwrap();
    let teacher = Model::new(&teacher_vs, &teacher_net).named("The Teacher");
    for epoch in 1..=2 {
        let due = auditor.after_step((&vs, &net)).unwrap().report().is_some();
        assert_eq!(due, epoch == 2, "two steps of its own, whatever the other does");
        for step in 0..3 {
            let due = auditor.after_step(&teacher).unwrap().report().is_some();
            assert_eq!(due, (3 * (epoch - 1) + step) % 2 == 1);
        }
        let _ = auditor.after_epoch(epoch, (&vs, &net)).unwrap();
        let _ = auditor.after_epoch(10 * epoch, &teacher).unwrap();
    }
    let student = auditor.finish((&vs, &net)).unwrap();
    let taught = auditor.finish(&teacher).unwrap();
    let moments = |r: &Report| r.history.iter().map(|h| (h.epoch, h.step)).collect::<Vec<_>>();
    assert_eq!(moments(&student.report), [(1, 2), (2, 2)]);
    assert_eq!(moments(&taught.report), [(0, 2), (10, 4), (10, 6), (20, 6)]);
    assert_eq!((student.report.model.name.as_str(), taught.report.model.name.as_str()), ("student", "The Teacher"));
    assert!(taught.report.history.iter().all(|h| h.changed == 0), "each has words of its own");
    assert_eq!((student.findings().len(), taught.findings().len()), (4, 0));

    let sub = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path());
    let sub: Vec<_> = sub.filter(|p| p.is_dir() && !p.ends_with("pictures")).collect();
    let [sub] = sub.as_slice() else { panic!("{sub:?}") };
    assert!(sub.file_name().unwrap().to_str().unwrap().starts_with("the-teacher-"), "{sub:?}");
    let read = |folder: &std::path::Path| -> Report {
        serde_json::from_str(&std::fs::read_to_string(folder.join("report.json")).unwrap()).unwrap()
    };
    assert_eq!((&read(folder.path()), &read(sub)), (&*student.report, &*taught.report));

    // The student's units are kept at zero, the teacher's of the same numbers are not.
    let unit = student.zeroed()[0].unit as i64;
    for vs in [&vs, &teacher_vs] {
        tch::no_grad(|| drop(vs.variables()["conv.weight"].shallow_clone().fill_(0.25)));
    }
    let _ = (auditor.after_step(Model::new(&vs, &net).named("student")).unwrap(), auditor.after_step(teacher).unwrap());
    let largest = |vs: &nn::VarStore| vs.variables()["conv.weight"].get(unit).abs().max().double_value(&[]);
    assert_eq!((largest(&vs), largest(&teacher_vs)), (0.0, 0.25));

    // Each goes on by itself.
    let resumed = fixing(3).name("student").reports(folder.path()).resume(true).every(Every::Never);
    let mut resumed = resumed.build().unwrap();
    let teacher = Model::new(&teacher_vs, &teacher_net).named("The Teacher");
    let moments = |r: &Report| r.history.iter().map(|h| h.epoch).collect::<Vec<_>>();
    assert_eq!(resumed.epoch(), 2);
    let _ = resumed.after_epoch(30, &teacher).unwrap();
    assert_eq!(moments(&resumed.finish(&teacher).unwrap().report), [0, 10, 10, 20, 30]);
    assert_eq!(moments(&resumed.finish((&vs, &net)).unwrap().report), [1, 2]);
}

#[test]
fn a_closure_that_returns_several_tensors_is_audited_zeroed_and_pruned() {
    let _alone = alone();
    for action in ["zero", "prune"] {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = planted(&vs);
        let scale = vs.root().var("scale", &[1], nn::Init::Const(2.0));
        let (temperature, limit) = (1.0, 100);
        let forward = |x: &Tensor| -> Result<(Tensor, Vec<Tensor>), String> {
            if x.size()[0] > limit {
                return Err(format!("more than {limit} images"));
            }
            let logits = net.forward_t(x, false) / temperature;
            let means = x.mean_dim(&[2i64, 3][..], false, Kind::Float) * &scale;
            Ok((logits, vec![means]))
        };
        let model = Model::from_fn(&vs, forward);
        let mut auditor = fixing(3).policies(policies("deny", action, "mark")).build().unwrap();
        let found = auditor.after_epoch(1, &model).unwrap();
        let flagged: Vec<String> = found.findings().iter().map(|f| f.unit.to_string()).collect();
        assert_eq!(flagged, ["conv/0", "conv/1", "conv/2", "conv/3"]);
        let found = auditor.prune(&model, NoOptimizer).unwrap();
        let edited = if action == "zero" { found.zeroed() } else { found.pruned() };
        assert!(!edited.is_empty());
        let gone = if action == "zero" { 0 } else { edited.len() as i64 };
        assert_eq!(vs.variables()["conv.weight"].size()[0], RED + BRIGHT - gone);
        let _ = auditor.after_step(&model).unwrap();
        let finished = auditor.finish(&model).unwrap();
        assert!(finished.findings().iter().all(|f| action != "zero" || !edited.contains(&f.unit)));
        match model.forward(&Tensor::zeros([101, 3, 16, 16], (Kind::Float, Device::Cpu))) {
            Err(Error::Forward { message, input }) => {
                assert_eq!((message.as_str(), input[0]), ("more than 100 images", 101));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_closure_may_return_tensors_in_any_of_these_forms() {
    let vs = nn::VarStore::new(Device::Cpu);
    let x = Tensor::from_slice(&[1.0f32, 2.0]);
    let first = |model: Model<'_>| model.forward(&x).unwrap().double_value(&[0]);
    assert_eq!(first(Model::from_fn(&vs, |x| x * 2)), 2.0);
    assert_eq!(first(Model::from_fn(&vs, |x| (x * 3, x * 2))), 3.0);
    assert_eq!(first(Model::from_fn(&vs, |x| (x * 4, (x * 2, [x * 2, x * 5])))), 4.0);
    assert_eq!(first(Model::from_fn(&vs, |x| vec![x * 5, x * 2])), 5.0);
    assert_eq!(first(Model::from_fn(&vs, |x| Ok::<_, TchError>(x * 6))), 6.0);
    assert_eq!(first(Model::from_fn(&vs, |x| x.f_mul_scalar(7.0))), 7.0);
    assert_eq!(first(Model::from_fn(&vs, |x| std::array::from_fn::<_, 2, _>(|i| x * (8 + i as i64)))), 8.0);
    match Model::from_fn(&vs, |_| Vec::new()).forward(&x) {
        Err(Error::Forward { message, .. }) => assert_eq!(message, "the model returns no tensor"),
        other => panic!("{other:?}"),
    }
}
