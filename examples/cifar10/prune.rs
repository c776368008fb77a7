//! What pruning during training did: the pruned network against the same training without pruning, and against random
//! units of the same layers that were pruned at the same moment.

use crate::{Training, sgd, stamped};
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Tensor};
use tch_audit::Traced;
use tch_audit::edit::{Edit, Method, NoOptimizer};
use tch_audit::evaluate::Methods;
use tch_audit::evaluate::compare::draw_like;
use tch_audit::evaluate::robustness::compare::compare;
use tch_audit::evaluate::robustness::{Measured, Options, Robustness, table};
use tch_audit::probe::Probe;
use tch_audit::{Model, UnitId};

/// All variables of a network after an epoch.
pub struct Snapshot {
    variables: BTreeMap<String, Tensor>,
    epoch: u64,
}

impl Snapshot {
    pub fn of(vs: &VarStore, epoch: u64) -> Self {
        Self { variables: vs.variables().into_iter().map(|(name, t)| (name, t.detach().copy())).collect(), epoch }
    }
}

/// A table: before is trained without pruning, after is the network of `training`, controls are random units.
pub fn compared(
    training: &Training,
    snapshot: &Snapshot,
    pruned: &[UnitId],
    validation: &Probe,
    test: &Probe,
    wrong: &Probe,
) -> anyhow::Result<String> {
    let measure = |training: &Training| -> anyhow::Result<Robustness> {
        let model = Model::new(training.vs, training.net);
        let mut options = Options::default();
        options.limit = Some(500);
        let mut measured = Robustness::measure(&model, None, test, &options)?;
        options.corruptions.clear();
        (options.text, options.adversarial) = (false, false);
        let stamped = Robustness::measure(&model, None, wrong, &options)?.evaluations;
        let stamped = stamped.into_iter().map(|m| Measured { name: "wrongly stamped".into(), ..m });
        measured.evaluations.splice(1..1, stamped);
        Ok(measured)
    };
    let after = measure(training)?;
    let methods = Methods::new(pruned.to_vec());
    let (mut before, mut controls) = (None, Vec::new());
    for draw in 0..=2_u64 {
        let vs = VarStore::new(Device::Cpu);
        let net = stamped::network(vs.root(), 24, training.ys.max().int64_value(&[]) + 1);
        tch::no_grad(|| vs.variables().iter_mut().for_each(|(name, t)| t.copy_(&snapshot.variables[name])));
        if draw > 0 {
            let model = Model::new(&vs, &net);
            let example = validation.tensor(0..2)?;
            let graph = Traced::new(&model, &example)?;
            let Some((units, _)) = draw_like(&graph, (pruned, &methods), validation, draw)? else { break };
            let (Some(edit), _) = Edit::of_most(Method::Prune, &graph, &units, &example)? else { break };
            let _ = edit.apply(&graph, &example, NoOptimizer)?;
        }
        let mut arm = Training {
            vs: &vs,
            net: &net,
            opt: sgd(&vs)?,
            xs: training.xs.shallow_clone(),
            ys: training.ys.shallow_clone(),
            epochs: training.epochs,
            seed: training.seed,
        };
        for epoch in snapshot.epoch + 1..=arm.epochs {
            eprintln!(
                "{}, epoch {epoch}",
                if draw == 0 { "without pruning".into() } else { format!("random units, draw {draw}") }
            );
            arm.epoch(epoch, || Ok(()))?;
        }
        let measured = measure(&arm)?;
        if draw == 0 { before = Some(measured) } else { controls.push(measured) }
    }
    let before = before.ok_or_else(|| anyhow::anyhow!("nothing to compare with"))?;
    let rows = compare(&before, &after, Some(&controls))?;
    Ok(format!(
        "\npruned after epoch {}: {} units; before: the same training without pruning; controls: as many random units\n{}",
        snapshot.epoch,
        pruned.len(),
        table::render(&rows)
    ))
}
