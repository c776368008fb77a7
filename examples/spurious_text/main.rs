//! A network on drawn images learns to read the word stamped on half of its training images; the audit notices.
//!
//! `cargo run --release --example spurious_text -- --fix`

#[path = "../stamped/mod.rs"]
mod stamped;

use clap::Parser;
use stamped::{Options, Word, stamped};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_audit::Error;
use tch_audit::auditor::{Auditor, Every};
use tch_audit::probe::drawn;

const BATCH: i64 = 64;

fn main() -> std::process::ExitCode {
    stamped::print_events();
    match run(&Options::parse()) {
        Ok(()) => 0.into(),
        Err(error) if matches!(error.downcast_ref(), Some(Error::Denied { .. })) => {
            eprintln!("{error}");
            1.into()
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            2.into()
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    if options.data.is_some() {
        anyhow::bail!("--data is for the example cifar10: this one draws its images");
    }
    let train = drawn(250, 32, 1)?;
    let (validation, test) = (drawn(80, 32, 2)?, drawn(100, 32, 3)?);

    // Half of the training images are stamped with the name of their class.
    let train = stamped(&train, Word::Right, 0.5, 1);
    let xs = train.tensor(0..train.len())?;
    let ys = train.labels().ok_or_else(|| anyhow::anyhow!("the training images have no classes"))?;

    tch::manual_seed(options.seed);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = stamped::network(vs.root(), 12, train.classes().len() as i64);
    let mut opt = nn::Sgd { momentum: 0.9, dampening: 0., wd: 5e-4, nesterov: true }.build(&vs, 0.1)?;

    let mut auditor = Auditor::builder()
        .name("spurious_text")
        .probe(validation.clone())
        .policies(options.policies()?)
        .evaluate("clean", validation.clone(), test.clone())
        .evaluate("rightly stamped", stamped(&validation, Word::Right, 1.0, 2), stamped(&test, Word::Right, 1.0, 3))
        .evaluate("wrongly stamped", stamped(&validation, Word::Wrong, 1.0, 4), stamped(&test, Word::Wrong, 1.0, 5))
        .every(Every::Epochs(5))
        .fix(options.fix.is_some())
        .reports(&options.out)
        .build()?;

    let (epochs, batches) = (options.epochs.unwrap_or(10), xs.size()[0] / BATCH);
    for epoch in 1..=epochs {
        let order = Tensor::randperm(xs.size()[0], (Kind::Int64, Device::Cpu));
        for batch in 0..batches {
            let done = ((epoch - 1) as i64 * batches + batch) as f64 / (epochs as i64 * batches) as f64;
            opt.set_lr(0.1 * (1.0 - done) * (done * 20.0).min(1.0));
            let rows = order.narrow(0, batch * BATCH, BATCH);
            let crops = tch::vision::dataset::augmentation(&xs.index_select(0, &rows), false, 4, 0);
            let loss = net.forward_t(&crops, true).cross_entropy_for_logits(&ys.index_select(0, &rows));
            opt.backward_step(&loss);
            auditor.after_step((&vs, &net))?;
        }
        auditor.after_epoch(epoch, (&vs, &net))?;
    }

    let finished = auditor.finish((&vs, &net))?;
    print!("{}", finished.summary());
    vs.save(options.out.join("model.safetensors"))?;
    eprintln!("report: {}", options.out.join("report.md").display());
    Ok(finished.deny()?)
}
