//! The memory of an evaluation does not grow with the number of images in a folder.

use super::{SIDE, few_and_many, folder, is_parent, measured, of};
use std::path::Path;
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_audit::evaluate::correct;
use tch_audit::evaluate::robustness::corrupt::{Corruption, Severity};
use tch_audit::evaluate::robustness::{Options, Robustness};
use tch_audit::probe::{ImageFolder, Preprocess, example};
use tch_audit::{Model, Traced};

fn work(folder: &Path, per_class: usize) {
    let vs = nn::VarStore::new(Device::Cpu);
    let mean = |x: &Tensor| x.relu().mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
    let net = nn::seq_t().add(nn::conv2d(vs.root() / "one", 3, 2, 3, Default::default())).add_fn(mean);
    let model = Model::new(&vs, &net);
    let preprocess = Preprocess::plain(3, SIDE, SIDE).unwrap();
    let images = ImageFolder::open(folder).preprocess(preprocess).limit_per_class(per_class).stream().unwrap();
    let traced = Traced::new(&model, &example(&images, 1).unwrap()).unwrap();
    assert_eq!(correct(&traced, &[], &images).unwrap().len(), 2 * per_class);
    let mut options = Options::default();
    options.severities = vec![Severity::new(3).unwrap()];
    options.corruptions = vec![Corruption::Contrast];
    options.adversarial = false;
    let robustness = Robustness::measure(&model, None, &images, &options).unwrap();
    assert!(robustness.evaluations.iter().all(|e| e.right.len() == 2 * per_class));
}

#[test]
fn many_images_take_the_memory_of_few() {
    let parent = is_parent(|task| {
        let (per_class, folder) = task.split_once(' ').unwrap();
        work(Path::new(folder), per_class.parse().unwrap());
    });
    if !parent {
        return;
    }
    let (few, many) = few_and_many();
    let folder = folder(many);
    let [small, large] =
        [few, many].map(|n| measured("evaluate::many_images_take_the_memory_of_few", of(folder.path(), n)));
    println!("{small} KB with {} images, {large} KB with {}", 2 * few, 2 * many);
    assert!(large as f64 <= 1.1 * small as f64, "{small} KB, then {large} KB");
}
