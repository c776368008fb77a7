//! One audit of one model as it is now: exemplars, evidence, words, policies. Changes nothing.
//!
//! ```no_run
//! use std::sync::Arc;
//! use tch_audit::audit::{Audit, Settings};
//! use tch_audit::describe::milan::Milan;
//! use tch_audit::probe::{ImageFolder, Preprocess};
//! use tch_audit::{Model, policy::Policies};
//!
//! # fn main() -> tch_audit::Result<()> {
//! let model = Model::load("model.pt")?;
//! let photos = ImageFolder::open("photos").preprocess(Preprocess::plain(3, 224, 224)?).stream()?;
//! let mut settings = Settings::default();
//! settings.describer = Arc::new(Milan::load("milan-base.pth")?); // words from elsewhere, evidence by painting
//! let audit = Audit::run(&model, &photos, &settings, &Policies::shipped()?)?;
//! println!("{} findings, denied: {}", audit.outcome.findings.len(), audit.outcome.denied());
//! # Ok(()) }
//! ```

mod desk;
mod leftovers;
mod recipe;

pub use leftovers::Leftovers;

use crate::describe::{DescribedUnit, Describer, concepts};
use crate::evidence::{EvidenceSource, Painted};
use crate::exemplars::{self, Held};
use crate::graph::{Coverage, Site, Traced, Training};
use crate::policy::{self, Code, Date, Level, Outcome, Policies, Standing};
use crate::probe::{Images, Skipped};
use crate::stats::Accuracy;
use crate::{Error, Model, Result, UnitId, evaluate, probe};
use desk::{Desk, Shelf};
use recipe::Recipe;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// What an audit looks at, and how.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Which sites: names, globs, `auto`.
    pub sites: Vec<String>,
    /// How exemplars are chosen.
    pub exemplars: exemplars::Options,
    /// Who measures evidence. A source that neither the describer nor a policy asks for is not run.
    pub sources: Vec<Arc<dyn EvidenceSource>>,
    /// Who puts units into words.
    pub describer: Arc<dyn Describer>,
    /// The day that decides which waivers have expired.
    pub today: Date,
    /// How many bytes all that is known of the units' exemplars may take in memory; more is in a file. Much smaller, and
    /// always there, are an [outline](exemplars::Held::outline) and the evidence that is listed.
    pub memory: u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<&str> = self.sources.iter().map(|s| s.name()).collect();
        let mut s = f.debug_struct("Settings");
        s.field("sites", &self.sites).field("exemplars", &self.exemplars).field("sources", &sources);
        s.field("describer", &self.describer.name()).field("today", &self.today).field("memory", &self.memory).finish()
    }
}

impl Default for Settings {
    /// Every convolution and linear layer but the classifier; the built-in concepts, painted, give evidence and words; 1 GiB.
    fn default() -> Self {
        Self::painting(Painted::default())
    }
}

impl Settings {
    /// The default, with words and evidence by these painted concepts.
    pub fn painting(painted: Painted) -> Self {
        let describer = concepts::Concepts::of(&painted);
        Self {
            sites: vec!["auto".to_string()],
            exemplars: exemplars::Options::default(),
            sources: vec![Arc::new(painted)],
            describer: Arc::new(describer),
            today: Date::today(),
            memory: 1 << 30,
        }
    }
}

/// What one audit found.
#[derive(Debug)]
pub struct Audit {
    /// The sites that were audited.
    pub sites: Vec<Site>,
    /// What excites the units.
    pub exemplars: Held,
    /// What the units respond to, in the order of [`Held::units`].
    pub units: Vec<DescribedUnit>,
    /// What the policies say of that.
    pub outcome: Outcome,
    /// What the descriptions depend on besides the model.
    pub describer: String,
    /// Every description that the describer can give, if there are only so many.
    pub sayings: Option<Vec<String>>,
    /// The sources of evidence that were asked, by name.
    pub sources: Vec<String>,
    /// What the model computes as in training.
    pub training: Training,
    /// Files that were left out.
    pub skipped: Vec<Skipped>,
    /// How many units keep their words from an earlier audit.
    pub kept: usize,
    /// Which layers were audited, and why others cannot be.
    pub coverage: Coverage,
    /// How often the model is right on labelled images, or why that is not known.
    pub accuracy: Result<Accuracy, String>,
    /// Seconds per stage.
    pub seconds: Vec<(&'static str, f64)>,
}

impl Audit {
    /// Audits `model` on `images`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no images, [`Error::Unknown`] for a site that does not exist, and what the model's forward
    /// pass, the sources and the describer return.
    pub fn run(model: &Model<'_>, images: &dyn Images, settings: &Settings, policies: &Policies) -> Result<Audit> {
        if images.is_empty() {
            return Err(Error::invalid("probe set", "no image", "at least one image"));
        }
        Self::of(&Traced::new(model, &probe::example(images, 1)?)?, images, settings, policies)
    }

    /// As [`run`](Self::run), of a model that was traced.
    ///
    /// # Errors
    /// As there.
    pub fn of(traced: &Traced<'_>, images: &dyn Images, settings: &Settings, policies: &Policies) -> Result<Audit> {
        Self::going_on(traced, images, settings, policies, &mut Leftovers::none())
    }

    /// As [`of`](Self::of), with words of earlier audits where they [hold](Self::from).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn going_on(
        traced: &Traced<'_>,
        images: &dyn Images,
        settings: &Settings,
        policies: &Policies,
        leftovers: &mut Leftovers,
    ) -> Result<Audit> {
        let sites = traced.select(&settings.sites)?;
        let clock = Instant::now();
        let exemplars = Held::compute(traced, &sites, images, &settings.exemplars, settings.memory)?;
        let seconds = clock.elapsed().as_secs_f64();
        let mut audit = Self::from(traced, images, settings, policies, exemplars, leftovers)?;
        audit.seconds.insert(0, ("exemplars", seconds));
        Ok(audit)
    }

    /// As [`of`](Self::of), from exemplars that are there. Units about which `leftovers` of an earlier audit hold are not
    /// looked at again, except those whose words would fail the run: what was left over decides nothing by itself.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::Invalid`] for exemplars of other images.
    pub fn from(
        traced: &Traced<'_>,
        images: &dyn Images,
        settings: &Settings,
        policies: &Policies,
        exemplars: impl Into<Held>,
        leftovers: &mut Leftovers,
    ) -> Result<Audit> {
        let exemplars = exemplars.into();
        exemplars.outline().belong_to(images)?;
        let sites = exemplars.units().chunk_by(|a, b| a.id.site == b.id.site).filter_map(|units| units.first());
        let sites: Vec<Site> = sites.map(|unit| traced.site(&unit.id.site).cloned()).collect::<Result<_>>()?;
        let coverage = traced.coverage(traced.model(), &sites);
        let mut seconds = Vec::new();
        let mut clock = Instant::now();
        let mut lap = |stage| {
            seconds.push((stage, clock.elapsed().as_secs_f64()));
            clock = Instant::now();
        };
        let shelf = Shelf { traced, images, exemplars: &exemplars, memory: settings.memory };
        let recipe = Recipe::new(settings, policies, shelf, leftovers)?;
        let mut desk = Desk { shelf, recipe, leftovers };
        let (mut units, mut kept) = desk.all()?;
        lap("describe");
        let sayings = settings.describer.sayings();
        let training = traced.training();
        let judge = |units: &[DescribedUnit]| {
            let mut outcome = policy::check(policies, units, settings.today);
            if let Some(sayings) = &sayings {
                outcome.hold_to(sayings, policies);
            }
            let file = traced.model().file().unwrap_or("model");
            outcome.hold_to_coverage(&coverage, policies, file);
            if !training.is_empty() {
                outcome.say_of_model(policies, Code::TrainingMode, training.to_string(), file);
            }
            outcome
        };
        let mut outcome = judge(&units);
        let doubtful: Vec<usize> = failing(&outcome, &units).into_iter().filter(|place| kept.contains(place)).collect();
        if !doubtful.is_empty() {
            for (place, unit) in desk.again(&doubtful)? {
                kept.remove(&place);
                units[place] = unit;
            }
            lap("confirm");
            outcome = judge(&units);
        }
        lap("policy");
        let accuracy = accuracy(traced, images);
        lap("accuracy");
        tracing::info!(units = units.len(), kept = kept.len(), findings = outcome.findings.len(), "audited");
        let (describer, kept) = (desk.recipe.fingerprint(images), kept.len());
        let sources = desk.recipe.sources.iter().map(|s| s.name().to_string()).collect();
        let mut skipped = images.skipped().to_vec();
        skipped.extend(exemplars.left_out(images)?);
        Ok(Audit {
            sites,
            exemplars,
            units,
            outcome,
            describer,
            sayings,
            sources,
            training,
            skipped,
            kept,
            coverage,
            accuracy,
            seconds,
        })
    }
}

/// The places of units that fail the run.
fn failing(outcome: &Outcome, units: &[DescribedUnit]) -> BTreeSet<usize> {
    let fails = |f: &&policy::Finding| f.level == Level::Deny && f.standing == Standing::New;
    let failing: BTreeSet<&UnitId> = outcome.findings.iter().filter(fails).map(|f| &f.unit).collect();
    units.iter().enumerate().filter(|(_, u)| failing.contains(&u.id)).map(|(place, _)| place).collect()
}

/// How often the model is right, or why that cannot be measured.
fn accuracy(traced: &Traced<'_>, images: &dyn Images) -> Result<Accuracy, String> {
    let right = evaluate::check_classes(traced, images).and_then(|()| evaluate::correct(traced, &[], images));
    right.map(|right| evaluate::count(&right)).map_err(|error| match error {
        Error::NotMeasured { reason, .. } => reason,
        other => format!("{other:?}"),
    })
}
