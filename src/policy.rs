//! Policies: what the neurons of a network may respond to, and what follows if they respond to something else.
//!
//! One TOML file is one policy, called by the file's stem:
//!
//! ```toml
//! level  = "deny"               # allow | warn | deny: required
//! action = "zero"               # none (default) | zero: what is to be done about violations
//! reason = "reads the caption"  # required: for whoever reads the finding
//!
//! [match]
//! any  = ["text", "caption", '/serial n(o|umber)/']  # words, phrases, /regular expressions/
//! all  = []                     # every one of these as well
//! none = []                     # exceptions: none of these
//! concepts   = ["text"]         # names from the describer's bank
//! min-score  = 0.0              # nats: how much better than chance a description must fit
//! min-effect = 1.0              # standard deviations: causal effect of the concept
//! min-auc    = 0.8              # AUC of the concept, 0 to 1
//! min-share  = 0.3              # share of the concept among what excites the unit most, 0 to 1
//!
//! [scope]
//! sites   = ["layer3*"]         # globs; all sites if left out
//! exclude = ["*@raw"]
//!
//! [limits]
//! max-units = 0                 # findings that are tolerated; with both limits set, both hold
//! max-share = 0.0               # as a share of the units in scope, 0 to 1
//! ```
//!
//! **Words** match whole words, whatever their case, with plurals and simple inflections; `texture` is not `text`.
//! Regular expressions see the description as it is and ignore case.
//!
//! **Concepts** match in two ways. Either the unit is described and its description names the concept. Or one of
//! `min-effect`, `min-auc` and `min-share` is set and the unit's evidence for the concept reaches all that are set, whatever the description says:
//! this is how units that the describer abstained on can match. Without any minimum, evidence alone never matches.
//! `min-score` is about descriptions and does not touch the second way.
//!
//! Faults in a file are errors with file, line, caret and suggestion, all of them at once; a file or folder that is not
//! there is an error as well, never an empty policy.

mod check;
pub mod codes;
mod config;
mod finding;
mod load;
mod pattern;
mod render;
mod shape;
mod validate;
mod words;

pub use check::check;
pub use codes::Code;
pub use finding::{Because, Finding, Location, Outcome, PolicySummary, RuleCount, Verdict, Warning};
pub use load::Loader;

use crate::Result;
use globset::GlobMatcher;
use pattern::Pattern;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use words::Phrase;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Recorded, never acted on.
    Allow,
    /// Shown.
    Warn,
    /// Fails the run when the limits are exceeded.
    Deny,
}

impl Level {
    const ALL: [Level; 3] = [Level::Allow, Level::Warn, Level::Deny];

    /// As written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Allow => "allow",
            Level::Warn => "warn",
            Level::Deny => "deny",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is to be done about the units that violate a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Nothing.
    None,
    /// Zero them, if edits are allowed.
    Zero,
}

impl Action {
    const ALL: [Action; 2] = [Action::None, Action::Zero];

    /// As written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::None => "none",
            Action::Zero => "zero",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A policy whose file was found to make sense.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    level: Level,
    action: Action,
    reason: String,
    matching: Matching,
    scope: Scope,
    limits: Limits,
    location: Location,
}

impl Policy {
    /// The file's stem.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How grave its findings are.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What it asks to be done about violations.
    pub fn action(&self) -> Action {
        self.action
    }

    /// Why it exists.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The names of the concepts it lists, as written.
    pub fn concepts(&self) -> impl Iterator<Item = &str> {
        self.matching.concepts.iter().map(|c| c.name.as_str())
    }

    /// Whether it judges the units of this site.
    pub fn covers(&self, site: &str) -> bool {
        self.scope.covers(site)
    }

    /// Where its level is set.
    pub fn location(&self) -> &Location {
        &self.location
    }
}

/// The table `[match]`, compiled.
#[derive(Debug, Clone)]
struct Matching {
    any: Vec<Rule>,
    all: Vec<Rule>,
    none: Vec<Rule>,
    concepts: Vec<Concept>,
    min_score: Option<f64>,
    min_effect: Option<f64>,
    min_auc: Option<f64>,
    min_share: Option<f64>,
}

/// An entry of `any`, `all` or `none`.
#[derive(Debug, Clone)]
struct Rule {
    entry: String,
    pattern: Pattern,
    location: Location,
}

/// An entry of `concepts`.
#[derive(Debug, Clone)]
struct Concept {
    name: String,
    /// Its name as it stands in a description: `horizontal-stripes` is described as `horizontal stripes`.
    phrase: Phrase,
    location: Location,
}

/// The table `[scope]`, compiled.
#[derive(Debug, Clone)]
struct Scope {
    sites: Vec<Glob>,
    exclude: Vec<Glob>,
}

impl Scope {
    fn covers(&self, site: &str) -> bool {
        (self.sites.is_empty() || self.sites.iter().any(|g| g.matcher.is_match(site)))
            && !self.exclude.iter().any(|g| g.matcher.is_match(site))
    }
}

/// An entry of `sites` or `exclude`.
#[derive(Debug, Clone)]
struct Glob {
    list: &'static str,
    entry: String,
    matcher: GlobMatcher,
    location: Location,
}

/// The table `[limits]`.
#[derive(Debug, Clone)]
struct Limits {
    max_units: Option<usize>,
    max_share: Option<f64>,
}

impl Limits {
    /// How many findings among `units` are tolerated: every limit that is set holds; none tolerates nothing.
    fn tolerated(&self, units: usize) -> usize {
        // 0.29 * 100 is 28.999..., and 29 of 100 are meant.
        let by_share = self.max_share.map(|share| (share * units as f64 + 1e-9).floor() as usize);
        match (self.max_units, by_share) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => 0,
        }
    }
}

/// Policies, sorted by name.
#[derive(Debug, Clone, Default)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// [`Loader::load_dir`] with any concept's name.
    ///
    /// # Errors
    /// As there.
    pub fn load_dir(path: impl AsRef<Path>) -> Result<Self> {
        Loader::new().load_dir(path)
    }

    /// [`Loader::load`] with any concept's name.
    ///
    /// # Errors
    /// As there.
    pub fn load(file: impl AsRef<Path>) -> Result<Self> {
        Loader::new().load(file)
    }

    /// [`Loader::shipped`], without a list of known concepts.
    ///
    /// # Errors
    /// As there.
    pub fn shipped() -> Result<Self> {
        Loader::new().shipped()
    }

    /// [`Loader::parse`] with any concept's name.
    ///
    /// # Errors
    /// As there.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Loader::new().parse(name, text)
    }

    /// The policies, by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Policy> {
        self.0.iter()
    }

    /// The policy called `name`.
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.0.iter().find(|p| p.name == name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, which no loading function returns.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Policies {
    type Item = &'a Policy;
    type IntoIter = std::slice::Iter<'a, Policy>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
