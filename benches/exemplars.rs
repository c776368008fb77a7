//! What exemplars cost, measured against bare forward passes over the same images.
//!
//! `cargo bench --bench exemplars`; with `-- --test` a few repetitions, to see that it runs. Runs take turns, so that a
//! machine that slows down slows both, and the ratio is taken pair by pair. `-- resnet18`, `vgg11`, `vit` choose a network.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tch::nn::{self, ModuleT};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{Exemplars, Options, Run, export_npy};
use tch_audit::probe::{self, Probe};
use tch_audit::{Model, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--bench")).collect();
    let quick = arguments.iter().any(|a| a == "--test");
    let chosen = |name: &str| arguments.iter().all(|a| a.starts_with("--")) || arguments.iter().any(|a| a == name);
    println!("{} thread(s) within an operator, {} for reading", tch::get_num_threads(), rayon::current_num_threads());
    if chosen("resnet18") {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = tch::vision::resnet::resnet18(&vs.root(), 1000);
        // MILAN's five: the first convolution before its normalisation, and the four layers.
        measure("ResNet-18", &vs, &net, &["conv1@raw", "layer1", "layer2", "layer3", "layer4"], quick, 512)?;
    }
    if chosen("vgg11") {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = tch::vision::vgg::vgg11(&vs.root(), 1000);
        measure("VGG-11", &vs, &net, &["features.*"], quick, 128)?;
    }
    if chosen("vit") {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = vit(&vs.root(), if quick { 64 } else { 224 });
        measure("ViT-B/16", &vs, &net, &["blocks.?", "blocks.1?"], quick, 128)?;
    }
    Ok(())
}

/// Bare passes against a run that writes `exemplars.safetensors`, over the same images in memory.
fn measure(name: &str, vs: &nn::VarStore, net: &dyn ModuleT, sites: &[&str], quick: bool, images: usize) -> Result<()> {
    let (pairs, images, size) = if quick { (1, 20, 64) } else { (3, images, 224) };
    let model = Model::new(vs, net);
    let probe = photographs(images, size)?;
    let graph = Traced::new(&model, &probe.tensor(0..1)?)?;
    let sites = graph.select(sites)?;
    let options = Options::default();
    let units: usize = sites.iter().map(|s| s.units).sum();
    println!("\n{name}: {units} units at {} sites, {images} images of {size} x {size}, {pairs} pairs", sites.len());
    let run = Run::new(&graph, &sites, &probe, &options)?;
    println!("  estimated: {}", run.estimate());
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-exemplars");
    let bare = || {
        (0..images).step_by(options.batch_size).try_for_each(|start| {
            let x = probe.tensor(start..(start + options.batch_size).min(images))?;
            model.forward(&x).map(|y| drop(black_box(y)))
        })
    };
    let full = || {
        let _ = std::fs::remove_dir_all(&out);
        run.write(&out).map(drop)
    };
    // The first of each warms up; memory is what the process peaked at, so the bare passes go first.
    time(bare)?;
    let before = peak();
    time(full)?;
    let extra = peak().zip(before).map_or_else(String::new, |(a, b)| format!("; peak memory {b} MB bare, {a} MB"));
    let (mut bares, mut fulls, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        let (a, b) = (time(bare)?, time(full)?);
        bares.push(a);
        fulls.push(b);
        ratios.push(b / a);
    }
    let (a, b) = (median(&bares), median(&fulls));
    println!(
        "  exemplars {b:.2} s, bare {a:.2} s; ratio {:.4}; {:.1} images per second{extra}",
        median(&ratios),
        images as f64 / b
    );
    let exemplars = Exemplars::load(&out)?;
    let export = time(|| export_npy(&exemplars, &probe, &out.join("milan")))?;
    println!("  export to MILAN's layout, not counted: {export:.2} s");
    let _ = std::fs::remove_dir_all(&out);
    Ok(())
}

/// Drawn images: what they show does not matter for the time, that they differ does.
fn photographs(count: usize, size: usize) -> Result<Probe> {
    let some = probe::drawn(count.div_ceil(10), size, 1)?;
    some.select(&(0..count).collect::<Vec<_>>())
}

/// The largest resident set so far, in MB; known on Linux only.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()? / 1024)
}

fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let clock = Instant::now();
    work()?;
    Ok(clock.elapsed().as_secs_f64())
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

/// A Vision Transformer, B/16 (Dosovitskiy et al. 2020, arXiv 2010.11929), with random weights.
fn vit(p: &nn::Path, size: i64) -> nn::FuncT<'static> {
    let (width, heads, patch, depth) = (768, 12, 16, 12);
    let tokens = (size / patch) * (size / patch) + 1;
    let config = nn::ConvConfig { stride: patch, ..Default::default() };
    let embed = nn::conv2d(p / "embed", 3, width, patch, config);
    let class = p.zeros("class", &[1, 1, width]);
    let position = p.randn("position", &[1, tokens, width], 0.0, 0.02);
    let blocks: Vec<_> = (0..depth)
        .map(|i| {
            let p = &(p / "blocks" / i);
            let norm = |name: &str| nn::layer_norm(p / name, vec![width], Default::default());
            let linear = |name: &str, from, to| nn::linear(p / name, from, to, Default::default());
            let (norm1, norm2) = (norm("norm1"), norm("norm2"));
            let (qkv, out) = (linear("qkv", width, 3 * width), linear("out", width, width));
            let (up, down) = (linear("up", width, 4 * width), linear("down", 4 * width, width));
            nn::func(move |x| {
                let (n, t, c) = x.size3().unwrap();
                let parts = x.apply(&norm1).apply(&qkv).view([n, t, 3, heads, c / heads]).permute([2, 0, 3, 1, 4]);
                let (q, k, v) = (parts.get(0), parts.get(1), parts.get(2));
                let mixed = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false);
                let x = x + mixed.transpose(1, 2).reshape([n, t, c]).apply(&out);
                &x + x.apply(&norm2).apply(&up).gelu("none").apply(&down)
            })
        })
        .collect();
    let head = nn::linear(p / "head", width, 1000, Default::default());
    nn::func_t(move |x, _| {
        let patches = x.apply(&embed).flatten(2, -1).transpose(1, 2);
        let class = class.expand([x.size()[0], 1, width], false);
        let mut x = Tensor::cat(&[class, patches], 1) + &position;
        for block in &blocks {
            x = x.apply(block);
        }
        x.select(1, 0).to_kind(Kind::Float).apply(&head)
    })
}
