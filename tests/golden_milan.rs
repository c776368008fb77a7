//! MILAN against its own code: `golden/milan`, and any other folder of that form. Parts that a folder does not have are
//! left out; the small copy in this repository has the checkpoint, the tokens and the pooling.

mod common;

use common::golden;
use image::RgbImage;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};
use tch_audit::describe::milan::{
    Captions, Checkpoint, Decoder, Encoder, Flags, Indexer, LanguageModel, Milan, Options, Search, Speaker, Strategy,
    pool, sentence,
};
use tch_audit::describe::{Describer, Status};
use tch_audit::exemplars::{Compat, Exemplar, Sketch, UnitExemplars};
use tch_audit::probe::{Batch, Digest, Images, Preprocess, Probe, Want};
use tch_audit::{Region, UnitId};

fn folders(file: &str) -> Vec<PathBuf> {
    let small = Path::new("tests/golden/milan").to_path_buf();
    let all: Vec<PathBuf> = std::iter::once(small).chain(golden("milan")).filter(|f| f.join(file).exists()).collect();
    if all.is_empty() {
        println!("skipped: no {file}");
    }
    all
}

fn json(folder: &Path, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn arrays(folder: &Path, name: &str) -> BTreeMap<String, Tensor> {
    Tensor::read_safetensors(folder.join(name)).unwrap().into_iter().collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

#[track_caller]
fn close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) -> f64 {
    assert_eq!(got.size(), want.size(), "{what}");
    let difference = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(difference <= tolerance, "{what}: {difference}");
    difference
}

// ---- words ----

#[test]
fn tokens_numbers_and_sentences_are_the_references() {
    for folder in folders("indexer.json") {
        let g = json(&folder, "indexer.json");
        let built = texts(&g["built_from"]);
        let indexer = Indexer::build(&built, 0, Flags::default()).unwrap();
        assert_eq!(indexer.words(), texts(&g["vocab_tokens_in_id_order"]));
        assert_eq!(indexer.start(), g["start_index"].as_i64().unwrap());
        assert_eq!(indexer.unk(), g["unk_index"].as_i64().unwrap());
        let rare = Indexer::build(&built, 1, Flags::default()).unwrap();
        assert_eq!(rare.words(), texts(&g["vocab_ignore_rarer_than_1"]));
        let joined: Vec<String> = built.chunks(3).map(|c| c.join(" ")).collect();
        let joined = Indexer::build(&joined, 0, Flags::default()).unwrap();
        assert_eq!(joined.words(), texts(&g["vocab_when_texts_joined_by_threes"]));
        let with = |f: &dyn Fn(&mut Flags)| {
            let mut flags = Flags::default();
            f(&mut flags);
            indexer.with_flags(flags)
        };
        for t in g["texts"].as_array().unwrap() {
            let text = t["text"].as_str().unwrap();
            assert_eq!(indexer.tokenize(text), texts(&t["tokens"]), "{text:?}");
            let one = |i: &Indexer| i.index(&[text]).remove(0);
            let default = one(&indexer);
            assert_eq!(default, ids(&t["ids_default_single"]), "{text:?}");
            for (name, flags) in [
                ("ids_start_only", &(|f: &mut Flags| f.stop = false) as &dyn Fn(&mut Flags)),
                ("ids_stop_only", &|f| f.start = false),
                ("ids_no_unk", &|f| f.unk = false),
                ("ids_length4", &|f| f.length = Some(4)),
                ("ids_length10_pad", &|f| f.length = Some(10)),
                ("ids_flags_off", &|f| (f.start, f.stop, f.pad, f.unk) = (false, false, false, false)),
            ] {
                assert_eq!(one(&with(flags)), ids(&t[name]), "{name} of {text:?}");
            }
            assert_eq!(indexer.reconstruct(&default), t["reconstruct_from_ids"].as_str().unwrap());
            let no_unk = ids(&t["ids_no_unk"]);
            if let Some(want) = t["reconstruct_from_ids_no_unk"].as_str() {
                assert_eq!(indexer.reconstruct(&no_unk), want);
            }
            if let Some(want) = t["reconstruct_from_tokens"].as_str() {
                assert_eq!(sentence(&texts(&t["tokens"])), want);
            }
            assert_eq!(indexer.unindex(&default, true), texts(&t["unindex"]));
            assert_eq!(indexer.unindex(&default, false), texts(&t["unindex_no_specials"]));
        }
        let batch = indexer.index(&texts(&g["batch"]["texts"]));
        for ((got, want), sentence) in
            batch.iter().zip(g["batch"]["ids"].as_array().unwrap()).zip(texts(&g["batch"]["reconstruct"]))
        {
            assert_eq!(*got, ids(want));
            assert_eq!(indexer.reconstruct(got), sentence);
        }
        for raw in g["raw_sequences"].as_array().unwrap() {
            assert_eq!(indexer.reconstruct(&ids(&raw["ids"])), raw["reconstruct"].as_str().unwrap());
        }
        for list in g["reconstruct_from_token_lists"].as_array().unwrap() {
            assert_eq!(sentence(&texts(&list["tokens"])), list["reconstruct"].as_str().unwrap());
        }
    }
}

// ---- decoder and language model ----

struct Spoken {
    g: Value,
    io: BTreeMap<String, Tensor>,
    indexer: Indexer,
    decoder: Decoder,
    lm: LanguageModel,
}

impl Spoken {
    fn read(folder: &Path) -> Self {
        let g = json(folder, "decoder.json");
        let weights = arrays(folder, "decoder_weights.safetensors");
        let indexer = Indexer::new(texts(&g["indexer"]["tokens"]), Flags::default()).unwrap();
        let decoder = Decoder::new(&weights, indexer.size()).unwrap();
        let lm = LanguageModel::new(&weights, "lm.", indexer.size()).unwrap();
        Self { io: arrays(folder, "decoder_io.safetensors"), g, indexer, decoder, lm }
    }

    fn speaker(&self) -> Speaker<'_> {
        Speaker { decoder: &self.decoder, lm: Some(&self.lm), indexer: &self.indexer }
    }

    fn features(&self, batch: &str) -> Tensor {
        self.io[&format!("{batch}.features")].to_kind(Kind::Float)
    }

    fn search(&self, kwargs: &Value) -> Search {
        let strategy = kwargs["strategy"].as_str().unwrap();
        let own = &self.g["decoder"];
        // The official code counts mutual information unless told not to, but when reranking.
        let mutual_information = strategy != "rerank" && kwargs["mi"].as_bool().unwrap_or(true);
        let strategy = match strategy {
            "greedy" => Strategy::Greedy,
            "beam" => Strategy::Beam,
            "rerank" => Strategy::Rerank,
            other => panic!("{other}"),
        };
        let count = |key: &str| kwargs[key].as_u64().or(own[key].as_u64()).unwrap() as usize;
        let temperature = kwargs["temperature"].as_f64().or(own["temperature"].as_f64()).unwrap();
        let (beam, length) = (count("beam_size"), count("length"));
        Search { strategy, mutual_information, beam, length, temperature, compat: Compat::Official }
    }
}

fn all(c: &Captions) -> Vec<&tch_audit::describe::milan::Caption> {
    std::iter::once(&c.best).chain(&c.alternatives).collect()
}

#[test]
fn captions_tokens_and_scores_are_the_references_for_every_strategy() {
    let mut worst: f64 = 0.0;
    for folder in folders("decoder_weights.safetensors") {
        let s = Spoken::read(&folder);
        for (name, batch) in s.g["batches"].as_object().unwrap() {
            for (run, facts) in batch["runs"].as_object().unwrap() {
                let prefix = format!("{name}.{run}");
                let Some(strategy) = facts["kwargs"]["strategy"].as_str() else { continue };
                let search = s.search(&facts["kwargs"]);
                let got = s.speaker().captions(&s.features(name), &search).unwrap();
                let said: Vec<&str> = got.iter().map(|c| c.best.text.as_str()).collect();
                assert_eq!(said, texts(&facts["captions"]), "{prefix}");
                let tokens: Vec<Vec<i64>> = Vec::try_from(&s.io[&format!("{prefix}.tokens")]).unwrap();
                let winners: Vec<&Vec<i64>> = got.iter().map(|c| &c.best.tokens).collect();
                assert_eq!(winners, tokens.iter().collect::<Vec<_>>(), "{prefix}");
                let scores = Tensor::from_slice(&got.iter().map(|c| c.best.score).collect::<Vec<_>>());
                worst = worst.max(close(&scores, &s.io[&format!("{prefix}.scores")], 1e-4, &prefix));
                if strategy == "greedy" {
                    continue;
                }
                // All beams, in the order of the search.
                let mut beams: Vec<Vec<&tch_audit::describe::milan::Caption>> = got.iter().map(all).collect();
                let order = |c: &&tch_audit::describe::milan::Caption| match strategy {
                    "rerank" => c.log_likelihood,
                    _ => c.score,
                };
                beams.iter_mut().for_each(|b| b.sort_by(|x, y| order(y).total_cmp(&order(x))));
                let compare = |what: &str, f: &dyn Fn(&tch_audit::describe::milan::Caption) -> f64| {
                    let Some(want) = s.io.get(&format!("{prefix}.{what}")) else { return 0.0 };
                    let got: Vec<f64> = beams.iter().flatten().map(|c| f(c)).collect();
                    close(
                        &Tensor::from_slice(&got).view(want.size().as_slice()),
                        want,
                        1e-4,
                        &format!("{prefix}.{what}"),
                    )
                };
                worst = worst.max(compare("beam_scores", &|c| c.score)).max(compare("lm_scores", &|c| c.log_prior));
                if let Some(want) = s.io.get(&format!("{prefix}.beam_tokens")) {
                    let got: Vec<i64> = beams.iter().flatten().flat_map(|c| c.tokens.iter().copied()).collect();
                    let want: Vec<i64> = Vec::try_from(&want.to_kind(Kind::Int64).flatten(0, -1)).unwrap();
                    assert!(got == want, "{prefix}.beam_tokens");
                }
            }
        }
    }
    println!("largest difference of a score: {worst:.2e}");
}

#[test]
fn forced_predictions_attentions_and_scores_are_the_references() {
    let mut worst: f64 = 0.0;
    for folder in folders("decoder_weights.safetensors") {
        let s = Spoken::read(&folder);
        let lambda = s.g["decoder"]["temperature"].as_f64().unwrap();
        for (name, batch) in s.g["batches"].as_object().unwrap() {
            let features = s.features(name);
            for (run, mi) in [("forced", None), ("forced_mi", Some(lambda))] {
                let forced = s.speaker().forced(&features, &s.io[&format!("{name}.forced.targets")], mi).unwrap();
                for (what, got) in [
                    ("predictions", &forced.predictions),
                    ("attentions", &forced.attentions),
                    ("scores", &forced.scores),
                ] {
                    if let Some(want) = s.io.get(&format!("{name}.{run}.{what}")) {
                        worst = worst.max(close(got, want, 1e-4, &format!("{name}.{run}.{what}")));
                    }
                }
            }
            for (run, mi) in [("greedy", None), ("greedy_mi", Some(lambda))] {
                let Some(want) = s.io.get(&format!("{name}.{run}.predictions")) else { continue };
                let forced = s.speaker().forced(&features, &s.io[&format!("{name}.{run}.tokens")], mi).unwrap();
                worst = worst.max(close(&forced.predictions, want, 1e-4, run));
                worst = worst.max(close(&forced.attentions, &s.io[&format!("{name}.{run}.attentions")], 1e-4, run));
            }
            let first = features.narrow(0, 0, 1);
            for (suffix, mi) in [("", None), ("_default_mi", Some(lambda))] {
                let each = s.speaker().score(&texts(&batch["forced_texts"]), &features, mi).unwrap();
                let want = &s.io[&format!("{name}.score_each{suffix}")];
                worst = worst.max(close(&Tensor::from_slice(&each), want, 1e-4, "score_each"));
                let many = s.speaker().score(&texts(&batch["score_many_texts"]), &first, mi).unwrap();
                let want = &s.io[&format!("{name}.score_many_unit0{suffix}")];
                worst = worst.max(close(&Tensor::from_slice(&many), want, 1e-4, "score_many"));
            }
        }
    }
    println!("largest difference: {worst:.2e}");
}

#[test]
fn the_language_model_is_the_references() {
    for folder in folders("decoder_weights.safetensors") {
        let s = Spoken::read(&folder);
        let rows = |name: &str| Vec::<Vec<i64>>::try_from(&s.io[name]).unwrap();
        let inputs = rows("lm.inputs");
        assert_eq!(s.indexer.index(&texts(&s.g["lm"]["texts"])), inputs);
        let predictions = s.lm.predictions(&s.io["lm.inputs"]).unwrap().narrow(0, 0, 4);
        close(&predictions, &s.io["lm.logprobs_first4"], 1e-4, "lm.logprobs");
        let scored = |inputs: &[Vec<i64>], official| {
            Tensor::from_slice(&s.lm.scores(inputs, s.indexer.stop(), official).unwrap())
        };
        close(&scored(&inputs, true), &s.io["lm.reduced"], 1e-4, "lm.reduced");
        close(&scored(&inputs, true), &s.io["lm.logp"], 1e-4, "lm.logp");
        let filled = rows("lm.stopfill_inputs");
        close(&scored(&filled, true), &s.io["lm.stopfill_reduced"], 1e-4, "stopfill");
        close(&scored(&filled, false), &s.io["lm.stopfill_reduced_strict_mask"], 1e-4, "strict");
    }
}

#[test]
fn by_default_a_caption_does_not_depend_on_its_neighbours() {
    for folder in folders("decoder_weights.safetensors") {
        let s = Spoken::read(&folder);
        for strategy in [Strategy::Greedy, Strategy::Sample(3), Strategy::Beam, Strategy::Rerank] {
            for temperature in [0.2, 1.0] {
                let search = Search { strategy, temperature, ..Search::default() };
                let features = Tensor::cat(&[s.features("b0"), s.features("b1"), s.features("b2")], 0);
                let together = s.speaker().captions(&features, &search).unwrap();
                let reversed = s.speaker().captions(&features.flip([0]), &search).unwrap();
                for (i, captions) in together.iter().enumerate() {
                    let alone = s.speaker().captions(&features.narrow(0, i as i64, 1), &search).unwrap();
                    assert_eq!(alone[0], *captions, "{strategy:?} unit {i}");
                    assert_eq!(reversed[together.len() - 1 - i], *captions, "{strategy:?} unit {i} reversed");
                }
            }
        }
        // What the language model says of a winner does not count what stands behind its stop.
        let search = Search::default();
        for c in s.speaker().captions(&s.features("b1"), &search).unwrap() {
            let whole: Vec<i64> = std::iter::once(s.indexer.start()).chain(c.best.tokens.iter().copied()).collect();
            let strict = s.lm.scores(&[whole], s.indexer.stop(), false).unwrap()[0];
            assert!((strict - c.best.log_prior).abs() < 1e-6);
            assert!((c.best.score - (c.best.log_likelihood - 0.2 * strict)).abs() < 1e-6);
        }
    }
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    for folder in folders("decoder_weights.safetensors") {
        let s = Spoken::read(&folder);
        let features = s.features("b2");
        let error = |search: Search| s.speaker().captions(&features, &search).unwrap_err().to_string();
        assert!(error(Search { beam: 60, ..Search::default() }).contains("1 to 59"));
        assert!(error(Search { beam: 0, ..Search::default() }).contains("beam size"));
        assert!(error(Search { length: 0, ..Search::default() }).contains("length"));
        assert!(error(Search { temperature: f64::NAN, ..Search::default() }).contains("temperature"));
        assert!(error(Search { mutual_information: true, ..Search::default() }).contains("one of the two"));
        let silent = Speaker { lm: None, ..s.speaker() };
        assert!(silent.captions(&features, &Search::default()).is_err());
        assert!(s.speaker().captions(&features.narrow(2, 0, 5), &Search::default()).is_err());
        assert!(s.speaker().captions(&(&features * f64::NAN), &Search::default()).is_err());
    }
}

// ---- encoder ----

fn bits(packed: &Tensor, shape: &[i64]) -> Tensor {
    let bytes: Vec<u8> = packed.try_into().unwrap();
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count as usize).map(|i| f32::from(bytes[i / 8] >> (7 - i % 8) & 1)).collect();
    Tensor::from_slice(&values).view(shape)
}

#[test]
fn pooled_features_are_the_references() {
    for folder in folders("encoder_pool.json") {
        let (g, io) = (json(&folder, "encoder_pool.json"), arrays(&folder, "encoder_pool.safetensors"));
        for (name, case) in g["cases"].as_object().unwrap() {
            let n = case["n"].as_i64().unwrap();
            let from = case["maps_from_case"].as_str().map_or(name.as_str(), |s| &s[..1]);
            let maps: Vec<Tensor> = (0..5).map(|i| io[&format!("{from}.map{i}")].to_kind(Kind::Float)).collect();
            let masks = match case["mask_shape"].as_array() {
                None => Tensor::ones([n, 64, 64], (Kind::Float, Device::Cpu)),
                Some(shape) => {
                    let shape: Vec<i64> = shape.iter().map(|v| v.as_i64().unwrap()).collect();
                    let packed = io.get(&format!("{name}.masks_packedbits"));
                    packed
                        .map_or_else(|| io[&format!("{name}.masks")].to_kind(Kind::Float), |p| bits(p, &shape))
                        .squeeze_dim(1)
                }
            };
            let got: Vec<Tensor> = (0..n)
                .map(|i| {
                    let own: Vec<Tensor> = maps.iter().map(|m| m.get(i)).collect();
                    pool(&own, &masks.narrow(0, i, 1), Compat::Official).unwrap()
                })
                .collect();
            close(&Tensor::cat(&got, 0), &io[&format!("{name}.pooled")], 1e-5, name);
        }
    }
}

/// Numbers in 0 to 1 from a name, as the reference makes its weights.
fn formula(name: &str, count: usize) -> impl Iterator<Item = u64> {
    let h = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (0..count as u64).map(move |i| {
        let z = h.wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn weight(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let unit = formula(name, count as usize).map(|z| (z >> 40) as f64 / f64::from(1 << 24));
    let value = |u: f64| match shape.len() {
        0 | 1 if name.ends_with("running_var") => 0.5 + u,
        0 | 1 if name.ends_with("weight") => 0.1 + 0.4 * u,
        0 | 1 => (2.0 * u - 1.0) * 0.2,
        _ => (2.0 * u - 1.0) * (6.0 / (count / shape[0]) as f64).sqrt(),
    };
    Tensor::from_slice(&unit.map(|u| value(u) as f32).collect::<Vec<_>>()).view(shape)
}

#[test]
fn whole_networks_of_torchvision_give_the_references_features() {
    for folder in folders("encoder_resnet.json") {
        let (g, io) = (json(&folder, "encoder_resnet.json"), arrays(&folder, "encoder_resnet.safetensors"));
        let size = g["size"].as_i64().unwrap();
        let pixels: Vec<f32> =
            formula("images-open", (3 * size * size) as usize).map(|z| (z >> 56) as f32 / 255.0).collect();
        let image = Tensor::from_slice(&pixels).view([1, 3, size, size]);
        let [r0, r1, c0, c1] = ids(&g["mask_rows_cols"])[..] else { panic!("mask") };
        let masked = Tensor::zeros([1, size, size], (Kind::Float, Device::Cpu));
        let _ = masked.narrow(1, r0, r1 - r0).narrow(2, c0, c1 - c0).fill_(1.0);
        for name in ["resnet18", "resnet50"] {
            let vs = tch::nn::VarStore::new(Device::Cpu);
            let _net: Box<dyn std::any::Any> = match name {
                "resnet18" => Box::new(tch::vision::resnet::resnet18(&vs.root(), 1000)),
                _ => Box::new(tch::vision::resnet::resnet50(&vs.root(), 1000)),
            };
            let weights: BTreeMap<String, Tensor> = vs
                .variables()
                .into_iter()
                .map(|(n, t)| {
                    let w = weight(&n, &t.size());
                    (n, w)
                })
                .collect();
            let encoder = Encoder::new(&weights, "").unwrap();
            assert_eq!(encoder.features(), g[name]["feature_size"].as_i64().unwrap());
            let maps: Vec<Tensor> = encoder.maps(&image).unwrap().iter().map(|m| m.get(0)).collect();
            for (what, mask) in [("masked", masked.shallow_clone()), ("no_mask", masked.ones_like())] {
                let Some(want) = io.get(&format!("{name}.{what}")) else { continue };
                let got = pool(&maps, &mask, Compat::Official).unwrap();
                println!("{name} {what}: {:.2e}", close(&got, want, 1e-4, name));
            }
        }
    }
}

// ---- a checkpoint in the official form, from images to captions ----

struct Tiny {
    g: Value,
    io: BTreeMap<String, Tensor>,
    checkpoint: Checkpoint,
    probe: Probe,
    units: Vec<UnitExemplars>,
}

impl Tiny {
    fn read(folder: &Path) -> Self {
        let io = arrays(folder, "checkpoint_io.safetensors");
        let [n, k, _, side, _] = io["images_u8"].size()[..] else { panic!("images") };
        let picture = |unit: i64, i: i64| {
            let pixels = io["images_u8"].get(unit).get(i).permute([1, 2, 0]).contiguous();
            let bytes: Vec<u8> = (&pixels.flatten(0, -1)).try_into().unwrap();
            RgbImage::from_raw(side as u32, side as u32, bytes).unwrap()
        };
        let images = (0..n * k).map(|i| picture(i / k, i % k)).collect();
        let preprocess = Preprocess::plain(3, side as usize, side as usize).unwrap();
        let exemplar = |unit: i64, i: i64| {
            let mask: Vec<u8> = (&io["masks_u8"].get(unit).get(i).flatten(0, -1)).try_into().unwrap();
            let side = side as usize;
            let region = Region::from_fn(side, side, |y, x| mask[y * side + x] != 0);
            Exemplar { image: (unit * k + i) as usize, activation: 1.0, map: Vec::new(), region }
        };
        let unit = |unit: i64| UnitExemplars {
            id: UnitId::new("tiny", unit as usize),
            level: 0.0,
            minimum: 0.0,
            maximum: 1.0,
            dead: false,
            top: (0..k).map(|i| exemplar(unit, i)).collect(),
            weakest: Vec::new(),
            random: Vec::new(),
            sketch: Sketch::default(),
        };
        Self {
            checkpoint: Checkpoint::load(folder.join("milan-tiny.pth")).unwrap(),
            probe: Probe::from_images(images, None, None, preprocess).unwrap(),
            units: (0..n).map(unit).collect(),
            g: json(folder, "checkpoint.json"),
            io,
        }
    }

    fn milan(&self, search: Option<Search>, compat: Compat) -> Milan<'_> {
        Milan::new(&self.checkpoint, &self.probe, Options { search, compat, ..Options::default() }).unwrap()
    }
}

#[test]
fn an_official_checkpoint_goes_from_images_to_captions() {
    for folder in folders("milan-tiny.pth") {
        let tiny = Tiny::read(&folder);
        let units: Vec<&UnitExemplars> = tiny.units.iter().collect();
        let features = tiny.milan(None, Compat::Official).features(&units).unwrap();
        println!("features: {:.2e}", close(&features, &tiny.io["features"], 1e-5, "features"));
        // The defaults of the checkpoint itself.
        let described = tiny.milan(None, Compat::Official).describe(&tiny.units).unwrap();
        let said: Vec<&str> = described.iter().map(|d| d.text.as_str()).collect();
        assert_eq!(said, texts(&tiny.g["runs"]["default"]["captions"]));
        let own = tiny.milan(None, Compat::Official).search().clone();
        for (run, search) in [
            ("greedy", Search { strategy: Strategy::Greedy, ..own.clone() }),
            ("beam", Search { strategy: Strategy::Beam, ..own.clone() }),
            ("rerank", own.clone()),
            ("rerank_t1", Search { temperature: 1.0, ..own.clone() }),
        ] {
            let captions = tiny.milan(Some(search), Compat::Official).captions(&units).unwrap();
            let said: Vec<&str> = captions.iter().map(|c| c.best.text.as_str()).collect();
            assert_eq!(said, texts(&tiny.g["runs"][run]["captions"]), "{run}");
            let scores = Tensor::from_slice(&captions.iter().map(|c| c.best.score).collect::<Vec<_>>());
            close(&scores, &tiny.io[&format!("{run}.scores")], 1e-4, run);
            let tokens: Vec<Vec<i64>> = Vec::try_from(&tiny.io[&format!("{run}.tokens")]).unwrap();
            assert_eq!(captions.iter().map(|c| c.best.tokens.clone()).collect::<Vec<_>>(), tokens, "{run}");
        }
    }
}

#[test]
fn encoding_each_image_once_equals_encoding_each_exemplar() {
    let tiny = Tiny::read(Path::new("tests/golden/milan"));
    // All exemplars of all units on the same few images.
    let mut units = tiny.units.clone();
    for (i, e) in units.iter_mut().flat_map(|u| &mut u.top).enumerate() {
        e.image = i % 2;
    }
    let milan = tiny.milan(None, Compat::Fixed);
    let together = milan.features(&units.iter().collect::<Vec<_>>()).unwrap();
    for (i, unit) in units.iter().enumerate() {
        let alone = milan.features(&[unit]).unwrap();
        close(&together.narrow(0, i as i64, 1), &alone, 1e-5, "features");
    }
}

/// A probe set that counts how many images it was asked for.
struct Counting<'a> {
    inner: &'a Probe,
    asked: AtomicUsize,
}

impl Images for Counting<'_> {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn name(&self, i: usize) -> Cow<'_, str> {
        Images::name(self.inner, i)
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn preprocess(&self) -> &Preprocess {
        self.inner.preprocess()
    }
    fn image(&self, i: usize) -> tch_audit::Result<Cow<'_, RgbImage>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
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
        each: &mut dyn FnMut(Batch) -> tch_audit::Result<()>,
    ) -> tch_audit::Result<()> {
        self.asked.fetch_add(numbers.len(), Ordering::SeqCst);
        self.inner.read(numbers, batch, want, each)
    }
    fn digest(&self, numbers: &[usize]) -> tch_audit::Result<Digest> {
        self.inner.digest(numbers)
    }
}

#[test]
fn a_thousand_units_cost_as_many_encoder_passes_as_there_are_images() {
    let tiny = Tiny::read(Path::new("tests/golden/milan"));
    let mut rng = fastrand::Rng::with_seed(4);
    let mut units: Vec<UnitExemplars> = (0..1000).map(|i| tiny.units[i % 3].clone()).collect();
    units.iter_mut().flat_map(|u| &mut u.top).for_each(|e| e.image = rng.usize(0..tiny.probe.len()));
    let counting = Counting { inner: &tiny.probe, asked: AtomicUsize::new(0) };
    let milan = Milan::new(&tiny.checkpoint, &counting, Options::default()).unwrap();
    let features = milan.features(&units.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(features.size(), [1000, 3, 40]);
    assert_eq!(counting.asked.into_inner(), tiny.probe.len());
}

#[test]
fn a_converted_checkpoint_says_the_same() {
    let tiny = Tiny::read(Path::new("tests/golden/milan"));
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("tiny.safetensors");
    tiny.checkpoint.save(&path).unwrap();
    let back = Checkpoint::load(&path).unwrap();
    assert_eq!(back.settings(), tiny.checkpoint.settings());
    let milan = Milan::new(&back, &tiny.probe, Options::default()).unwrap();
    let own = tiny.milan(None, Compat::Fixed);
    assert_eq!(milan.describe(&tiny.units).unwrap(), own.describe(&tiny.units).unwrap());
    assert_eq!(milan.fingerprint(), own.fingerprint());
    let first = std::fs::read(&path).unwrap();
    back.save(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == first);
    assert!(back.save(out.path().join("tiny.bin")).is_err());
}

#[test]
fn dead_and_blind_units_are_not_guessed_at() {
    let tiny = Tiny::read(Path::new("tests/golden/milan"));
    let mut units = tiny.units.clone();
    units[0].top.clear();
    units[1].top.iter_mut().for_each(|e| e.region = Region::empty(48, 48));
    let fixed = tiny.milan(None, Compat::Fixed).describe(&units).unwrap();
    let status: Vec<Status> = fixed.iter().map(|d| d.status).collect();
    assert_eq!(status, [Status::Dead, Status::Abstained, Status::Described]);
    let official = tiny.milan(None, Compat::Official).describe(&units).unwrap();
    assert_eq!(official[1].status, Status::Described);
    // A unit's words do not depend on which units are described with it.
    let alone = tiny.milan(None, Compat::Fixed).describe(&units[2..]).unwrap();
    assert_eq!(alone[0], fixed[2]);
}
