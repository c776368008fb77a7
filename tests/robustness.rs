//! Corruptions, painted text and attacks, and what a model bears of them before and after.

mod common;

use common::{data, with};
use image::{Rgb, RgbImage};
use std::collections::BTreeSet;
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Reduction, Tensor};
use tch_audit::evaluate::robustness::adversarial::{Pgd, fgsm, pgd};
use tch_audit::evaluate::robustness::compare::{Row, compare};
use tch_audit::evaluate::robustness::corrupt::{Corruption, Severity, corrupted};
use tch_audit::evaluate::robustness::table::render;
use tch_audit::evaluate::robustness::text::painted_text;
use tch_audit::evaluate::robustness::{Measured, Options, Robustness};
use tch_audit::probe::{Corrupt, ImageFolder, Images, Labels, Preprocess, Probe, Selected, Want, drawn, labels};
use tch_audit::stats::{Accuracy, mcnemar};
use tch_audit::{Error, Model};

const SIDE: usize = 8;

/// Noise that is slightly red, green or blue, in turns.
fn colours(n: usize, seed: u64) -> Probe {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut image = |i: usize| {
        RgbImage::from_fn(SIDE as u32, SIDE as u32, |_, _| {
            Rgb(std::array::from_fn(|c| if c == i % 3 { rng.u8(60..210) } else { rng.u8(40..190) }))
        })
    };
    let images = (0..n).map(&mut image).collect();
    let labels = Labels::new((0..n).map(|i| i % 3).collect(), ["red", "green", "blue"]).unwrap();
    Probe::from_images(images, None, Some(labels), preprocess()).unwrap()
}

fn preprocess() -> Preprocess {
    Preprocess::new(3, SIDE, SIDE, vec![0.5, 0.4, 0.3], vec![0.2, 0.25, 0.5]).unwrap()
}

/// A small convolutional network, trained to tell colours apart.
fn trained(vs: &nn::VarStore) -> nn::SequentialT {
    tch::manual_seed(3);
    let p = vs.root();
    let net = nn::seq_t()
        .add(nn::conv2d(&p / "conv", 3, 6, 3, nn::ConvConfig { padding: 1, ..Default::default() }))
        .add(nn::batch_norm2d(&p / "bn", 6, Default::default()))
        .add_fn(|x| x.relu().adaptive_avg_pool2d([1, 1]).flat_view())
        .add(nn::linear(&p / "fc", 6, 3, Default::default()));
    let mut opt = nn::Adam::default().build(vs, 0.02).unwrap();
    let probe = colours(90, 1);
    let (xs, ys) = (probe.tensor(0..90).unwrap(), probe.labels().unwrap());
    for _ in 0..80 {
        opt.backward_step(&net.forward_t(&xs, true).cross_entropy_for_logits(&ys));
    }
    opt.zero_grad();
    net
}

fn loss(model: &Model<'_>, input: &Tensor, labels: &Tensor) -> f64 {
    let logits = model.forward(input).unwrap();
    logits.cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0).double_value(&[])
}

/// Every image, read in batches.
fn pixels(images: &dyn Images) -> Vec<RgbImage> {
    let (all, mut pixels) = ((0..images.len()).collect::<Vec<_>>(), Vec::new());
    let mut keep = |batch: tch_audit::probe::Batch| {
        pixels.extend(batch.pixels.iter().map(|image| image.as_ref().clone()));
        Ok(())
    };
    images.read(&all, 5, Want::Pixels, &mut keep).unwrap();
    pixels
}

fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    let sum: f64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
    sum / a.as_raw().len() as f64
}

#[test]
fn severities_are_1_to_5() {
    assert_eq!(Severity::all().map(Severity::get), [1, 2, 3, 4, 5]);
    for bad in [0, 6, 255] {
        let error = Severity::new(bad).unwrap_err().to_string();
        assert_eq!(error, format!("severity: received {bad}, allowed 1 to 5"));
    }
    let error = "gausian-noise".parse::<Corruption>().unwrap_err().to_string();
    assert!(error.contains("`gaussian-noise`"), "{error}");
}

#[test]
fn a_worse_severity_changes_images_more() {
    for side in [16, 32, 48, 64, 224] {
        let probe = drawn(1, side, 5).unwrap();
        for corruption in Corruption::ALL {
            let mean = |severity| {
                let worse = pixels(&corrupted(&probe, corruption, severity, 1).unwrap());
                (0..probe.len()).map(|i| difference(probe.image(i), &worse[i])).sum::<f64>() / probe.len() as f64
            };
            let means = Severity::all().map(mean);
            assert!(means[0] > 0.0, "{corruption} at {side}: {means:?}");
            assert!(means.windows(2).all(|pair| pair[0] < pair[1]), "{corruption} at {side}: {means:?}");
            assert!(means[4] > 1.1 * means[0], "{corruption} at {side}: {means:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let probe = colours(12, 1);
    let alike = |threads: usize, seed: u64| -> Vec<Vec<Vec<u8>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let bytes = |images: &dyn Images| pixels(images).into_iter().map(RgbImage::into_raw).collect::<Vec<_>>();
            let worse = |c| bytes(&corrupted(&probe, c, Severity::new(3).unwrap(), seed).unwrap());
            let mut all: Vec<Vec<Vec<u8>>> = Corruption::ALL.into_iter().map(worse).collect();
            all.push(bytes(&painted_text(&probe, seed).unwrap()));
            all
        })
    };
    let one = alike(1, 7);
    assert_eq!(one, alike(3, 7));
    let other = alike(1, 8);
    let random = [Corruption::GaussianNoise, Corruption::Occlusion];
    for (i, corruption) in Corruption::ALL.into_iter().enumerate() {
        assert_eq!(one[i] != other[i], random.contains(&corruption), "{corruption}");
    }
    assert_ne!(one.last(), other.last());
    assert_eq!(one.iter().collect::<BTreeSet<_>>().len(), 8, "no two are the same");

    let worse = corrupted(&probe, Corruption::Contrast, Severity::new(1).unwrap(), 7).unwrap();
    let named = |images: &dyn Images| (images.name(3).into_owned(), images.label(3), images.classes().to_vec());
    assert_eq!(named(&worse), named(&probe));
    assert_eq!(worse.preprocess(), probe.preprocess());
    let print = |corruption, severity, seed| {
        corrupted(&probe, corruption, Severity::new(severity).unwrap(), seed).unwrap().fingerprint()
    };
    assert_eq!(print(Corruption::Contrast, 1, 7), worse.fingerprint());
    let prints =
        [worse.fingerprint(), print(Corruption::Jpeg, 1, 7), print(Corruption::Contrast, 2, 7), probe.fingerprint()];
    assert_eq!(prints.iter().collect::<BTreeSet<_>>().len(), 4);
    let few = probe.select(&[0, 1]).unwrap();
    let alone = corrupted(&few, Corruption::GaussianNoise, Severity::new(5).unwrap(), 7).unwrap();
    let all = corrupted(&probe, Corruption::GaussianNoise, Severity::new(5).unwrap(), 7).unwrap();
    assert_eq!(alone.image(1).unwrap(), all.image(1).unwrap(), "whatever the other images are");
    assert_ne!(all.image(0).unwrap(), all.image(3).unwrap());
}

#[test]
fn images_of_any_size_and_grey_ones_can_be_corrupted() {
    for (width, height) in [(0, 0), (1, 1), (2, 9), (8, 8), (300, 1)] {
        for value in [0, 128, 255] {
            let image = RgbImage::from_pixel(width, height, Rgb([value; 3]));
            for corruption in Corruption::ALL {
                for severity in Severity::all() {
                    let worse = corruption.apply(&image, severity, 3);
                    assert_eq!(worse.dimensions(), image.dimensions(), "{corruption}");
                    if [Corruption::GaussianBlur, Corruption::Contrast, Corruption::Pixelate].contains(&corruption) {
                        assert_eq!(worse, image, "{corruption}: a flat image has nothing to lose");
                    }
                }
            }
        }
    }
    for (width, height) in [(1, 1), (3, 8)] {
        let preprocess = Preprocess::plain(1, height, width).unwrap();
        let image = RgbImage::from_pixel(width as u32, height as u32, Rgb([99; 3]));
        let probe = Probe::from_images(vec![image], None, None, preprocess).unwrap();
        assert_eq!(painted_text(&probe, 1).unwrap().len(), 1);
    }
    let none = Probe::from_images(Vec::new(), None, None, preprocess()).unwrap();
    assert!(corrupted(&none, Corruption::Jpeg, Severity::all()[0], 0).is_err());
    assert!(painted_text(&none, 0).is_err());
}

#[test]
fn a_word_is_painted_on_every_image_and_is_the_name_of_no_class() {
    let probe = drawn(2, 32, 5).unwrap();
    let painted = painted_text(&probe, 4).unwrap();
    for i in 0..probe.len() {
        let share = difference(probe.image(i), &painted.image(i).unwrap());
        assert!((1.0..80.0).contains(&share), "image {i}: {share}");
    }
    let all: Vec<usize> = (0..probe.len()).collect();
    assert_eq!(labels(&painted, &all).unwrap(), probe.labels().unwrap());

    // With all words but one taken, all images get that one.
    let words = "about again also because even ever every first from have just more most much often only other some \
                 still then very which with";
    let labelled = |names: &[&str]| {
        let images = (0..4).map(|_| RgbImage::new(64, 32)).collect();
        let labels = Labels::new(vec![0; 4], names.iter().map(|n| n.to_string())).unwrap();
        Probe::from_images(images, None, Some(labels), Preprocess::plain(3, 32, 64).unwrap()).unwrap()
    };
    assert!(painted_text(&labelled(&[words]), 1).is_ok());
    let error = painted_text(&labelled(&[words, "Yes-men"]), 1).unwrap_err();
    assert!(error.to_string().contains("class names: received names that leave no word"), "{error}");
}

/// By how much of a 0-1 pixel two inputs differ at most, and the smallest and largest pixel of the second.
fn reach(clean: &Tensor, attacked: &Tensor, preprocess: &Preprocess) -> [f64; 3] {
    let of = |v: &[f32]| Tensor::from_slice(v).view([1, -1, 1, 1]);
    let pixels = |x: &Tensor| x * of(&preprocess.std) + of(&preprocess.mean);
    let (a, b) = (pixels(clean), pixels(attacked));
    [(&a - &b).abs().max().double_value(&[]), b.min().double_value(&[]), b.max().double_value(&[])]
}

#[test]
fn attacks_raise_the_loss_within_epsilon_and_the_range_of_pixels() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = trained(&vs);
    let model = Model::new(&vs, &net);
    // Black and white, where no room is left on one side.
    let probe = colours(30, 2).map(|_, image| {
        let mut image = image.clone();
        (0..SIDE as u32).for_each(|x| image.put_pixel(x, 0, Rgb([255 * (x % 2) as u8; 3])));
        image
    });
    let (input, labels, p) = (probe.tensor(0..30).unwrap(), probe.labels().unwrap(), preprocess());
    let clean = loss(&model, &input, &labels);
    let numbers: Vec<usize> = (0..30).collect();
    for epsilon in [2.0 / 255.0, 0.05] {
        let fast = fgsm(&model, &input, &labels, &p, epsilon).unwrap();
        let options = with(Pgd::default(), |o| o.epsilon = epsilon);
        let strong = pgd(&model, &input, &labels, &p, &options, &numbers).unwrap();
        for attacked in [&fast, &strong] {
            let [change, least, most] = reach(&input, attacked, &p);
            assert!(change > 0.9 * epsilon && change < epsilon + 1e-6, "{change} of {epsilon}");
            assert!(least > -1e-6 && most < 1.0 + 1e-6, "{least} to {most}");
        }
        let losses = [clean, loss(&model, &input, &labels.shallow_clone())];
        assert_eq!(losses[0], losses[1], "the input is as it was");
        let (fast, strong) = (loss(&model, &fast, &labels), loss(&model, &strong, &labels));
        assert!(fast > clean, "{fast} after {clean}");
        assert!(strong >= fast - 1e-4, "{strong} after {fast}");
    }
    let again = |first: usize| {
        let numbers: Vec<usize> = (first..first + 30).collect();
        pgd(&model, &input, &labels, &p, &with(Pgd::default(), |o| o.steps = 1), &numbers).unwrap()
    };
    assert_eq!(again(0), again(0));
    assert_ne!(again(0), again(1));
    let part =
        pgd(&model, &input.narrow(0, 10, 5), &labels.narrow(0, 10, 5), &p, &Pgd::default(), &numbers[10..15]).unwrap();
    let whole = pgd(&model, &input, &labels, &p, &Pgd::default(), &numbers).unwrap().narrow(0, 10, 5);
    assert!((part - whole).abs().max().double_value(&[]) < 1e-3, "whatever the batches");
    for (bad, words) in [(0.0, "0"), (f64::NAN, "NaN"), (8.0, "8")] {
        let error = fgsm(&model, &input, &labels, &p, bad).unwrap_err().to_string();
        assert!(error.starts_with(&format!("epsilon of an attack: received {words}, allowed")), "{error}");
    }
    assert!(pgd(&model, &input, &labels, &p, &with(Pgd::default(), |o| o.steps = 0), &numbers).is_err());
    let few = pgd(&model, &input, &labels, &p, &Pgd::default(), &numbers[1..]);
    assert!(matches!(few, Err(Error::Shape { .. })));
    let other = Preprocess::plain(3, SIDE, SIDE + 1).unwrap();
    assert!(matches!(fgsm(&model, &input, &labels, &other, 0.1), Err(Error::Shape { .. })));
}

#[test]
fn of_a_linear_model_the_gradient_is_known() {
    let vs = nn::VarStore::new(Device::Cpu);
    let fc = nn::linear(vs.root() / "fc", 3 * 64, 3, Default::default());
    let weight = fc.ws.detach().copy();
    let net = nn::func(move |x| x.flat_view().apply(&fc));
    let model = Model::new(&vs, &net);
    let probe = colours(5, 9);
    let (input, labels) = (probe.tensor(0..5).unwrap(), probe.labels().unwrap());
    let (gradient, logits) = model.input_gradient(&input, &labels).unwrap();
    assert_eq!(logits, model.forward(&input).unwrap());
    let known = (logits.softmax(1, Kind::Float) - labels.one_hot(3)).matmul(&weight);
    assert!((gradient.view([5, -1]) - known).abs().max().double_value(&[]) < 1e-5);
    // One step in the direction of the signs is then the best there is, and many find the same.
    let p = Preprocess::plain(3, SIDE, SIDE).unwrap();
    let inner = Tensor::full([5, 3, SIDE as i64, SIDE as i64], 0.5, (Kind::Float, Device::Cpu));
    let fast = fgsm(&model, &inner, &labels.zeros_like(), &p, 0.01).unwrap();
    let options = with(Pgd::default(), |o| o.epsilon = 0.01);
    let strong = pgd(&model, &inner, &labels.zeros_like(), &p, &options, &[0, 1, 2, 3, 4]).unwrap();
    let (fast, strong) = (loss(&model, &fast, &labels.zeros_like()), loss(&model, &strong, &labels.zeros_like()));
    assert!((fast - strong).abs() < 1e-3 && strong >= fast - 1e-4, "{fast} and {strong}");
}

#[test]
fn gradients_of_parameters_are_not_touched() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = trained(&vs);
    let _ = vs.variables()["conv.bias"].set_requires_grad(false);
    let probe = colours(9, 2);
    let (input, labels) = (probe.tensor(0..9).unwrap(), probe.labels().unwrap());
    net.forward_t(&input, false).cross_entropy_for_logits(&labels).backward();
    let state = || {
        let mut all: Vec<_> = vs.variables().into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let grad = |t: &Tensor| t.grad().defined().then(|| t.grad().copy());
        all.into_iter().map(|(n, t)| (n, t.detach().copy(), t.requires_grad(), grad(&t))).collect::<Vec<_>>()
    };
    let before = state();
    assert!(before.iter().any(|s| s.3.is_some()) && before.iter().any(|s| s.3.is_none()));
    let model = Model::new(&vs, &net);
    let attacked = fgsm(&model, &input, &labels, &preprocess(), 0.1).unwrap();
    let stronger = pgd(&model, &input, &labels, &preprocess(), &Pgd::default(), &[0, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert!(!attacked.requires_grad() && !stronger.requires_grad() && !input.requires_grad());
    assert!(!input.grad().defined());
    assert!(state() == before, "weights, running statistics, gradients and who wants them");
    assert!(
        (Tensor::ones([1], (Kind::Float, Device::Cpu)).set_requires_grad(true) * 2).requires_grad(),
        "mode is back"
    );
}

#[test]
fn a_model_without_usable_gradients_is_an_error() {
    let vs = nn::VarStore::new(Device::Cpu);
    let p = vs.root();
    let head = |name: &str| nn::linear(&p / name, 3 * 64, 3, Default::default());
    let (a, b, c, d) = (head("a"), head("b"), head("c"), head("d"));
    let detached = nn::func(move |x| x.detach().flat_view().apply(&a));
    let without = nn::func(move |x| tch::no_grad(|| x.flat_view().apply(&b)));
    let constant = nn::func(|x| Tensor::zeros([x.size()[0], 3], (Kind::Float, Device::Cpu)));
    let panics = nn::func(|_| panic!("not today"));
    let infinite = nn::func(move |x| (x.flat_view().apply(&c) * 0.0).log());
    let flat = nn::func(move |x| x.flat_view().apply(&d).view([-1]));
    let probe = colours(3, 1);
    let (input, labels) = (probe.tensor(0..3).unwrap(), probe.labels().unwrap());
    let message = |net: &dyn ModuleT, labels: &Tensor| {
        let model = Model::new(&vs, net);
        fgsm(&model, &input, labels, &preprocess(), 0.1).unwrap_err().to_string()
    };
    for net in [&detached as &dyn ModuleT, &without, &constant] {
        let message = message(net, &labels);
        assert!(message.contains("gradient of the loss with respect to the input: received none"), "{message}");
    }
    assert!(message(&panics, &labels).contains("not today"));
    assert!(message(&infinite, &labels).contains("received NaN or inf"), "{}", message(&infinite, &labels));
    assert!(message(&flat, &labels).contains("received shape [9], expected [3, classes]"));
    assert!(message(&detached, &Tensor::from_slice(&[0i64, 1, 3])).contains("label of image 2: received 3"));
    assert!(message(&detached, &Tensor::from_slice(&[0i64, -100, 1])).contains("label of image 1: received -100"));
    assert!(message(&detached, &Tensor::from_slice(&[0i64, 1])).contains("[3], one per image"));
    assert!(message(&detached, &Tensor::from_slice(&[0f32, 1., 2.])).contains("an integer kind"));
}

#[test]
fn a_measurement_has_an_evaluation_for_everything_asked_and_is_deterministic() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = trained(&vs);
    let model = Model::new(&vs, &net);
    let probe = colours(45, 5);
    let options = with(Options::default(), |o| o.epsilon = 0.1);
    let one = Robustness::measure(&model, None, &probe, &options).unwrap();
    assert_eq!(one.evaluations.len(), 1 + 1 + 7 * 5 + 2);
    let find =
        |name: &str, severity| one.evaluations.iter().find(|m| m.name == name && m.severity == severity).unwrap();
    let clean = find("clean", None);
    assert!(clean.accuracy.rate() > 0.9 && clean.right.len() == 45, "{}", clean.accuracy);
    assert_eq!(clean.right.iter().filter(|r| **r).count() as u64, clean.accuracy.correct);
    assert!(find("fgsm", None).accuracy.rate() < clean.accuracy.rate());
    assert!(find("pgd", None).accuracy.correct <= find("fgsm", None).accuracy.correct);
    assert!(find("occlusion", Some(5)).accuracy.correct <= clean.accuracy.correct);
    for measured in &one.evaluations {
        let (class, worst) = measured.worst_class.clone().unwrap();
        assert!(probe.classes().contains(&class) && worst.total == 15);
        assert!(worst.rate() <= measured.accuracy.rate());
    }
    let again = Robustness::measure(&model, Some(&Model::new(&vs, &net)), &probe, &options).unwrap();
    assert_eq!(one, again);

    let few = with(Options::default(), |o| {
        o.limit = Some(7);
        o.severities = vec![Severity::new(2).unwrap()];
        o.corruptions = vec![Corruption::Jpeg];
        (o.adversarial, o.text) = (false, false);
    });
    let few = Robustness::measure(&model, None, &probe, &few).unwrap();
    let names: Vec<_> = few.evaluations.iter().map(|m| (m.name.as_str(), m.severity, m.right.len())).collect();
    assert_eq!(names, [("clean", None, 7), ("jpeg", Some(2), 7)]);
    assert_eq!(few.evaluations[0].worst_class.clone().unwrap().1.total / 2, 1, "two or three of each class");
}

#[test]
fn a_folder_is_measured_as_its_loaded_images_are_and_unreadable_ones_shift_nothing() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = trained(&vs);
    let model = Model::new(&vs, &net);
    let (probe, root) = (colours(24, 5), tempfile::tempdir().unwrap());
    for (i, class) in ["0-red", "1-green", "2-blue"].iter().enumerate() {
        std::fs::create_dir(root.path().join(class)).unwrap();
        for k in 0..8 {
            probe.image(3 * k + i).save(root.path().join(format!("{class}/{k}.png"))).unwrap();
        }
    }
    let open = || ImageFolder::open(root.path()).preprocess(preprocess()).corrupt(Corrupt::Skip);
    let options = with(Options::default(), |o| {
        o.severities = vec![Severity::new(3).unwrap()];
        o.corruptions = vec![Corruption::GaussianNoise, Corruption::Jpeg];
        o.epsilon = 0.1;
    });
    let measure = |images: &dyn Images, limit| {
        Robustness::measure(&model, None, images, &with(options.clone(), |o| o.limit = limit)).unwrap()
    };
    let (loaded, stream) = (open().load().unwrap(), open().stream().unwrap());
    for limit in [None, Some(10)] {
        assert_eq!(measure(&loaded, limit), measure(&stream, limit));
    }
    let whole = measure(&stream, None);
    std::fs::write(root.path().join("0-red/3.png"), "bad").unwrap();
    std::fs::write(root.path().join("2-blue/0.png"), "bad").unwrap();
    let holed = measure(&stream, None);
    let left: Vec<usize> = (0..24).filter(|i| ![3, 16].contains(i)).collect();
    let chosen = measure(&Selected::new(&loaded, left.clone()).unwrap(), None);
    for (i, ((with, without), alone)) in
        whole.evaluations.iter().zip(&holed.evaluations).zip(&chosen.evaluations).enumerate()
    {
        assert_eq!(without.right.len(), 22);
        // Noise and random starts go by the number of an image.
        let same: Vec<bool> = left.iter().map(|k| with.right[*k]).collect();
        assert_eq!(without.right, same, "{}", without.name);
        if i == 0 {
            assert_eq!((&without.right, &without.worst_class), (&alone.right, &alone.worst_class));
        }
    }
    assert_ne!(whole.images, holed.images, "other images");
    assert!(compare(&whole, &holed, None).is_err());
}

#[test]
fn what_cannot_be_measured_is_an_error_that_names_it() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = trained(&vs);
    let model = Model::new(&vs, &net);
    let probe = colours(9, 5);
    let plain = with(Options::default(), |o| {
        o.adversarial = false;
        o.text = false;
        o.corruptions = Vec::new();
    });
    let message = |model: &Model<'_>, copy: Option<&Model<'_>>, images: &dyn Images, options: &Options| {
        Robustness::measure(model, copy, images, options).unwrap_err().to_string()
    };
    let unlabelled =
        Probe::from_images((0..3).map(|i| probe.image(i).clone()).collect(), None, None, preprocess()).unwrap();
    for limit in [None, Some(2)] {
        let options = with(plain.clone(), |o| o.limit = limit);
        assert!(message(&model, None, &unlabelled, &options).contains("images without labels"));
    }
    assert!(message(&model, None, &probe.select(&[]).unwrap(), &plain).contains("no image"));
    assert!(message(&model, None, &probe, &with(plain.clone(), |o| o.limit = Some(0))).contains("limit of images"));
    let wild = with(Options::default(), |o| o.epsilon = -1.0);
    assert!(message(&model, None, &probe, &wild).contains("epsilon of an attack: received -1"));

    let nan = nn::func(|x| {
        let out = Tensor::zeros([x.size()[0], 3], (Kind::Float, Device::Cpu));
        let _ = out.get(4).get(1).fill_(f64::NAN);
        out
    });
    let text = message(&Model::new(&vs, &nan), None, &probe, &plain);
    assert!(text.contains("the model's output unit 1 on image image-4 (clean) is NaN"), "{text}");
    let two = nn::func(|x| Tensor::zeros([x.size()[0], 2], (Kind::Float, Device::Cpu)));
    assert!(
        message(&Model::new(&vs, &two), None, &probe, &plain)
            .contains("accuracy: not measured: 3 classes, the model has 2 outputs")
    );

    let others = nn::VarStore::new(Device::Cpu);
    let other = trained(&others);
    let _ = tch::no_grad(|| others.variables()["fc.bias"].shallow_clone().fill_(2.0));
    let options = with(plain, |o| o.adversarial = true);
    let text = message(&model, Some(&Model::new(&others, &other)), &probe, &options);
    assert!(text.starts_with("attack copy: received outputs that differ"), "{text}");
}

fn measured(name: &str, severity: Option<u8>, right: &str, worst: &str, of: (u64, u64)) -> Measured {
    let right: Vec<bool> = right.bytes().map(|b| b == b'1').collect();
    let accuracy = Accuracy::new(right.iter().filter(|r| **r).count() as u64, right.len() as u64);
    Measured {
        name: name.into(),
        severity,
        right,
        accuracy,
        worst_class: Some((worst.into(), Accuracy::new(of.0, of.1))),
    }
}

fn robustness(evaluations: Vec<Measured>) -> Robustness {
    Robustness { evaluations, images: "same".into() }
}

#[test]
fn comparisons_are_paired_by_image_and_means_count_an_image_once() {
    let before = robustness(vec![
        measured("clean", None, "11111111", "cat", (4, 4)),
        measured("jpeg", Some(1), "11110000", "cat", (1, 4)),
        measured("jpeg", Some(3), "11000000", "dog", (0, 4)),
        measured("pgd", None, "10000000", "dog", (0, 4)),
    ]);
    let after = robustness(vec![
        measured("clean", None, "11111110", "dog", (3, 4)),
        measured("jpeg", Some(1), "11111111", "cat", (4, 4)),
        measured("jpeg", Some(3), "01111110", "dog", (2, 4)),
        measured("pgd", None, "10000000", "dog", (0, 4)),
    ]);
    let rows = compare(&before, &after, Some(&[before.clone(), after.clone()])).unwrap();
    let keys: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.severity, r.mean)).collect();
    let expected = [
        ("clean", None, false),
        ("jpeg", Some(1), false),
        ("jpeg", Some(3), false),
        ("jpeg", None, true),
        ("pgd", None, false),
    ];
    assert_eq!(keys, expected);
    assert_eq!(rows.iter().map(|r| r.change).collect::<Vec<_>>(), [-12.5, 50.0, 50.0, 50.0, 0.0]);
    let ps = [1.0, mcnemar(0, 4), mcnemar(1, 5), mcnemar(1, 6), 1.0];
    assert_eq!(rows.iter().map(|r| r.p).collect::<Vec<_>>(), ps, "the first image lost, the second is as it was");
    assert_eq!((rows[3].before, rows[3].after), (Accuracy::new(3, 8), Accuracy::new(7, 8)));
    assert_eq!(rows[3].controls, [Accuracy::new(3, 8), Accuracy::new(7, 8)]);
    assert_eq!(rows[3].worst_class_before, Some(("dog".into(), Accuracy::new(0, 4))));
    assert_eq!(rows[3].worst_class_after, Some(("dog".into(), Accuracy::new(2, 4))));
    let text = serde_json::to_string(&rows).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Row>>(&text).unwrap(), rows);

    let mut other = after.clone();
    other.evaluations.swap(1, 2);
    let error = compare(&before, &other, None).unwrap_err().to_string();
    let expected = "evaluation 1 of the measurement after: received jpeg 3 on 8 images, allowed jpeg 1 on 8 images";
    assert_eq!(error, expected);
    other = after.clone();
    other.evaluations.pop();
    let error = compare(&before, &after, Some(&[before.clone(), other])).unwrap_err().to_string();
    assert!(error.contains("evaluation 3 of the control 1: received nothing"), "{error}");
    let other = Robustness { images: "others".into(), ..after };
    assert!(compare(&before, &other, None).unwrap_err().to_string().contains("other images"));
    assert_eq!(compare(&Robustness::default(), &Robustness::default(), None).unwrap(), []);
}

#[test]
fn a_comparison_is_shown_in_aligned_columns_of_at_most_110() {
    assert_eq!(render(&[]), "");
    let set = |rates: [u64; 4]| {
        let right = |n: u64| "1".repeat(n as usize) + &"0".repeat(200 - n as usize);
        robustness(vec![
            measured("clean", None, &right(rates[0]), "automobile", (rates[0] / 10, 20)),
            measured("painted text", None, &right(rates[1]), "cat", (rates[1] / 10, 20)),
            measured("gaussian-noise", Some(1), &right(rates[2]), "cat", (rates[2] / 10, 20)),
            measured("gaussian-noise", Some(5), &right(rates[3]), "dog", (rates[3] / 10, 20)),
        ])
    };
    let (before, after) = (set([190, 40, 180, 100]), set([186, 150, 180, 90]));
    let shown = render(&compare(&before, &after, None).unwrap());
    let expected = "                  before, %          after, %           change        p  worst class, %
  clean           95.0 [91.0, 97.3]  93.0 [88.6, 95.8]    -2.0   0.1250  automobile 95.0 to 90.0
  painted text    20.0 [15.0, 26.1]  75.0 [68.6, 80.5]   +55.0  <0.0001  cat 20.0 to 75.0
  gaussian-noise  70.0 [63.3, 75.9]  67.5 [60.7, 73.6]    -2.5   0.0020  dog 50.0 to 45.0

  change by severity     1  2  3  4     5
  gaussian-noise      +0.0           -5.0

  Before and after: with 95 % Wilson intervals; corruptions are means over severities. Changes are in points.
";
    assert_eq!(shown, expected, "{shown}");

    let mut wide = set([200, 0, 200, 0]);
    for (i, measured) in wide.evaluations.iter_mut().enumerate() {
        let name = format!("{i} 汽车\u{1b}[31m and something very long indeed\nand more");
        measured.worst_class = Some((name, Accuracy::new(0, 20)));
    }
    let rows = compare(&set([200, 0, 200, 0]), &wide, Some(&[before, after])).unwrap();
    let shown = render(&rows);
    let columns =
        |line: &str| line.chars().map(|c| if ('\u{2e80}'..'\u{a000}').contains(&c) { 2 } else { 1 }).sum::<usize>();
    assert!(shown.lines().all(|line| columns(line) <= 110), "{shown}");
    assert!(!shown.contains('\u{1b}') && shown.contains("93.0 to 95.0"), "{shown}");
}

#[test]
fn a_published_network_gets_fewer_corrupted_and_attacked_images_right() {
    let (Some(models), Some(images)) = (data("models"), data("cifar10/test")) else { return };
    let preprocess = Preprocess::new(3, 32, 32, vec![0.4914, 0.4822, 0.4465], vec![0.2023, 0.1994, 0.2010]).unwrap();
    let probe = ImageFolder::open(images).preprocess(preprocess).limit_per_class(10).load().unwrap();
    let file = models.join("resnet20_cifar10.pt");
    let (model, copy) = (Model::load(&file).unwrap(), Model::load(&file).unwrap());
    let options = with(Options::default(), |o| o.severities = vec![Severity::new(5).unwrap()]);
    let result = Robustness::measure(&model, Some(&copy), &probe, &options).unwrap();
    let clean = result.evaluations[0].accuracy;
    for measured in &result.evaluations[1..] {
        eprintln!("{} {}", measured.name, measured.accuracy);
        assert!(measured.accuracy.correct <= clean.correct, "{}: {}", measured.name, measured.accuracy);
    }
    let noise = result.evaluations.iter().find(|m| m.name == "gaussian-noise").unwrap();
    assert!(noise.accuracy.rate() < clean.rate() - 0.1, "{}", noise.accuracy);
    let pgd = result.evaluations.last().unwrap();
    assert!(pgd.name == "pgd" && pgd.accuracy.rate() < 0.5 * clean.rate(), "{}", pgd.accuracy);
    let (input, labels) = (probe.tensor(0..4).unwrap(), probe.labels().unwrap().narrow(0, 0, 4));
    let traced = Model::load(models.join("resnet20_cifar10_traced.pt")).unwrap();
    let [scripted, traced] = [&copy, &traced].map(|m| m.input_gradient(&input, &labels).unwrap().0);
    assert!((scripted - traced).abs().max().double_value(&[]) < 1e-3, "scripted or traced");
    // The model itself never ran with gradients: its sites are still found.
    let graph = tch_audit::Traced::new(&model, &probe.tensor(0..2).unwrap()).unwrap();
    assert_eq!(graph.site("layer3").unwrap().units, 64);
}
