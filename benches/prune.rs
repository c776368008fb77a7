//! What pruning costs, and what it gains.
//!
//! `cargo bench --bench prune`; with `-- --test` one repetition, to see that it runs. What is compared takes turns, so that a
//! machine that slows down slows all.

use std::time::{Duration, Instant};
use tch::nn;
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan};
use tch_audit::{Model, Result, UnitId};

fn main() -> Result<()> {
    let quick = std::env::args().any(|a| a == "--test");
    println!("{} thread(s) within an operator", tch::get_num_threads());
    cost(if quick { 1 } else { 21 }, if quick { 64 } else { 224 })?;
    gain(if quick { 1 } else { 15 }, if quick { 64 } else { 224 })
}

/// ResNet-50, one image: a forward pass against tracing, planning and applying the prune of a residual unit.
fn cost(rounds: usize, size: i64) -> Result<()> {
    let vs = nn::VarStore::new(Device::Cpu);
    let net = tch::vision::resnet::resnet50(&vs.root(), 1000);
    let model = Model::new(&vs, &net);
    let x = Tensor::randn([1, 3, size, size], (Kind::Float, Device::Cpu));
    let _ = model.forward(&x)?;
    println!("\nResNet-50, 1 image of {size} x {size}, medians of {rounds} rounds");
    for (what, site) in [("a hidden unit", "layer3.2.conv2"), ("a residual unit", "layer3")] {
        let unit = [UnitId::new(site, 17)];
        let mut times = [const { Vec::new() }; 5];
        for _ in 0..rounds {
            let mut clock = Clock::start();
            let _ = model.forward(&x)?;
            times[0].push(clock.lap());
            let graph = Traced::new(&model, &x)?;
            times[1].push(clock.lap());
            let plan = PrunePlan::new(&graph, &unit)?;
            times[2].push(clock.lap());
            let pruned = plan.apply_unverified(&graph)?;
            times[3].push(clock.lap());
            pruned.undo()?;
            clock.lap();
            let pruned = plan.apply(&graph, &x, NoOptimizer)?;
            times[4].push(clock.lap());
            pruned.undo()?;
        }
        let [forward, trace, plan, apply, verified] = times.map(median);
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        println!(
            "{what}: forward {:.1} ms; trace {:.1}, plan {:.1}, apply {:.1}: together {:.2} passes; apply with its \
             verification (two passes more) {:.1} ms",
            ms(forward),
            ms(trace),
            ms(plan),
            ms(apply),
            (trace + plan + apply).as_secs_f64() / forward.as_secs_f64(),
            ms(verified)
        );
    }
    Ok(())
}

/// Half of all hidden units of a ResNet-50 away: the time of a pass against its operations.
fn gain(rounds: usize, size: i64) -> Result<()> {
    let build = || {
        let vs = nn::VarStore::new(Device::Cpu);
        let net = tch::vision::resnet::resnet50(&vs.root(), 1000);
        (vs, net)
    };
    let ((vs, net), (whole_vs, whole_net)) = (build(), build());
    let (model, whole) = (Model::new(&vs, &net), Model::new(&whole_vs, &whole_net));
    let x = Tensor::randn([4, 3, size, size], (Kind::Float, Device::Cpu));
    println!("\nResNet-50, 4 images of {size} x {size}, a share of the hidden units pruned");
    for share in [4, 2] {
        let graph = Traced::new(&model, &x)?;
        let hidden = graph
            .sites()
            .iter()
            .filter(|s| s.name.ends_with("conv1") && s.name.contains('.') || s.name.ends_with("conv2"));
        let units: Vec<UnitId> =
            hidden.flat_map(|s| (0..s.units).step_by(share).map(|u| UnitId::new(&s.name, u))).collect();
        let plan = PrunePlan::new(&graph, &units)?;
        let pruned = plan.apply(&graph, &x, NoOptimizer)?;
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            let mut clock = Clock::start();
            let _ = whole.forward(&x)?;
            times[0].push(clock.lap());
            let _ = model.forward(&x)?;
            times[1].push(clock.lap());
        }
        let [before, after] = times.map(median);
        println!(
            "1 of {share}: FLOPs {:.2} of before, time {:.2} of before ({:.0} of {:.0} ms)",
            plan.after.flops as f64 / plan.before.flops as f64,
            after.as_secs_f64() / before.as_secs_f64(),
            after.as_secs_f64() * 1e3,
            before.as_secs_f64() * 1e3
        );
        pruned.undo()?;
    }
    Ok(())
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
