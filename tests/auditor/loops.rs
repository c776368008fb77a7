//! What the calls of a training loop return, do, and say.

use super::fixture::*;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tch::Device;
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch_audit::auditor::{Every, Found};
use tch_audit::edit::NoOptimizer;
use tch_audit::{Error, Model};

#[test]
fn a_call_returns_what_it_found_and_nothing_when_it_was_not_due() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = plain(&noise(32, 1)).every(Every::Epochs(2)).build().unwrap();
    for found in [auditor.after_step((&vs, &net)).unwrap(), auditor.after_epoch(1, (&vs, &net)).unwrap()] {
        assert!(!found.audited() && found.report().is_none() && !found.denied() && found.deny().is_ok());
        assert!(found.findings().is_empty() && found.history().is_empty() && found.summary().is_empty());
        assert_eq!(found.counts().units, 0);
    }
    let found = auditor.after_epoch(2, (&vs, &net)).unwrap();
    assert!(found.audited() && found.denied());
    assert_eq!((found.findings().len(), found.counts().units, found.history().len()), (4, 12, 1));
    assert!(found.summary().contains("denied: 4 units violate marks"), "{}", found.summary());
    match found.deny() {
        Err(Error::Denied { violations }) => assert_eq!(violations, "4 units violate marks"),
        other => panic!("{other:?}"),
    }
    assert!(Arc::ptr_eq(found.report().unwrap(), found.clone().report().unwrap()), "clones share the report");
    let finished = auditor.finish((&vs, &net)).unwrap();
    assert!(Arc::ptr_eq(&finished.report, finished.report().unwrap()));
    let found: Found = finished.into();
    assert!(found.denied());
}

#[test]
fn finish_does_not_audit_again_what_was_just_audited() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let (inner, passes) = (planted(&vs), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&passes);
    let net = nn::func_t(move |x, train| {
        counter.fetch_add(1, Ordering::Relaxed);
        inner.forward_t(x, train)
    });
    let mut auditor = plain(&noise(32, 1)).evaluate("clean", noise(8, 2), noise(8, 3)).build().unwrap();
    let count = || passes.swap(0, Ordering::Relaxed);
    let found = auditor.after_epoch(1, (&vs, &net)).unwrap();
    assert!(count() > 5, "an audit shows the network its probe images, with and without paint");
    let finished = auditor.finish((&vs, &net)).unwrap();
    assert_eq!(count(), 1, "to see that it is the same network");
    assert!(!finished.audited());
    assert_eq!(*finished.report, **found.report().unwrap());
    // A weight changes by the least that it can.
    tch::no_grad(|| {
        let mut bias = vs.variables().remove("fc.bias").unwrap().get(0);
        bias.copy_(&(&bias + 1e-6));
    });
    let finished = auditor.finish((&vs, &net)).unwrap();
    assert!(count() > 5 && finished.audited());
    assert_eq!(finished.history().len(), 1, "the last audit of a moment counts");
}

#[test]
fn units_are_zeroed_during_training_and_stay_so() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let data = with_marks(&noise(32, 9));
    let (x, y) = (data.tensor(0..32).unwrap(), data.labels().unwrap());
    let mut opt = nn::Sgd { momentum: 0.9, wd: 1e-3, ..Default::default() }.build(&vs, 0.01).unwrap();
    let mut step = || opt.backward_step(&net.forward_t(&x, true).cross_entropy_for_logits(&y));
    (0..3).for_each(|_| step());
    // Neither an audit before nor `fix` is needed.
    let mut auditor = fixing(3).fix(false).build().unwrap();
    let mut rebuilt = false;
    let found = auditor
        .prune((&vs, &net), || {
            rebuilt = true;
            Ok(())
        })
        .unwrap();
    assert!(found.audited() && found.denied(), "the report is of the network before");
    assert!(!found.zeroed().is_empty() && found.pruned().is_empty() && !rebuilt, "no parameter has another shape");
    let largest = || {
        let rows = found.zeroed().iter().map(|u| vs.variables()["conv.weight"].get(u.unit as i64));
        rows.map(|row| row.abs().max().double_value(&[])).fold(0.0, f64::max)
    };
    assert_eq!(largest(), 0.0);
    let mut moved = false;
    for _ in 0..5 {
        step();
        moved |= largest() > 0.0;
        let _ = auditor.after_step((&vs, &net)).unwrap();
        assert_eq!(largest(), 0.0);
    }
    assert!(moved, "training would have revived them");
    let finished = auditor.finish((&vs, &net)).unwrap();
    assert!(finished.findings().iter().all(|f| !found.zeroed().contains(&f.unit)), "they are dead");
    assert!(finished.report.edit.is_none());
}

#[test]
fn pruning_needs_something_to_choose_on_and_audits_what_has_changed() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    match plain(&noise(8, 1)).build().unwrap().prune((&vs, &net), NoOptimizer) {
        Err(error @ Error::Invalid { .. }) => assert!(error.to_string().contains("`evaluate`"), "{error}"),
        other => panic!("{other:?}"),
    }
    let mut auditor = fixing(3).build().unwrap();
    assert_eq!(auditor.after_epoch(1, (&vs, &net)).unwrap().findings().len(), 4);
    // Nothing looks for red any more.
    tch::no_grad(|| drop(vs.variables()["conv.weight"].narrow(0, 0, RED).fill_(1.0 / 3.0)));
    let found = auditor.prune((&vs, &net), NoOptimizer).unwrap();
    assert!(found.audited() && found.findings().is_empty(), "{:?}", found.findings());
    assert!(found.zeroed().is_empty() && found.pruned().is_empty());
}

#[test]
fn an_edit_that_fails_leaves_what_is_kept_at_zero_as_it_was() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = fixing(3).build().unwrap();
    let zeroed = auditor.prune((&vs, &net), NoOptimizer).unwrap().zeroed().to_vec();
    assert!(!zeroed.is_empty());
    // They are revived by hand, and asked to leave this time; the optimizer cannot be built.
    let mut auditor = fixing(3).policies(policies("deny", "prune", "mark")).build().unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let before = vs.variables()["conv.weight"].detach().copy();
    let broken = || Err(tch::TchError::Torch("no optimizer today".to_string()));
    assert!(auditor.prune((&vs, &net), broken).is_err());
    let _ = auditor.after_step((&vs, &net)).unwrap();
    assert!(vs.variables()["conv.weight"] == before, "nothing is kept at zero");
    // The next try works.
    assert!(!auditor.prune((&vs, &net), NoOptimizer).unwrap().pruned().is_empty());
}

/// What is written to it, for all to see.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_it_says_are_events_of_the_crate() {
    let _alone = alone();
    let vs = nn::VarStore::new(Device::Cpu);
    let net = planted(&vs);
    let mut auditor = fixing(3).policies(policies("deny", "prune", "mark")).build().unwrap();
    let (lines, model) = (Lines::default(), Model::new(&vs, &net));
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .with_max_level(tracing::Level::INFO)
        .finish();
    let pruned = tracing::subscriber::with_default(subscriber, || {
        let _ = auditor.after_step(&model).unwrap();
        let _ = auditor.after_epoch(1, &model).unwrap();
        let found = auditor.prune(&model, NoOptimizer).unwrap();
        let _ = auditor.finish(&model).unwrap();
        found.pruned().len()
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<&str> = text.lines().filter_map(|l| l.trim().strip_prefix("INFO tch_audit: ")).collect();
    assert_eq!(ours.len(), 3, "{text}");
    assert!(ours[0].starts_with("audit after epoch 1, step 1: "), "{text}");
    assert!(ours[0].ends_with("4 flagged; clean 100.0 %; marked 50.0 %"), "{text}");
    assert!(ours[1].starts_with(&format!("pruned {pruned} of 4 flagged units, ")), "{text}");
    assert!(ours[2].starts_with("audit after epoch 1, step 1: "), "a smaller network is another one: {text}");
}
