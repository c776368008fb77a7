//! From numbers to words.

use super::Thresholds;
use crate::ConceptName;
use crate::describe::{Alternative, Description, Status};
use crate::evidence::ConceptEvidence;

const ABSTAINED: &str = "nothing in the concept bank";
const ALTERNATIVES: usize = 3;

/// Something that can be said.
#[derive(Debug, Clone)]
struct Candidate {
    text: String,
    share: f64,
    /// Of how many sets.
    sets: usize,
}

/// What is known about a unit.
struct Known<'a> {
    bank: &'a [ConceptName],
    thresholds: &'a Thresholds,
    /// Per concept of the bank; `None` where there is no evidence.
    evidence: Vec<Option<&'a ConceptEvidence>>,
    /// The shares of sets that have no name.
    rivals: Vec<f64>,
}

impl Known<'_> {
    fn share(&self, i: usize) -> f64 {
        self.evidence.get(i).copied().flatten().and_then(|e| e.share).unwrap_or(0.0)
    }
}

/// What is said of a live unit, by all evidence of one source.
pub(super) fn describe(bank: &[ConceptName], all: &[&ConceptEvidence], thresholds: &Thresholds) -> Description {
    let about = |name: &ConceptName| all.iter().copied().find(|e| e.concept == name.name);
    let unnamed = |e: &&&ConceptEvidence| !bank.iter().any(|c| c.name == e.concept);
    let known = Known {
        bank,
        thresholds,
        evidence: bank.iter().map(about).collect(),
        rivals: all.iter().filter(unnamed).filter_map(|e| e.share).collect(),
    };
    let sets = (bank.len() + known.rivals.len()) as f64;
    let chosen = named(&known).or_else(|| family(&known));
    // Stable: equals stay in the order of the bank.
    let mut order: Vec<usize> = (0..bank.len()).collect();
    order.sort_by(|a, b| known.share(*b).total_cmp(&known.share(*a)));
    let said = chosen.as_ref().map(|c| c.text.as_str());
    let alternatives = order
        .into_iter()
        // A concept without a share has no score: its logarithm is not a number that reports can hold.
        .filter(|i| known.share(*i) > 0.0)
        .map(|i| Alternative { text: words(&bank[i]), score: (known.share(i) * sets).ln() })
        .filter(|a| said != Some(a.text.as_str()))
        .take(ALTERNATIVES)
        .collect();
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
    Description { alternatives, ..description }
}

/// The concept with the largest share, if it passes every threshold.
fn named(known: &Known<'_>) -> Option<Candidate> {
    let i = best(0..known.bank.len(), |i| known.share(*i))?;
    let (concept, share) = (&known.bank[i], known.share(i));
    let passes = share > 0.0
        && share >= known.thresholds.share
        && excites(known, i)
        && stands_out(known, share, &concept.family);
    passes.then(|| Candidate { text: words(concept), share, sets: 1 })
}

/// The family with the largest share of its concepts together, if it passes and at least two of them excite the unit.
fn family(known: &Known<'_>) -> Option<Candidate> {
    let members =
        |family: &str| -> Vec<usize> { (0..known.bank.len()).filter(|i| known.bank[*i].family == family).collect() };
    let share = |family: &str| members(family).into_iter().map(|i| known.share(i)).sum::<f64>();
    let family = best(known.bank.iter().map(|c| c.family.as_str()), |f| share(f))?;
    let (members, share) = (members(family), share(family));
    let passes = share > 0.0
        && share >= known.thresholds.family_share
        && members.iter().filter(|i| excites(known, **i)).count() >= 2
        && stands_out(known, share, family);
    passes.then(|| Candidate { text: family.to_string(), share, sets: members.len() })
}

/// Whether no set outside the family (those without a name included) comes near this share; more than half of all stands
/// out by itself.
fn stands_out(known: &Known<'_>, share: f64, family: &str) -> bool {
    let others = (0..known.bank.len()).filter(|i| known.bank[*i].family != family).map(|i| known.share(i));
    let rival = others.chain(known.rivals.iter().copied()).fold(0.0, f64::max);
    share > 0.5 || share >= known.thresholds.margin * rival
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

fn excites(known: &Known<'_>, i: usize) -> bool {
    let Some(e) = known.evidence.get(i).copied().flatten() else { return false };
    e.auc_low.is_some_and(|low| low >= known.thresholds.auc_low)
        && e.effect.is_some_and(|effect| effect >= known.thresholds.effect)
}

fn nothing(text: &str, status: Status) -> Description {
    Description { status, ..Description::words(text) }
}

/// The concept's description, with its name where the description does not have it: policies look for names.
fn words(concept: &ConceptName) -> String {
    if has_phrase(&concept.description, &concept.name) {
        concept.description.clone()
    } else {
        format!("{} ({})", concept.description, concept.name)
    }
}

/// Everything that [`describe`] can say of a unit, sorted.
pub(super) fn sayings(bank: &[ConceptName]) -> Vec<String> {
    let mut all: Vec<String> = bank.iter().flat_map(|c| [words(c), c.family.clone()]).collect();
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
            let text = words(concept.named());
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
