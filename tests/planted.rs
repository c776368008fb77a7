//! The concepts describer on networks whose units are known: what it must name, and when it must not name anything.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::describe::concepts::{Concepts, Thresholds};
use tch_audit::describe::{Description, Status};
use tch_audit::evidence::painted::{Options, Overlap, Painted as Source};
use tch_audit::evidence::{ConceptEvidence, EvidenceSource, Study};
use tch_audit::exemplars::{self, Exemplars};
use tch_audit::probe::paint::{self, Concept, Painted};
use tch_audit::probe::{Preprocess, Probe, drawn, image_tensor};
use tch_audit::stats::auc;
use tch_audit::{Error, Model, Region};

mod common;
use common::{golden, with};

/// A network from a closure.
struct Net<F>(F);

impl<F> fmt::Debug for Net<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl<F: Fn(&Tensor, bool) -> Tensor + Send> ModuleT for Net<F> {
    fn forward_t(&self, xs: &Tensor, train: bool) -> Tensor {
        (self.0)(xs, train)
    }
}

/// Drawn images on which no figure, bar or post is a concept of the bank already.
fn scenes(per_class: usize, size: usize, seed: u64) -> Probe {
    let all = drawn(per_class, size, seed).unwrap();
    let plain = |i: &usize| ["diamond", "moon", "star"].contains(&all.classes()[all.label(*i).unwrap()].as_str());
    all.select(&(0..all.len()).filter(plain).collect::<Vec<_>>()).unwrap()
}

/// A network and its variables, the same for the same seed: libtorch has one random generator, which tests that run at
/// the same time would take numbers from in turn. One thread, since sums depend on how libtorch splits them.
fn built<N>(seed: i64, build: impl FnOnce(&nn::Path<'_>) -> N) -> (nn::VarStore, N) {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    tch::set_num_threads(1);
    tch::manual_seed(seed);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = build(&vs.root());
    (vs, net)
}

fn conv(p: &nn::Path<'_>, name: &str, (from, to): (i64, i64), kernel: i64, stride: i64) -> nn::Conv2D {
    let config = nn::ConvConfig { padding: kernel / 2, stride, ..Default::default() };
    nn::conv2d(p / name, from, to, kernel, config)
}

/// What was said of a unit, and what was measured.
#[derive(Debug, PartialEq)]
struct Said {
    description: Description,
    evidence: Vec<ConceptEvidence>,
}

impl std::ops::Deref for Said {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.description
    }
}

/// Units, with their description, of the sites that `patterns` name.
fn audit(
    vs: &nn::VarStore,
    net: &dyn ModuleT,
    patterns: &[&str],
    probe: &Probe,
    options: Options,
) -> tch_audit::Result<Vec<(String, Said)>> {
    audit_with(vs, net, patterns, probe, paint::bank(), options)
}

fn audit_with(
    vs: &nn::VarStore,
    net: &dyn ModuleT,
    patterns: &[&str],
    probe: &Probe,
    bank: Vec<Concept>,
    options: Options,
) -> tch_audit::Result<Vec<(String, Said)>> {
    let model = Model::new(vs, net);
    let graph = Traced::new(&model, &probe.tensor(0..1)?)?;
    let sites = graph.select(patterns)?;
    let found = Exemplars::compute(&graph, &sites, probe, &exemplars::Options::default())?;
    let described = described(&graph, &found, probe, &Source::new(bank, options)?)?;
    let said = described.into_iter().map(|(description, evidence)| Said { description, evidence });
    Ok(found.units.iter().map(|u| u.id.to_string()).zip(said).collect())
}

/// What the concepts of a source say of every unit, and the evidence that it lists.
fn described(
    traced: &Traced<'_>,
    found: &Exemplars,
    probe: &Probe,
    source: &Source,
) -> tch_audit::Result<Vec<(Description, Vec<ConceptEvidence>)>> {
    let mut study = Study::new(found, probe).with_model(traced);
    let places = study.places();
    let measured = source.measure(&study, &places)?;
    for (place, evidence) in places.iter().zip(&measured) {
        study.evidence.add(*place, evidence.clone());
    }
    let said = tch_audit::describe::describe(&Concepts::of(source), &study)?;
    assert_eq!(said.len(), found.units.len());
    Ok(said.into_iter().zip(measured.into_iter().map(|evidence| source.listed(evidence))).collect())
}

/// The concept that a description names: the one whose name stands in the text.
fn named(description: &Description) -> Option<String> {
    let text = description.text.replace('-', " ");
    let bank = paint::bank();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |c: &&Concept| {
        let name: Vec<&str> = c.name().split('-').collect();
        words.windows(name.len()).any(|w| w == name)
    };
    (description.status == Status::Described)
        .then(|| bank.iter().find(has).map_or_else(|| description.text.clone(), |c| c.name().to_string()))
}

/// Prints what was said of each planted unit; precision and recall must be 0.95 each.
fn judge(what: &str, planted: &[String], said: &[(String, Said)]) {
    assert_eq!(planted.len(), said.len());
    let (mut right, mut spoken) = (0, 0);
    for (truth, (_, description)) in planted.iter().zip(said) {
        let name = named(description);
        spoken += usize::from(name.is_some());
        right += usize::from(name.as_ref() == Some(truth));
        let own = description.evidence.iter().find(|e| e.concept == *truth);
        println!(
            "{what}: {truth:<20} -> {:<20} {:5.2} nats{}  {}",
            name.as_deref().unwrap_or("-"),
            description.score,
            own.map_or_else(String::new, |e| format!(
                ", share {:.2}, AUC {:.3} [{:.2}, {:.2}], effect {:.1}, IoU {:.2}",
                e.share.unwrap(),
                e.auc.unwrap(),
                e.auc_low.unwrap(),
                e.auc_high.unwrap(),
                e.effect.unwrap(),
                e.iou.unwrap()
            )),
            if name.as_ref() == Some(truth) { "" } else { "<-- wrong" },
        );
    }
    let (precision, recall) = (right as f64 / spoken.max(1) as f64, right as f64 / planted.len() as f64);
    println!("{what}: precision {precision:.3}, recall {recall:.3} over {} units", planted.len());
    assert!(precision >= 0.95 && recall >= 0.95, "{what}: precision {precision}, recall {recall}");
}

/// `n` images of `base`, each with one concept of the bank, a control or nothing, and which: `[n, concepts]`, 0 or 1.
fn lesson(base: &Probe, n: usize, rng: &mut fastrand::Rng) -> (Tensor, Tensor) {
    let paints: Vec<Concept> = paint::bank().into_iter().chain(paint::controls()).collect();
    let concepts = paint::bank().len();
    // Shapes are the hardest to learn, so there are more of them.
    let weight = |i: &usize| if paints[*i].family() == "shape" { 3 } else { 1 };
    let choices: Vec<usize> = (0..paints.len()).flat_map(|i| std::iter::repeat_n(i, weight(&i))).collect();
    let mut labels = vec![0f32; n * concepts];
    let images: Vec<image::RgbImage> = (0..n)
        .map(|i| {
            let image = base.image(rng.usize(..base.len()));
            let choice = *choices.get(rng.usize(..choices.len() + 2)).unwrap_or(&paints.len());
            if choice < concepts {
                labels[i * concepts + choice] = 1.0;
            }
            let seed = rng.u64(..);
            paints.get(choice).map_or_else(|| image.clone(), |c| c.paint(image, seed).image)
        })
        .collect();
    let labels = Tensor::from_slice(&labels).view([n as i64, concepts as i64]);
    (image_tensor(&images, base.preprocess()).unwrap(), labels)
}

/// A network whose last layer, `head`, has one unit per concept of the bank.
fn detectors(p: &nn::Path<'_>) -> impl ModuleT + use<> {
    let layers: Vec<_> = [("a", 3, 24, 5, 2), ("b", 24, 48, 3, 1), ("c", 48, 64, 3, 2), ("d", 64, 64, 3, 1)]
        .into_iter()
        .map(|(name, from, to, kernel, stride)| {
            let normal = nn::batch_norm2d(p / format!("{name}n"), to, Default::default());
            (conv(p, name, (from, to), kernel, stride), normal)
        })
        .collect();
    let head = nn::linear(p / "head", 128, paint::bank().len() as i64, Default::default());
    Net(move |x: &Tensor, train| {
        let features = layers.iter().fold(x.shallow_clone(), |x, (c, n)| x.apply(c).apply_t(n, train).relu());
        let pooled = [features.mean_dim(&[2i64, 3][..], false, Kind::Float), features.amax([2i64, 3], false)];
        Tensor::cat(&pooled, 1).apply(&head)
    })
}

/// Trains for `steps` steps, at a rate that falls from `rate` to nearly 0.
fn learn(vs: &nn::VarStore, net: &dyn ModuleT, steps: usize, rate: f64, rng: &mut fastrand::Rng) {
    let mut optimizer = nn::Adam::default().build(vs, rate).unwrap();
    let base = scenes(200, 32, 1000);
    for step in 0..steps {
        let done = step as f64 / steps as f64;
        optimizer.set_lr(rate * (0.5 + 0.5 * (std::f64::consts::PI * done).cos()).max(0.01));
        let (x, y) = lesson(&base, 32, rng);
        let none: Tensor = 1.0 - y.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);
        let which = Tensor::cat(&[&y, &none], 1).argmax(1, false);
        let logits = net.forward_t(&x, true);
        let weight = Some(Tensor::from_slice(&[5f32]));
        let each = logits.binary_cross_entropy_with_logits::<Tensor>(&y, None, weight, tch::Reduction::Mean);
        // Also against each other, which is quicker to learn from.
        let all = Tensor::cat(&[&logits, &none.zeros_like()], 1).cross_entropy_for_logits(&which);
        optimizer.backward_step(&(each * 5.0 + all));
    }
}

/// How well each unit of the output tells its concept from everything else, on images and paints that it has not seen.
fn qualities(net: &dyn ModuleT, rng: &mut fastrand::Rng) -> Vec<f64> {
    let (x, y) = lesson(&scenes(60, 32, 2000), 2500, rng);
    let logits = tch::no_grad(|| net.forward_t(&x, false));
    (0..y.size()[1])
        .map(|i| {
            let column = |t: &Tensor| Vec::<f32>::try_from(t.select(1, i).contiguous()).unwrap();
            let (scores, truth) = (column(&logits), column(&y));
            let side = |with: f32| -> Vec<f32> {
                scores.iter().zip(&truth).filter(|(_, t)| **t == with).map(|(s, _)| *s).collect()
            };
            auc(&side(1.0), &side(0.0))
        })
        .collect()
}

#[test]
fn trained_detectors_of_every_concept_are_named() {
    let (vs, net) = built(5, detectors);
    let names: Vec<String> = paint::bank().iter().map(|c| c.name().to_string()).collect();
    // A detector that is none proves nothing about the describer, so training goes on until all are good.
    let (mut rng, mut fresh, mut found) = (fastrand::Rng::with_seed(3), fastrand::Rng::with_seed(4), Vec::new());
    for (steps, rate) in [(2000, 3e-3), (700, 1e-3), (700, 1e-3), (700, 1e-3)] {
        learn(&vs, &net, steps, rate, &mut rng);
        found = qualities(&net, &mut fresh);
        let worst = found.iter().copied().fold(1.0, f64::min);
        println!("after {steps} more steps the worst detector has AUC {worst:.3}");
        if worst >= 0.95 {
            break;
        }
    }
    for (name, quality) in names.iter().zip(found) {
        println!("the detector of {name} has AUC {quality:.3}");
        assert!(quality >= 0.95, "the detector of {name} did not learn: AUC {quality}");
    }
    judge("trained", &names, &audit(&vs, &net, &["head"], &scenes(40, 32, 3000), Options::default()).unwrap());
}

/// A convolution with these weights, `[to, from, kernel, kernel]`, and bias.
fn set(p: &nn::Path<'_>, name: &str, weights: &Tensor, bias: &[f32]) -> nn::Conv2D {
    let size = weights.size();
    let layer = nn::conv2d(p / name, size[1], size[0], size[2], Default::default());
    tch::no_grad(|| {
        layer.ws.shallow_clone().copy_(weights);
        layer.bs.as_ref().unwrap().shallow_clone().copy_(&Tensor::from_slice(bias));
    });
    layer
}

/// Weights of a 1 x 1 convolution.
fn mix<const N: usize>(rows: &[[f32; N]]) -> Tensor {
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, N as i64, 1, 1])
}

fn average(x: &Tensor, size: i64) -> Tensor {
    x.avg_pool2d([size, size], [1, 1], [size / 2, size / 2], false, false, None)
}

/// One unit per colour: how far the pixels of a place (3 x 3) are from being that colour, negated, so that 0 is most.
///
/// The first layer has four opponents per colour, each above 0 where the pixel breaks one condition: red of 0.66 or more,
/// green at most 0.33 times red, and so on. `[red, green, blue, constant]`, for pixels of 0 to 1.
fn color_net(p: &nn::Path<'_>) -> impl ModuleT + use<> {
    #[rustfmt::skip]
    let broken: [[[f32; 4]; 4]; 8] = [
        [[-1., 0., 0., 0.66], [-0.33, 1., 0., 0.], [-0.33, 0., 1., 0.], [-0.55, 1., 1., 0.]],
        [[0., -1., 0., 0.66], [1., -0.46, 0., 0.], [0., -0.46, 1., 0.], [1., -0.68, 1., 0.]],
        [[0., 0., -1., 0.66], [1., 0., -0.31, 0.], [0., 1., -0.46, 0.], [1., 1., -0.68, 0.]],
        [[-1., 0., 0., 0.66], [0.84, -1., 0., 0.], [-1., 0.97, 0., 0.], [-0.23, 0., 1., 0.]],
        [[0., 0., -1., 0.60], [0., 0.91, -1., 0.], [0., -1., 0.84, 0.], [1., 0., -0.26, 0.]],
        [[-1., 0., 0., 0.62], [-1., 0., 0.92, 0.], [0.75, 0., -1., 0.], [0., 1., -0.31, 0.]],
        [[-1., 0., 0., 0.90], [0., -1., 0., 0.90], [0., 0., -1., 0.90], [0.; 4]],
        [[1., 0., 0., -0.08], [0., 1., 0., -0.08], [0., 0., 1., -0.08], [0.; 4]],
    ];
    let conditions = broken.concat();
    let weights: Vec<[f32; 3]> = conditions.iter().map(|[r, g, b, _]| [*r, *g, *b]).collect();
    // Pixels are normalised by mean 0.5 and deviation 0.25.
    let bias: Vec<f32> = conditions.iter().map(|[r, g, b, constant]| (r + g + b) * 0.5 + constant).collect();
    let first = set(p, "opponents", &(mix(&weights) * 0.25), &bias);
    let rows: [[f32; 32]; 8] =
        std::array::from_fn(|color| std::array::from_fn(|i| if i / 4 == color { -1.0 } else { 0.0 }));
    let second = set(p, "colors", &mix(&rows), &[0.0; 8]);
    Net(move |x: &Tensor, _| average(&x.apply(&first).relu(), 3).apply(&second))
}

/// Differences of brightness in four directions, rectified, averaged over 9 x 9 pixels, compared with each other.
fn stripe_net(p: &nn::Path<'_>) -> impl ModuleT + use<> {
    let weights = Tensor::zeros([8, 3, 3, 3], (Kind::Float, Device::Cpu));
    for (i, (y, x)) in [(1, 2), (2, 1), (2, 2), (0, 2)].into_iter().enumerate() {
        for (c, luma) in [0.299, 0.587, 0.114].into_iter().enumerate() {
            for (unit, sign) in [(2 * i as i64, luma), (2 * i as i64 + 1, -luma)] {
                let filter = weights.get(unit).get(c as i64);
                let _ = filter.get(1).get(1).fill_(sign);
                let _ = filter.get(y).get(x).fill_(-sign);
            }
        }
    }
    let differences = set(p, "differences", &weights, &[0.0; 8]);
    let compared = set(
        p,
        "compared",
        &mix(&[
            [-3., -3., 1., 1., 0., 0., 0., 0.],
            [1., 1., -3., -3., 0., 0., 0., 0.],
            [0., 0., 0., 0., 1., 1., -3., -3.],
            [0., 0., 0., 0., -3., -3., 1., 1.],
        ]),
        &[0.0; 4],
    );
    let stripes = set(p, "stripes", &mix(&[[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 1.]]), &[0.0; 3]);
    Net(move |x: &Tensor, _| average(&x.apply(&differences).relu(), 9).apply(&compared).relu().apply(&stripes))
}

/// Differences between pairs of pixels of the rim: a frame has none.
fn border_net(p: &nn::Path<'_>) -> impl ModuleT + use<> {
    const PAIRS: i64 = 48;
    let mut rng = fastrand::Rng::with_seed(1);
    let mut pixel = || match (rng.i64(0..4), rng.i64(0..32)) {
        (0, at) => (0, at),
        (1, at) => (31, at),
        (2, at) => (at, 0),
        (_, at) => (at, 31),
    };
    let weights = Tensor::zeros([2 * PAIRS, 3, 32, 32], (Kind::Float, Device::Cpu));
    for pair in 0..PAIRS {
        let ((ay, ax), (by, bx)) = (pixel(), pixel());
        for (unit, sign) in [(2 * pair, 1.0), (2 * pair + 1, -1.0)] {
            let filter = weights.get(unit);
            let _ = filter.select(1, ay).select(1, ax).fill_(sign);
            let _ = filter.select(1, by).select(1, bx).g_sub_(&Tensor::from(sign as f32));
        }
    }
    let rim = set(p, "rim", &weights, &[0.0; 2 * PAIRS as usize]);
    let border = set(p, "border", &mix(&[[-1.0; 2 * PAIRS as usize]]), &[0.0]);
    Net(move |x: &Tensor, _| x.apply(&rim).relu().apply(&border))
}

#[test]
fn units_set_by_hand_are_named() {
    let probe = scenes(40, 32, 3000);
    let (mut planted, mut said) = (Vec::new(), Vec::new());
    let mut add = |names: &[&str], site: &str, vs: &nn::VarStore, net: &dyn ModuleT| {
        planted.extend(names.iter().map(|n| n.to_string()));
        said.extend(audit(vs, net, &[site], &probe, Options::default()).unwrap());
    };
    let colors = ["red", "green", "blue", "yellow", "cyan", "magenta", "white", "black"];
    let (vs, net) = built(0, color_net);
    add(&colors, "colors", &vs, &net);
    let (vs, net) = built(0, stripe_net);
    add(&["horizontal-stripes", "vertical-stripes", "diagonal-stripes"], "stripes", &vs, &net);
    let (vs, net) = built(0, border_net);
    add(&["border"], "border", &vs, &net);
    judge("by hand", &planted, &said);
}

/// Says how many of the live units of a random network were abstained on; it must be most of them.
fn mostly_abstains(what: &str, said: &[(String, Said)]) {
    let count = |status: Status| said.iter().filter(|(_, d)| d.status == status).count();
    let (described, abstained) = (count(Status::Described), count(Status::Abstained));
    let share = abstained as f64 / (described + abstained).max(1) as f64;
    println!("{what}: abstains on {abstained} of {} live units ({:.0} %)", described + abstained, 100.0 * share);
    assert!(described + abstained > 20 && share > 0.75, "{what}: abstains on {share} only");
}

#[test]
fn most_units_of_random_convolutions_are_abstained_on() {
    let probe = drawn(20, 32, 77).unwrap();
    for seed in 0..3 {
        let (vs, net) = built(seed, |p| {
            let (a, b) = (conv(p, "a", (3, 16), 3, 1), conv(p, "b", (16, 32), 3, 2));
            let (c, l) = (conv(p, "c", (32, 48), 3, 2), nn::linear(p / "l", 48, 32, Default::default()));
            Net(move |x: &Tensor, _| {
                let features = x.apply(&a).relu().apply(&b).relu().apply(&c).relu();
                features.mean_dim(&[2i64, 3][..], false, Kind::Float).apply(&l)
            })
        });
        let said = audit(&vs, &net, &["a", "b", "c", "l"], &probe, Options::default()).unwrap();
        mostly_abstains(&format!("random network {seed}"), &said);
    }
}

#[test]
fn most_units_of_a_random_resnet_are_abstained_on() {
    for (seed, size, images) in [(0, 32, 32), (1, 64, 16)] {
        let (vs, net) = built(seed, |p| tch::vision::resnet::resnet18(p, 10));
        let options = with(Options::default(), |o| {
            o.images = images;
            o.bootstrap = 40;
        });
        let said = audit(&vs, &net, &["auto"], &drawn(6, size, 77).unwrap(), options).unwrap();
        mostly_abstains(&format!("random resnet18 {seed} at {size}"), &said);
    }
}

fn read(path: &std::path::Path) -> std::collections::BTreeMap<String, Tensor> {
    Tensor::read_safetensors(path).unwrap().into_iter().collect()
}

/// Compares the counts of all units and concepts of a set with the reference.
fn same_overlap(set: &std::collections::BTreeMap<String, Tensor>) {
    let (masks, maps) = (&set["masks"], &set["activations"]);
    let floats = |t: Tensor| Vec::<f32>::try_from(t.to_kind(Kind::Float).contiguous().view(-1)).unwrap();
    let [rows, columns] = [2, 3].map(|d| maps.size()[d] as usize);
    let [concepts, images, height, width] = [0, 1, 2, 3].map(|d| masks.size()[d] as usize);
    let levels = floats(set["thresholds"].shallow_clone());
    let regions: Vec<Vec<Region>> = (0..concepts)
        .map(|c| {
            let region = |i| {
                let mask = floats(masks.get(c as i64).get(i as i64));
                Region::from_fn(height, width, |y, x| mask[y * width + x] > 0.0)
            };
            (0..images).map(region).collect()
        })
        .collect();
    for (unit, level) in levels.iter().enumerate() {
        let maps: Vec<Vec<f32>> = (0..images).map(|i| floats(maps.get(unit as i64).get(i as i64))).collect();
        for (concept, regions) in regions.iter().enumerate() {
            let mut found = Overlap::default();
            for (map, region) in maps.iter().zip(regions) {
                found.add(map, rows, columns, *level, region).unwrap();
            }
            let at = [unit as i64, concept as i64];
            let [intersection, union] = ["intersection", "union"].map(|n| set[n].int64_value(&at) as u64);
            assert_eq!(found, Overlap { intersection, union }, "unit {unit}, concept {concept}");
        }
    }
}

#[test]
fn overlap_equals_the_reference() {
    same_overlap(&read("tests/golden/concepts/upsampled.safetensors".as_ref()));
    for set in ["main", "noisy", "upsampled"] {
        if let Some(path) = golden(&format!("concepts/{set}.safetensors")) {
            same_overlap(&read(&path));
        }
    }
}

/// A white square in the upper left corner.
fn corner() -> Concept {
    Concept::new("corner", "mark", "a white corner", |image, _| {
        let mut image = image.clone();
        (0..64).for_each(|i| image.put_pixel(i % 8, i / 8, image::Rgb([255; 3])));
        let (height, width) = (image.height() as usize, image.width() as usize);
        Painted { image, region: Region::from_fn(height, width, |y, x| y < 8 && x < 8) }
    })
}

#[test]
fn iou_equals_brute_force_over_all_pixels() {
    let (vs, layer) = built(1, |p| conv(p, "layer", (3, 5), 5, 2));
    let net = Net(move |x: &Tensor, _| x.apply(&layer));
    let probe = drawn(1, 24, 5).unwrap();
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &probe.tensor(0..1).unwrap()).unwrap();
    let sites = graph.select(&["layer"]).unwrap();
    let found = Exemplars::compute(&graph, &sites, &probe, &exemplars::Options::default()).unwrap();
    let source = Source::new(vec![corner()], Options::default()).unwrap();
    let painted: Vec<Painted> = (0..probe.len()).map(|i| corner().paint(probe.image(i), 0)).collect();
    let images: Vec<image::RgbImage> = painted.iter().map(|p| p.image.clone()).collect();
    let maps = tch::no_grad(|| net.forward_t(&image_tensor(&images, probe.preprocess()).unwrap(), false));
    let maps = maps.upsample_bilinear2d([24, 24], false, None, None);
    for (unit, (_, evidence)) in found.units.iter().zip(described(&graph, &found, &probe, &source).unwrap()) {
        let (mut both, mut either) = (0u32, 0u32);
        for (i, p) in painted.iter().enumerate() {
            let map = maps.get(i as i64).get(unit.id.unit as i64);
            for (y, x) in (0..24).flat_map(|y| (0..24).map(move |x| (y, x))) {
                let active = map.double_value(&[y, x]) > f64::from(unit.level);
                let inside = p.region.contains(y as usize, x as usize);
                both += u32::from(active && inside);
                either += u32::from(active || inside);
            }
        }
        assert_eq!(evidence[0].iou, Some(f64::from(both) / f64::from(either)), "{}", unit.id);
    }
}

/// One live unit that sees red, one that is constant and one that is never active.
fn trio(p: &nn::Path<'_>) -> impl ModuleT + use<> {
    let layer = set(p, "trio", &mix(&[[1.0, -0.5, -0.5], [0.0; 3], [0.0; 3]]), &[0.0, 3.0, -1.0]);
    Net(move |x: &Tensor, _| x.apply(&layer).relu())
}

#[test]
fn units_that_never_vary_are_dead() {
    let (vs, net) = built(0, trio);
    let said = audit(&vs, &net, &["trio"], &scenes(10, 32, 1), Options::default()).unwrap();
    assert_ne!(said[0].1.status, Status::Dead);
    for (_, dead) in &said[1..] {
        assert_eq!((dead.status, dead.text.as_str(), dead.score), (Status::Dead, "never active (dead)", 0.0));
        assert!(dead.evidence.is_empty() && dead.alternatives.is_empty());
    }
}

#[test]
fn one_image_is_not_enough_to_name_anything() {
    let (vs, net) = built(0, trio);
    let probe = scenes(10, 32, 1).select(&[0]).unwrap();
    let said = audit(&vs, &net, &["trio"], &probe, Options::default()).unwrap();
    assert_eq!(said[0].1.status, Status::Abstained);
    assert_eq!(said[0].1.score, 0.0);
    assert!(said[0].1.evidence.len() >= 5 && said[0].1.alternatives.len() == 3);
}

#[test]
fn a_vector_of_one_unit_is_described_and_the_users_concept_named() {
    let (vs, layer) = built(0, |p| nn::linear(p / "one", 3 * 16, 1, Default::default()));
    tch::no_grad(|| {
        let _ = layer.ws.shallow_clone().fill_(1.0);
    });
    // The upper left 4 x 4 pixels only.
    let net = Net(move |x: &Tensor, _| x.narrow(2, 0, 4).narrow(3, 0, 4).flatten(1, -1).apply(&layer));
    let bank =
        paint::bank().into_iter().filter(|c| !["white", "bright"].contains(&c.name())).chain([corner()]).collect();
    let said = audit_with(&vs, &net, &["one"], &scenes(10, 32, 1), bank, Options::default()).unwrap();
    let [(_, one)] = said.as_slice() else { panic!("{} units", said.len()) };
    assert_eq!((one.status, one.text.as_str()), (Status::Described, "a white corner"), "{one:#?}");
    assert!((one.score - (one.log_likelihood - one.log_prior)).abs() < 1e-12);
    assert_eq!(one.evidence[0].concept, "corner");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (vs, net) = built(0, color_net);
            audit(&vs, &net, &["colors", "opponents"], &scenes(10, 32, 1), Options::default()).unwrap()
        })
    };
    assert_eq!(run(1), run(4));
}

#[test]
fn an_infinite_activation_under_paint_is_an_error_that_names_the_paint() {
    let (vs, layer) = built(0, |p| set(p, "big", &mix(&[[2e38; 3]]), &[0.0]));
    let net = Net(move |x: &Tensor, _| x.apply(&layer));
    let dim = |i: u8| image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x + y) as u8 / 4 + i; 3]));
    let preprocess = Preprocess::new(3, 16, 16, vec![0.0; 3], vec![1.0; 3]).unwrap();
    let probe = Probe::from_images(vec![dim(0), dim(9)], None, None, preprocess).unwrap();
    match audit_with(&vs, &net, &["big"], &probe, vec![corner()], Options::default()) {
        Err(Error::NonFinite { site, unit: 0, image, .. }) => {
            assert_eq!((site.as_str(), image.as_str()), ("big", "image-0 (painted: corner)"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn senseless_arguments_are_refused_by_name() {
    let (vs, net) = built(0, trio);
    let probe = scenes(10, 32, 1);
    let try_with = |bank: Vec<Concept>, options: Options| {
        audit_with(&vs, &net, &["trio"], &probe, bank, options).unwrap_err().to_string()
    };
    assert!(try_with(vec![], Options::default()).contains("concept bank"));
    assert!(try_with(vec![corner(), corner()], Options::default()).contains("`corner` twice"));
    assert!(try_with(vec![corner()], with(Options::default(), |o| o.images = 0)).contains("images: received 0"));
    let thresholds = with(Thresholds::default(), |t| t.share = f64::NAN);
    let refused = Concepts::default().with_thresholds(thresholds).unwrap_err().to_string();
    assert!(refused.contains("threshold of the share: received NaN"), "{refused}");
}
