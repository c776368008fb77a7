//! From numbers to words.

use super::measure::Response;
use super::score::{self, Measured};
use super::{ConceptEvidence, Options};
use crate::describe::{Alternative, Description, Status};
use crate::probe::paint::Concept;

const ABSTAINED: &str = "nothing in the concept bank";
/// How many concepts are listed whether or not there is evidence for them.
const LISTED: usize = 5;
const ALTERNATIVES: usize = 3;

/// Something that can be said.
#[derive(Debug, Clone)]
struct Candidate {
    text: String,
    share: f64,
    /// Of how many sets.
    sets: usize,
}

/// What is said of a live unit, and what was measured about it, strongest first.
pub(super) fn describe(
    bank: &[Concept],
    response: &Response,
    options: &Options,
) -> (Description, Vec<ConceptEvidence>) {
    let shares = score::set_shares(response, options);
    let mut evidence = score::evidence(bank, response, &shares, options);
    let sets = shares.len() as f64;
    let chosen = named(bank, &shares, &evidence, options).or_else(|| family(bank, &shares, &evidence, options));
    // Stable: equals stay in the order of the bank.
    let mut order: Vec<(&Concept, f64)> = bank.iter().zip(evidence.iter().map(|e| e.share)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let said = chosen.as_ref().map(|c| c.text.as_str());
    let alternatives = order
        .iter()
        // A concept without a share has no score: its logarithm is not a number that reports can hold.
        .filter(|(_, share)| *share > 0.0)
        .map(|(concept, share)| Alternative { text: words(concept), score: (share * sets).ln() })
        .filter(|a| said != Some(a.text.as_str()))
        .take(ALTERNATIVES)
        .collect();
    evidence.sort_by(|a, b| b.share.total_cmp(&a.share));
    let mut place = 0;
    evidence.retain(|e| {
        place += 1;
        place <= LISTED || e.auc_low >= options.thresholds.auc_low
    });
    let description = match chosen {
        None => nothing(ABSTAINED, Status::Abstained),
        Some(c) => {
            let (log_likelihood, log_prior) = (c.share.ln(), (c.sets as f64 / sets).ln());
            Description {
                text: c.text,
                score: log_likelihood - log_prior,
                log_likelihood,
                log_prior,
                ..nothing("", Status::Described)
            }
        }
    };
    (Description { alternatives, ..description }, evidence.into_iter().map(Measured::into_evidence).collect())
}

/// The concept with the largest share, if it passes every threshold.
fn named(bank: &[Concept], shares: &[f64], evidence: &[Measured], options: &Options) -> Option<Candidate> {
    let (concept, found) = best(bank.iter().zip(evidence), |(_, e)| e.share)?;
    let passes = found.share > 0.0
        && found.share >= options.thresholds.share
        && excites(found, options)
        && stands_out(found.share, concept.family(), bank, shares, options);
    passes.then(|| Candidate { text: words(concept), share: found.share, sets: 1 })
}

/// The family with the largest share of its concepts together, if it passes and at least two of them excite the unit.
fn family(bank: &[Concept], shares: &[f64], evidence: &[Measured], options: &Options) -> Option<Candidate> {
    let members = |family: &str| -> Vec<&Measured> {
        bank.iter().zip(evidence).filter(|(c, _)| c.family() == family).map(|(_, e)| e).collect()
    };
    let share = |family: &str| members(family).iter().map(|e| e.share).sum::<f64>();
    let family = best(bank.iter().map(Concept::family), |f| share(f))?;
    let (members, share) = (members(family), share(family));
    let passes = share > 0.0
        && share >= options.thresholds.family_share
        && members.iter().filter(|e| excites(e, options)).count() >= 2
        && stands_out(share, family, bank, shares, options);
    passes.then(|| Candidate { text: family.to_string(), share, sets: members.len() })
}

/// Whether no set outside the family (controls and plain images included) comes near this share; more than half of all
/// stands out by itself.
fn stands_out(share: f64, family: &str, bank: &[Concept], shares: &[f64], options: &Options) -> bool {
    let rivals = shares.iter().enumerate().filter(|(k, _)| bank.get(*k).is_none_or(|c| c.family() != family));
    share > 0.5 || share >= options.thresholds.margin * rivals.map(|(_, s)| *s).fold(0.0, f64::max)
}

/// The first of the largest.
fn best<T>(items: impl Iterator<Item = T>, value: impl Fn(&T) -> f64) -> Option<T> {
    items
        .fold(None, |best: Option<(f64, T)>, item| {
            let v = value(&item);
            match best {
                Some((b, _)) if v <= b => best,
                _ => Some((v, item)),
            }
        })
        .map(|(_, item)| item)
}

fn excites(e: &Measured, options: &Options) -> bool {
    e.auc_low >= options.thresholds.auc_low && e.effect >= options.thresholds.effect
}

fn nothing(text: &str, status: Status) -> Description {
    Description { status, ..Description::words(text) }
}

/// The concept's description, with its name where the description does not have it: policies look for names.
fn words(concept: &Concept) -> String {
    if has_phrase(concept.description(), concept.name()) {
        concept.description().to_string()
    } else {
        format!("{} ({})", concept.description(), concept.name())
    }
}

/// Everything that [`describe`] can say of a unit, sorted.
pub(super) fn sayings(bank: &[Concept]) -> Vec<String> {
    let mut all: Vec<String> = bank.iter().flat_map(|c| [words(c), c.family().to_string()]).collect();
    all.sort();
    all.dedup();
    all
}

/// Whether the words of `phrase` stand in `text` one after the other, whole; hyphen or space alike.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let cut = |s: &str| -> Vec<String> {
        s.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(String::from).collect()
    };
    let (text, phrase) = (cut(text), cut(phrase));
    !phrase.is_empty() && text.windows(phrase.len()).any(|w| w == phrase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::paint;

    #[test]
    fn every_description_has_the_name_of_its_concept_and_no_other() {
        let bank = paint::bank();
        for concept in &bank {
            let text = words(concept);
            assert!(has_phrase(&text, concept.name()), "{text}");
            for other in bank.iter().filter(|o| o.name() != concept.name()) {
                assert!(!has_phrase(&text, other.name()), "{text}: {}", other.name());
            }
        }
    }

    #[test]
    fn saying_nothing_names_no_concept_and_no_family() {
        for concept in paint::bank() {
            for text in [ABSTAINED, crate::describe::DEAD] {
                assert!(!has_phrase(text, concept.name()) && !has_phrase(text, concept.family()));
            }
        }
    }

    #[test]
    fn a_phrase_is_whole_words() {
        assert!(has_phrase("Rendered text", "text") && !has_phrase("a texture", "text"));
        assert!(has_phrase("horizontal stripes", "horizontal-stripes") && !has_phrase("stripes", "horizontal-stripes"));
    }
}
