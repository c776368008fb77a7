//! One audit of one model as it is now: trace, exemplars, descriptions, policies. Changes nothing.

use crate::describe::{DescribedUnit, Describer, Description, Words, concepts};
use crate::exemplars::{self, Exemplars};
use crate::graph::{Site, Traced};
use crate::policy::{self, Date, Outcome, Policies};
use crate::probe::Probe;
use crate::probe::paint::{self, Concept};
use crate::stats::Accuracy;
use crate::{Error, Model, Result, evaluate};
use std::time::Instant;

/// What an audit looks at, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Which sites: names, globs, `auto`.
    pub sites: Vec<String>,
    /// How exemplars are chosen.
    pub exemplars: exemplars::Options,
    /// How concepts are measured.
    pub concepts: concepts::Options,
    /// Whose words describe the units.
    pub words: Words,
    /// The concepts that are painted.
    pub bank: Vec<Concept>,
    /// The day that decides which waivers have expired.
    pub today: Date,
}

impl Default for Settings {
    /// Every convolution and linear layer but the classifier, and the built-in bank.
    fn default() -> Self {
        Self {
            sites: vec!["auto".to_string()],
            exemplars: exemplars::Options::default(),
            concepts: concepts::Options::default(),
            words: Words::default(),
            bank: paint::bank(),
            today: Date::today(),
        }
    }
}

/// What one audit found.
#[derive(Debug)]
pub struct Audit {
    /// The sites that were audited.
    pub sites: Vec<Site>,
    /// What excites the units.
    pub exemplars: Exemplars,
    /// What the units respond to, in the order of `exemplars.units`.
    pub units: Vec<DescribedUnit>,
    /// What the policies say of that.
    pub outcome: Outcome,
    /// What the descriptions depend on besides the model.
    pub describer: String,
    /// Every description that the describer can give, if there are only so many.
    pub sayings: Option<Vec<String>>,
    /// How often the model is right on a labelled probe, where its output is one number per class.
    pub accuracy: Option<Accuracy>,
    /// Seconds per stage.
    pub seconds: Vec<(&'static str, f64)>,
}

impl Audit {
    /// Audits `model` on the images of `probe`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty probe set, [`Error::Unknown`] for a site that does not exist, and what the model's
    /// forward pass and the describer return.
    pub fn run(model: &Model<'_>, probe: &Probe, settings: &Settings, policies: &Policies) -> Result<Audit> {
        if probe.is_empty() {
            return Err(Error::invalid("probe set", "no image", "at least one image"));
        }
        Self::of(&Traced::new(model, &probe.tensor(0..1)?)?, probe, settings, policies)
    }

    /// As [`run`](Self::run), of a model that was traced.
    ///
    /// # Errors
    /// As there.
    pub fn of(traced: &Traced<'_>, probe: &Probe, settings: &Settings, policies: &Policies) -> Result<Audit> {
        // What is cheap to get wrong comes first.
        let words = settings.words.describer(probe)?;
        let mut seconds = Vec::new();
        let mut clock = Instant::now();
        let mut lap = |stage| {
            seconds.push((stage, clock.elapsed().as_secs_f64()));
            clock = Instant::now();
        };
        let sites = traced.select(&settings.sites)?;
        let exemplars = Exemplars::compute(traced, &sites, probe, &settings.exemplars)?;
        lap("exemplars");
        let describer =
            concepts::Concepts::new(traced, &sites, probe, settings.bank.clone(), settings.concepts.clone())?;
        let mut fingerprint = describer.fingerprint();
        let mut descriptions = describer.describe(&exemplars.units)?;
        let mut sayings = describer.sayings();
        if let Some(words) = &words {
            // Their words, our evidence.
            let said = words.describe(&exemplars.units)?;
            let both = said.into_iter().zip(descriptions);
            descriptions = both.map(|(said, own)| Description { evidence: own.evidence, ..said }).collect();
            fingerprint = format!("{}; evidence: {fingerprint}", words.fingerprint());
            sayings = None;
        }
        let units = DescribedUnit::all(&exemplars.units, descriptions);
        lap("describe");
        let mut outcome = policy::check(policies, &units, settings.today);
        if let Some(sayings) = &sayings {
            outcome.hold_to(sayings, policies);
        }
        lap("policy");
        tracing::info!(units = units.len(), findings = outcome.findings.len(), "audited");
        let accuracy = accuracy(traced, probe);
        lap("accuracy");
        Ok(Audit { sites, exemplars, units, outcome, describer: fingerprint, sayings, accuracy, seconds })
    }
}

/// How often the model is right; `None` without labels, or when the output is not one number per class.
fn accuracy(traced: &Traced<'_>, probe: &Probe) -> Option<Accuracy> {
    let _labelled = probe.labels()?;
    let right = evaluate::correct(traced, &[], probe);
    let right = right.inspect_err(|error| tracing::warn!(%error, "the accuracy cannot be measured")).ok()?;
    Some(evaluate::count(&right))
}
