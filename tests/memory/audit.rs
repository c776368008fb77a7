//! Memory of a whole audit, as `check` does it, does not grow with the number of images in a folder.

use super::{SIDE, few_and_many, folder, is_parent, measured, of};
use std::path::Path;
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_audit::audit::{Audit, Leftovers, Settings};
use tch_audit::evidence::Painted;
use tch_audit::exemplars::{Held, Run};
use tch_audit::policy::Policies;
use tch_audit::probe::paint;
use tch_audit::probe::{ImageFolder, Images, Preprocess, Want, example};
use tch_audit::report::{ModelInfo, Report};
use tch_audit::{Model, Traced};

/// Shows a network the images, and audits it if that is asked for.
fn work(folder: &Path, per_class: usize, audited: bool) {
    let vs = nn::VarStore::new(Device::Cpu);
    let mean = |x: &Tensor| x.relu().mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
    let net = nn::seq_t()
        .add(nn::conv2d(vs.root() / "one", 3, 64, 3, Default::default()))
        .add_fn(mean)
        .add(nn::linear(vs.root() / "two", 64, 2, Default::default()));
    let model = Model::new(&vs, &net);
    let preprocess = Preprocess::plain(3, SIDE, SIDE).unwrap();
    let images = ImageFolder::open(folder).preprocess(preprocess).limit_per_class(per_class).stream().unwrap();
    if !audited {
        let all: Vec<usize> = (0..images.len()).collect();
        images.read(&all, 64, Want::Inputs, &mut |batch| model.forward(&batch.input).map(drop)).unwrap();
        return;
    }
    let traced = Traced::new(&model, &example(&images, 1).unwrap()).unwrap();
    let mut settings = Settings::painting(Painted::new(paint::bank(), Default::default()).unwrap());
    settings.sites = vec!["one".to_string()];
    let sites = traced.select(&settings.sites).unwrap();
    let out = tempfile::tempdir().unwrap();
    let study = out.path().join("study");
    let run = Run::new(&traced, &sites, &images, &settings.exemplars).unwrap();
    let held = Held::try_from(run.ensure(&study, false).unwrap().0).unwrap();
    let mut leftovers = Leftovers::open(study.join("words.jsonl"), false).unwrap();
    let audit = Audit::from(&traced, &images, &settings, &Policies::shipped().unwrap(), held, &mut leftovers).unwrap();
    assert_eq!(audit.accuracy.as_ref().unwrap().total, 2 * per_class as u64);
    let mut report = Report::of(&audit, ModelInfo::default(), &images, &settings, "");
    report.judge(&audit.outcome, |_| None);
    report.finish().save(out.path(), &audit.exemplars, &images).unwrap();
}

#[test]
fn an_audit_of_many_images_takes_the_memory_of_one_of_few() {
    let parent = is_parent(|task| {
        let (audited, task) = task.split_once(' ').unwrap();
        let (per_class, folder) = task.split_once(' ').unwrap();
        work(Path::new(folder), per_class.parse().unwrap(), audited == "true");
    });
    if !parent {
        return;
    }
    let (few, many) = few_and_many();
    let folder = folder(many);
    let test = "audit::an_audit_of_many_images_takes_the_memory_of_one_of_few";
    let of = |audited: bool, n: usize| measured(test, format!("{audited} {}", of(folder.path(), n)));
    let above = |n| of(true, n).saturating_sub(of(false, n));
    let (small, large) = (above(few), above(many));
    println!("above the bare pass: {small} KB with {} images, {large} KB with {}", 2 * few, 2 * many);
    assert!(large as f64 <= 1.1 * small as f64, "{small} KB, then {large} KB");
}
