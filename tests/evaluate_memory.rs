//! The memory of an evaluation does not grow with the number of images in a folder. Alone in its process, whose peak it
//! measures.

use image::{Rgb, RgbImage};
use std::path::Path;
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_audit::evaluate::correct;
use tch_audit::evaluate::robustness::corrupt::{Corruption, Severity};
use tch_audit::evaluate::robustness::{Options, Robustness};
use tch_audit::probe::{ImageFolder, Preprocess, example};
use tch_audit::{Model, Traced};

const SIDE: usize = 24;
/// Set for a process that measures itself.
const CHILD: &str = "TCH_AUDIT_MEMORY_CHILD";
/// Set to anything, it makes the test take 20,000 images.
const LONG: &str = "TCH_AUDIT_LONG_TESTS";

/// The largest resident set so far, in KB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Peak memory in KB of a process of its own that evaluates the first images of each class of a folder.
fn measured(folder: &Path, per_class: usize) -> u64 {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "many_images_take_the_memory_of_few", "--nocapture"]);
    // The allocator gives large blocks back at once, so that what is measured is what is kept and not how it lay.
    child.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "2");
    let output = child.env(CHILD, format!("{per_class} {}", folder.display())).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let peak = said.lines().find_map(|l| l.rsplit_once("peak: ")).unwrap_or_else(|| panic!("{said}"));
    peak.1.trim().parse().unwrap()
}

fn work(folder: &Path, per_class: usize) {
    let vs = nn::VarStore::new(Device::Cpu);
    let mean = |x: &Tensor| x.relu().mean_dim([2i64, 3].as_slice(), false, None::<Kind>);
    let net = nn::seq_t().add(nn::conv2d(vs.root() / "one", 3, 4, 3, Default::default())).add_fn(mean);
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
    if peak().is_none() {
        println!("skipped: this system does not tell a process its peak memory");
        return;
    }
    if let Ok(task) = std::env::var(CHILD) {
        let (per_class, folder) = task.split_once(' ').unwrap();
        work(Path::new(folder), per_class.parse().unwrap());
        println!("peak: {}", peak().unwrap());
        return;
    }
    let (few, many) = if std::env::var_os(LONG).is_some() { (250, 10_000) } else { (250, 1500) };
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
        for i in 0..many {
            let shade = |x: u32, y: u32| Rgb([(i % 256) as u8, (x * 10) as u8, (y * 10) as u8]);
            let image = RgbImage::from_fn(SIDE as u32, SIDE as u32, shade);
            image.save(folder.path().join(format!("{class}/{i:05}.png"))).unwrap();
        }
    }
    let (small, large) = (measured(folder.path(), few), measured(folder.path(), many));
    println!("{small} KB with {} images, {large} KB with {}", 2 * few, 2 * many);
    assert!(large as f64 <= 1.1 * small as f64, "{small} KB, then {large} KB");
}
