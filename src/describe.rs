//! What a unit responds to, in words.

pub mod command;
pub mod concepts;
pub mod milan;
mod table;
mod words;

pub use table::read_table;
pub use words::Words;

use crate::evidence::ConceptEvidence;
use crate::exemplars::UnitExemplars;
use crate::{Result, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Puts units into words.
///
/// Implementations must be deterministic: the same units give the same descriptions.
pub trait Describer {
    /// One description per unit, in the order of `units`.
    ///
    /// # Errors
    /// Whatever keeps the describer from judging; a unit without a reliable description is not an error but
    /// [`Status::Abstained`].
    fn describe(&self, units: &[UnitExemplars]) -> Result<Vec<Description>>;

    /// Every description that it can give, if there are only so many; what none of them says, it cannot see.
    fn sayings(&self) -> Option<Vec<String>> {
        None
    }

    /// Everything that the descriptions depend on besides model and exemplars, as a stable text.
    fn fingerprint(&self) -> String;
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

/// A unit with its description: what policies judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DescribedUnit {
    /// Which unit.
    pub id: UnitId,
    /// Its description.
    pub description: Description,
    /// What was measured about it and concepts, strongest first.
    pub evidence: Vec<ConceptEvidence>,
}

impl DescribedUnit {
    /// A unit about which nothing was measured.
    pub fn new(id: UnitId, description: Description) -> Self {
        Self { id, description, evidence: Vec::new() }
    }

    /// Units with their descriptions, in the same order, without evidence.
    pub fn all(units: &[UnitExemplars], descriptions: Vec<Description>) -> Vec<DescribedUnit> {
        let described = |(unit, description): (&UnitExemplars, Description)| Self::new(unit.id.clone(), description);
        units.iter().zip(descriptions).map(described).collect()
    }
}
