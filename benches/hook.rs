//! What observing a forward pass costs.
//!
//! `cargo bench --bench hook`; with `-- --test` a few repetitions, to see that it runs. Compared passes take turns, so
//! that a machine that slows down slows both, and the ratio is taken pair by pair.
#![allow(clippy::unit_arg)]

use std::hint::black_box;
use std::time::{Duration, Instant};
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{Exemplars, Options};
use tch_audit::{Model, Result, hook, probe};

fn main() -> Result<()> {
    let quick = std::env::args().any(|a| a == "--test");
    println!("{} thread(s) within an operator", tch::get_num_threads());
    resnet18(quick)?;
    per_operator(quick)?;
    exemplars(quick)
}

/// ResNet-18, 8 images of 224 x 224.
fn resnet18(quick: bool) -> Result<()> {
    let (pairs, images, size) = if quick { (2, 1, 64) } else { (24, 8, 224) };
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18(&vs.root(), 1000);
    let model = Model::new(&vs, &net);
    let x = Tensor::rand([images, 3, size, size], (Kind::Float, Device::Cpu));
    let graph = Traced::new(&model, &x)?;
    let sites = graph.select(&["auto"])?;
    println!("\nResNet-18, {images} images of {size} x {size}, {pairs} pairs");
    let bare = || drop(black_box(tch::no_grad(|| net.forward_t(&x, false))));
    let observed = || hook::observe(&[], |_| (), |_| Ok(()), bare);
    let read = || graph.read(&sites, &x, |_, _| Ok(())).map(drop);
    compare("observed, nothing done", pairs, || Ok(bare()), observed)?;
    compare(&format!("{} sites read, nothing done", sites.len()), pairs, || Ok(bare()), read)
}

/// A network of many cheap operators, one small image: what one operator costs.
fn per_operator(quick: bool) -> Result<()> {
    let (pairs, repetitions) = if quick { (2, 20) } else { (40, 2000) };
    let vs = nn::VarStore::new(Device::Cpu);
    let p = vs.root();
    let mut net = nn::seq_t();
    for i in 0..8 {
        net = net.add(nn::linear(&p / i, 4, 4, Default::default())).add_fn(|x| x.relu());
    }
    let model = Model::new(&vs, &net);
    let x = Tensor::rand([1, 4], (Kind::Float, Device::Cpu));
    let graph = Traced::new(&model, &x)?;
    let sites = graph.select(&["auto"])?;
    let mut operators = 0;
    let forward = || drop(black_box(tch::no_grad(|| net.forward_t(&x, false))));
    hook::observe(&[], |_| (), |_| Ok(operators += 1), forward)?;
    println!("\nTiny network, {operators} operators, {pairs} pairs of {repetitions} passes");
    let many = || (0..repetitions).for_each(|_| forward());
    // One observation around all passes: the cost of an operator, without that of starting to observe.
    let inside = || hook::observe(&[], |_| (), |_| Ok(()), many);
    let named = || hook::observe(&[], |_| (), |e| Ok(drop(black_box((e.name().len(), e.input_numbers())))), many);
    let each = || (0..repetitions).try_for_each(|_| hook::observe(&[], |_| (), |_| Ok(()), forward));
    let read = || (0..repetitions).try_for_each(|_| graph.read(&sites, &x, |_, _| Ok(())).map(drop));
    let kinds: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("observer called", &inside),
        ("observer reads the name and the tensors' numbers", &named),
        ("a new observation for every pass", &each),
        ("all sites read in every pass", &read),
    ];
    for (what, observed) in kinds {
        let (mut bare, mut differences) = (Vec::new(), Vec::new());
        for _ in 0..=pairs {
            let (a, b) = (time(|| Ok(many()))?, time(observed)?);
            bare.push(a.as_secs_f64());
            differences.push(b.as_secs_f64() - a.as_secs_f64());
        }
        let unit = 1e6 / f64::from(repetitions * operators);
        let (bare, extra) = (unit * median(&bare[1..]), unit * median(&differences[1..]));
        println!("  {what}: {extra:+.2} µs per operator (bare: {bare:.2} µs)");
    }
    Ok(())
}

/// Exemplars of all sites of a ResNet-18 against forward passes over the same images.
fn exemplars(quick: bool) -> Result<()> {
    let (pairs, per_class, count, size) = if quick { (1, 1, 4, 64) } else { (3, 7, 64, 224) };
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet18(&vs.root(), 1000);
    let model = Model::new(&vs, &net);
    let images = probe::drawn(per_class, size, 1)?.select(&(0..count).collect::<Vec<_>>())?;
    let graph = Traced::new(&model, &images.tensor(0..1)?)?;
    let sites = graph.select(&["auto"])?;
    let options = Options::default();
    let units: usize = sites.iter().map(|s| s.units).sum();
    println!(
        "\nExemplars of {units} units at {} sites, {count} drawn images of {size} x {size}, {pairs} pairs",
        sites.len()
    );
    let bare = || {
        (0..count).step_by(options.batch_size).try_for_each(|start| {
            let x = images.tensor(start..(start + options.batch_size).min(count))?;
            model.forward(&x).map(|y| drop(black_box(y)))
        })
    };
    let full = || Exemplars::compute(&graph, &sites, &images, &options).map(|e| drop(black_box(e)));
    compare("exemplars", pairs, bare, full)
}

/// Lets two things take turns and prints their medians and the median of their ratios. The first turn warms up.
fn compare(what: &str, pairs: usize, bare: impl Fn() -> Result<()>, other: impl Fn() -> Result<()>) -> Result<()> {
    let (mut bares, mut others, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=pairs {
        // Who goes first alternates as well.
        let (a, b) = if turn % 2 == 0 {
            let a = time(&bare)?;
            (a, time(&other)?)
        } else {
            let b = time(&other)?;
            (time(&bare)?, b)
        };
        if turn > 0 {
            let (a, b) = (a.as_secs_f64(), b.as_secs_f64());
            bares.push(1e3 * a);
            others.push(1e3 * b);
            ratios.push(b / a);
        }
    }
    let (a, b, ratio) = (median(&bares), median(&others), median(&ratios));
    println!("  {what}: {b:.1} ms, bare {a:.1} ms; ratio {ratio:.4} ({:+.2} %)", 100.0 * (ratio - 1.0));
    Ok(())
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let clock = Instant::now();
    work()?;
    Ok(clock.elapsed())
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}
