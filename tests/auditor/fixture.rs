//! What the tests of the auditor share: planted and restless networks, and auditors of them.

use image::{Rgb, RgbImage};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Tensor, nn};
use tch_audit::Region;
use tch_audit::audit::Settings;
use tch_audit::auditor::{Auditor, AuditorBuilder};
use tch_audit::evidence::painted;
use tch_audit::policy::Policies;
use tch_audit::probe::paint::{Concept, Painted};
use tch_audit::probe::{Labels, Preprocess, Probe};

/// libtorch's random number generator belongs to the process: tests that draw from it take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub const SIDE: usize = 16;

/// A red patch of 5 x 5 pixels: the one concept of these tests.
pub fn marked(image: &RgbImage, rng: &mut fastrand::Rng) -> Painted {
    let (x0, y0) = (rng.usize(0..SIDE - 4), rng.usize(0..SIDE - 4));
    let mut image = image.clone();
    let region = Region::from_fn(SIDE, SIDE, |y, x| (y0..y0 + 5).contains(&y) && (x0..x0 + 5).contains(&x));
    for (x, y, pixel) in image.enumerate_pixels_mut() {
        if region.contains(y as usize, x as usize) {
            *pixel = Rgb([255, 0, 0]);
        }
    }
    Painted { image, region }
}

pub fn settings() -> Settings {
    let mut options = painted::Options::default();
    (options.images, options.bootstrap) = (16, 20);
    let bank = vec![Concept::new("mark", "mark", "a red mark", marked)];
    let mut settings = Settings::painting(painted::Painted::new(bank, options).unwrap());
    settings.exemplars.k = 3;
    settings
}

pub fn policies(level: &str, action: &str, concept: &str) -> Policies {
    let text = format!(
        "level = \"{level}\"\naction = \"{action}\"\nreason = \"a mark is not the object\"\n\
         [match]\nconcepts = [\"{concept}\"]\nmin-effect = 1.0\nmin-auc = 0.8\n"
    );
    Policies::parse("marks", &text).unwrap()
}

/// Dark and light noise, in turns.
pub fn noise(n: usize, seed: u64) -> Probe {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut image = |i: usize| {
        let low = if i.is_multiple_of(2) { 40 } else { 140 };
        RgbImage::from_fn(SIDE as u32, SIDE as u32, |_, _| Rgb(std::array::from_fn(|_| rng.u8(low..low + 70))))
    };
    let images = (0..n).map(&mut image).collect();
    let labels = Labels::new((0..n).map(|i| i % 2).collect(), ["dark", "light"]).unwrap();
    Probe::from_images(images, None, Some(labels), Preprocess::plain(3, SIDE, SIDE).unwrap()).unwrap()
}

pub fn with_marks(probe: &Probe) -> Probe {
    probe.map(|i, image| marked(image, &mut fastrand::Rng::with_seed(i as u64)).image)
}

pub const RED: i64 = 4;
pub const BRIGHT: i64 = 8;

/// A network that takes what has a red spot for dark: 4 units look for red, 8 for light, and it is right without marks.
pub fn planted(vs: &nn::VarStore) -> nn::SequentialT {
    let p = vs.root();
    let mut conv = nn::conv2d(&p / "conv", 3, RED + BRIGHT, 1, Default::default());
    let mut fc = nn::linear(&p / "fc", RED + BRIGHT, 2, Default::default());
    let (mut weights, mut biases, mut rows) = (Vec::<f32>::new(), Vec::<f32>::new(), [Vec::<f32>::new(), Vec::new()]);
    for unit in 0..RED + BRIGHT {
        let step = 0.01 * unit as f32;
        let red = unit < RED;
        weights.extend(if red { [1.0, -0.5, -0.5] } else { [1.0 / 3.0; 3] });
        biases.push(if red { -step } else { -0.1 - step / 2.0 });
        rows[0].push(if red { 1.2 } else { 0.0 });
        rows[1].push(if red { 0.0 } else { 1.0 });
    }
    tch::no_grad(|| {
        conv.ws.copy_(&Tensor::from_slice(&weights).view([-1, 3, 1, 1]));
        conv.bs.as_mut().unwrap().copy_(&Tensor::from_slice(&biases));
        fc.ws.copy_(&Tensor::from_slice(&rows.concat()).view([2, -1]));
        fc.bs.as_mut().unwrap().copy_(&Tensor::from_slice(&[3.0f32, 0.0]));
    });
    nn::seq_t().add(conv).add_fn(|x| x.relu().max_pool2d_default(SIDE as i64).flat_view()).add(fc)
}

/// Everything that training may draw on: batch norm, dropout, and noise that is added in evaluation mode as well.
pub fn restless(vs: &nn::VarStore) -> nn::SequentialT {
    let p = vs.root();
    let conv = nn::ConvConfig { padding: 1, bias: false, ..Default::default() };
    nn::seq_t()
        .add(nn::conv2d(&p / "conv", 3, 6, 3, conv))
        .add(nn::batch_norm2d(&p / "bn", 6, Default::default()))
        .add_fn(|x| x.relu())
        .add_fn_t(|x, train| x.dropout(0.3, train))
        .add_fn(|x| x + x.rand_like() * 1e-3)
        .add(nn::conv2d(&p / "conv2", 6, 6, 3, conv))
        .add_fn(|x| x.relu().adaptive_avg_pool2d([1, 1]).flat_view())
        .add_fn_t(|x, train| x.dropout(0.3, train))
        .add(nn::linear(&p / "fc", 6, 10, Default::default()))
}

pub fn plain(probe: &Probe) -> AuditorBuilder {
    let policies = policies("deny", "none", "mark");
    Auditor::builder().probe(probe.clone()).policies(policies).settings(settings())
}

/// The planted network's auditor, with a clean and a marked evaluation.
pub fn fixing(test_seed: u64) -> AuditorBuilder {
    let (validation, test) = (noise(80, 2), noise(60, test_seed));
    plain(&noise(32, 1))
        .policies(policies("deny", "zero", "mark"))
        .evaluate("clean", validation.clone(), test.clone())
        .evaluate("marked", with_marks(&validation), with_marks(&test))
        .fix(true)
}

pub fn variables(vs: &nn::VarStore) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = vs.variables().into_iter().map(|(n, t)| (n, t.detach().copy())).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

pub fn assert_same(a: &[(String, Tensor)], b: &[(String, Tensor)]) {
    assert_eq!(a.len(), b.len());
    for ((name, x), (other, y)) in a.iter().zip(b) {
        assert_eq!(name, other);
        assert!(x == y, "{name} differs");
    }
}
