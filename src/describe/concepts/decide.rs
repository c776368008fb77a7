//! From numbers to words.

use super::measure::Response;
use super::{ConceptEvidence, Options, score};
use crate::describe::{Alternative, Description, Status};
use crate::probe::paint::Concept;

const ABSTAINED: &str = "nothing in the concept bank";
const DEAD: &str = "never active (dead)";
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

/// What is said of a unit that never varies.
pub(super) fn dead() -> Description {
    nothing(DEAD, Status::Dead)
}

/// What is said of a live unit.
pub(super) fn describe(bank: &[Concept], response: &Response, options: &Options) -> Description {
    let mut evidence = score::evidence(bank, response, options);
    let sets = score::sets(response) as f64;
    let chosen = named(bank, response, &evidence, options).or_else(|| family(bank, response, &evidence, options));
    // Stable: equals stay in the order of the bank.
    let mut order: Vec<(&Concept, f64)> = bank.iter().zip(evidence.iter().map(|e| e.share)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let said = chosen.as_ref().map(|c| c.text.as_str());
    let alternatives = order
        .iter()
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
    Description { alternatives, evidence, ..description }
}

/// The concept with the largest share that passes every threshold.
fn named(bank: &[Concept], response: &Response, evidence: &[ConceptEvidence], options: &Options) -> Option<Candidate> {
    let t = &options.thresholds;
    let (i, (concept, best)) = best(bank.iter().zip(evidence).enumerate(), |(_, (_, e))| e.share)?;
    let passes = best.share >= t.share && excites(best, options);
    let rivals = |k: usize| bank.get(k).is_none_or(|c| c.family() != concept.family());
    let passes = passes && score::against_rivals(response, i, rivals) >= t.rival_auc;
    passes.then(|| Candidate { text: words(concept), share: best.share, sets: 1 })
}

/// The family whose concepts together have the largest share, if at least two of them excite the unit and stand out
/// from everything else.
fn family(bank: &[Concept], response: &Response, evidence: &[ConceptEvidence], options: &Options) -> Option<Candidate> {
    let t = &options.thresholds;
    let mut families: Vec<&str> = Vec::new();
    for concept in bank {
        if !families.contains(&concept.family()) {
            families.push(concept.family());
        }
    }
    let members = |family: &str| -> Vec<(usize, &ConceptEvidence)> {
        bank.iter()
            .zip(evidence)
            .enumerate()
            .filter(|(_, (c, _))| c.family() == family)
            .map(|(i, (_, e))| (i, e))
            .collect()
    };
    let share = |family: &str| members(family).iter().map(|(_, e)| e.share).sum::<f64>();
    let family = best(families.iter().copied(), |f| share(f))?;
    let exciting: Vec<usize> =
        members(family).into_iter().filter(|(_, e)| excites(e, options)).map(|(i, _)| i).collect();
    let rivals = |k: usize| bank.get(k).is_none_or(|c| c.family() != family);
    let stands_out = |&i: &usize| score::against_rivals(response, i, rivals) >= t.rival_auc;
    let passes = share(family) >= t.family_share && exciting.len() >= 2 && exciting.iter().all(stands_out);
    passes.then(|| Candidate { text: family.to_string(), share: share(family), sets: members(family).len() })
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

fn excites(e: &ConceptEvidence, options: &Options) -> bool {
    e.auc_low >= options.thresholds.auc_low && e.effect >= options.thresholds.effect
}

fn nothing(text: &str, status: Status) -> Description {
    Description {
        text: text.to_string(),
        status,
        score: 0.0,
        log_likelihood: 0.0,
        log_prior: 0.0,
        alternatives: Vec::new(),
        evidence: Vec::new(),
    }
}

/// The concept's description, with its name where the description does not have it: policies look for names.
fn words(concept: &Concept) -> String {
    if has_phrase(concept.description(), concept.name()) {
        concept.description().to_string()
    } else {
        format!("{} ({})", concept.description(), concept.name())
    }
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
            for text in [ABSTAINED, DEAD] {
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
