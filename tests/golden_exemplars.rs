//! Exemplars against MILAN's own code: `golden/milan/exemplars.*`, and any other folder of that form.

mod common;

use common::golden;
use image::RgbImage;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{Compat, Exemplars, Options, UnitExemplars, export_npy, region};
use tch_audit::probe::{Preprocess, Probe};
use tch_audit::{Model, Region};

struct Golden {
    facts: Value,
    arrays: BTreeMap<String, Tensor>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let facts = serde_json::from_slice(&std::fs::read(folder.join("exemplars.json")).unwrap()).unwrap();
        let arrays = Tensor::read_safetensors(folder.join("exemplars.safetensors")).unwrap().into_iter().collect();
        Self { facts, arrays }
    }

    fn number(&self, name: &str) -> usize {
        self.facts[name].as_u64().unwrap() as usize
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        (&self.arrays[name].flatten(0, -1)).try_into().unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        (&self.arrays[name].flatten(0, -1)).try_into().unwrap()
    }

    fn network(&self) -> (nn::VarStore, nn::SequentialT) {
        let vs = nn::VarStore::new(Device::Cpu);
        let list =
            |name: &str| self.facts[name].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect::<Vec<_>>();
        let mut net = nn::seq_t();
        let mut from = 3;
        for (i, (width, stride)) in list("widths").into_iter().zip(list("strides")).enumerate() {
            let config = nn::ConvConfig { stride, padding: self.number("padding") as i64, ..Default::default() };
            let kernel = self.number("kernel") as i64;
            net = net
                .add(nn::conv2d(vs.root() / format!("conv{}", i + 1), from, width, kernel, config))
                .add_fn(|x| x.relu());
            from = width;
        }
        for (name, mut variable) in vs.variables() {
            tch::no_grad(|| variable.copy_(&self.arrays[&format!("net.{name}")]));
        }
        (vs, net)
    }

    fn probe(&self) -> Probe {
        let size = self.number("image_size");
        let images: Vec<RgbImage> = (0..self.number("n_images") as i64)
            .map(|i| {
                let pixels = self.arrays["images_u8"].get(i).permute([1, 2, 0]).contiguous();
                let bytes: Vec<u8> = (&pixels.flatten(0, -1)).try_into().unwrap();
                RgbImage::from_raw(size as u32, size as u32, bytes).unwrap()
            })
            .collect();
        let (mean, std) = (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
        Probe::from_images(images, None, None, Preprocess::new(3, size, size, mean, std).unwrap()).unwrap()
    }

    fn options(&self, k: usize) -> Options {
        let output = self.number("output_size");
        Options {
            k,
            batch_size: self.number("batch_size"),
            compat: Compat::Official,
            region_size: Some((output, output)),
            ..Options::default()
        }
    }

    /// Runs of the reference: its layer, k, and how we call that site.
    fn runs(&self) -> Vec<(String, usize, String)> {
        let layers = self.facts["layers"].as_object().unwrap();
        let run = |layer: &String, k: &String| {
            let site = match layer.strip_prefix("relu") {
                Some(number) => format!("conv{number}"),
                None => format!("{layer}@raw"),
            };
            (layer.clone(), k[1..].parse().unwrap(), site)
        };
        layers.iter().flat_map(|(layer, ks)| ks.as_object().unwrap().keys().map(move |k| run(layer, k))).collect()
    }
}

fn folders() -> Vec<PathBuf> {
    let small = Path::new("tests/golden/milan").to_path_buf();
    std::iter::once(small).chain(golden("milan")).collect()
}

fn computed(golden: &Golden, k: usize, change: impl FnOnce(&mut Options)) -> (Exemplars, Probe) {
    let (vs, net) = golden.network();
    let model = Model::new(&vs, &net);
    let probe = golden.probe();
    let graph = Traced::new(&model, &probe.tensor(0..1).unwrap()).unwrap();
    let sites = golden.runs().into_iter().map(|(_, _, site)| site).collect::<Vec<_>>();
    let sites = graph.select(&sites).unwrap();
    let mut options = Options { maps: true, ..golden.options(k) };
    change(&mut options);
    (Exemplars::compute(&graph, &sites, &probe, &options).unwrap(), probe)
}

fn live<'e>(golden: &Golden, exemplars: &'e Exemplars, layer: &str, k: usize, site: &'e str) -> Vec<&'e UnitExemplars> {
    let dead = &golden.facts["layers"][layer][format!("k{k}")]["units_with_no_positive_activation"];
    let dead: Vec<u64> = dead.as_array().unwrap().iter().map(|u| u.as_u64().unwrap()).collect();
    let units: Vec<&UnitExemplars> = exemplars.of_site(site).collect();
    assert!(units.iter().all(|u| u.dead == dead.contains(&(u.id.unit as u64))), "{layer}");
    units.into_iter().filter(|u| !u.dead).collect()
}

#[test]
fn images_and_activations_are_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        for (layer, k, site) in golden.runs() {
            let (exemplars, _) = computed(&golden, k, |_| {});
            let ids: Vec<i64> = (&golden.arrays[&format!("{layer}.k{k}.ids")].flatten(0, -1)).try_into().unwrap();
            let activations = golden.floats(&format!("{layer}.k{k}.activations"));
            for unit in live(&golden, &exemplars, &layer, k, &site) {
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
        for (layer, k, site) in golden.runs() {
            for (quantile, name) in [(0.99, "q99"), (0.95, "q95")] {
                let (exemplars, _) = computed(&golden, k, |o| o.quantile = quantile);
                let exact = golden.floats(&format!("{layer}.midpoint_level_{name}"));
                for unit in live(&golden, &exemplars, &layer, k, &site) {
                    let want = f64::from(exact[unit.id.unit]);
                    let error = (f64::from(unit.level) - want).abs();
                    // A level of 0 must be 0: there is no half percent of it.
                    assert!(error <= 0.005 * want.abs(), "{layer} unit {}: {} {want}", unit.id.unit, unit.level);
                    worst = worst.max(error / want.abs().max(f64::MIN_POSITIVE));
                }
            }
        }
    }
    println!("largest relative error of a level: {worst:.5}");
}

#[test]
fn regions_equal_the_references_masks_pixel_by_pixel_at_its_level() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let output = golden.number("output_size");
        for (layer, k, site) in golden.runs() {
            let (exemplars, _) = computed(&golden, k, |_| {});
            let check = |levels: &str, masks: &str| {
                let (levels, packed) = (golden.floats(levels), golden.bytes(masks));
                let bit = |i: usize| packed[i / 8] >> (7 - i % 8) & 1 == 1;
                for unit in live(&golden, &exemplars, &layer, k, &site) {
                    let level = levels[unit.id.unit];
                    for (rank, e) in unit.top.iter().enumerate() {
                        let side = (e.map.len() as f64).sqrt() as usize;
                        let got = region(&e.map, (side, side), level, (output, output), Compat::Official).unwrap();
                        let first = (unit.id.unit * k + rank) * output * output;
                        let want = Region::from_fn(output, output, |y, x| bit(first + y * output + x));
                        let wrong = want.union(&got) - want.intersection(&got);
                        assert_eq!(wrong, 0, "{layer} unit {} rank {rank}: {wrong} pixels", unit.id.unit);
                    }
                }
            };
            let own = format!("{layer}.k{k}.masks_packedbits");
            if golden.arrays.contains_key(&own) {
                check(&format!("{layer}.k{k}.sketch_level_q99"), &own);
            }
            let midpoint = format!("{layer}.k{k}.masks_at_midpoint_level_packedbits");
            if golden.arrays.contains_key(&midpoint) {
                check(&format!("{layer}.midpoint_level_q99"), &midpoint);
            }
        }
    }
}

#[test]
fn our_border_only_adds_to_the_references_regions() {
    let golden = Golden::read(Path::new("tests/golden/milan"));
    let (official, _) = computed(&golden, 5, |_| {});
    let (fixed, _) = computed(&golden, 5, |o| o.compat = Compat::Fixed);
    let area = |e: &Exemplars| e.units.iter().flat_map(|u| &u.top).map(|e| e.region.area()).sum::<u64>();
    for (a, b) in official.units.iter().zip(&fixed.units).filter(|(a, _)| !a.dead) {
        for (a, b) in a.top.iter().zip(&b.top) {
            assert_eq!(a.region.intersection(&b.region), a.region.area());
        }
    }
    assert!(area(&fixed) > area(&official));
    let dead = |e: &Exemplars| e.units.iter().filter(|u| u.dead).map(|u| u.top.len()).sum::<usize>();
    assert_eq!((dead(&fixed), dead(&official)), (0, 5));
}

#[test]
fn exported_images_are_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let out = tempfile::tempdir().unwrap();
        let (exemplars, probe) = computed(&golden, 15, |_| {});
        export_npy(&exemplars, &probe, out.path()).unwrap();
        let wanted: Vec<i64> = (&golden.arrays["resized_images_ids"]).try_into().unwrap();
        let output = golden.number("output_size") as i64;
        let mut found = 0;
        for (_, _, site) in golden.runs() {
            let file = std::fs::read(out.path().join(&site).join("images.npy")).unwrap();
            let file = npyz::NpyFile::new(&file[..]).unwrap();
            let shape: Vec<i64> = file.shape().iter().map(|n| *n as i64).collect();
            assert_eq!(shape[1..], [15, 3, output, output]);
            let images = Tensor::from_slice(&file.into_vec::<u8>().unwrap()).view(&shape[..]);
            for (row, unit) in exemplars.of_site(&site).enumerate() {
                for (rank, e) in unit.top.iter().enumerate() {
                    let Some(at) = wanted.iter().position(|id| *id == e.image as i64) else { continue };
                    let got = images.get(row as i64).get(rank as i64).to_kind(Kind::Int64);
                    let want = golden.arrays["resized_images"].get(at as i64).to_kind(Kind::Int64);
                    assert!((got - want).abs().max().int64_value(&[]) <= 1);
                    found += 1;
                }
            }
        }
        assert!(found > 0);
    }
}

#[test]
fn the_network_is_the_references() {
    for folder in folders() {
        let golden = Golden::read(&folder);
        let (_vs, net) = golden.network();
        let input = golden.probe().tensor(0..1).unwrap();
        let map = tch::no_grad(|| net.forward_t(&input, false)).squeeze_dim(0);
        let want = &golden.arrays["relu3.map_image0"];
        assert!((map - want).abs().max().double_value(&[]) < 1e-4);
    }
}
