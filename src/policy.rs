//! Policies: what the neurons of a network may respond to, and what follows if they respond to something else.
//!
//! One TOML file is one policy, called by the file's stem:
//!
//! ```toml
//! level  = "deny"               # allow | warn | deny: required
//! action = "zero"               # none (default) | zero | prune: what is to be done about violations
//! reason = "reads the caption"  # required: for whoever reads the finding
//!
//! [match]
//! # Words, phrases, /regular expressions/.
//! any    = ["text", "caption", "{animal} face", '/serial n(o|umber)/']
//! all    = []                   # every one of these as well
//! none   = []                   # exceptions: none of these anywhere in the description
//! except = ["text book"]        # exceptions: what matched inside one of these does not count
//! concepts   = ["text"]         # concepts or families of concepts from the describer's bank
//! min-score  = 0.0              # nats: how much better than chance a description must fit
//! min-effect = 1.0              # standard deviations: causal effect of the concept
//! min-auc    = 0.8              # AUC of the concept, 0 to 1
//! min-share  = 0.3              # share of the concept among what excites the unit most, 0 to 1
//! min-r      = 0.5              # correlation of the unit's activation with the concept, over images, 0 to 1
//!
//! [groups]
//! animal = ["dog", "cat"]       # `{animal}` in a phrase is any of these words
//!
//! [scope]
//! sites   = ["layer3*"]         # names or globs; all sites if left out
//! exclude = ["*@raw"]
//!
//! [limits]
//! max-units = 0                 # findings that are tolerated; with both limits set, both hold
//! max-share = 0.0               # as a share of the units in scope, 0 to 1
//!
//! [lints]
//! unmatched-rule = "allow"      # how grave it is when the policy itself is out of date, by code
//!
//! [labels]                      # for `policies evaluate`: columns of a table labelled by hand
//! positive  = ["text"]
//! leave-out = ["borderline"]
//!
//! [[waive]]                     # findings that are excused, for a reason and for a while
//! site    = "layer4.2*"         # a name or a glob
//! unit    = [17, 30]            # one number or several; needs `site`
//! description = "book cover"    # a phrase or a /regular expression/
//! reason  = "book covers are a class of ours"
//! expires = 2027-03-31          # the last day; without it the waiver holds for good
//!
//! [[test]]                      # for `policies test`
//! description = "black lettering"
//! matches     = true
//! ```
//!
//! **Words** match whole words, whatever their case, with plurals and simple inflections; `texture` is not `text`.
//! Articles are passed over. In a phrase `{group}` stands for any word of a group and `*` for any one word. Regular
//! expressions see the description as it is and ignore case.
//!
//! **Exceptions** are of two kinds. An entry of `none` holds a description back whatever else it says. An entry of
//! `except` only takes away what lies inside it: with `any = ["face"]` and `except = ["clock face"]`, `a clock face` does
//! not match and `a clock face and the face of a man` does.
//!
//! **Concepts** match in two ways. Either the unit is described and its description names the concept or one of its
//! synonyms ([`Vocabulary`]). Or one of the minima from `min-effect` on is set and a piece of the unit's evidence for
//! the concept measures one at least of those that are set, and reaches all that it measures, whatever the description
//! says: this is how units that the describer abstained on can match. Without any minimum, evidence alone never matches. `min-score` is about descriptions and does not touch the
//! second way. The name of a family (`color`, `stripes`) stands for all its concepts.
//!
//! **Waivers** excuse findings: they are listed, with the reason, and count for nothing. One that has expired excuses
//! nothing. A [`Baseline`] excuses what was found before, so that only new findings fail.
//!
//! **Lints** are about the policies themselves (an exception, a waiver, a glob that matched nothing) and about what the audit
//! did not reach ([`Code::UnauditedLayers`], at the gravest level that a policy gives it). Their level is `warn`
//! unless `[lints]` says otherwise, and [`Code::UnmatchedRule`]'s is `allow`.
//!
//! Faults in a file are errors with file, line, caret and suggestion, all of them at once; a file or folder that is not
//! there is an error as well, never an empty policy.

pub mod baseline;
mod because;
mod check;
mod config;
mod covered;
mod date;
mod evaluate;
mod finding;
mod lints;
mod load;
mod minima;
mod outcome;
mod pattern;
mod plain;
mod reach;
mod rules;
mod search;
mod shape;
mod testing;
mod validate;
mod vocabulary;
mod waive;
mod wanted;
mod words;

pub use crate::diagnostic::{Code, Location};
pub use baseline::Baseline;
pub use because::Because;
pub use check::check;
pub use date::Date;
pub use evaluate::{Agreement, Labels, Mistake, columns, evaluate};
pub use finding::{Finding, Notice, Standing};
pub use load::{Loader, TEMPLATE, shipped_files};
pub use minima::Minima;
pub use outcome::{Outcome, PolicySummary, RuleCount, Verdict};
pub use testing::{Tested, test};
pub use vocabulary::Vocabulary;
pub use wanted::Wanted;

use crate::{Error, Result};
use lints::Lints;
use rules::{Case, Concept, Glob, Limits, Matching, Rule, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use waive::Waiver;

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Nothing.
    #[default]
    None,
    /// Zero them, if edits are allowed.
    Zero,
    /// Take them out of the network, if edits are allowed.
    Prune,
}

impl Action {
    const ALL: [Action; 3] = [Action::None, Action::Zero, Action::Prune];

    /// As written in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::None => "none",
            Action::Zero => "zero",
            Action::Prune => "prune",
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
    lints: Lints,
    labels: Labels,
    waivers: Vec<Waiver>,
    cases: Vec<Case>,
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

    /// Its `[labels]`: the columns of a table labelled by hand that mean what it means.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The names of the concepts it lists, as written.
    pub fn concepts(&self) -> impl Iterator<Item = &str> {
        self.matching.concepts.iter().map(|c| c.name.as_str())
    }

    /// Whether it asks for this concept, by name or by its family.
    pub fn asks_for(&self, concept: &str) -> bool {
        self.matching.concepts.iter().any(|c| c.members.iter().any(|member| member == concept))
    }

    /// Whether it judges the units of this site.
    pub fn covers(&self, site: &str) -> bool {
        self.scope.covers(site)
    }

    /// Where its level is set.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Every entry of `[match]` with its list, in the order in which they are searched for and counted.
    fn rules(&self) -> impl Iterator<Item = (&'static str, &Rule)> {
        let m = &self.matching;
        let of = |list: &'static str, rules| std::iter::repeat(list).zip(rules);
        of("any", m.any.iter())
            .chain(of("all", m.all.iter()))
            .chain(of("none", m.none.iter()))
            .chain(of("except", m.except.iter()))
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

impl Policies {
    /// Sets the level of policies or lints, whatever their files say. A name is that of a policy or the code of a lint
    /// (`expired-waiver`), which is then set for every policy. Later entries win.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a name that is neither.
    pub fn set_levels<'a>(&mut self, levels: impl IntoIterator<Item = (&'a str, Level)>) -> Result<()> {
        for (name, level) in levels {
            let mut known = false;
            for policy in self.0.iter_mut().filter(|p| p.name == name) {
                policy.level = level;
                known = true;
            }
            if let Some(code) = lints::code(name) {
                self.0.iter_mut().for_each(|p| p.lints.set(code, level));
                known = true;
            }
            if !known {
                let valid = || self.0.iter().map(Policy::name).chain(lints::CODES.iter().map(|c| c.as_str()));
                if crate::error::nearest(name, valid()).is_empty() {
                    let all: Vec<&str> = valid().collect();
                    return Err(Error::invalid("policy or lint", format!("`{name}`"), all.join(", ")));
                }
                return Err(Error::unknown("policy or lint", name, valid()));
            }
        }
        Ok(())
    }

    /// Sets what the policy called `name` asks to be done about violations, whatever its file says.
    ///
    /// # Errors
    /// [`Error::Unknown`] when there is no such policy.
    pub fn set_action(&mut self, name: &str, action: Action) -> Result<()> {
        match self.0.iter().position(|p| p.name == name) {
            Some(i) => {
                self.0[i].action = action;
                Ok(())
            }
            None => Err(Error::unknown("policy", name, self.0.iter().map(Policy::name))),
        }
    }

    /// The gravest level that a lint has in any policy; `allow` without policies.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a code that is no lint's.
    pub fn lint_level(&self, code: Code) -> Result<Level> {
        if lints::CODES.contains(&code) {
            Ok(self.0.iter().map(|p| p.lints.level(code)).max().unwrap_or(Level::Allow))
        } else {
            Err(Error::unknown("lint", code.as_str(), lints::CODES.iter().map(|c| c.as_str())))
        }
    }

    /// The policies of these and of the others, sorted by name.
    ///
    /// # Errors
    /// [`Error::Invalid`] when both have one of the same name.
    pub fn join(mut self, others: Policies) -> Result<Self> {
        for policy in others.0 {
            if let Some(first) = self.get(&policy.name) {
                let (one, two) = (&first.location.file, &policy.location.file);
                let received = format!("`{}` twice, in {one} and in {two}", policy.name);
                return Err(Error::invalid("the name of a policy", received, "each name once"));
            }
            self.0.push(policy);
        }
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(self)
    }
}

impl<'a> IntoIterator for &'a Policies {
    type Item = &'a Policy;
    type IntoIter = std::slice::Iter<'a, Policy>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
