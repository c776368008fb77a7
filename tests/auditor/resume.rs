//! A training that was killed goes on as if it had not been.

use super::fixture::*;
use std::path::{Path, PathBuf};
use tch::nn::{self, ModuleT, OptimizerConfig};
use tch::{Device, Tensor};
use tch_audit::auditor::{Auditor, AuditorBuilder, Every, Found};
use tch_audit::edit::NoOptimizer;
use tch_audit::report::{HistoryEntry, Report};
use tch_audit::{Error, UnitId};

const STEPS: u64 = 3;

/// A process: a network, what trains it, and its auditor.
struct Process {
    vs: nn::VarStore,
    net: nn::SequentialT,
    opt: nn::Optimizer,
    auditor: Auditor,
}

impl Process {
    fn start(builder: AuditorBuilder, checkpoint: Option<&Path>) -> Self {
        let mut vs = nn::VarStore::new(Device::Cpu);
        let net = planted(&vs);
        if let Some(checkpoint) = checkpoint {
            vs.load(checkpoint).unwrap();
        }
        let opt = nn::Sgd { wd: 1e-3, ..Default::default() }.build(&vs, 0.01).unwrap();
        Self { vs, net, opt, auditor: builder.build().unwrap() }
    }

    fn epoch(&mut self, epoch: u64) -> Found {
        let data = with_marks(&noise(32, 100 + epoch));
        let (x, y) = (data.tensor(0..32).unwrap(), data.labels().unwrap());
        for _ in 0..STEPS {
            self.opt.backward_step(&self.net.forward_t(&x, true).cross_entropy_for_logits(&y));
            let _ = self.auditor.after_step((&self.vs, &self.net)).unwrap();
        }
        self.auditor.after_epoch(epoch, (&self.vs, &self.net)).unwrap()
    }

    fn prune(&mut self) -> Vec<UnitId> {
        self.auditor.prune((&self.vs, &self.net), NoOptimizer).unwrap().zeroed().to_vec()
    }

    fn finish(&mut self) -> Vec<HistoryEntry> {
        self.auditor.finish((&self.vs, &self.net)).unwrap().history().to_vec()
    }

    fn save(&self, folder: &Path, epoch: u64) -> PathBuf {
        let path = folder.join(format!("epoch-{epoch}.safetensors"));
        self.vs.save(&path).unwrap();
        path
    }

    /// The largest weight of these units of `conv`.
    fn largest(&self, units: &[UnitId]) -> f64 {
        let rows: Vec<i64> = units.iter().map(|u| u.unit as i64).collect();
        self.vs.variables()["conv.weight"].index_select(0, &Tensor::from_slice(&rows)).abs().max().double_value(&[])
    }
}

/// The report's files, but for the clock.
fn files(folder: &Path) -> Vec<String> {
    let json = std::fs::read_to_string(folder.join("report.json")).unwrap();
    let run = json.rfind("\"run\"").unwrap();
    let others = ["neurons.csv", "report.md"].map(|f| std::fs::read_to_string(folder.join(f)).unwrap());
    std::iter::once(json[..run].to_string()).chain(others).collect()
}

fn numbers(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    files.filter(|f| f.ends_with(".safetensors")).count()
}

fn moments(history: &[HistoryEntry]) -> Vec<(u64, u64)> {
    history.iter().map(|h| (h.epoch, h.step)).collect()
}

#[test]
fn a_training_that_was_killed_and_resumed_leaves_what_an_uninterrupted_one_leaves() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (whole, halves) = (folder.path().join("whole"), folder.path().join("halves"));
    let builder = |out: &Path| fixing(3).name("planted").reports(out).resume(true);

    let mut process = Process::start(builder(&whole), None);
    let _ = process.epoch(1);
    let _ = process.epoch(2);
    let zeroed = process.prune();
    assert!(!zeroed.is_empty());
    let _ = process.epoch(3);
    let history = process.finish();
    assert_eq!(process.largest(&zeroed), 0.0);

    let mut killed = Process::start(builder(&halves), None);
    let _ = killed.epoch(1);
    let _ = killed.epoch(2);
    assert_eq!(killed.prune(), zeroed);
    let checkpoint = killed.save(folder.path(), 2);
    drop(killed);
    let json = std::fs::read_to_string(halves.join("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap().history.len(), 2, "up to date when it was killed");

    let mut resumed = Process::start(builder(&halves), Some(&checkpoint));
    assert_eq!(resumed.auditor.epoch(), 2);
    let found = resumed.epoch(3);
    assert_eq!(moments(found.history()), [(1, 3), (2, 6), (3, 9)]);
    assert_eq!(resumed.largest(&zeroed), 0.0, "kept at zero by the steps");
    assert_eq!(resumed.finish(), history);
    assert_eq!(files(&halves), files(&whole));
    let (a, b) = (process.vs.variables(), resumed.vs.variables());
    assert!(a.iter().all(|(name, tensor)| *tensor == b[name]));
    assert_eq!((numbers(&whole), numbers(&halves)), (1, 1), "older numbers are removed");
}

#[test]
fn without_resume_the_history_begins_anew() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let builder = || fixing(3).reports(folder.path());
    let mut first = Process::start(builder(), None);
    let _ = first.epoch(1);
    assert!(!first.prune().is_empty() && numbers(folder.path()) == 1);
    let mut second = Process::start(builder(), None);
    assert_eq!(second.auditor.epoch(), 0);
    assert_eq!(moments(second.epoch(1).history()), [(1, 3)]);
    assert_eq!(numbers(folder.path()), 0, "nothing is kept at zero");
    // Now the folder speaks of the second training.
    let mut third = Process::start(builder().resume(true), Some(&second.save(folder.path(), 1)));
    assert_eq!(moments(third.epoch(2).history()), [(1, 3), (2, 6)]);
}

#[test]
fn a_training_that_goes_on_earlier_forgets_what_came_later() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("audit");
    let builder = || fixing(3).reports(&out);
    let mut process = Process::start(builder(), None);
    let checkpoints: Vec<PathBuf> = (1..=3)
        .map(|epoch| {
            let _ = process.epoch(epoch);
            if epoch == 2 {
                assert!(!process.prune().is_empty());
            }
            process.save(folder.path(), epoch)
        })
        .collect();
    drop(process);
    let copy = |to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(&out).unwrap().map(Result::unwrap).filter(|f| f.path().is_file()) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
        fixing(3).reports(to)
    };

    // Nobody says where: it turns out at the end of the epoch.
    let mut late = Process::start(copy("late").resume(true), Some(&checkpoints[1]));
    assert_eq!(late.auditor.epoch(), 3);
    assert_eq!(moments(late.epoch(3).history()), [(1, 3), (2, 6), (3, 9)], "the third again, in its own place");
    assert_eq!(moments(late.epoch(4).history()), [(1, 3), (2, 6), (3, 9), (4, 12)]);

    // Said in advance, units that were zeroed later are as they were.
    let mut told = Process::start(copy("told").resume_at(2), Some(&checkpoints[0]));
    assert_eq!(told.auditor.epoch(), 1);
    let red: Vec<UnitId> = (0..RED as usize).map(|unit| UnitId::new("conv", unit)).collect();
    let found = told.epoch(2);
    assert!(red.iter().all(|unit| told.largest(std::slice::from_ref(unit)) > 0.0), "not yet zeroed");
    assert_eq!(moments(found.history()), [(1, 3), (2, 6)]);

    // As if there had been nothing.
    let mut anew = Process::start(copy("anew").resume_at(1), None);
    assert_eq!((anew.auditor.epoch(), moments(anew.epoch(1).history())), (0, vec![(1, 3)]));
}

#[test]
fn steps_go_on_where_the_epoch_ended() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let builder = || plain(&noise(16, 1)).every(Every::Steps(2)).reports(folder.path());
    let mut process = Process::start(builder(), None);
    let _ = process.epoch(1);
    let checkpoint = process.save(folder.path(), 1);
    // Killed in the middle of an epoch, after an audit.
    assert!(process.auditor.after_step((&process.vs, &process.net)).unwrap().audited());
    drop(process);
    let mut resumed = Process::start(builder().resume(true), Some(&checkpoint));
    let _ = resumed.epoch(2);
    assert_eq!(moments(&resumed.finish()), [(0, 2), (1, 4), (1, 6), (2, 6)]);
}

#[test]
fn words_are_compared_across_the_gap() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let builder = || plain(&noise(32, 1)).reports(folder.path());
    let mut process = Process::start(builder(), None);
    let found = process.auditor.after_epoch(1, (&process.vs, &process.net)).unwrap();
    let described = found.report().unwrap().units.iter().map(|u| u.description.text.clone()).collect::<Vec<_>>();
    drop(process);
    let mut resumed = Process::start(builder().resume(true), None);
    // The units change their places: what looked for red looks at brightness, and the other way round.
    let flip = |name: &str, dimension: i64| {
        let mut tensor = resumed.vs.variables().remove(name).unwrap();
        let flipped = tensor.flip([dimension]);
        tch::no_grad(|| tensor.copy_(&flipped));
    };
    flip("conv.weight", 0);
    flip("conv.bias", 0);
    flip("fc.weight", 1);
    let found = resumed.auditor.after_epoch(2, (&resumed.vs, &resumed.net)).unwrap();
    let expected = described.iter().zip(described.iter().rev()).filter(|(a, b)| a != b).count();
    assert!(expected > 0);
    assert_eq!((found.history()[0].changed, found.history()[1].changed), (0, expected));
}

#[test]
fn a_state_that_cannot_be_read_is_an_error_that_names_the_file() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let builder = || fixing(3).reports(folder.path()).resume(true);
    assert!(builder().build().is_ok(), "nothing to resume is no error");
    let mut process = Process::start(builder(), None);
    let _ = process.epoch(1);
    assert!(!process.prune().is_empty());
    let path = folder.path().join("auditor.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let numbers = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().path());
    let numbers = numbers.into_iter().find(|p| p.extension().is_some_and(|e| e == "safetensors")).unwrap();
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        match builder().build() {
            Err(error @ (Error::Invalid { .. } | Error::Shape { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for (text, says) in [
        ("{".to_string(), "auditor.json"),
        (good.replace("\"version\":1", "\"version\":9"), "version 9"),
        (good.replace("auditor-", "../auditor-"), "../auditor-"),
        (good.replace("\"indices\":[", "\"indices\":[7,8,9,10,11,"), "entries along dimension"),
        (good.replace("\"dimension\":0", "\"dimension\":-1"), "entries along dimension"),
    ] {
        let message = refused(&text);
        assert!(message.contains(says), "{message}");
    }
    std::fs::write(&path, &good).unwrap();
    assert!(builder().build().is_ok());
    std::fs::write(&numbers, b"no numbers").unwrap();
    assert!(matches!(builder().build(), Err(Error::Torch { .. })));
    std::fs::remove_file(&numbers).unwrap();
    assert!(matches!(builder().build(), Err(Error::Io { .. })));
}
