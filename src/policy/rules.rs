//! The compiled parts of a policy: what it looks for, where, and how much it tolerates.

use super::pattern::Pattern;
use super::words::Phrase;
use super::{Location, Minima};
use crate::glob::Matcher;

/// The table `[match]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct Matching {
    pub any: Vec<Rule>,
    pub all: Vec<Rule>,
    pub none: Vec<Rule>,
    pub except: Vec<Rule>,
    pub concepts: Vec<Concept>,
    pub min_score: Option<f64>,
    pub minima: Minima,
}

impl Matching {
    /// Whether evidence alone can match.
    pub fn by_evidence(&self) -> bool {
        !self.minima.is_empty()
    }
}

/// An entry of `any`, `all`, `none` or `except`.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub entry: String,
    pub pattern: Pattern,
    pub location: Location,
}

/// An entry of `concepts`.
#[derive(Debug, Clone)]
pub(super) struct Concept {
    pub name: String,
    /// The concepts that it stands for, more than one for a family.
    pub members: Vec<String>,
    /// By which a description names it.
    pub phrases: Vec<Phrase>,
    pub location: Location,
}

/// The table `[scope]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub sites: Vec<Glob>,
    pub exclude: Vec<Glob>,
}

impl Scope {
    pub fn covers(&self, site: &str) -> bool {
        (self.sites.is_empty() || self.sites.iter().any(|g| g.matcher.is_match(site)))
            && !self.exclude.iter().any(|g| g.matcher.is_match(site))
    }
}

/// An entry of `sites` or `exclude`.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    /// `sites` or `exclude`.
    pub list: &'static str,
    pub entry: String,
    pub matcher: Matcher,
    pub location: Location,
}

/// One `[[test]]`, compiled.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub description: String,
    pub matches: bool,
    pub location: Location,
}

/// The table `[limits]`.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub max_units: Option<usize>,
    pub max_share: Option<f64>,
}

impl Limits {
    /// How many findings among `units` are tolerated: every limit that is set holds; none tolerates nothing.
    pub fn tolerated(&self, units: usize) -> usize {
        // 0.29 * 100 is 28.999..., and 29 of 100 are meant.
        let by_share = self.max_share.map(|share| (share * units as f64 + 1e-9).floor() as usize);
        match (self.max_units, by_share) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => 0,
        }
    }
}
