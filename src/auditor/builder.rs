//! What an auditor is told before training starts.

use super::{Auditor, missing};
use crate::audit::Settings;
use crate::describe::Describer;
use crate::evaluate::{self, Evaluation};
use crate::evidence::EvidenceSource;
use crate::policy::Policies;
use crate::probe::Probe;
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;
use tch::nn::VarStore;

/// When to audit during training. [`Auditor::finish`] always audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After every `n`-th epoch.
    Epochs(u64),
    /// After every `n`-th optimizer step.
    Steps(u64),
    /// Not before the end.
    Never,
}

/// Describes an [`Auditor`]. Probe and policies must be given; the rest has defaults.
#[derive(Debug)]
#[must_use = "nothing is audited until `build`"]
pub struct AuditorBuilder<'v> {
    vs: &'v VarStore,
    name: String,
    probe: Option<Probe>,
    policies: Option<Policies>,
    evaluations: Vec<Result<Evaluation>>,
    settings: Settings,
    every: Every,
    fix: bool,
    choice: evaluate::choose::Options,
    controls: evaluate::compare::Options,
    reports: Option<PathBuf>,
    quiet: bool,
}

impl<'v> AuditorBuilder<'v> {
    pub(super) fn new(vs: &'v VarStore) -> Self {
        Self {
            vs,
            name: "model".to_string(),
            probe: None,
            policies: None,
            evaluations: Vec::new(),
            settings: Settings::default(),
            every: Every::Epochs(1),
            fix: false,
            choice: evaluate::choose::Options::default(),
            controls: evaluate::compare::Options::default(),
            reports: None,
            quiet: false,
        }
    }

    /// The images that the units are shown.
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// What must not be learned.
    pub fn policies(mut self, policies: Policies) -> Self {
        self.policies = Some(policies);
        self
    }

    /// A named evaluation: labelled validation images, which decide what is zeroed, and labelled test images, which are
    /// read once at the end. The first one given is the clean one: its validation images refit the last layer, and its
    /// accuracy may not fall by more than is tolerated.
    pub fn evaluate(mut self, name: &str, validation: Probe, test: Probe) -> Self {
        self.evaluations.push(Evaluation::new(name, validation, test));
        self
    }

    /// The model's name in reports.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sites by name or glob, or `auto` (the default): every convolution and linear layer but the classifier.
    pub fn sites<S: Into<String>>(mut self, sites: impl IntoIterator<Item = S>) -> Self {
        self.settings.sites = sites.into_iter().map(Into::into).collect();
        self
    }

    /// All settings of the audit at once.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Who puts units into words; the painted concepts unless said otherwise.
    pub fn describer(mut self, describer: impl Describer + 'static) -> Self {
        self.settings.describer = Arc::new(describer);
        self
    }

    /// Who measures evidence; painted concepts unless said otherwise.
    pub fn sources(mut self, sources: impl IntoIterator<Item = Arc<dyn EvidenceSource>>) -> Self {
        self.settings.sources = sources.into_iter().collect();
        self
    }

    /// When to audit during training; after every epoch unless said otherwise.
    pub fn every(mut self, every: Every) -> Self {
        self.every = every;
        self
    }

    /// Whether what violated policies with `action = "zero"` or `"prune"` flag is edited, by [`Auditor::finish`] and
    /// [`Auditor::after_epoch_pruning`]; off unless said otherwise.
    pub fn fix(mut self, fix: bool) -> Self {
        self.fix = fix;
        self
    }

    /// How the number of units to zero is chosen.
    pub fn choose(mut self, options: evaluate::choose::Options) -> Self {
        self.choice = options;
        self
    }

    /// How many draws of random units the edit is compared with, and their seed.
    pub fn controls(mut self, options: evaluate::compare::Options) -> Self {
        self.controls = options;
        self
    }

    /// The folder for `report.json`, `neurons.csv`, `report.md` and pictures; without it nothing is written.
    pub fn reports(mut self, folder: impl Into<PathBuf>) -> Self {
        self.reports = Some(folder.into());
        self
    }

    /// Prints nothing while training.
    pub fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self
    }

    /// # Errors
    /// [`Error::Invalid`] when probe or policies are missing, an evaluation has no labelled images, a name is given twice, a
    /// schedule counts every 0th epoch, or a fix is wanted without an evaluation to choose on.
    pub fn build(self) -> Result<Auditor<'v>> {
        let probe = self.probe.ok_or_else(|| missing("probe images", "probe"))?;
        let policies = self.policies.ok_or_else(|| missing("policies", "policies"))?;
        let evaluations = self.evaluations.into_iter().collect::<Result<Vec<_>>>()?;
        if matches!(self.every, Every::Epochs(0) | Every::Steps(0)) {
            return Err(Error::invalid("schedule", format!("{:?}", self.every), "every 1 or more"));
        }
        if self.fix && evaluations.is_empty() {
            return Err(missing("an evaluation to choose the units to zero on", "evaluate"));
        }
        let mut names: Vec<&str> = evaluations.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::invalid("evaluation", format!("`{}` twice", twice[0]), "each name once"));
        }
        Ok(Auditor {
            vs: self.vs,
            name: self.name,
            probe,
            policies,
            evaluations,
            settings: self.settings,
            every: self.every,
            fix: self.fix,
            choice: self.choice,
            controls: self.controls,
            reports: self.reports,
            quiet: self.quiet,
            steps: 0,
            epoch: 0,
            history: Vec::new(),
            last: Default::default(),
            zeroed: Vec::new(),
        })
    }
}
