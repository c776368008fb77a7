//! What an auditor is told before training starts.

use super::Auditor;
use crate::audit::Settings;
use crate::describe::Describer;
use crate::evaluate::{self, Evaluation};
use crate::evidence::EvidenceSource;
use crate::policy::Policies;
use crate::probe::Images;
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

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

/// Whether an earlier training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    No,
    /// After the last epoch that ended.
    Newest,
    /// With this epoch.
    At(u64),
}

/// What an auditor was told.
#[derive(Debug)]
pub(super) struct Setup {
    pub name: String,
    pub probe: Arc<dyn Images>,
    pub policies: Policies,
    pub evaluations: Vec<Evaluation>,
    pub settings: Settings,
    pub every: Every,
    pub fix: bool,
    pub choice: evaluate::choose::Options,
    pub controls: evaluate::compare::Options,
    pub reports: Option<PathBuf>,
    pub resume: Resume,
}

/// Describes an [`Auditor`]. Probe and policies must be given; the rest has defaults.
#[derive(Debug)]
#[must_use = "nothing is audited until `build`"]
pub struct AuditorBuilder {
    name: String,
    probe: Option<Arc<dyn Images>>,
    policies: Option<Policies>,
    evaluations: Vec<Result<Evaluation>>,
    settings: Settings,
    every: Every,
    fix: bool,
    choice: evaluate::choose::Options,
    controls: evaluate::compare::Options,
    reports: Option<PathBuf>,
    resume: Resume,
}

impl AuditorBuilder {
    pub(super) fn new() -> Self {
        Self {
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
            resume: Resume::No,
        }
    }

    /// The images that the units are shown: in memory, or [read](crate::probe::ImageFolder::stream) whenever they are needed.
    pub fn probe(mut self, images: impl Images + 'static) -> Self {
        self.probe = Some(Arc::new(images));
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
    pub fn evaluate(mut self, name: &str, validation: impl Images + 'static, test: impl Images + 'static) -> Self {
        self.evaluations.push(Evaluation::new(name, validation, test));
        self
    }

    /// The name in reports of a network that has [none of its own](crate::Model::named); `model` unless said otherwise.
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

    /// Whether [`Auditor::finish`] edits what violated policies with `action = "zero"` or `"prune"` flag; off unless said
    /// otherwise. [`Auditor::prune`] does so during training, when it is called.
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

    /// The folder for `report.json`, `neurons.csv`, `report.md` and pictures, and for what [`resume`](Self::resume) needs;
    /// all of it is up to date after every audit. A network with [a name of its own](crate::Model::named) has a sub-folder
    /// of that name. Without it nothing is written.
    pub fn reports(mut self, folder: impl Into<PathBuf>) -> Self {
        self.reports = Some(folder.into());
        self
    }

    /// Whether an earlier training goes on: history, counters and zeroed units are those that the [folder](Self::reports)
    /// holds as of the last epoch that ended, or of the last audit when no epoch ever did. A folder that holds none is no
    /// error, so this can always be on. Off unless said otherwise: the history then begins anew.
    ///
    /// When the training turns out to go on with an earlier epoch, what came later is forgotten. See
    /// [`resume_at`](Self::resume_at) to say so in advance.
    pub fn resume(mut self, resume: bool) -> Self {
        self.resume = if resume { Resume::Newest } else { Resume::No };
        self
    }

    /// As [`resume`](Self::resume), of a training whose next epoch is `epoch`: everything is what it was before that epoch.
    /// This matters for a training that goes back beyond units that were zeroed, or is audited by steps.
    pub fn resume_at(mut self, epoch: u64) -> Self {
        self.resume = Resume::At(epoch);
        self
    }

    /// # Errors
    /// [`Error::Invalid`] when probe or policies are missing, an evaluation has no labelled images, a name is given twice, a
    /// schedule counts every 0th epoch, a fix is wanted without an evaluation to choose on, or a training is to be resumed
    /// without a folder; [`Error::Io`] and [`Error::Invalid`] when what the folder holds cannot be read.
    pub fn build(self) -> Result<Auditor> {
        let probe = self.probe.ok_or_else(|| missing("probe images", "probe"))?;
        let policies = self.policies.ok_or_else(|| missing("policies", "policies"))?;
        let evaluations = self.evaluations.into_iter().collect::<Result<Vec<_>>>()?;
        if probe.is_empty() {
            return Err(Error::invalid("probe images", "no image", "at least one image"));
        }
        if matches!(self.every, Every::Epochs(0) | Every::Steps(0)) {
            return Err(Error::invalid("schedule", format!("{:?}", self.every), "every 1 or more"));
        }
        if self.fix && evaluations.is_empty() {
            return Err(missing(CHOOSE_ON, "evaluate"));
        }
        if self.resume != Resume::No && self.reports.is_none() {
            return Err(missing("a folder to resume from", "reports"));
        }
        let mut names: Vec<&str> = evaluations.iter().map(|e| e.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::invalid("evaluation", format!("`{}` twice", twice[0]), "each name once"));
        }
        Auditor::new(Setup {
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
            resume: self.resume,
        })
    }
}

/// What editing cannot do without.
pub(super) const CHOOSE_ON: &str = "an evaluation to choose the units to edit on";

/// An error for a part that was not given to the builder.
pub(super) fn missing(part: &str, call: &str) -> Error {
    Error::invalid(format!("auditor without {part}"), "nothing", format!("a call to `{call}` before `build`"))
}
