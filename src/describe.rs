//! What a unit responds to, in words.
//!
//! Who puts units into words is a [`Describer`]. Three come with tch-audit: [`concepts`] (from evidence about painted
//! concepts), [`milan`] (a learned captioner), [`command`] (any program); one of your own is a type with three short
//! functions:
//!
//! ```
//! use tch_audit::describe::{Describer, Description, Say};
//! use tch_audit::evidence::Study;
//!
//! /// Says which image excites a unit most.
//! struct Nearest;
//!
//! impl Describer for Nearest {
//!     fn name(&self) -> &str {
//!         "nearest"
//!     }
//!     fn fingerprint(&self) -> String {
//!         "nearest 1".into()
//!     }
//!     fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> tch_audit::Result<()> {
//!         for &place in units {
//!             let best = study.unit(place).and_then(|unit| unit.top.first());
//!             let words = best.map(|e| Description::words(format!("like {}", study.images.name(e.image))));
//!             say(place, words.unwrap_or_else(Description::dead))?;
//!         }
//!         Ok(())
//!     }
//! }
//! # let _: std::sync::Arc<dyn Describer> = std::sync::Arc::new(Nearest);
//! ```
//!
//! [`Audit`](crate::audit::Audit), the [auditor](crate::auditor) and whoever calls [`describe`] take any of them.

pub mod command;
pub mod concepts;
pub mod milan;
mod table;

pub use table::{read_table, read_table_of};

use crate::evidence::{ConceptEvidence, Needs, Study};
use crate::{Error, Result, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes the description of the unit at a place of the study.
pub type Say<'a> = dyn FnMut(usize, Description) -> Result<()> + 'a;

/// Puts units into words.
///
/// Implementations must be deterministic, and what they say of a unit must not depend on which others they are asked about.
pub trait Describer: Send + Sync {
    /// Its name in settings and reports, for example `milan`.
    fn name(&self) -> &str;

    /// What else it looks at; nothing unless said otherwise.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Describes the units at these places of the study: `say` is to be called once for each, in any order, as soon as
    /// its words are there. What was said is kept when the audit is stopped.
    ///
    /// # Errors
    /// What `say` returns; whatever keeps the describer from judging. A unit without a reliable description is not an
    /// error but [`Status::Abstained`].
    fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()>;

    /// Every description that it can give, if there are only so many; what none of them says, it cannot see.
    fn sayings(&self) -> Option<Vec<String>> {
        None
    }

    /// Everything that the descriptions depend on besides model, exemplars, images and evidence, as a stable text.
    fn fingerprint(&self) -> String;
}

/// The words of `describer` for all units of a study, in their order.
///
/// # Errors
/// What the describer returns; [`Error::Invalid`] for one that leaves a unit out or describes it twice.
pub fn describe(describer: &dyn Describer, study: &Study<'_>) -> Result<Vec<Description>> {
    let places = study.places();
    let mut said: Vec<Option<Description>> = vec![None; places.len()];
    describer.describe(study, &places, &mut |place, description| {
        let unit = study.unit(place).map(|u| u.id.to_string());
        match said.get_mut(place) {
            Some(free @ None) => *free = Some(description),
            _ => return Err(wrong(describer, unit, "another description")),
        }
        Ok(())
    })?;
    let all = said.into_iter().enumerate().map(|(place, said)| {
        said.ok_or_else(|| wrong(describer, study.unit(place).map(|u| u.id.to_string()), "no description"))
    });
    all.collect()
}

/// An error of a describer that broke its promise.
pub(crate) fn wrong(describer: &dyn Describer, unit: Option<String>, what: &str) -> Error {
    let received = format!("{what} of {}", unit.unwrap_or_else(|| "a unit that it was not asked about".to_string()));
    Error::invalid(format!("describer `{}`", describer.name()), received, "one description of each unit")
}

/// Whether there is a description at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// The unit responds to what [`Description::text`] says.
    Described,
    /// The describer looked and found nothing reliable; the text says so.
    Abstained,
    /// The unit never varies over the probe images; there is nothing to describe.
    Dead,
}

/// What is said of a unit that never varies.
pub(crate) const DEAD: &str = "never active (dead)";

/// Words for one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The description, in words.
    pub text: String,
    /// Whether the words can be relied on.
    pub status: Status,
    /// `log_likelihood - log_prior`, in nats: how much better than chance the words fit; MILAN's is `log_likelihood - λ
    /// log_prior`, with λ 0.2 as a rule. 0 when abstained or dead.
    pub score: f64,
    /// `log p(d|E)`: of the words given the unit's evidence, in nats.
    pub log_likelihood: f64,
    /// `log p(d)`: of the words alone, in nats.
    pub log_prior: f64,
    /// Other descriptions that were considered, best first.
    pub alternatives: Vec<Alternative>,
}

impl Description {
    /// Of a unit that never varies.
    pub fn dead() -> Self {
        Self { status: Status::Dead, ..Self::words(DEAD) }
    }

    /// Words without numbers, as another tool may have found them; without any words the unit is
    /// [`Status::Abstained`].
    pub fn words(text: impl Into<String>) -> Self {
        let text = text.into();
        let status = if text.trim().is_empty() { Status::Abstained } else { Status::Described };
        Self { text, status, score: 0.0, log_likelihood: 0.0, log_prior: 0.0, alternatives: Vec::new() }
    }
}

/// A description that was considered and not chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alternative {
    /// The description.
    pub text: String,
    /// Its score in nats.
    pub score: f64,
}

/// A unit with its description and what was measured about it: what policies judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DescribedUnit {
    /// Which unit.
    pub id: UnitId,
    /// Its description.
    pub description: Description,
    /// What was measured about concepts, strongest first.
    #[serde(default)]
    pub evidence: Vec<ConceptEvidence>,
}

impl DescribedUnit {
    /// A unit about which nothing was measured.
    pub fn new(id: UnitId, description: Description) -> Self {
        Self { id, description, evidence: Vec::new() }
    }
}
