//! Exemplars against MILAN's own code: `golden/milan/exemplars.*`, and any other folder of that form.

mod common;

use common::reference::{self, Arrays, count, entries, trailing};
use common::with;
use image::RgbImage;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{Compat, Exemplars, Options, UnitExemplars, export_npy, region};
use tch_audit::probe::{Preprocess, Probe};
use tch_audit::{Model, Region};

struct Golden {
    facts: Value,
    arrays: Arrays,
}

/// One run of the reference.
struct Run {
    layer: String,
    k: usize,
    /// How we call the layer.
    site: String,
    /// Its place among the outputs of the network's parts.
    part: usize,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        Self { facts: reference::json(folder, "exemplars.json"), arrays: Arrays::read(folder, "exemplars.safetensors") }
    }

    /// `[images, channels, height, width]`.
    fn shape(&self) -> [i64; 4] {
        let size = self.arrays.get("images_u8").size();
        size.as_slice().try_into().unwrap_or_else(|_| panic!("`images_u8` has shape {size:?}"))
    }

    /// The convolutions in their order: each takes what the one before it gives, and is as wide as the facts say.
    fn convolutions(&self) -> Vec<&str> {
        let mut left: Vec<&str> = self.arrays.endings("net.").filter_map(|n| n.strip_suffix(".weight")).collect();
        left.sort_by_key(|name| trailing(name));
        let (mut from, mut order) = (self.shape()[1], Vec::new());
        for width in reference::integers(&self.facts["widths"]) {
            let fits = |name: &&str| self.arrays.get(&format!("net.{name}.weight")).size()[..2] == [width, from];
            let next = left.iter().position(fits);
            let next = next.unwrap_or_else(|| panic!("no `net.*.weight` from {from} to {width} channels in {left:?}"));
            order.push(left.remove(next));
            from = width;
        }
        order
    }

    /// Of convolution `i`: one number for all, or one for each.
    fn setting(&self, name: &str, i: usize) -> i64 {
        let value = &self.facts[name];
        let value = value.as_array().map_or(value, |each| &each[i]);
        value.as_i64().unwrap_or_else(|| panic!("`{name}` of convolution {i} is {value}"))
    }

    /// Convolutions, each followed by its ReLU.
    fn network(&self) -> (nn::VarStore, nn::SequentialT) {
        let vs = nn::VarStore::new(Device::Cpu);
        let mut net = nn::seq_t();
        for (i, name) in self.convolutions().into_iter().enumerate() {
            let size = self.arrays.get(&format!("net.{name}.weight")).size();
            let bias = self.arrays.find(&format!("net.{name}.bias")).is_some();
            let (stride, padding) = (self.setting("strides", i), self.setting("padding", i));
            let config = nn::ConvConfig { stride, padding, bias, ..Default::default() };
            net = net.add(nn::conv2d(vs.root() / name, size[1], size[0], size[2], config)).add_fn(|x| x.relu());
        }
        for (name, mut variable) in vs.variables() {
            tch::no_grad(|| variable.copy_(self.arrays.get(&format!("net.{name}"))));
        }
        (vs, net)
    }

    fn probe(&self) -> Probe {
        let [n, channels, height, width] = self.shape();
        let images: Vec<RgbImage> = (0..n)
            .map(|i| {
                let pixels = self.arrays.get("images_u8").get(i).permute([1, 2, 0]).contiguous();
                let bytes: Vec<u8> = (&pixels.flatten(0, -1)).try_into().unwrap();
                RgbImage::from_raw(width as u32, height as u32, bytes).expect("images of three channels")
            })
            .collect();
        let (mean, std) = reference::normalisation(&self.facts, channels as usize);
        let preprocess = Preprocess::new(channels as usize, height as usize, width as usize, mean, std).unwrap();
        Probe::from_images(images, None, None, preprocess).unwrap()
    }

    /// Height and width of a mask.
    fn output(&self) -> (usize, usize) {
        match self.facts["output_size"].as_array() {
            Some(both) => (both[0].as_u64().unwrap() as usize, both[1].as_u64().unwrap() as usize),
            None => (count(&self.facts, "output_size"), count(&self.facts, "output_size")),
        }
    }

    fn options(&self, k: usize) -> Options {
        with(Options::default(), |o| {
            o.k = k;
            o.batch_size = count(&self.facts, "batch_size");
            o.compat = Compat::Official;
            o.region_size = Some(self.output());
            o.quantile = quantile(&self.own());
        })
    }

    /// What the names of the levels of the reference's own masks end in, `q99`.
    fn own(&self) -> String {
        let runs = self.runs();
        let name = |r: &Run| {
            let prefix = format!("{}.k{}.sketch_level_", r.layer, r.k);
            self.arrays.endings(&prefix).next().map(str::to_string)
        };
        let all: BTreeSet<String> = runs.iter().filter_map(name).collect();
        assert_eq!(all.len(), 1, "levels of masks at one quantile: `LAYER.kK.sketch_level_q*`");
        all.into_iter().next().unwrap()
    }

    fn runs(&self) -> Vec<Run> {
        let convolutions = self.convolutions();
        let run = |layer: &String, k: &String, facts: &Value| {
            let raw = convolutions.iter().position(|c| c == layer);
            let numbered = trailing(layer)
                .and_then(|n| convolutions.iter().position(|c| trailing(c) == Some(n)).or(n.checked_sub(1)));
            let i = raw.or(numbered).filter(|i| *i < convolutions.len()).unwrap_or_else(|| {
                panic!("layer `{layer}` is neither one of {convolutions:?} nor ends in the number of one")
            });
            let channels = reference::integers(&facts["hidden_shape"])[1];
            let width = self.arrays.get(&format!("net.{}.weight", convolutions[i])).size()[0];
            assert_eq!(channels, width, "layer `{layer}` taken for what `{}` gives", convolutions[i]);
            let k = k.strip_prefix('k').and_then(|k| k.parse().ok()).unwrap_or_else(|| panic!("`{k}` is no k"));
            let site = if raw.is_some() { format!("{layer}@raw") } else { convolutions[i].to_string() };
            Run { layer: layer.clone(), k, site, part: 2 * i + usize::from(raw.is_none()) }
        };
        let layers = entries(&self.facts["layers"]).iter();
        layers.flat_map(|(layer, ks)| entries(ks).iter().map(move |(k, facts)| run(layer, k, facts))).collect()
    }

    /// Every k, each once.
    fn ks(&self) -> BTreeSet<usize> {
        self.runs().iter().map(|r| r.k).collect()
    }

    /// The units that the reference calls dead.
    fn dead(&self, run: &Run) -> Vec<i64> {
        let facts = &self.facts["layers"][&run.layer][format!("k{}", run.k)];
        reference::integers(&facts["units_with_no_positive_activation"])
    }
}

/// `q99` is 0.99, `q995` is 0.995.
fn quantile(name: &str) -> f64 {
    let digits = name.strip_prefix('q').unwrap_or_else(|| panic!("`{name}` is no quantile"));
    format!("0.{digits}").parse().unwrap_or_else(|e| panic!("`{name}` is no quantile: {e}"))
}

fn folders() -> Vec<PathBuf> {
    reference::folders_with("milan", "exemplars.json")
}

fn computed(golden: &Golden, k: usize, change: impl FnOnce(&mut Options)) -> (Exemplars, Probe) {
    let (vs, net) = golden.network();
    let model = Model::new(&vs, &net);
    let probe = golden.probe();
    let graph = Traced::new(&model, &probe.tensor(0..1).unwrap()).unwrap();
    let sites: BTreeSet<String> = golden.runs().into_iter().map(|r| r.site).collect();
    let sites = graph.select(&sites.into_iter().collect::<Vec<_>>()).unwrap();
    let mut options = golden.options(k);
    options.maps = true;
    change(&mut options);
    (Exemplars::compute(&graph, &sites, &probe, &options).unwrap(), probe)
}

fn live<'e>(golden: &Golden, exemplars: &'e Exemplars, run: &'e Run) -> Vec<&'e UnitExemplars> {
    let dead = golden.dead(run);
    let units: Vec<&UnitExemplars> = exemplars.of_site(&run.site).collect();
    assert!(units.iter().all(|u| u.dead == dead.contains(&(u.id.unit as i64))), "{}", run.layer);
    units.into_iter().filter(|u| !u.dead).collect()
}

#[test]
fn images_and_activations_are_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        for run in golden.runs() {
            let (layer, k) = (&run.layer, run.k);
            let (exemplars, _) = computed(&golden, k, |_| {});
            let ids = golden.arrays.integers(&format!("{layer}.k{k}.ids"));
            let activations = golden.arrays.floats(&format!("{layer}.k{k}.activations"));
            for unit in live(&golden, &exemplars, &run) {
                let here = unit.id.unit * k..(unit.id.unit + 1) * k;
                let got: Vec<i64> = unit.top.iter().map(|e| e.image as i64).collect();
                assert_eq!(got, ids[here.clone()], "{layer} unit {}", unit.id.unit);
                for (e, want) in unit.top.iter().zip(&activations[here]) {
                    assert!((e.activation - want).abs() <= 1e-5 * want.abs().max(1.0), "{} {want}", e.activation);
                }
            }
        }
    }
}

#[test]
fn the_level_is_within_half_a_percent_of_the_exact_quantile() {
    let mut worst: f64 = 0.0;
    for folder in folders() {
        let golden = Golden::read(&folder);
        let mut compared = 0;
        for run in golden.runs() {
            let (layer, prefix) = (&run.layer, format!("{}.midpoint_level_", run.layer));
            for name in golden.arrays.endings(&prefix) {
                let (exemplars, _) = computed(&golden, run.k, |o| o.quantile = quantile(name));
                let exact = golden.arrays.floats(&format!("{prefix}{name}"));
                for unit in live(&golden, &exemplars, &run) {
                    let want = f64::from(exact[unit.id.unit]);
                    let error = (f64::from(unit.level) - want).abs();
                    // A level of 0 must be 0: there is no half percent of it.
                    assert!(error <= 0.005 * want.abs(), "{layer} unit {}: {} {want}", unit.id.unit, unit.level);
                    worst = worst.max(error / want.abs().max(f64::MIN_POSITIVE));
                    compared += 1;
                }
            }
        }
        assert!(compared > 0, "{}: no `LAYER.midpoint_level_q*`", folder.display());
    }
    println!("largest relative error of a level: {worst:.5}");
}

#[test]
fn regions_equal_the_references_masks_pixel_by_pixel_at_its_level() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let (own, (height, width)) = (golden.own(), golden.output());
        let mut compared = 0;
        for run in golden.runs() {
            let (layer, k) = (&run.layer, run.k);
            let hidden = reference::integers(&golden.facts["layers"][layer][format!("k{k}")]["hidden_shape"]);
            let map = (hidden[2] as usize, hidden[3] as usize);
            let (exemplars, _) = computed(&golden, k, |_| {});
            let mut check = |levels: &str, masks: &str| {
                let (levels, packed) = (golden.arrays.floats(levels), golden.arrays.bytes(masks));
                let bit = |i: usize| packed[i / 8] >> (7 - i % 8) & 1 == 1;
                for unit in live(&golden, &exemplars, &run) {
                    let level = levels[unit.id.unit];
                    for (rank, e) in unit.top.iter().enumerate() {
                        let got = region(&e.map, map, level, (height, width), Compat::Official).unwrap();
                        let first = (unit.id.unit * k + rank) * height * width;
                        let want = Region::from_fn(height, width, |y, x| bit(first + y * width + x));
                        let wrong = want.union(&got) - want.intersection(&got);
                        assert_eq!(wrong, 0, "{layer} unit {} rank {rank}: {wrong} pixels", unit.id.unit);
                        compared += 1;
                    }
                }
            };
            for (levels, masks) in [
                (format!("{layer}.k{k}.sketch_level_{own}"), format!("{layer}.k{k}.masks_packedbits")),
                (format!("{layer}.midpoint_level_{own}"), format!("{layer}.k{k}.masks_at_midpoint_level_packedbits")),
            ] {
                if golden.arrays.find(&masks).is_some() {
                    check(&levels, &masks);
                }
            }
        }
        assert!(compared > 0, "{}: no `LAYER.kK.masks*_packedbits`", folder.display());
    }
}

#[test]
fn our_border_only_adds_to_the_references_regions() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let k = *golden.ks().first().expect("a run");
        let (official, _) = computed(&golden, k, |_| {});
        let (fixed, _) = computed(&golden, k, |o| o.compat = Compat::Fixed);
        let area = |e: &Exemplars| e.units.iter().flat_map(|u| &u.top).map(|e| e.region.area()).sum::<u64>();
        for (a, b) in official.units.iter().zip(&fixed.units).filter(|(a, _)| !a.dead) {
            for (a, b) in a.top.iter().zip(&b.top) {
                assert_eq!(a.region.intersection(&b.region), a.region.area());
            }
        }
        assert!(area(&fixed) > area(&official));
        let dead = |e: &Exemplars| e.units.iter().filter(|u| u.dead).map(|u| u.top.len()).sum::<usize>();
        let called: BTreeSet<(String, i64)> =
            golden.runs().iter().flat_map(|r| golden.dead(r).into_iter().map(|u| (r.site.clone(), u))).collect();
        assert_eq!((dead(&fixed), dead(&official)), (0, called.len() * k));
    }
}

#[test]
fn exported_images_are_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        if golden.arrays.find("resized_images").is_none() {
            eprintln!("skipped: no `resized_images` in {}", folder.display());
            continue;
        }
        let (wanted, want) = (golden.arrays.integers("resized_images_ids"), golden.arrays.get("resized_images"));
        let (height, width) = golden.output();
        let channels = golden.shape()[1];
        let sites: BTreeSet<String> = golden.runs().into_iter().map(|r| r.site).collect();
        let mut found = 0;
        for k in golden.ks() {
            let out = tempfile::tempdir().unwrap();
            let (exemplars, probe) = computed(&golden, k, |_| {});
            export_npy(&exemplars, &probe, out.path()).unwrap();
            for site in &sites {
                let file = std::fs::read(out.path().join(site).join("images.npy")).unwrap();
                let file = npyz::NpyFile::new(&file[..]).unwrap();
                let shape: Vec<i64> = file.shape().iter().map(|n| *n as i64).collect();
                assert_eq!(shape[1..], [k as i64, channels, height as i64, width as i64]);
                let images = Tensor::from_slice(&file.into_vec::<u8>().unwrap()).view(&shape[..]);
                for (row, unit) in exemplars.of_site(site).enumerate() {
                    for (rank, e) in unit.top.iter().enumerate() {
                        let Some(at) = wanted.iter().position(|id| *id == e.image as i64) else { continue };
                        let got = images.get(row as i64).get(rank as i64).to_kind(Kind::Int64);
                        let want = want.get(at as i64).to_kind(Kind::Int64);
                        assert!((got - want).abs().max().int64_value(&[]) <= 1);
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 0, "none of `resized_images_ids` is an exemplar");
    }
}

#[test]
fn the_network_is_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let (_vs, net) = golden.network();
        let maps = tch::no_grad(|| net.forward_all_t(&golden.probe().tensor(0..1).unwrap(), false, None));
        let mut compared = 0;
        for run in golden.runs() {
            let Some(want) = golden.arrays.find(&format!("{}.map_image0", run.layer)) else { continue };
            let map = maps[run.part].squeeze_dim(0);
            assert!((map - want).abs().max().double_value(&[]) < 1e-4, "{}", run.layer);
            compared += 1;
        }
        assert!(compared > 0, "{}: no `LAYER.map_image0`", folder.display());
    }
}
