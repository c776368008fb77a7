//! Exemplars: exact, in whatever order and in however many pieces they are computed.

mod common;

use common::with;
use image::RgbImage;
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tch::nn;
use tch::{Device, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{
    Compat, Exemplar, Exemplars, FILE, Options, Part, Run, Shard, Stored, Summaries, UnitExemplars, estimate,
    export_npy, import_npy, merge,
};
use tch_audit::probe::{Batch, Corrupt, Digest, ImageFolder, Images, Preprocess, Probe, Want};
use tch_audit::{Error, Model, Result, UnitId};

/// Two convolutions and a linear layer with small whole numbers as weights: sums are exact whatever their order.
struct Net {
    vs: nn::VarStore,
    net: nn::SequentialT,
}

impl Net {
    fn new(seed: u64) -> Self {
        let vs = nn::VarStore::new(Device::Cpu);
        let p = vs.root();
        let config = nn::ConvConfig { padding: 1, ..Default::default() };
        let net = nn::seq_t()
            .add(nn::conv2d(&p / "one", 3, 5, 3, config))
            .add_fn(|x| x.relu())
            .add(nn::conv2d(&p / "two", 5, 4, 3, nn::ConvConfig { stride: 2, ..config }))
            .add_fn(|x| x.flatten(1, -1))
            .add(nn::linear(&p / "head", 4 * 4 * 4, 3, Default::default()));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut variables: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
        variables.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, mut variable) in variables {
            let mut values: Vec<f32> = (0..variable.numel()).map(|_| rng.i32(-2..3) as f32).collect();
            // The last unit of the first layer is dead.
            match name.as_str() {
                "one.weight" => values[4 * 27..].fill(0.0),
                "one.bias" => values[4] = 0.0,
                _ => {}
            }
            let values = Tensor::from_slice(&values).view(variable.size().as_slice());
            tch::no_grad(|| variable.copy_(&values));
        }
        Self { vs, net }
    }

    fn model(&self) -> Model<'_> {
        Model::new(&self.vs, &self.net)
    }
}

/// 8 x 8 images whose pixels, normalised, are whole numbers of at most 3: many ties.
fn probe(count: usize, seed: u64) -> Probe {
    let mut rng = fastrand::Rng::with_seed(seed);
    let images =
        (0..count).map(|_| RgbImage::from_fn(8, 8, |_, _| image::Rgb(std::array::from_fn(|_| 85 * rng.u8(0..4)))));
    // 85 / 255 is a third, and so are the deviations.
    let preprocess = Preprocess::new(3, 8, 8, vec![0.0; 3], vec![85.0 / 255.0; 3]).unwrap();
    Probe::from_images(images.collect(), None, None, preprocess).unwrap()
}

const SITES: [&str; 3] = ["one", "two", "two@raw"];

struct Bench {
    net: Net,
    probe: Probe,
}

impl Bench {
    fn new(images: usize) -> Self {
        Self { net: Net::new(1), probe: probe(images, 1) }
    }

    fn with<R>(&self, source: &dyn Images, options: &Options, work: impl FnOnce(Run<'_, '_>) -> R) -> R {
        let model = self.net.model();
        let graph = Traced::new(&model, &self.probe.tensor(0..1).unwrap()).unwrap();
        let sites = graph.select(&SITES).unwrap();
        work(Run::new(&graph, &sites, source, options).unwrap())
    }

    fn run(&self, options: &Options, out: &Path) -> Vec<u8> {
        self.with(&self.probe, options, |run| run.write(out)).unwrap();
        std::fs::read(out.join(FILE)).unwrap()
    }

    fn compute(&self, options: &Options) -> Exemplars {
        let model = self.net.model();
        let graph = Traced::new(&model, &self.probe.tensor(0..1).unwrap()).unwrap();
        Exemplars::compute(&graph, &graph.select(&SITES).unwrap(), &self.probe, options).unwrap()
    }

    /// The maps of site `one`, image by image.
    fn maps(&self) -> Vec<Tensor> {
        (0..self.probe.len())
            .map(|i| {
                let x = self.probe.tensor(i..i + 1).unwrap();
                tch::no_grad(|| self.net.net.forward_all_t(&x, false, Some(2)))[1].squeeze_dim(0)
            })
            .collect()
    }
}

fn everything() -> Options {
    with(Options::default(), |o| {
        o.k = 4;
        o.weakest = 3;
        o.random = 2;
        o.seed = 7;
        o.batch_size = 5;
    })
}

/// Whether both say the same of these units.
fn same(a: &Summaries, b: &Summaries, units: &[UnitExemplars]) -> bool {
    let of = |s: &Summaries, id: &UnitId| s.of(id).unwrap();
    a.images() == b.images() && units.iter().all(|u| of(a, &u.id) == of(b, &u.id))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn equals_a_full_sort_and_a_sorted_list_of_all_activations() {
    let bench = Bench::new(37);
    let options = with(everything(), |o| (o.quantile, o.maps) = (0.9, true));
    let exemplars = bench.compute(&options);
    let maps = bench.maps();
    for unit in exemplars.of_site("one") {
        let planes: Vec<Vec<f32>> =
            maps.iter().map(|m| Vec::try_from(m.get(unit.id.unit as i64).flatten(0, -1)).unwrap()).collect();
        let mut all: Vec<f32> = planes.concat();
        all.sort_by(f32::total_cmp);
        assert_eq!((unit.minimum, unit.maximum), (all[0], all[all.len() - 1]));
        assert_eq!(unit.sketch.count(), all.len() as u64);
        assert_eq!(unit.dead, unit.id.unit == 4);
        if unit.dead {
            assert!(unit.top.is_empty() && unit.weakest.is_empty() && unit.random.is_empty());
            continue;
        }
        let position = 0.9 * all.len() as f64 - 0.5;
        let (below, above) = (f64::from(all[position as usize]), f64::from(all[position as usize + 1]));
        let exact = below + (above - below) * position.fract();
        assert!((f64::from(unit.level) - exact).abs() <= 0.005 * exact.abs(), "{} {exact}", unit.level);
        let maxima: Vec<f32> = planes.iter().map(|p| p.iter().copied().fold(f32::MIN, f32::max)).collect();
        let sorted = |sign: f32, n: usize| {
            let mut order: Vec<usize> = (0..maxima.len()).collect();
            order.sort_by(|a, b| (sign * maxima[*a]).total_cmp(&(sign * maxima[*b])).then(a.cmp(b)));
            order.truncate(n);
            order
        };
        let numbers = |list: &[Exemplar]| list.iter().map(|e| e.image).collect::<Vec<_>>();
        assert_eq!(numbers(&unit.top), sorted(-1.0, 4));
        assert_eq!(numbers(&unit.weakest), sorted(1.0, 3));
        assert_eq!(unit.random.len(), 2);
        for e in unit.top.iter().chain(&unit.weakest).chain(&unit.random) {
            assert_eq!(e.map, planes[e.image]);
            assert_eq!(e.activation, maxima[e.image]);
            for (at, x) in e.map.iter().enumerate() {
                assert_eq!(e.region.contains(at / 8, at % 8), *x > unit.level);
            }
        }
        // Sums of whole numbers are exact, too.
        let means: Vec<f32> = planes.iter().map(|p| p.iter().sum::<f32>() / p.len() as f32).collect();
        assert_eq!(exemplars.summaries.of(&unit.id).unwrap(), (maxima, means));
        assert_eq!(exemplars.summaries.images(), (0..37).collect::<Vec<_>>());
    }
    let random = |u: usize| exemplars.units[u].random.iter().map(|e| e.image).collect::<Vec<_>>();
    assert_eq!(random(0), random(1));
}

#[test]
fn a_file_holds_what_was_computed() {
    let bench = Bench::new(23);
    let out = folder();
    bench.run(&everything(), out.path());
    let loaded = Exemplars::load(out.path()).unwrap();
    let computed = bench.compute(&everything());
    assert_eq!(loaded.units, computed.units);
    assert_eq!(loaded.names, computed.names);
    assert!(same(&loaded.summaries, &computed.summaries, &computed.units));
    assert_eq!((loaded.images, &loaded.preprocess), (23, &computed.preprocess));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1, "nothing but the result is left");
}

#[test]
fn batch_sizes_do_not_matter_where_sums_are_exact() {
    let bench = Bench::new(130);
    let of = |batch_size| bench.run(&with(everything(), |o| o.batch_size = batch_size), folder().path());
    let first = of(1);
    assert!([7, 64].iter().all(|n| of(*n) == first));
}

#[test]
fn shards_give_the_bytes_of_the_single_run_in_any_order() {
    let bench = Bench::new(83);
    let whole = bench.run(&everything(), folder().path());
    for of in [1, 2, 7, 16] {
        let parts = folder();
        let mut folders: Vec<PathBuf> = Vec::new();
        for number in 1..=of {
            let shard = Shard::new(number, of).unwrap();
            let path = parts.path().join(number.to_string());
            let done = bench.with(&bench.probe, &everything(), |run| run.shard(shard).write(&path)).unwrap();
            // A shard of one is the whole.
            assert_eq!(done.files[0].ends_with(FILE), of == 1);
            folders.push(path);
        }
        if of == 1 {
            assert_eq!(std::fs::read(folders[0].join(FILE)).unwrap(), whole);
            continue;
        }
        let mut orders = vec![folders.clone(), folders.iter().rev().cloned().collect()];
        fastrand::Rng::with_seed(of as u64).shuffle(&mut folders);
        orders.push(folders);
        for order in orders {
            let out = folder();
            let done = merge(out.path(), &order).unwrap();
            assert_eq!(done.images, 83);
            assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole, "{of} shards");
        }
    }
}

#[test]
fn a_missing_or_doubled_shard_is_named() {
    let bench = Bench::new(40);
    let parts = folder();
    let shard = |n, of, out: &Path| {
        bench.with(&bench.probe, &everything(), |run| run.shard(Shard::new(n, of).unwrap()).write(out)).unwrap()
    };
    shard(1, 3, parts.path());
    shard(3, 3, parts.path());
    let out = folder();
    let error = |parts: &[PathBuf]| merge(out.path(), parts).unwrap_err().to_string();
    let missing = error(&[parts.path().to_path_buf()]);
    assert!(missing.contains("batches 2 to 4") && missing.contains("not finished"), "{missing}");
    let other = folder();
    shard(1, 2, other.path());
    let twice = error(&[parts.path().to_path_buf(), other.path().to_path_buf()]);
    assert!(twice.contains("a second time"), "{twice}");
    let empty = folder();
    assert!(error(&[empty.path().to_path_buf()]).contains("no state in"));
    assert!(!out.path().join(FILE).exists());
}

#[test]
fn several_passes_give_the_bytes_of_one() {
    let bench = Bench::new(40);
    let whole = bench.run(&everything(), folder().path());
    let model = bench.net.model();
    let graph = Traced::new(&model, &bench.probe.tensor(0..1).unwrap()).unwrap();
    let sites = graph.select(&SITES).unwrap();
    let one = estimate(&sites, &bench.probe, &everything()).unwrap();
    let part = |site, units| Part { site, units };
    assert_eq!(one.passes, [[part(0, 0..5), part(1, 0..4), part(2, 0..4)]]);
    // By sites; by ranges of the units of each; every unit alone.
    for (share, passes) in [(2, 2), (5, 7), (12, 13)] {
        let options = with(everything(), |o| o.budget = Some(one.state / share));
        let plan = estimate(&sites, &bench.probe, &options).unwrap();
        assert!(plan.passes.len() >= passes && plan.state <= one.state / share, "{plan}");
        assert_eq!(plan.images, 40 * plan.passes.len() as u64);
        assert!(bench.run(&options, folder().path()) == whole);
        let (some, all) = (bench.compute(&options), bench.compute(&everything()));
        assert_eq!(some.units, all.units);
        assert!(same(&some.summaries, &all.summaries, &all.units));
        // Shards of several passes.
        let out = folder();
        for n in 1..=3 {
            bench.with(&bench.probe, &options, |run| run.shard(Shard::new(n, 3).unwrap()).write(out.path())).unwrap();
        }
        merge(out.path(), &[out.path().to_path_buf()]).unwrap();
        assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole);
        // Stopped between and within passes.
        let (out, mut rng, mut stops) = (folder(), fastrand::Rng::with_seed(share), 0);
        loop {
            let failing = Failing { inner: &bench.probe, left: AtomicUsize::new(rng.usize(2..12)) };
            match bench.with(&failing, &options, |run| run.checkpoint_every(1).unwrap().write(out.path())) {
                Ok(_) => break,
                Err(error) => assert!(error.to_string().contains("stopped"), "{error}"),
            }
            stops += 1;
        }
        assert!(stops > 0 && std::fs::read(out.path().join(FILE)).unwrap() == whole);
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    }
    let small = estimate(&sites, &bench.probe, &with(everything(), |o| o.budget = Some(1000))).unwrap_err();
    assert!(small.to_string().contains("budget: received 1000 bytes, allowed at least"), "{small}");
}

/// A probe set that fails after so many batches.
struct Failing<'a> {
    inner: &'a Probe,
    left: AtomicUsize,
}

impl Images for Failing<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn name(&self, i: usize) -> Cow<'_, str> {
        Images::name(self.inner, i)
    }
    fn label(&self, i: usize) -> Option<usize> {
        self.inner.label(i)
    }
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }
    fn preprocess(&self) -> &Preprocess {
        self.inner.preprocess()
    }
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Images::image(self.inner, i)
    }
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
    fn read(
        &self,
        numbers: &[usize],
        batch: usize,
        want: Want,
        each: &mut dyn FnMut(Batch) -> Result<()>,
    ) -> Result<()> {
        self.inner.read(numbers, batch, want, &mut |batch| {
            let left = self.left.load(Relaxed);
            self.left.store(left.saturating_sub(1), Relaxed);
            if left == 0 {
                return Err(Error::Forward { message: "stopped".into(), input: Vec::new() });
            }
            each(batch)
        })
    }
    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        self.inner.digest(numbers)
    }
}

#[test]
fn a_run_that_stops_anywhere_goes_on_to_the_same_bytes() {
    let bench = Bench::new(90);
    let options = everything();
    let whole = bench.run(&options, folder().path());
    let mut rng = fastrand::Rng::with_seed(3);
    let mut resumed = 0;
    for _ in 0..100 {
        let out = folder();
        let every = rng.usize(1..5);
        loop {
            let failing = Failing { inner: &bench.probe, left: AtomicUsize::new(rng.usize(0..24)) };
            let done = bench.with(&failing, &options, |run| run.checkpoint_every(every).unwrap().write(out.path()));
            match done {
                Ok(done) => {
                    resumed += usize::from(done.resumed.is_some());
                    break;
                }
                Err(error) => assert!(error.to_string().contains("stopped"), "{error}"),
            }
        }
        assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole);
    }
    assert!(resumed > 50, "{resumed}");
}

/// What was written down of images that are not readable: nothing, in shards as in one piece.
#[test]
fn summaries_leave_out_what_could_not_be_read() {
    let bench = Bench::new(20);
    let photos = folder();
    for i in 0..20 {
        Images::image(&bench.probe, i).unwrap().save(photos.path().join(format!("{i:02}.png"))).unwrap();
    }
    for i in [0, 7, 8, 9, 10, 11] {
        std::fs::write(photos.path().join(format!("{i:02}.png")), "no image").unwrap();
    }
    let images = ImageFolder::open(photos.path()).preprocess(bench.probe.preprocess().clone());
    let images = images.corrupt(Corrupt::Skip).stream().unwrap();
    // A batch, and a shard, without any image.
    let options = with(everything(), |o| o.batch_size = 2);
    let whole = folder();
    bench.with(&images, &options, |run| run.write(whole.path())).unwrap();
    let stored = Stored::open(whole.path()).unwrap();
    let read: Vec<usize> = (0..20).filter(|i| ![0, 7, 8, 9, 10, 11].contains(i)).collect();
    assert_eq!(stored.summaries().images(), read);
    let plain = bench.compute(&options);
    for site in stored.sites() {
        for id in site.units.iter().map(|unit| UnitId::new(&site.name, *unit)) {
            let ((maxima, means), (all_maxima, all_means)) =
                (stored.summaries().of(&id).unwrap(), plain.summaries.of(&id).unwrap());
            assert!(read.iter().zip(maxima).all(|(i, x)| all_maxima[*i] == x));
            assert!(read.iter().zip(means).all(|(i, x)| all_means[*i] == x));
        }
    }
    let out = folder();
    for n in 1..=10 {
        bench.with(&images, &options, |run| run.shard(Shard::new(n, 10).unwrap()).write(out.path())).unwrap();
    }
    merge(out.path(), &[out.path().to_path_buf()]).unwrap();
    assert!(std::fs::read(out.path().join(FILE)).unwrap() == std::fs::read(whole.path().join(FILE)).unwrap());
}

#[test]
fn what_changed_since_the_checkpoint_is_named_and_refused() {
    let bench = Bench::new(60);
    let options = everything();
    let out = folder();
    let failing = Failing { inner: &bench.probe, left: AtomicUsize::new(5) };
    bench.with(&failing, &options, |run| run.checkpoint_every(2).unwrap().write(out.path())).unwrap_err();
    let before: Vec<u8> = std::fs::read(out.path().join("shard-1-of-1.pass-1.state")).unwrap();
    let refused = |bench: &Bench, options: &Options, parts: &[&str]| {
        let error = bench.with(&bench.probe, options, |run| run.write(out.path())).unwrap_err().to_string();
        assert!(parts.iter().all(|p| error.contains(p)), "{error}");
        assert_eq!(std::fs::read(out.path().join("shard-1-of-1.pass-1.state")).unwrap(), before);
    };
    refused(&bench, &with(options.clone(), |o| o.k = 5), &["`options.k` = 4", "allowed 5"]);
    refused(&bench, &with(options.clone(), |o| o.batch_size = 6), &["`options.batch_size` = 5"]);
    refused(&bench, &with(options.clone(), |o| o.quantile = 0.5), &["`options.quantile` = 0.99"]);
    let other = Bench { net: Net::new(2), probe: bench.probe.clone() };
    refused(&other, &options, &["the model's fingerprint"]);
    let fewer = Bench { net: Net::new(1), probe: bench.probe.select(&(0..59).collect::<Vec<_>>()).unwrap() };
    refused(&fewer, &options, &["probe"]);
    let repainted = bench.probe.map(|i, image| if i == 3 { RgbImage::new(8, 8) } else { image.clone() });
    refused(&Bench { net: Net::new(1), probe: repainted }, &options, &["probe set"]);
    // Summaries that were lost.
    let tape = out.path().join("shard-1-of-1.pass-1.summaries");
    let kept = std::fs::read(&tape).unwrap();
    std::fs::write(&tape, &kept[..100]).unwrap();
    refused(&bench, &options, &["shard-1-of-1.pass-1.summaries", "100 bytes"]);
    std::fs::write(&tape, &kept).unwrap();
    // A state that was cut off.
    std::fs::write(out.path().join("shard-1-of-1.pass-1.state"), &before[..before.len() / 2]).unwrap();
    let error = bench.with(&bench.probe, &options, |run| run.write(out.path())).unwrap_err().to_string();
    assert!(error.contains("shard-1-of-1.pass-1.state"), "{error}");
}

#[test]
fn a_nan_is_reported_with_site_unit_and_image() {
    let bench = Bench::new(20);
    // Infinite where the image is white in its corner, as no other is.
    let images: Vec<RgbImage> = (0..20)
        .map(|i| if i == 13 { RgbImage::from_pixel(8, 8, image::Rgb([255; 3])) } else { RgbImage::new(8, 8) })
        .collect();
    let preprocess = Preprocess::new(3, 8, 8, vec![0.0; 3], vec![f32::MIN_POSITIVE; 3]).unwrap();
    let probe = Probe::from_images(images, None, None, preprocess).unwrap();
    let out = folder();
    let error = bench.with(&probe, &everything(), |run| run.write(out.path())).unwrap_err();
    let name = probe.name(13);
    assert!(matches!(&error, Error::NonFinite { image, .. } if image == name), "{error}");
    assert!(!out.path().join(FILE).exists());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let bench = Bench::new(5);
    let model = bench.net.model();
    let graph = Traced::new(&model, &bench.probe.tensor(0..1).unwrap()).unwrap();
    let sites = graph.select(&SITES).unwrap();
    let units = |site: &str, units: Vec<usize>| BTreeMap::from([(site.to_string(), units)]);
    let d = Options::default;
    for (options, part) in [
        (with(d(), |o| o.k = 0), "k (images per unit)"),
        (with(d(), |o| o.quantile = 1.0), "quantile"),
        (with(d(), |o| o.quantile = f64::NAN), "quantile"),
        (with(d(), |o| o.batch_size = 0), "batch size"),
        (with(d(), |o| o.min_distance = 0), "minimum distance"),
        (with(d(), |o| o.region_size = Some((0, 4))), "size of the regions"),
        (with(d(), |o| o.units = units("onne", vec![0])), "did you mean `one`"),
        (with(d(), |o| o.units = units("one", vec![5])), "below 5"),
        (with(d(), |o| o.units = units("one", vec![])), "at least one"),
    ] {
        let error = estimate(&sites, &bench.probe, &options).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(estimate(&[], &bench.probe, &d()).is_err());
}

#[test]
fn a_subset_of_units_is_that_part_of_all_of_them() {
    let bench = Bench::new(30);
    let chosen = BTreeMap::from([("two".to_string(), vec![3, 1, 1]), ("one".to_string(), vec![0])]);
    let part = bench.compute(&with(everything(), |o| o.units = chosen));
    let all = bench.compute(&everything());
    let named: Vec<String> = part.units.iter().map(|u| u.id.to_string()).collect();
    assert_eq!(named, ["one/0", "two/1", "two/3", "two@raw/0", "two@raw/1", "two@raw/2", "two@raw/3"]);
    for unit in &part.units {
        assert_eq!(Some(unit), all.units.iter().find(|u| u.id == unit.id));
    }
}

#[test]
fn exemplars_keep_their_distance_within_a_class() {
    let bench = Bench::new(60);
    let near = bench.compute(&everything());
    let far = bench.compute(&with(everything(), |o| o.min_distance = 5));
    let gaps = |e: &Exemplars| {
        let units = e.units.iter().map(|u| u.top.iter().map(|e| e.image).collect::<Vec<_>>());
        let pairs = units.flat_map(|n| {
            (0..n.len()).flat_map(move |i| {
                (0..i).map({
                    let n = n.clone();
                    move |j| n[i].abs_diff(n[j])
                })
            })
        });
        pairs.min().unwrap()
    };
    assert!(gaps(&near) < 5 && gaps(&far) >= 5);
    for (a, b) in near.units.iter().zip(&far.units) {
        assert_eq!(a.top.first(), b.top.first());
        assert_eq!(b.top.len(), if b.dead { 0 } else { 4 });
    }
}

#[test]
fn milans_layout_comes_back_as_it_went() {
    let bench = Bench::new(30);
    let exemplars = bench.compute(&everything());
    let out = folder();
    export_npy(&exemplars, &bench.probe, out.path()).unwrap();
    let (back, images) = import_npy(out.path()).unwrap();
    assert_eq!(back.units.len(), exemplars.units.len());
    for (a, b) in exemplars.units.iter().zip(&back.units) {
        assert_eq!((&a.id, a.top.len()), (&b.id, b.top.len()));
        for (a, b) in a.top.iter().zip(&b.top) {
            assert_eq!(a.region, b.region);
            assert_eq!(bench.probe.image(a.image), images.image(b.image));
            assert_eq!(back.names[&b.image].name, format!("image {}", a.image));
            assert!((a.activation - b.activation).abs() <= 1e-4 * a.activation.abs());
        }
    }
    // Of other images it is not written.
    let error = export_npy(&exemplars, &probe(3, 1), out.path()).unwrap_err();
    assert!(error.to_string().contains("probe set"), "{error}");
    std::fs::write(out.path().join("one").join("masks.npy"), b"\x93NUMPY junk").unwrap();
    assert!(import_npy(out.path()).unwrap_err().to_string().contains("masks.npy"));
    assert!(import_npy(folder().path()).unwrap_err().to_string().contains("images.npy"));
}

#[test]
fn a_file_is_read_in_parts() {
    let bench = Bench::new(31);
    let out = folder();
    bench.run(&everything(), out.path());
    let all = Exemplars::load(out.path()).unwrap();
    let stored = Stored::open(out.path()).unwrap();
    let sites: Vec<(&str, usize)> = stored.sites().iter().map(|s| (s.name.as_str(), s.units.len())).collect();
    assert_eq!(sites, [("one", 5), ("two", 4), ("two@raw", 4)]);
    assert_eq!((stored.images(), stored.names()), (31, &all.names));
    let some = stored.load_sites(&["two@raw", "one"]).unwrap();
    let want: Vec<&UnitExemplars> = all.units.iter().filter(|u| u.id.site != "two").collect();
    assert_eq!(some.units.iter().collect::<Vec<_>>(), want);
    for site in stored.sites() {
        let mut joined = Vec::new();
        for start in (0..site.units.len()).step_by(3) {
            let places = start..(start + 3).min(site.units.len());
            joined.extend(stored.load_units(&site.name, places).unwrap().units);
        }
        assert_eq!(joined, all.of_site(&site.name).cloned().collect::<Vec<_>>());
    }
    assert!(stored.load_units("one", 3..3).unwrap().units.is_empty());
    assert!(same(stored.summaries(), &bench.compute(&everything()).summaries, &all.units));
    let said = |error: Result<Exemplars>| error.unwrap_err().to_string();
    assert!(said(stored.load_sites(&["onne"])).contains("did you mean `one`"));
    assert!(said(stored.load_units("one", 2..6)).contains("within 0..5"));
    let summaries = stored.summaries();
    assert!(summaries.of(&UnitId::new("tvo", 0)).unwrap_err().to_string().contains("did you mean `two`"));
    assert!(summaries.of(&UnitId::new("two", 4)).unwrap_err().to_string().contains("received 4"));
}

#[test]
fn what_a_file_belongs_to_is_told() {
    let bench = Bench::new(20);
    let out = folder();
    let done = bench.with(&bench.probe, &everything(), |run| run.write(out.path())).unwrap();
    let stored = Stored::open(out.path()).unwrap();
    assert_eq!((stored.model(), stored.probe()), (done.model.as_str(), done.probe.as_str()));
    let all: Vec<usize> = (0..20).collect();
    assert_eq!(stored.probe(), Images::digest(&bench.probe, &all).unwrap().to_string());
    let belongs = |net: &Net, images: &Probe| {
        let model = net.model();
        let traced = Traced::new(&model, &bench.probe.tensor(0..1).unwrap()).unwrap();
        assert_eq!(traced.fingerprint().unwrap() == stored.model(), std::ptr::eq(net, &bench.net));
        stored.belongs_to(&traced, images)
    };
    belongs(&bench.net, &bench.probe).unwrap();
    // A file that became another of the same size.
    let (photos, again) = (folder(), folder());
    let save = |i: usize, image: &RgbImage| image.save(photos.path().join(format!("{i:02}.png"))).unwrap();
    (0..20).for_each(|i| save(i, bench.probe.image(i)));
    let preprocess = bench.probe.preprocess().clone();
    let stream = ImageFolder::open(photos.path()).preprocess(preprocess).stream().unwrap();
    bench.with(&stream, &everything(), |run| run.write(again.path())).unwrap();
    let model = bench.net.model();
    let traced = Traced::new(&model, &bench.probe.tensor(0..1).unwrap()).unwrap();
    let of_files = Stored::open(again.path()).unwrap();
    of_files.belongs_to(&traced, &stream).unwrap();
    let changed = photos.path().join("07.png");
    let mut bytes = std::fs::read(&changed).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    let other = of_files.belongs_to(&traced, &stream).unwrap_err().to_string();
    assert!(other.contains("other images of the same names"), "{other}");
    let error = |net: &Net, images: &Probe| belongs(net, images).unwrap_err().to_string();
    assert!(error(&Net::new(2), &bench.probe).contains("the model's fingerprint"));
    let fewer = bench.probe.select(&(0..19).collect::<Vec<_>>()).unwrap();
    assert!(error(&bench.net, &fewer).contains("20 images, allowed 19"));
    let renamed = (0..20).map(|i| format!("other-{i}")).collect();
    let images = (0..20).map(|i| bench.probe.image(i).clone()).collect();
    let renamed = Probe::from_images(images, Some(renamed), None, bench.probe.preprocess().clone()).unwrap();
    assert!(error(&bench.net, &renamed).contains("the fingerprint of the probe set"));
    let repainted = bench.probe.map(|i, image| if i == 3 { RgbImage::new(8, 8) } else { image.clone() });
    assert!(error(&bench.net, &repainted).contains("probe set"));
    stored.chosen_by(&with(everything(), |o| (o.batch_size, o.budget) = (9, Some(1 << 20)))).unwrap();
    let other = stored.chosen_by(&with(everything(), |o| o.weakest = 4)).unwrap_err().to_string();
    assert!(other.contains("`options.weakest` = 3") && other.contains("allowed 4"), "{other}");
    let other = stored.chosen_by(&with(everything(), |o| o.region_size = Some((8, 9)))).unwrap_err().to_string();
    assert!(other.contains("`options.region.1` = 8"), "{other}");
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let bench = Bench::new(40);
            // Numbers whose sums depend on their order.
            let variables = bench.net.vs.variables().into_values();
            tch::no_grad(|| variables.for_each(|mut v| drop(v.g_add_scalar_(0.123))));
            bench.run(&everything(), folder().path())
        })
    };
    assert!(on(1) == on(8));
}

/// Tokens `[N, 5, 4]`: one in front, then a grid of 2 x 2; and a vector.
fn tokens(p: &nn::Path, size: i64) -> nn::FuncT<'static> {
    let patch = size / 2;
    let embed = nn::conv2d(p / "embed", 3, 4, patch, nn::ConvConfig { stride: patch, ..Default::default() });
    let class = p.ones("class", &[1, 1, 4]);
    let mix = nn::linear(p / "mix", 4, 6, Default::default());
    let head = nn::linear(p / "head", 6, 3, Default::default());
    nn::func_t(move |x, _| {
        let patches = x.apply(&embed).flatten(2, -1).transpose(1, 2);
        let class = class.expand([x.size()[0], 1, 4], false);
        Tensor::cat(&[class, patches], 1).apply(&mix).select(1, 0).apply(&head)
    })
}

#[test]
fn summaries_of_maps_tokens_and_vectors_are_those_of_their_tensors() {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tokens(&vs.root(), 8);
    let probe = probe(13, 2);
    let model = Model::new(&vs, &net);
    let traced = Traced::new(&model, &probe.tensor(0..1).unwrap()).unwrap();
    let sites = traced.select(&["embed", "mix", "head"]).unwrap();
    let options = with(Options::default(), |o| o.batch_size = 4);
    let exemplars = Exemplars::compute(&traced, &sites, &probe, &options).unwrap();
    let mut want = vec![(Vec::new(), Vec::new()); sites.len()];
    let _ = traced
        .read(&sites, &probe.tensor(0..13).unwrap(), |i, activation| {
            let maps = sites[i].maps(activation)?.flatten(2, -1);
            let rows = |t: Tensor| -> Vec<Vec<f32>> {
                (0..t.size()[1]).map(|u| Vec::try_from(t.select(1, u).contiguous()).unwrap()).collect()
            };
            want[i] = (rows(maps.amax([-1], false)), rows(maps.mean_dim(-1, false, tch::Kind::Float)));
            Ok(())
        })
        .unwrap();
    assert_eq!(sites.iter().map(|s| s.units).collect::<Vec<_>>(), [4, 6, 3]);
    assert!(sites.iter().any(|s| s.size == (2, 2)) && sites.iter().any(|s| s.size == (1, 1)));
    for (site, (maxima, means)) in sites.iter().zip(&want) {
        for unit in 0..site.units {
            let (got_max, got_mean) = exemplars.summaries.of(&UnitId::new(&site.name, unit)).unwrap();
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
            assert_eq!((got_max.len(), got_mean.len()), (13, 13));
            // A batch of another size may round otherwise.
            assert!(near(&got_max, &maxima[unit]) && near(&got_mean, &means[unit]), "{} {unit}", site.name);
        }
    }
}

#[test]
fn hostile_files_are_errors() {
    let bench = Bench::new(12);
    let out = folder();
    let bytes = bench.run(&everything(), out.path());
    let path = out.path().join(FILE);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..300 {
        let mut broken = bytes.clone();
        match rng.u8(0..3) {
            0 => broken.truncate(rng.usize(0..broken.len())),
            1 => {
                // The header, mostly.
                let at = rng.usize(0..4000.min(broken.len()));
                broken[at] = rng.u8(..);
            }
            _ => broken.extend_from_slice(&[0; 9]),
        }
        std::fs::write(&path, broken).unwrap();
        // An error or exemplars, never a panic.
        if let Ok(exemplars) = Exemplars::load(&path) {
            exemplars.units.iter().for_each(|u| drop(exemplars.summaries.of(&u.id)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn shards_of_any_number_merge_to_the_whole(images in 1..40usize, of in 2..6usize, batch_size in 1..9usize) {
        let bench = Bench::new(images);
        let options = with(everything(), |o| { o.batch_size = batch_size; o.compat = Compat::Official; });
        let whole = bench.run(&options, folder().path());
        let out = folder();
        for n in 1..=of {
            bench.with(&bench.probe, &options, |run| run.shard(Shard::new(n, of).unwrap()).write(out.path())).unwrap();
        }
        merge(out.path(), &[out.path().to_path_buf()]).unwrap();
        prop_assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole);
    }
}
