//! What the concepts of a policy are called: names, synonyms, families.

use super::words::{Groups, Phrase};
use crate::ConceptName;
use std::collections::BTreeMap;

/// The names by which a policy may mean concepts.
///
/// A description names a concept by its name (`horizontal-stripes` as `horizontal stripes`) or by a synonym. A synonym
/// that several concepts share (`stripes`) names none of them, only their family.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    concepts: Vec<ConceptName>,
    /// Whether other names are faults.
    closed: bool,
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
    /// The concepts that are measured; no others are allowed.
    pub fn of<'a>(concepts: impl IntoIterator<Item = &'a ConceptName>) -> Self {
        Self { concepts: concepts.into_iter().cloned().collect(), closed: true }
    }

    /// The built-in concepts with their synonyms; any other name is allowed and means itself.
    pub fn open() -> Self {
        Self { concepts: ConceptName::built_in(), closed: false }
    }

    /// Every name and family, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.concepts.iter().flat_map(|c| [c.name.as_str(), &c.family]).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a name means; `None` if it is not known.
    pub(super) fn resolve(&self, name: &str) -> Option<Resolved> {
        let mut uses = BTreeMap::<&str, usize>::new();
        for word in self.concepts.iter().flat_map(|c| &c.synonyms) {
            *uses.entry(word).or_default() += 1;
        }
        let own = |c: &ConceptName| -> Vec<String> {
            c.synonyms.iter().filter(|w| uses.get(w.as_str()) == Some(&1)).cloned().collect()
        };
        let (members, words): (Vec<String>, Vec<String>) = match self.concepts.iter().find(|c| c.name == name) {
            Some(concept) => (vec![name.to_string()], own(concept)),
            None => {
                let family: Vec<&ConceptName> = self.concepts.iter().filter(|c| c.family == name).collect();
                if family.is_empty() && self.closed {
                    return None;
                }
                let members: Vec<String> = family.iter().map(|c| c.name.clone()).collect();
                let words = family.iter().flat_map(|c| c.synonyms.iter().chain([&c.name])).cloned().collect();
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
        let bank = Vocabulary::of(&ConceptName::built_in());
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
