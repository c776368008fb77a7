//! The parts of a report that say what policies object to.

use crate::UnitId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Recorded, never acted on.
    Allow,
    /// Shown.
    Warn,
    /// Fails the run.
    Deny,
}

/// What a policy asks to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Nothing.
    None,
    /// Zero the units.
    Zero,
}

/// What the number of findings means for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No unit matched.
    Clean,
    /// Not more units matched than the limits tolerate.
    Tolerated,
    /// More units matched than the limits tolerate.
    Violated,
}

macro_rules! shown_as {
    ($($type:ident: $($variant:ident $text:literal),*;)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($type::$variant => $text),* })
            }
        }
    )*};
}

shown_as! {
    Level: Allow "allow", Warn "warn", Deny "deny";
    Action: None "none", Zero "zero";
    Verdict: Clean "clean", Tolerated "tolerated", Violated "violated";
}

/// One policy's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedPolicy {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Level,
    /// What it asks to be done.
    pub action: Action,
    /// Why it exists, in its author's words.
    pub reason: String,
    /// Its file.
    pub file: String,
    /// Units in its scope: the denominator of `findings`.
    pub units: usize,
    /// Units that matched.
    pub findings: usize,
    /// How many findings it tolerates.
    pub limit: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// One unit that one policy objects to (or, at level `allow`, notes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedFinding {
    /// The stable code, for example `denied-concept`.
    pub code: String,
    /// The policy's name.
    pub policy: String,
    /// The policy's level.
    pub level: Level,
    /// The unit; its description is among the report's units.
    pub unit: UnitId,
    /// Why it matched: clauses without a full stop.
    pub because: Vec<String>,
    /// The place in the policy, `file:line:column`.
    pub location: String,
}

/// Something that the reader should know; never a reason to fail. Sorted by its fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedWarning {
    /// The stable code, for example `unmatched-rule`.
    pub code: String,
    /// What it is about: a policy, a site, a file.
    pub about: String,
    /// What is the matter: lower case, without a full stop.
    pub message: String,
    /// The place in a policy, where it is about one.
    pub location: Option<String>,
}
