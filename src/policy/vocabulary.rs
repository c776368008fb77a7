//! What the concepts of a policy are called: names, synonyms, families.

use super::words::{Groups, Phrase};
use crate::probe::paint::{self, Concept};
use std::collections::BTreeMap;

/// The names by which a policy may mean concepts.
///
/// A description names a concept by its name (`horizontal-stripes` as `horizontal stripes`) or by a synonym. A synonym
/// that several concepts share (`stripes`) names none of them, only their family.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    terms: Vec<Term>,
    /// Whether other names are faults.
    closed: bool,
}

#[derive(Debug, Clone)]
struct Term {
    name: String,
    family: String,
    words: Vec<String>,
}

/// A name of `concepts`, resolved.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The concepts meant.
    pub members: Vec<String>,
    /// By which a description names one of them.
    pub phrases: Vec<Phrase>,
}

impl Vocabulary {
    /// The concepts that a describer measures; no others are allowed.
    pub fn of(bank: &[Concept]) -> Self {
        let term = |c: &Concept| Term {
            name: c.name().to_string(),
            family: c.family().to_string(),
            words: c.words().to_vec(),
        };
        Self { terms: bank.iter().map(term).collect(), closed: true }
    }

    /// The concepts of the built-in bank with their synonyms; any other name is allowed and means itself.
    pub fn open() -> Self {
        Self { closed: false, ..Self::of(&paint::bank()) }
    }

    /// Every name and family, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.terms.iter().flat_map(|t| [t.name.as_str(), &t.family]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a name means; `None` if it is not known.
    pub(super) fn resolve(&self, name: &str) -> Option<Resolved> {
        let mut uses = BTreeMap::<&str, usize>::new();
        for word in self.terms.iter().flat_map(|t| &t.words) {
            *uses.entry(word).or_default() += 1;
        }
        let own = |t: &Term| t.words.iter().filter(|w| uses.get(w.as_str()) == Some(&1)).cloned().collect::<Vec<_>>();
        let (members, words): (Vec<String>, Vec<String>) = match self.terms.iter().find(|t| t.name == name) {
            Some(term) => (vec![name.to_string()], own(term)),
            None => {
                let family: Vec<&Term> = self.terms.iter().filter(|t| t.family == name).collect();
                if family.is_empty() && self.closed {
                    return None;
                }
                let members: Vec<String> = family.iter().map(|t| t.name.clone()).collect();
                let words = family.iter().flat_map(|t| t.words.iter().chain([&t.name])).cloned().collect();
                (if members.is_empty() { vec![name.to_string()] } else { members }, words)
            }
        };
        let mut phrases: Vec<Phrase> = Vec::new();
        for word in std::iter::once(name.to_string()).chain(words) {
            // Names are made of words; braces, stars and punctuation would mean something else in a phrase.
            let plain: String = word.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
            match Phrase::new(&plain, &Groups::default()) {
                Ok(phrase) if !phrases.contains(&phrase) => phrases.push(phrase),
                _ => {}
            }
        }
        (!phrases.is_empty()).then_some(Resolved { members, phrases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_synonyms_name_the_family_only() {
        let bank = Vocabulary::of(&paint::bank());
        let stripes = Phrase::new("stripes", &Groups::default()).ok();
        let has =
            |name: &str| bank.resolve(name).is_some_and(|r| r.phrases.iter().any(|p| Some(p) == stripes.as_ref()));
        assert!(has("stripes") && !has("horizontal-stripes"));
        assert_eq!(bank.resolve("stripes").map(|r| r.members.len()), Some(3));
        assert_eq!(bank.resolve("color").map(|r| r.members.len()), Some(8));
        assert!(bank.resolve("walrus").is_none());
        assert_eq!(Vocabulary::open().resolve("walrus").map(|r| r.members), Some(vec!["walrus".to_string()]));
    }
}
