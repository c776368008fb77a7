//! What describing costs: seconds per unit of the reranked search, against the floor of its matrix products.
//!
//! `cargo bench --bench milan`; with `-- --test` a few units, to see that it runs. The floor is the number of
//! floating-point operations that the search as it is defined needs, divided by the rate at which this machine multiplies
//! matrices of the search's own shape in the same run.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;
use tch::{Device, Kind, Tensor};
use tch_audit::Result;
use tch_audit::describe::milan::Search;
use tch_audit::describe::milan::internals::{Decoder, Flags, Indexer, LanguageModel, Speaker};

const WORDS: i64 = 1996;
const TOKENS: i64 = WORDS + 4;
const HIDDEN: i64 = 512;
const EMBEDDING: i64 = 128;
const K: i64 = 15;

fn main() -> Result<()> {
    let quick = std::env::args().any(|a| a == "--test");
    let (features, units, rounds) = if quick { (64, 4, 1) } else { (3904, 16, 3) };
    println!("{} thread(s) within an operator", tch::get_num_threads());
    let attention = HIDDEN.min(features);
    let weights = weights(features, attention);
    let indexer = Indexer::new((0..WORDS).map(|i| format!("w{i}")).collect(), Flags::default())?;
    let decoder = Decoder::new(&weights, indexer.size())?;
    let lm = LanguageModel::new(&weights, "lm.", indexer.size())?;
    let speaker = Speaker { decoder: &decoder, lm: Some(&lm), indexer: &indexer };
    let search = Search::default();
    tch::manual_seed(1);
    let x = Tensor::randn([units, K, features], (Kind::Float, Device::Cpu)).abs() * 0.3;
    black_box(speaker.captions(&x.narrow(0, 0, 4), &search)?);
    let (mut seconds, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        rates.push(rate(features));
        let clock = Instant::now();
        black_box(speaker.captions(&x, &search)?);
        seconds.push(clock.elapsed().as_secs_f64() / units as f64);
    }
    let (second, rate) = (median(&mut seconds), median(&mut rates));
    let rows = (search.beam * (search.length - 1) + 1) as f64;
    let decoder_step = 2.0
        * (HIDDEN * attention + HIDDEN * features + features * 4 * HIDDEN + HIDDEN * 4 * HIDDEN + HIDDEN * TOKENS)
            as f64;
    let lm_step = 2.0 * (HIDDEN * 4 * HIDDEN + 2 * HIDDEN * 4 * HIDDEN + HIDDEN * TOKENS) as f64;
    let operations = rows * (decoder_step + lm_step);
    let floor = operations / rate;
    println!(
        "reranked search, vocabulary {TOKENS}, features {features}, hidden {HIDDEN}, k {K}, beam {}, {} steps, {units} units",
        search.beam, search.length
    );
    println!(
        "  {second:.3} s per unit; floor {floor:.3} s ({:.1} GFLOP at {:.0} GFLOP/s); ratio {:.2}",
        operations / 1e9,
        rate / 1e9,
        second / floor
    );
    let alone = rows * decoder_step / rate;
    println!("  floor of the beam alone, without the language model: {alone:.3} s");
    Ok(())
}

/// Floating-point operations per second of a product of the search's own shape.
fn rate(features: i64) -> f64 {
    let (rows, out) = (200, 4 * HIDDEN);
    let a = Tensor::randn([rows, features], (Kind::Float, Device::Cpu));
    let b = Tensor::randn([features, out], (Kind::Float, Device::Cpu));
    let _ = black_box(a.matmul(&b));
    let times = 20;
    let clock = Instant::now();
    for _ in 0..times {
        let _ = black_box(a.matmul(&b));
    }
    (2 * times * rows * features * out) as f64 / clock.elapsed().as_secs_f64()
}

fn weights(features: i64, attention: i64) -> BTreeMap<String, Tensor> {
    tch::manual_seed(0);
    let mut all = BTreeMap::new();
    let mut add = |name: &str, shape: &[i64]| {
        let scale = 1.0 / (*shape.last().unwrap_or(&1) as f64).sqrt();
        all.insert(name.to_string(), Tensor::randn(shape, (Kind::Float, Device::Cpu)) * scale);
    };
    for name in ["init_h", "init_c"] {
        add(&format!("{name}.0.weight"), &[HIDDEN, features]);
        add(&format!("{name}.0.bias"), &[HIDDEN]);
    }
    add("embedding.weight", &[TOKENS, EMBEDDING]);
    for (name, from, to) in [
        ("attend.query_to_hidden", HIDDEN, attention),
        ("attend.key_to_hidden", features, attention),
        ("attend.output.0", attention, 1),
        ("feature_gate.0", HIDDEN, features),
        ("output.1", HIDDEN, TOKENS),
        ("lm.output.0", HIDDEN, TOKENS),
    ] {
        add(&format!("{name}.weight"), &[to, from]);
        add(&format!("{name}.bias"), &[to]);
    }
    add("lm.embedding.weight", &[TOKENS, EMBEDDING]);
    for (name, suffix, from) in
        [("lstm", "", EMBEDDING + features), ("lm.lstm", "_l0", EMBEDDING), ("lm.lstm", "_l1", HIDDEN)]
    {
        add(&format!("{name}.weight_ih{suffix}"), &[4 * HIDDEN, from]);
        add(&format!("{name}.weight_hh{suffix}"), &[4 * HIDDEN, HIDDEN]);
        add(&format!("{name}.bias_ih{suffix}"), &[4 * HIDDEN]);
        add(&format!("{name}.bias_hh{suffix}"), &[4 * HIDDEN]);
    }
    all
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
