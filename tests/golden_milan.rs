//! MILAN against its own code: `golden/milan`, and any other folder of that form. Parts that a folder does not have are
//! left out; the small copy in this repository has the checkpoint, the tokens and the pooling.

mod common;

use common::reference::{self, Arrays, count, entries, integers, list, text, texts, trailing};
use common::with;
use image::RgbImage;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use tch::{Device, Kind, Tensor};
use tch_audit::describe::milan::internals::{
    Caption, Captions, Decoder, Encoder, Flags, Indexer, LanguageModel, Speaker, pool, sentence,
};
use tch_audit::describe::milan::{Checkpoint, Milan, Options, Search, SearchOptions, Strategy};
use tch_audit::describe::{Describer, Description, Status, describe};
use tch_audit::evidence::Study;
use tch_audit::exemplars::{self, Compat, Exemplar, Exemplars, Sketch, Summaries, UnitExemplars};
use tch_audit::probe::{Digest, Images, Maker, Preprocess, Probe};
use tch_audit::{Region, UnitId};

fn folders(file: &str) -> Vec<PathBuf> {
    reference::folders_with("milan", file)
}

#[track_caller]
fn close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) -> f64 {
    assert_eq!(got.size(), want.size(), "{what}");
    let difference = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
    assert!(difference <= tolerance, "{what}: {difference}");
    difference
}

fn f32s(tensor: &Tensor) -> Tensor {
    tensor.to_kind(Kind::Float)
}

/// The flags that an indexer of the reference has; those that are not said are the official defaults.
fn flags(facts: &Value) -> Flags {
    for unknown in ["lemmatize", "ignore_stop"] {
        assert!(facts[unknown].as_bool() != Some(true), "`{unknown}`: tch-audit has neither lemmas nor stop words");
    }
    let default = Flags::default();
    let or = |name: &str, default: bool| facts[name].as_bool().unwrap_or(default);
    Flags {
        start: or("start", default.start),
        stop: or("stop", default.stop),
        pad: or("pad", default.pad),
        unk: or("unk", default.unk),
        length: facts["length"].as_u64().map(|n| n as usize),
        lowercase: or("lowercase", default.lowercase),
        ignore_punct: or("ignore_punct", default.ignore_punct),
    }
}

/// The search that the official code makes of these arguments, with a decoder's own settings for what they do not say.
fn search(kwargs: &Value, own: &Search) -> Search {
    let strategy = match kwargs["strategy"].as_str() {
        Some("greedy") => Strategy::Greedy,
        Some("beam") => Strategy::Beam,
        Some("rerank") => Strategy::Rerank,
        Some(other) => panic!("strategy `{other}`"),
        None => own.strategy,
    };
    // The official code counts mutual information unless told not to, but when reranking.
    let mutual_information = strategy != Strategy::Rerank && kwargs["mi"].as_bool().unwrap_or(true);
    let count = |name: &str, own: usize| kwargs[name].as_u64().map_or(own, |n| n as usize);
    with(own.clone(), |s| {
        (s.strategy, s.mutual_information) = (strategy, mutual_information);
        s.beam = count("beam_size", own.beam);
        s.length = count("length", own.length);
        s.temperature = kwargs["temperature"].as_f64().unwrap_or(own.temperature);
        s.compat = Compat::Official;
    })
}

// ---- words ----

#[test]
fn tokens_numbers_and_sentences_are_the_references() {
    for folder in folders("indexer.json") {
        let g = reference::json(&folder, "indexer.json");
        let built = texts(&g["built_from"]);
        let own = flags(&g["tokenizer_flags"]);
        let build = |texts: &[String], rarer: usize| Indexer::build(texts, rarer, own.clone()).unwrap();
        let indexer = build(&built, 0);
        assert_eq!(indexer.words(), texts(&g["vocab_tokens_in_id_order"]));
        for (name, got) in [
            ("start_index", indexer.start()),
            ("stop_index", indexer.stop()),
            ("pad_index", indexer.pad()),
            ("unk_index", indexer.unk()),
        ] {
            assert_eq!(Some(got), g[name].as_i64(), "{name}");
        }
        for (name, want) in entries(&g) {
            if let Some(rarer) = name.strip_prefix("vocab_ignore_rarer_than_") {
                assert_eq!(build(&built, rarer.parse().unwrap()).words(), texts(want), "{name}");
            }
            if let Some(by) = name.strip_prefix("vocab_when_texts_joined_by_") {
                let sizes = ["ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines", "tens"];
                let by = sizes.iter().position(|s| *s == by).unwrap_or_else(|| panic!("{name}: how many?")) + 1;
                let joined: Vec<String> = built.chunks(by).map(|c| c.join(" ")).collect();
                assert_eq!(build(&joined, 0).words(), texts(want), "{name}");
            }
        }
        for t in list(&g["texts"]) {
            numbers(&indexer, &own, t);
        }
        let batch = indexer.index(&texts(&g["batch"]["texts"]));
        assert_eq!(batch, list(&g["batch"]["ids"]).iter().map(integers).collect::<Vec<_>>());
        let said: Vec<String> = batch.iter().map(|ids| indexer.reconstruct(ids)).collect();
        assert_eq!(said, texts(&g["batch"]["reconstruct"]));
        for raw in list(&g["raw_sequences"]) {
            assert_eq!(indexer.reconstruct(&integers(&raw["ids"])), text(&raw["reconstruct"]));
        }
        for tokens in list(&g["reconstruct_from_token_lists"]) {
            assert_eq!(sentence(&texts(&tokens["tokens"])), text(&tokens["reconstruct"]));
        }
    }
}

/// One text, in all ways that the reference tells.
fn numbers(indexer: &Indexer, own: &Flags, facts: &Value) {
    let written = text(&facts["text"]);
    assert_eq!(indexer.tokenize(written), texts(&facts["tokens"]), "{written:?}");
    let default = indexer.index(&[written]).remove(0);
    for (name, want) in entries(facts) {
        let Some(way) = name.strip_prefix("ids_") else { continue };
        let mut flags = own.clone();
        match way.strip_suffix("_pad").unwrap_or(way) {
            "default_single" => {}
            "start_only" => flags.stop = false,
            "stop_only" => flags.start = false,
            "no_unk" => flags.unk = false,
            "flags_off" => (flags.start, flags.stop, flags.pad, flags.unk) = (false, false, false, false),
            length if length.starts_with("length") => flags.length = trailing(length),
            other => panic!("`ids_{other}` of {written:?}: which flags?"),
        }
        assert_eq!(indexer.with_flags(flags).index(&[written]).remove(0), integers(want), "{name} of {written:?}");
    }
    for (name, want) in entries(facts) {
        let Some(from) = name.strip_prefix("reconstruct_from_") else { continue };
        let Some(want) = want.as_str() else { continue };
        let got = match from {
            "tokens" => sentence(&texts(&facts["tokens"])),
            "ids" => indexer.reconstruct(&default),
            ids => indexer.reconstruct(&integers(&facts[ids])),
        };
        assert_eq!(got, want, "{name} of {written:?}");
    }
    assert_eq!(indexer.unindex(&default, true), texts(&facts["unindex"]));
    assert_eq!(indexer.unindex(&default, false), texts(&facts["unindex_no_specials"]));
}

#[test]
fn tokens_are_spacys() {
    let mut wrong = Vec::new();
    for folder in reference::folders_with("tokens", "tokens.json") {
        let g = reference::json(&folder, "tokens.json");
        let indexer = Indexer::new(vec!["a".into()], Flags::default()).unwrap();
        for t in list(&g["texts"]) {
            let (got, want) = (indexer.tokenize(text(&t["text"])), texts(&t["tokens"]));
            if got != want {
                wrong.push(format!("{}: {got:?}, spaCy says {want:?}", t["text"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

// ---- decoder and language model ----

struct Spoken {
    g: Value,
    io: Arrays,
    indexer: Indexer,
    decoder: Decoder,
    lm: Option<LanguageModel>,
}

impl Spoken {
    fn read(folder: &Path) -> Self {
        let g = reference::json(folder, "decoder.json");
        let weights = Arrays::read(folder, "decoder_weights.safetensors").all;
        let indexer = Indexer::new(texts(&g["indexer"]["tokens"]), flags(&g["indexer"])).unwrap();
        let decoder = Decoder::new(&weights, indexer.size()).unwrap();
        let has = weights.keys().any(|name| name.starts_with("lm."));
        let lm = has.then(|| LanguageModel::new(&weights, "lm.", indexer.size()).unwrap());
        Self { io: Arrays::read(folder, "decoder_io.safetensors"), g, indexer, decoder, lm }
    }

    fn all() -> Vec<Self> {
        folders("decoder_weights.safetensors").iter().map(|f| Self::read(f)).collect()
    }

    fn speaker(&self) -> Speaker<'_> {
        Speaker { decoder: &self.decoder, lm: self.lm.as_ref(), indexer: &self.indexer }
    }

    fn features(&self, batch: &str) -> Tensor {
        f32s(self.io.get(&format!("{batch}.features")))
    }

    fn temperature(&self) -> f64 {
        self.g["decoder"]["temperature"].as_f64().expect("the decoder's temperature")
    }

    /// The decoder's own settings.
    fn own(&self, compat: Compat) -> Search {
        let own = &self.g["decoder"];
        with(Search::default(), |s| {
            s.strategy = if self.lm.is_some() { Strategy::Rerank } else { Strategy::Beam };
            s.beam = count(own, "beam_size");
            s.length = count(own, "length");
            s.temperature = self.temperature();
            s.compat = compat;
        })
    }

    /// The features of all batches with as many exemplars as the first.
    fn together(&self) -> Tensor {
        let all: Vec<Tensor> = entries(&self.g["batches"]).keys().map(|b| self.features(b)).collect();
        let k = all.first().expect("a batch").size()[1];
        Tensor::cat(&all.iter().filter(|f| f.size()[1] == k).collect::<Vec<_>>(), 0)
    }
}

fn all(c: &Captions) -> Vec<&Caption> {
    std::iter::once(&c.best).chain(&c.alternatives).collect()
}

#[test]
fn captions_tokens_and_scores_are_the_references_for_every_strategy() {
    let mut worst: f64 = 0.0;
    for s in Spoken::all() {
        for (name, batch) in entries(&s.g["batches"]) {
            for (run, facts) in entries(&batch["runs"]) {
                let prefix = format!("{name}.{run}");
                if facts["kwargs"]["strategy"].as_str().is_none() {
                    continue;
                }
                let search = search(&facts["kwargs"], &s.own(Compat::Official));
                let got = s.speaker().captions(&s.features(name), &search).unwrap();
                let said: Vec<&str> = got.iter().map(|c| c.best.text.as_str()).collect();
                assert_eq!(said, texts(&facts["captions"]), "{prefix}");
                let tokens: Vec<Vec<i64>> = Vec::try_from(s.io.get(&format!("{prefix}.tokens"))).unwrap();
                let winners: Vec<&Vec<i64>> = got.iter().map(|c| &c.best.tokens).collect();
                assert_eq!(winners, tokens.iter().collect::<Vec<_>>(), "{prefix}");
                let scores = Tensor::from_slice(&got.iter().map(|c| c.best.score).collect::<Vec<_>>());
                worst = worst.max(close(&scores, s.io.get(&format!("{prefix}.scores")), 1e-4, &prefix));
                if search.strategy == Strategy::Greedy {
                    continue;
                }
                // All beams, in the order of the search.
                let mut beams: Vec<Vec<&Caption>> = got.iter().map(all).collect();
                let order = |c: &&Caption| match search.strategy {
                    Strategy::Rerank => c.log_likelihood,
                    _ => c.score,
                };
                beams.iter_mut().for_each(|b| b.sort_by(|x, y| order(y).total_cmp(&order(x))));
                let compare = |what: &str, f: &dyn Fn(&Caption) -> f64| {
                    let Some(want) = s.io.find(&format!("{prefix}.{what}")) else { return 0.0 };
                    let got: Vec<f64> = beams.iter().flatten().map(|c| f(c)).collect();
                    let got = Tensor::from_slice(&got).view(want.size().as_slice());
                    close(&got, want, 1e-4, &format!("{prefix}.{what}"))
                };
                worst = worst.max(compare("beam_scores", &|c| c.score)).max(compare("lm_scores", &|c| c.log_prior));
                if s.io.find(&format!("{prefix}.beam_tokens")).is_some() {
                    let got: Vec<i64> = beams.iter().flatten().flat_map(|c| c.tokens.iter().copied()).collect();
                    assert!(got == s.io.integers(&format!("{prefix}.beam_tokens")), "{prefix}.beam_tokens");
                }
            }
        }
    }
    println!("largest difference of a score: {worst:.2e}");
}

#[test]
fn forced_predictions_attentions_and_scores_are_the_references() {
    let mut worst: f64 = 0.0;
    for s in Spoken::all() {
        let lambda = s.lm.as_ref().map(|_| s.temperature());
        // With mutual information only where there is a language model.
        let ways = |suffix: &str| [(String::new(), None), (suffix.to_string(), lambda)];
        for (name, batch) in entries(&s.g["batches"]) {
            let features = s.features(name);
            for (suffix, mi) in ways("_mi") {
                let targets = s.io.get(&format!("{name}.forced.targets"));
                let forced = s.speaker().forced(&features, targets, mi).unwrap();
                for (what, got) in [
                    ("predictions", &forced.predictions),
                    ("attentions", &forced.attentions),
                    ("scores", &forced.scores),
                ] {
                    let what = format!("{name}.forced{suffix}.{what}");
                    if let Some(want) = s.io.find(&what) {
                        worst = worst.max(close(got, want, 1e-4, &what));
                    }
                }
                let run = format!("{name}.greedy{suffix}");
                let Some(want) = s.io.find(&format!("{run}.predictions")) else { continue };
                let forced = s.speaker().forced(&features, s.io.get(&format!("{run}.tokens")), mi).unwrap();
                worst = worst.max(close(&forced.predictions, want, 1e-4, &run));
                worst = worst.max(close(&forced.attentions, s.io.get(&format!("{run}.attentions")), 1e-4, &run));
            }
            let first = features.narrow(0, 0, 1);
            for (suffix, mi) in ways("_default_mi") {
                for (what, said, features) in
                    [("score_each", "forced_texts", &features), ("score_many_unit0", "score_many_texts", &first)]
                {
                    let Some(want) = s.io.find(&format!("{name}.{what}{suffix}")) else { continue };
                    let got = s.speaker().score(&texts(&batch[said]), features, mi).unwrap();
                    worst = worst.max(close(&Tensor::from_slice(&got), want, 1e-4, what));
                }
            }
        }
    }
    println!("largest difference: {worst:.2e}");
}

#[test]
fn the_language_model_is_the_references() {
    for s in Spoken::all() {
        let Some(lm) = &s.lm else {
            eprintln!("skipped: no language model");
            continue;
        };
        let rows = |name: &str| Vec::<Vec<i64>>::try_from(s.io.get(name)).unwrap();
        let inputs = rows("lm.inputs");
        assert_eq!(s.indexer.index(&texts(&s.g["lm"]["texts"])), inputs);
        for ending in s.io.endings("lm.logprobs_first") {
            let want = s.io.get(&format!("lm.logprobs_first{ending}"));
            let predictions = lm.predictions(s.io.get("lm.inputs")).unwrap().narrow(0, 0, want.size()[0]);
            close(&predictions, want, 1e-4, "lm.logprobs");
        }
        let scored =
            |inputs: &[Vec<i64>], official| Tensor::from_slice(&lm.scores(inputs, s.indexer.stop(), official).unwrap());
        close(&scored(&inputs, true), s.io.get("lm.reduced"), 1e-4, "lm.reduced");
        close(&scored(&inputs, true), s.io.get("lm.logp"), 1e-4, "lm.logp");
        let filled = rows("lm.stopfill_inputs");
        close(&scored(&filled, true), s.io.get("lm.stopfill_reduced"), 1e-4, "stopfill");
        close(&scored(&filled, false), s.io.get("lm.stopfill_reduced_strict_mask"), 1e-4, "strict");
    }
}

#[test]
fn by_default_a_caption_does_not_depend_on_its_neighbours() {
    for s in Spoken::all() {
        let own = s.own(Compat::Fixed);
        let features = s.together();
        for strategy in [Strategy::Greedy, Strategy::Sample(3), Strategy::Beam, own.strategy] {
            for temperature in [own.temperature, 1.0] {
                let search = with(own.clone(), |s| (s.strategy, s.temperature) = (strategy, temperature));
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
        let Some(lm) = &s.lm else { continue };
        for c in s.speaker().captions(&features, &own).unwrap() {
            let whole: Vec<i64> = std::iter::once(s.indexer.start()).chain(c.best.tokens.iter().copied()).collect();
            let strict = lm.scores(&[whole], s.indexer.stop(), false).unwrap()[0];
            assert!((strict - c.best.log_prior).abs() < 1e-6);
            assert!((c.best.score - (c.best.log_likelihood - own.temperature * strict)).abs() < 1e-6);
        }
    }
}

#[test]
fn searches_that_make_no_sense_are_refused() {
    for s in Spoken::all() {
        let (features, own, size) = (s.together(), s.own(Compat::Fixed), s.indexer.size());
        let error = |change: &dyn Fn(&mut Search)| {
            let search = with(own.clone(), change);
            s.speaker().captions(&features, &search).unwrap_err().to_string()
        };
        assert!(error(&|s| s.beam = size + 1).contains(&format!("1 to {size}")));
        assert!(error(&|s| s.beam = 0).contains("beam size"));
        assert!(error(&|s| s.length = 0).contains("length"));
        assert!(error(&|s| s.temperature = f64::NAN).contains("temperature"));
        assert!(s.speaker().captions(&features.narrow(2, 1, features.size()[2] - 1), &own).is_err());
        assert!(s.speaker().captions(&(&features * f64::NAN), &own).is_err());
        if s.lm.is_some() {
            assert!(error(&|s| s.mutual_information = true).contains("one of the two"));
            let silent = Speaker { lm: None, ..s.speaker() };
            assert!(silent.captions(&features, &own).is_err());
        }
    }
}

// ---- encoder ----

fn bits(packed: &[u8], shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count as usize).map(|i| f32::from(packed[i / 8] >> (7 - i % 8) & 1)).collect();
    Tensor::from_slice(&values).view(shape)
}

/// `a[2:5]` as `a` and 2; `a` as `a` and 0.
fn rows_of(case: &str) -> (&str, i64) {
    let Some((name, rows)) = case.split_once('[') else { return (case, 0) };
    let first = rows.split(':').next().unwrap_or_default();
    (name, if first.is_empty() { 0 } else { first.parse().unwrap_or_else(|e| panic!("`{case}`: {e}")) })
}

#[test]
fn pooled_features_are_the_references() {
    for folder in folders("encoder_pool.json") {
        let g = reference::json(&folder, "encoder_pool.json");
        let io = Arrays::read(&folder, "encoder_pool.safetensors");
        for (name, case) in entries(&g["cases"]) {
            let n = count(case, "n") as i64;
            let (from, first) = rows_of(case["maps_from_case"].as_str().unwrap_or(name));
            let maps: Vec<Tensor> = (0..).map_while(|i| io.find(&format!("{from}.map{i}"))).map(f32s).collect();
            assert!(!maps.is_empty(), "no `{from}.map0`");
            let masks = match case["mask_shape"].as_array() {
                None => Tensor::ones([n, maps[0].size()[2], maps[0].size()[3]], (Kind::Float, Device::Cpu)),
                Some(_) => {
                    let (shape, packed) = (integers(&case["mask_shape"]), format!("{name}.masks_packedbits"));
                    match io.find(&packed) {
                        Some(_) => bits(&io.bytes(&packed), &shape),
                        None => f32s(io.get(&format!("{name}.masks"))),
                    }
                    .squeeze_dim(1)
                }
            };
            let got: Vec<Tensor> = (0..n)
                .map(|i| {
                    let own: Vec<Tensor> = maps.iter().map(|m| m.get(first + i)).collect();
                    pool(&own, &masks.narrow(0, i, 1), Compat::Official).unwrap()
                })
                .collect();
            close(&Tensor::cat(&got, 0), io.get(&format!("{name}.pooled")), 1e-5, name);
        }
    }
}

/// Numbers from a name, as the reference makes its weights and pixels.
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

/// Image bytes by the formula, from the name that gives the folder's first ones. The facts may say it as `image_name`; else
/// it is one of the words between backquotes in the folder's README, or `images-` and a word of the folder's path.
fn pixels(folder: &Path, g: &Value, count: usize) -> Vec<u8> {
    let first = integers(g.get("images_first8").expect("`images_first8`"));
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
    let path = folder.to_string_lossy().into_owned();
    let said = g["image_name"].as_str().map(str::to_string);
    let quoted = readme.split('`').skip(1).step_by(2).map(str::to_string);
    let guessed = path.split(|c: char| !c.is_alphanumeric()).map(|word| format!("images-{word}"));
    let bytes = |name: &str| formula(name, count.max(first.len())).map(|z| (z >> 56) as u8).collect::<Vec<u8>>();
    let fits = |name: &String| bytes(name).iter().zip(&first).all(|(got, want)| i64::from(*got) == *want);
    let name = said.into_iter().chain(quoted).chain(guessed).find(fits).unwrap_or_else(|| {
        panic!("{}: no name is known whose bytes begin with {first:?}: say it as `image_name`", folder.display())
    });
    bytes(&name)[..count].to_vec()
}

/// The names and shapes of the weights of a network of torchvision.
fn torchvision(name: &str) -> BTreeMap<String, Vec<i64>> {
    use tch::vision::{alexnet::alexnet, resnet};
    let (vs, classes) = (tch::nn::VarStore::new(Device::Cpu), 1000);
    let _net: Box<dyn std::any::Any> = match name {
        "alexnet" => Box::new(alexnet(&vs.root(), classes)),
        "resnet18" => Box::new(resnet::resnet18(&vs.root(), classes)),
        "resnet34" => Box::new(resnet::resnet34(&vs.root(), classes)),
        "resnet50" => Box::new(resnet::resnet50(&vs.root(), classes)),
        "resnet101" => Box::new(resnet::resnet101(&vs.root(), classes)),
        "resnet152" => Box::new(resnet::resnet152(&vs.root(), classes)),
        other => panic!("`{other}` is no network that an encoder can be: say one of torchvision's as `config`"),
    };
    vs.variables().into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

#[test]
fn whole_networks_of_torchvision_give_the_references_features() {
    for folder in folders("encoder_resnet.json") {
        let g = reference::json(&folder, "encoder_resnet.json");
        let io = Arrays::read(&folder, "encoder_resnet.safetensors");
        let size = count(&g, "size") as i64;
        let bytes = pixels(&folder, &g, (3 * size * size) as usize);
        let image = Tensor::from_slice(&bytes).view([1, 3, size, size]).to_kind(Kind::Float) / 255.0;
        let [r0, r1, c0, c1] = integers(&g["mask_rows_cols"])[..] else { panic!("`mask_rows_cols` are four numbers") };
        let masked = Tensor::zeros([1, size, size], (Kind::Float, Device::Cpu));
        let _ = masked.narrow(1, r0, r1 - r0).narrow(2, c0, c1 - c0).fill_(1.0);
        let mut compared = 0;
        for (name, facts) in entries(&g).iter().filter(|(_, facts)| facts["feature_size"].is_u64()) {
            let weights: BTreeMap<String, Tensor> = torchvision(facts["config"].as_str().unwrap_or(name))
                .into_iter()
                .map(|(name, shape)| (name.clone(), weight(&name, &shape)))
                .collect();
            for (weight, first) in facts["first_weights"].as_object().into_iter().flatten() {
                let got = weights.get(weight).unwrap_or_else(|| panic!("{name} has no `{weight}`"));
                let want = list(first).iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<_>>();
                let got = Vec::<f32>::try_from(&got.flatten(0, -1).narrow(0, 0, want.len() as i64)).unwrap();
                assert_eq!(got, want, "{name} {weight}: the weights are made by another formula");
            }
            let encoder = Encoder::new(&weights, "").unwrap();
            assert_eq!(encoder.features(), count(facts, "feature_size") as i64);
            let maps: Vec<Tensor> = encoder.maps(&image).unwrap().iter().map(|m| m.get(0)).collect();
            for (what, mask) in [("masked", masked.shallow_clone()), ("no_mask", masked.ones_like())] {
                let Some(want) = io.find(&format!("{name}.{what}")) else { continue };
                let got = pool(&maps, &mask, Compat::Official).unwrap();
                println!("{name} {what}: {:.2e}", close(&got, want, 1e-4, name));
                compared += 1;
            }
        }
        assert!(compared > 0, "{}: no network with `feature_size` and features", folder.display());
    }
}

// ---- a checkpoint in the official form, from images to captions ----

struct Tiny {
    g: Value,
    io: Arrays,
    checkpoint: Checkpoint,
    probe: Probe,
    units: Vec<UnitExemplars>,
}

impl Tiny {
    fn read(path: &Path) -> Self {
        let folder = path.parent().expect("a folder");
        let io = Arrays::read(folder, "checkpoint_io.safetensors");
        let [n, k, _, height, width] = io.get("images_u8").size()[..] else {
            panic!("`images_u8` has five dimensions")
        };
        let (height, width) = (height as usize, width as usize);
        let picture = |unit: i64, i: i64| {
            let pixels = io.get("images_u8").get(unit).get(i).permute([1, 2, 0]).contiguous();
            let bytes: Vec<u8> = (&pixels.flatten(0, -1)).try_into().unwrap();
            RgbImage::from_raw(width as u32, height as u32, bytes).unwrap()
        };
        let images = (0..n * k).map(|i| picture(i / k, i % k)).collect();
        let preprocess = Preprocess::plain(3, height, width).unwrap();
        let exemplar = |unit: i64, i: i64| {
            let mask: Vec<u8> = (&io.get("masks_u8").get(unit).get(i).flatten(0, -1)).try_into().unwrap();
            let region = Region::from_fn(height, width, |y, x| mask[y * width + x] != 0);
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
            checkpoint: Checkpoint::load(path).unwrap(),
            probe: Probe::from_images(images, None, None, preprocess).unwrap(),
            units: (0..n).map(unit).collect(),
            g: reference::json(folder, "checkpoint.json"),
            io,
        }
    }

    /// The checkpoint of each folder that has one; the file may have any name.
    fn all() -> Vec<Self> {
        let is = |path: &Path| path.extension().is_some_and(|e| e == "pth");
        let first = |folder: &PathBuf| {
            let mut all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()).collect();
            all.retain(|p| is(p));
            all.sort();
            all.remove(0)
        };
        reference::folders("milan", "*.pth", is).iter().map(|f| Self::read(&first(f))).collect()
    }

    fn milan(&self, search: Option<Search>, compat: Compat) -> Milan {
        let search = search.map(SearchOptions::from).unwrap_or_default();
        Milan::new(&self.checkpoint, with(Options::default(), |o| (o.search, o.compat) = (search, compat))).unwrap()
    }

    fn describe(&self, milan: &Milan, units: &[UnitExemplars]) -> Vec<Description> {
        let (preprocess, options) = (self.probe.preprocess().clone(), exemplars::Options::default());
        let (names, summaries) = (BTreeMap::new(), Summaries::default());
        let images = self.probe.len();
        let exemplars = Exemplars { preprocess, options, images, units: units.to_vec(), names, summaries };
        describe(milan, &Study::new(&exemplars, &self.probe)).unwrap()
    }

    /// So many units, the same ones again if there are fewer.
    fn some(&self, n: usize) -> Vec<UnitExemplars> {
        self.units.iter().cycle().take(n).cloned().collect()
    }
}

#[test]
fn an_official_checkpoint_goes_from_images_to_captions() {
    for tiny in Tiny::all() {
        let units: Vec<&UnitExemplars> = tiny.units.iter().collect();
        let features = tiny.milan(None, Compat::Official).features(&units, &tiny.probe).unwrap();
        println!("features: {:.2e}", close(&features, tiny.io.get("features"), 1e-5, "features"));
        let own = tiny.milan(None, Compat::Official).search().clone();
        // By the checkpoint's own defaults.
        let described = tiny.describe(&tiny.milan(None, Compat::Official), &tiny.units);
        let described: Vec<String> = described.into_iter().map(|d| d.text).collect();
        for (run, facts) in entries(&tiny.g["runs"]) {
            let search = search(&facts["kwargs"], &own);
            if search == own {
                assert_eq!(described, texts(&facts["captions"]), "{run}");
            }
            let captions = tiny.milan(Some(search), Compat::Official).captions(&units, &tiny.probe).unwrap();
            let said: Vec<&str> = captions.iter().map(|c| c.best.text.as_str()).collect();
            assert_eq!(said, texts(&facts["captions"]), "{run}");
            let scores = Tensor::from_slice(&captions.iter().map(|c| c.best.score).collect::<Vec<_>>());
            close(&scores, tiny.io.get(&format!("{run}.scores")), 1e-4, run);
            let tokens: Vec<Vec<i64>> = Vec::try_from(tiny.io.get(&format!("{run}.tokens"))).unwrap();
            assert_eq!(captions.iter().map(|c| c.best.tokens.clone()).collect::<Vec<_>>(), tokens, "{run}");
        }
    }
}

#[test]
fn encoding_each_image_once_equals_encoding_each_exemplar() {
    for tiny in Tiny::all() {
        // All exemplars of all units on the same few images.
        let mut units = tiny.units.clone();
        for (i, e) in units.iter_mut().flat_map(|u| &mut u.top).enumerate() {
            e.image = i % 2;
        }
        let milan = tiny.milan(None, Compat::Fixed);
        let together = milan.features(&units.iter().collect::<Vec<_>>(), &tiny.probe).unwrap();
        for (i, unit) in units.iter().enumerate() {
            let alone = milan.features(&[unit], &tiny.probe).unwrap();
            close(&together.narrow(0, i as i64, 1), &alone, 1e-5, "features");
        }
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
        self.asked.fetch_add(1, Ordering::Relaxed);
        Images::image(self.inner, i)
    }
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }
    fn digest(&self, numbers: &[usize]) -> tch_audit::Result<Digest> {
        self.inner.digest(numbers)
    }
    fn maker(&self) -> Maker<'_> {
        let mut make = self.inner.maker();
        Box::new(move |i| {
            self.asked.fetch_add(1, Ordering::Relaxed);
            make(i)
        })
    }
}

#[test]
fn a_thousand_units_cost_as_many_encoder_passes_as_there_are_images() {
    for tiny in Tiny::all() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut units = tiny.some(1000);
        units.iter_mut().flat_map(|u| &mut u.top).for_each(|e| e.image = rng.usize(0..tiny.probe.len()));
        let counting = Counting { inner: &tiny.probe, asked: AtomicUsize::new(0) };
        let milan = Milan::new(&tiny.checkpoint, Options::default()).unwrap();
        let features = milan.features(&units.iter().collect::<Vec<_>>(), &counting).unwrap();
        assert_eq!(features.size(), [1000, units[0].top.len() as i64, tiny.checkpoint.check().unwrap()]);
        assert_eq!(counting.asked.load(Ordering::Relaxed), tiny.probe.len());
    }
}

#[test]
fn a_converted_checkpoint_says_the_same() {
    for tiny in Tiny::all() {
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("tiny.safetensors");
        tiny.checkpoint.save(&path).unwrap();
        let back = Checkpoint::load(&path).unwrap();
        assert_eq!(back.settings(), tiny.checkpoint.settings());
        let milan = Milan::new(&back, Options::default()).unwrap();
        let own = tiny.milan(None, Compat::Fixed);
        assert_eq!(tiny.describe(&milan, &tiny.units), tiny.describe(&own, &tiny.units));
        assert_eq!(milan.fingerprint(), own.fingerprint());
        let first = std::fs::read(&path).unwrap();
        back.save(&path).unwrap();
        assert!(std::fs::read(&path).unwrap() == first);
        assert!(back.save(out.path().join("tiny.bin")).is_err());
    }
}

#[test]
fn dead_and_blind_units_are_not_guessed_at() {
    for tiny in Tiny::all() {
        let mut units = tiny.some(3);
        let last = units.last_mut().expect("a unit");
        // Whatever the folder shows, the last one sees something.
        last.top.iter_mut().for_each(|e| e.region = Region::from_fn(e.region.height(), e.region.width(), |_, _| true));
        units[0].top.clear();
        for e in &mut units[1].top {
            e.region = Region::empty(e.region.height(), e.region.width());
        }
        let fixed = tiny.describe(&tiny.milan(None, Compat::Fixed), &units);
        let status: Vec<Status> = fixed.iter().map(|d| d.status).collect();
        assert_eq!(status, [Status::Dead, Status::Abstained, Status::Described]);
        let official = tiny.describe(&tiny.milan(None, Compat::Official), &units);
        assert_eq!(official[1].status, Status::Described);
        // A unit's words do not depend on which units are described with it.
        let alone = tiny.describe(&tiny.milan(None, Compat::Fixed), &units[2..]);
        assert_eq!(alone[0], fixed[2]);
    }
}
