//! What can be done to the units of a site, by trying it.

use std::collections::HashMap;
use tch::Tensor;
use tch_audit::edit::{Cost, NoOptimizer, PrunePlan, ZeroPlan};
use tch_audit::graph::{Mask, Site};
use tch_audit::{Error, Reason, Result, Traced, UnitId};

/// Of a site with more units so many are tried, spread over it.
const TRIED: usize = 16;
/// After so much work edits are planned, not tried, and of one unit of each site. In floating-point operations, so that it
/// is the same on every machine.
const WORK: u64 = 60_000_000_000;
/// What a trial takes besides the passes, and a plan for each operator of the model.
const TRIAL: u64 = 50_000_000;
const PLAN: u64 = 200_000;

/// What can be done to the units of a site.
pub struct Can {
    /// Of the units that were tried, those of which it can be done.
    pub done: usize,
    pub tried: usize,
    /// All units that go with the one in the middle, or with the first of which it can be done.
    pub with: Vec<UnitId>,
    /// Why it cannot be done to some.
    pub why: Option<String>,
}

impl Can {
    fn of(outcomes: Vec<Result<Vec<UnitId>, String>>) -> Self {
        let (tried, mut can) = (outcomes.len(), Self { done: 0, tried: 0, with: Vec::new(), why: None });
        for outcome in outcomes {
            match outcome {
                Ok(with) if can.done == 0 => (can.done, can.with) = (1, with),
                Ok(_) => can.done += 1,
                Err(why) => drop(can.why.get_or_insert(why)),
            }
        }
        Self { tried, ..can }
    }

    /// `yes`, `no`, or `some` where it depends on the unit.
    pub fn word(&self) -> &'static str {
        match self.done {
            0 if self.tried > 0 => "no",
            n if n < self.tried => "some",
            _ => "yes",
        }
    }
}

/// Tries edits of a model, and takes them back.
pub struct Trials<'a> {
    graph: &'a Traced<'a>,
    example: &'a Tensor,
    /// What became of plans that were tried: those of a residual stream are the same at many sites.
    known: HashMap<String, Result<(), String>>,
    /// How much work is left, and what a trial and a plan take of it.
    left: u64,
    trial: u64,
    plan: u64,
    /// How many sites were planned only.
    pub planned: usize,
}

impl<'a> Trials<'a> {
    pub fn new(graph: &'a Traced<'a>, example: &'a Tensor) -> Self {
        let trial = Cost::of(graph).flops.saturating_mul(2).saturating_add(TRIAL);
        let plan = PLAN.saturating_mul(graph.operators() as u64);
        Self { graph, example, known: HashMap::new(), left: WORK, trial, plan, planned: 0 }
    }

    pub fn mask(&mut self, site: &Site) -> bool {
        let mask = || [Mask { site: site.clone(), units: units(site).first().copied().into_iter().collect() }];
        self.graph.can_mask(site).is_ok()
            && (self.is_late() || self.graph.read_masked(&[], &mask(), self.example, |_, _| Ok(())).is_ok())
    }

    fn is_late(&self) -> bool {
        self.left == 0
    }

    fn units(&self, site: &Site) -> Vec<usize> {
        let mut units = units(site);
        if self.is_late() {
            units.truncate(1);
        }
        units
    }

    /// The first plan is tried; when it does not hold, all of them.
    pub fn zero(&mut self, site: &Site) -> Can {
        let mut sure = self.is_late();
        let outcomes = self.units(site).into_iter().map(|unit| {
            self.left = self.left.saturating_sub(self.plan);
            let plan = ZeroPlan::zero(self.graph, &[UnitId::new(&site.name, unit)]).map_err(reason)?;
            if !sure {
                let (graph, example) = (self.graph, self.example);
                self.once(format!("zero {:?}", plan.slices), || plan.apply(graph, example)?.undo())?;
                sure = true;
            }
            Ok(plan.coupled)
        });
        Can::of(outcomes.collect())
    }

    /// As [`zero`](Self::zero); and where it depends on the model's code whether a plan holds, every plan is tried.
    pub fn prune(&mut self, site: &Site) -> Can {
        let late = self.is_late();
        self.planned += usize::from(late);
        let mut sure = late;
        let outcomes = self.units(site).into_iter().map(|unit| {
            self.left = self.left.saturating_sub(self.plan);
            let plan = PrunePlan::new(self.graph, &[UnitId::new(&site.name, unit)]).map_err(reason)?;
            if !sure || (!late && !plan.relies_on.is_empty()) {
                let (graph, example) = (self.graph, self.example);
                self.once(format!("{:?}", plan.slices), || plan.apply(graph, example, NoOptimizer)?.undo())?;
                sure = true;
            }
            Ok(plan.coupled)
        });
        Can::of(outcomes.collect())
    }

    /// What becomes of the parts of the model that a plan changes.
    fn once(&mut self, plan: String, trial: impl FnOnce() -> Result<()>) -> Result<(), String> {
        if !self.known.contains_key(&plan) {
            self.left = self.left.saturating_sub(self.trial);
        }
        self.known.entry(plan).or_insert_with(|| trial().map_err(reason)).clone()
    }
}

/// The units that stand for all: the one in the middle first, as the first and the last may be padding of a shortcut.
fn units(site: &Site) -> Vec<usize> {
    let n = site.units;
    let mut units = vec![n / 2];
    match n {
        0 => units.clear(),
        n if n <= TRIED => units.extend((0..n).filter(|u| *u != n / 2)),
        n => {
            let spread = (0..TRIED).map(|i| i * (n - 1) / (TRIED - 1));
            units.extend(spread.filter(|u| *u != n / 2));
        }
    }
    units
}

fn reason(error: Error) -> String {
    match error {
        Error::Refused { kind: Reason::Output, .. } => "it is an output of the model".to_string(),
        // As zeroing says it.
        Error::Refused { kind: Reason::Frozen, .. } => {
            "its weights have no name (a frozen module: export it without freezing)".to_string()
        }
        Error::Refused { reason, .. } => reason,
        // What it was that failed is for those who try it.
        Error::RolledBack { reason, .. } => reason.split(" (").next().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}
