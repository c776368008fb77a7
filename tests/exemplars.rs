//! Exemplars: exact, in whatever order and in however many pieces they are computed.

mod common;

use common::with;
use image::RgbImage;
use proptest::prelude::*;
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tch::nn;
use tch::{Device, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{
    Compat, Exemplar, Exemplars, FILE, Options, Run, Shard, estimate, export_npy, import_npy, merge,
};
use tch_audit::probe::{Batch, Digest, Preprocess, Probe, Source};
use tch_audit::{Error, Model, Result};

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

    fn with<R>(&self, source: &dyn Source, options: &Options, work: impl FnOnce(Run<'_, '_>) -> R) -> R {
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
        o.maxima = true;
        o.batch_size = 5;
    })
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn equals_a_full_sort_and_a_sorted_list_of_all_activations() {
    let bench = Bench::new(37);
    let options = with(everything(), |o| o.quantile = 0.9);
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
        let matrix = exemplars.maxima.as_ref().unwrap();
        assert_eq!(matrix.sites[0].0, "one");
        for (image, maximum) in maxima.iter().enumerate() {
            assert_eq!(matrix.sites[0].1[image * 5 + unit.id.unit].to_f32(), *maximum);
        }
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
    let mut computed = bench.compute(&everything());
    for e in computed.units.iter_mut().flat_map(|u| u.top.iter_mut().chain(&mut u.weakest).chain(&mut u.random)) {
        e.map.clear();
    }
    assert_eq!(loaded.units, computed.units);
    assert_eq!(loaded.names, computed.names);
    assert_eq!(loaded.maxima, computed.maxima);
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
    assert_eq!((one.passes.len(), one.passes[0].clone()), (1, 0..3));
    let options = with(everything(), |o| o.budget = Some(one.state / 2));
    let plan = estimate(&sites, &bench.probe, &options).unwrap();
    assert!(plan.passes.len() > 1 && plan.state <= one.state / 2, "{plan}");
    assert!(bench.run(&options, folder().path()) == whole);
    assert_eq!(bench.compute(&options).units, bench.compute(&everything()).units);
    // Shards of several passes.
    let out = folder();
    for n in 1..=3 {
        bench.with(&bench.probe, &options, |run| run.shard(Shard::new(n, 3).unwrap()).write(out.path())).unwrap();
    }
    merge(out.path(), &[out.path().to_path_buf()]).unwrap();
    assert!(std::fs::read(out.path().join(FILE)).unwrap() == whole);
    let small = estimate(&sites, &bench.probe, &with(everything(), |o| o.budget = Some(1000))).unwrap_err();
    assert!(small.to_string().contains("budget: received 1000 bytes, allowed at least"), "{small}");
}

/// A probe set that fails after so many batches.
struct Failing<'a> {
    inner: &'a Probe,
    left: Cell<usize>,
}

impl Source for Failing<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn name(&self, i: usize) -> Cow<'_, str> {
        Source::name(self.inner, i)
    }
    fn label(&self, i: usize) -> Option<usize> {
        self.inner.label(i)
    }
    fn preprocess(&self) -> &Preprocess {
        self.inner.preprocess()
    }
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Source::image(self.inner, i)
    }
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
    fn batches(&self, ranges: &[Range<usize>], each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        self.inner.batches(ranges, &mut |batch| {
            if self.left.replace(self.left.get().saturating_sub(1)) == 0 {
                return Err(Error::Forward { message: "stopped".into(), input: Vec::new() });
            }
            each(batch)
        })
    }
    fn digest(&self, ranges: &[Range<usize>]) -> Result<Digest> {
        self.inner.digest(ranges)
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
            let failing = Failing { inner: &bench.probe, left: Cell::new(rng.usize(0..24)) };
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

#[test]
fn what_changed_since_the_checkpoint_is_named_and_refused() {
    let bench = Bench::new(60);
    let options = everything();
    let out = folder();
    let failing = Failing { inner: &bench.probe, left: Cell::new(5) };
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
        let _ = Exemplars::load(&path);
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
