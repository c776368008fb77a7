//! How captions are searched for.

use crate::exemplars::Compat;
use crate::{Error, Result};

/// How a caption is searched for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Search {
    /// Which captions are considered.
    pub strategy: Strategy,
    /// Whether every step already counts against the language model, `log p(w|E) - λ log p(w)`: MILAN's "MI" decoding.
    /// Favours long repetitions; [`Strategy::Rerank`] does without.
    pub mutual_information: bool,
    /// Captions that are followed at once: 1 to the size of the vocabulary.
    pub beam: usize,
    /// Longest caption, in tokens: 1 to 1000.
    pub length: usize,
    /// λ: how much the language model counts.
    pub temperature: f64,
    /// Whether to follow the official code where it has defects: one term too many of the language model, which depends
    /// on the units that share a batch; greedy scores that go on behind the stop.
    pub compat: Compat,
}

/// What is asked of a search. What is `None` is as the checkpoint has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchOptions {
    /// See [`Search::strategy`].
    pub strategy: Option<Strategy>,
    /// See [`Search::mutual_information`].
    pub mutual_information: Option<bool>,
    /// See [`Search::beam`].
    pub beam: Option<usize>,
    /// See [`Search::length`].
    pub length: Option<usize>,
    /// See [`Search::temperature`].
    pub temperature: Option<f64>,
}

impl SearchOptions {
    /// The search that is meant where `otherwise` is the checkpoint's.
    pub fn or(&self, otherwise: Search) -> Search {
        Search {
            strategy: self.strategy.unwrap_or(otherwise.strategy),
            mutual_information: self.mutual_information.unwrap_or(otherwise.mutual_information),
            beam: self.beam.unwrap_or(otherwise.beam),
            length: self.length.unwrap_or(otherwise.length),
            temperature: self.temperature.unwrap_or(otherwise.temperature),
            compat: otherwise.compat,
        }
    }
}

/// All of it but [`Search::compat`], which [`Options::compat`](super::Options::compat) says.
impl From<Search> for SearchOptions {
    fn from(search: Search) -> Self {
        Self {
            strategy: Some(search.strategy),
            mutual_information: Some(search.mutual_information),
            beam: Some(search.beam),
            length: Some(search.length),
            temperature: Some(search.temperature),
        }
    }
}

/// Which captions are considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The likeliest token at each step.
    Greedy,
    /// A token drawn by its probability at each step, from this seed.
    Sample(u64),
    /// The likeliest captions of a beam search; without [`Search::mutual_information`] the paper's baseline.
    Beam,
    /// Those of a beam search by likelihood, reranked by `log p(d|E) - λ log p(d)`: MILAN's own.
    Rerank,
}

impl Default for Search {
    /// As in the paper: beam 50, at most 15 tokens, reranked with λ = 0.2.
    fn default() -> Self {
        Self {
            strategy: Strategy::Rerank,
            mutual_information: false,
            beam: 50,
            length: 15,
            temperature: 0.2,
            compat: Compat::Fixed,
        }
    }
}

impl Search {
    /// Whether it makes sense with a vocabulary of `size` tokens, and with or without a language model.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming what does not.
    pub(super) fn validate(&self, size: usize, language_model: bool) -> Result<()> {
        if !(1..=size).contains(&self.beam) {
            return Err(Error::invalid("beam size", self.beam, format!("1 to {size}, the size of the vocabulary")));
        }
        if !(1..=1000).contains(&self.length) {
            return Err(Error::invalid("length of a caption", self.length, "1 to 1000"));
        }
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::invalid("temperature (λ)", self.temperature, "0 or more"));
        }
        let needs = self.mutual_information || self.strategy == Strategy::Rerank;
        if needs && !language_model {
            return Err(Error::invalid(
                "search",
                "reranking or mutual information",
                "a checkpoint with a language model",
            ));
        }
        if self.mutual_information && self.strategy == Strategy::Rerank {
            return Err(Error::invalid("search", "reranking with mutual information at each step", "one of the two"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_as_it_was() {
        let own = Search { beam: 9, length: 6, compat: Compat::Official, ..Search::default() };
        assert_eq!(SearchOptions::default().or(own.clone()), own);
        let asked = SearchOptions { beam: Some(2), temperature: Some(0.5), ..SearchOptions::default() };
        assert_eq!(asked.or(own.clone()), Search { beam: 2, temperature: 0.5, ..own.clone() });
        let other = Search { strategy: Strategy::Sample(3), mutual_information: true, ..Search::default() };
        assert_eq!(SearchOptions::from(other.clone()).or(own), Search { compat: Compat::Official, ..other });
    }
}
