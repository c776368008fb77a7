//! A network on real photographs learns to read the word stamped on half of its training images; the audit notices.
//!
//! `cargo run --release --example cifar10 -- --data cifar10 --out runs/cifar10 --fix`; with `--fix prune` units leave the network while
//! it trains, and the training goes on.

mod prune;
#[path = "../stamped/mod.rs"]
mod stamped;

use clap::Parser;
use stamped::{Fix, Options, Word, stamped};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Kind, Tensor};
use tch_audit::Error;
use tch_audit::auditor::{Auditor, Every};
use tch_audit::probe::{ImageFolder, Preprocess};

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
    let Some(data) = &options.data else {
        anyhow::bail!(
            "--data is missing: a folder with train/<class>/*.jpg and test/<class>/*.jpg. CIFAR-10 as JPEG files is \
             published in that form (search for \"CIFAR-10 images\"); any ten classes of small pictures will do"
        );
    };
    let format = Preprocess::new(3, 32, 32, vec![0.491, 0.482, 0.447], vec![0.247, 0.243, 0.262])?;
    let images = ImageFolder::open(data.join("train")).preprocess(format.clone()).load()?;
    let (train, validation) = images.split(options.seed as u64, 5.0 / 6.0)?;
    let test = ImageFolder::open(data.join("test")).preprocess(format).load()?;

    // Half of the training images are stamped with the name of their class.
    let train = stamped(&train, Word::Right, 0.5, 1);
    let xs = train.tensor(0..train.len())?;
    let ys = train.labels().ok_or_else(|| anyhow::anyhow!("the training images have no classes"))?;

    tch::manual_seed(options.seed);
    let vs = nn::VarStore::new(Device::Cpu);
    let net = stamped::network(vs.root(), 24, train.classes().len() as i64);
    let mut training = Training {
        vs: &vs,
        net: &net,
        opt: sgd(&vs)?,
        xs,
        ys,
        epochs: options.epochs.unwrap_or(12),
        seed: options.seed,
    };

    let wrong = stamped(&test, Word::Wrong, 1.0, 5);
    let mut auditor = Auditor::builder()
        .name("cifar10")
        .probe(validation.clone())
        .policies(options.policies()?)
        .evaluate("clean", validation.clone(), test.clone())
        .evaluate("rightly stamped", stamped(&validation, Word::Right, 1.0, 2), stamped(&test, Word::Right, 1.0, 3))
        .evaluate("wrongly stamped", stamped(&validation, Word::Wrong, 1.0, 4), wrong.clone())
        .every(Every::Epochs(4))
        .fix(options.fix.is_some())
        .reports(&options.out)
        .build()?;

    // The network as it was before units were pruned for the first time.
    let mut unpruned = None;
    for epoch in 1..=training.epochs {
        training.epoch(epoch, || auditor.after_step((&vs, &net)))?;
        let audited = auditor.after_epoch(epoch, (&vs, &net))?.audited();
        if options.fix == Some(Fix::Prune) && audited && epoch < training.epochs {
            let before = prune::Snapshot::of(&vs, epoch);
            let found = auditor.prune((&vs, &net), || {
                training.opt = sgd(&vs)?;
                Ok(())
            })?;
            if unpruned.is_none() && !found.pruned().is_empty() {
                unpruned = Some((before, found.pruned().to_vec()));
            }
        }
    }
    if let Some((snapshot, pruned)) = &unpruned {
        print!("{}", prune::compared(&training, snapshot, pruned, &validation, &test, &wrong)?);
    }

    let finished = auditor.finish((&vs, &net))?;
    print!("{}", finished.summary());
    vs.save(options.out.join("model.safetensors"))?;
    eprintln!("report: {}", options.out.join("report.md").display());
    Ok(finished.deny()?)
}

/// What trains a network.
pub struct Training<'a> {
    vs: &'a nn::VarStore,
    net: &'a nn::SequentialT,
    opt: nn::Optimizer,
    xs: Tensor,
    ys: Tensor,
    epochs: u64,
    seed: i64,
}

/// The optimizer, also of a network that has just been pruned.
pub fn sgd(vs: &nn::VarStore) -> Result<nn::Optimizer, tch::TchError> {
    nn::Sgd { momentum: 0.9, dampening: 0., wd: 5e-4, nesterov: true }.build(vs, 0.1)
}

impl Training<'_> {
    /// One pass over the training images, in an order that depends on seed and epoch alone.
    fn epoch<R>(&mut self, epoch: u64, mut after_step: impl FnMut() -> tch_audit::Result<R>) -> anyhow::Result<()> {
        tch::manual_seed(self.seed + 1000 * epoch as i64);
        let batches = self.xs.size()[0] / BATCH;
        let order = Tensor::randperm(self.xs.size()[0], (Kind::Int64, Device::Cpu));
        for batch in 0..batches {
            let done = ((epoch - 1) as i64 * batches + batch) as f64 / (self.epochs as i64 * batches) as f64;
            self.opt.set_lr(0.1 * (1.0 - done) * (done * 20.0).min(1.0));
            let rows = order.narrow(0, batch * BATCH, BATCH);
            let crops = tch::vision::dataset::augmentation(&self.xs.index_select(0, &rows), false, 4, 0);
            let loss = self.net.forward_t(&crops, true).cross_entropy_for_logits(&self.ys.index_select(0, &rows));
            self.opt.backward_step(&loss);
            after_step()?;
        }
        Ok(())
    }
}
