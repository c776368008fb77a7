//! From features to captions: which captions are considered, and which wins.

use super::beam::{self, Row};
use super::decoder::Decoder;
use super::indexer::Indexer;
use super::lm::LanguageModel;
use crate::exemplars::Compat;
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// How a caption is searched for.
#[derive(Debug, Clone, PartialEq)]
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

/// A caption with what speaks for it. Natural logarithms.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// As a sentence.
    pub text: String,
    /// Tokens, up to and with the first stop; with [`Compat::Official`] as long as the search went.
    pub tokens: Vec<i64>,
    /// What it was chosen by.
    pub score: f64,
    /// `log p(d|E)`.
    pub log_likelihood: f64,
    /// `log p(d)`; 0 without a language model.
    pub log_prior: f64,
}

/// What was found for one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Captions {
    /// The winner.
    pub best: Caption,
    /// The others that were considered to the end, best first.
    pub alternatives: Vec<Caption>,
}

/// Decoder, language model and vocabulary together.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// `p(d|E)`.
    pub decoder: &'a Decoder,
    /// `p(d)`.
    pub lm: Option<&'a LanguageModel>,
    /// The vocabulary.
    pub indexer: &'a Indexer,
}

/// The distribution after each token of given texts.
#[derive(Debug)]
pub struct Forced {
    /// `[n, length, tokens]`: log-probabilities, with mutual information less λ times those of the language model.
    pub predictions: Tensor,
    /// `[n, length, k]`: the weight of each exemplar.
    pub attentions: Tensor,
    /// `[n]`: of the targets, summed.
    pub scores: Tensor,
}

/// Units of one step: always as many, so that a unit's caption does not depend on its neighbours.
const GROUP: i64 = 4;

impl Search {
    pub(super) fn validate(&self, speaker: &Speaker<'_>) -> Result<()> {
        let size = speaker.indexer.size();
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
        if needs && speaker.lm.is_none() {
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

impl Speaker<'_> {
    /// Captions for units with these features.
    ///
    /// **Shapes:** `features` `[units, k, features]`.
    ///
    /// **Source:** Hernandez et al. 2022, arXiv 2201.11114, section 3; the beam search is that of allennlp 2.10. Differs by
    /// default: the language model's sum ends at the first stop, so that a caption does not depend on the other units of
    /// its batch.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a search that makes no sense and for features that are not finite; [`Error::Shape`] for
    /// others.
    pub fn captions(&self, features: &Tensor, search: &Search) -> Result<Vec<Captions>> {
        search.validate(self)?;
        let units = features.size().first().copied().unwrap_or(0);
        if units == 0 {
            return Ok(Vec::new());
        }
        if !bool::try_from(features.isfinite().all()).unwrap_or(false) {
            return Err(Error::invalid("features of exemplars", "a NaN or an infinity", "finite numbers"));
        }
        tch::no_grad(|| {
            if search.compat == Compat::Official {
                return self.ranked(beam::rows(self, features, search)?, search);
            }
            let mut all = Vec::with_capacity(units as usize);
            for start in (0..units).step_by(GROUP as usize) {
                let count = GROUP.min(units - start);
                let last = features.narrow(0, start + count - 1, 1);
                let group = features.narrow(0, start, count);
                let filler = last.repeat([GROUP - count, 1, 1]);
                let group = Tensor::cat(&[group, filler], 0);
                let mut rows = beam::rows(self, &group, search)?;
                rows.truncate(count as usize);
                all.extend(self.ranked(rows, search)?);
            }
            Ok(all)
        })
    }

    /// The captions of each unit, best first.
    fn ranked(&self, rows: Vec<Vec<Row>>, search: &Search) -> Result<Vec<Captions>> {
        let official = search.compat == Compat::Official;
        let (start, stop) = (self.indexer.start(), self.indexer.stop());
        let whole = |r: &Row| std::iter::once(start).chain(r.tokens.iter().copied()).collect();
        let mut priors = match self.lm {
            Some(lm) => lm.scores(&rows.iter().flatten().map(whole).collect::<Vec<Vec<i64>>>(), stop, official)?,
            None => vec![0.0; rows.iter().map(Vec::len).sum()],
        }
        .into_iter();
        let caption = |(mut row, log_prior): (Row, f64)| {
            let text = self.indexer.reconstruct(&row.tokens);
            if !official && let Some(end) = row.tokens.iter().position(|t| *t == stop) {
                row.tokens.truncate(end + 1);
            }
            let log_likelihood = row.likelihood;
            let score = match search.strategy {
                Strategy::Rerank => log_likelihood - search.temperature * log_prior,
                _ => row.score,
            };
            Caption { text, tokens: row.tokens, score, log_likelihood, log_prior }
        };
        let of_unit = |rows: Vec<Row>| {
            let count = rows.len();
            let mut captions: Vec<Caption> = rows.into_iter().zip(priors.by_ref().take(count)).map(caption).collect();
            // Stable: of equals, the likelier stays first.
            captions.sort_by(|a, b| b.score.total_cmp(&a.score));
            let best = captions.remove(0);
            Captions { best, alternatives: captions }
        };
        Ok(rows.into_iter().map(of_unit).collect())
    }

    /// What is predicted after each token of given texts, one per unit.
    ///
    /// **Shapes:** `features` `[n, k, features]`, `targets` `[n, length]`, without the start token. `mutual_information` is λ.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Invalid`] for other shapes and unknown tokens.
    pub fn forced(&self, features: &Tensor, targets: &Tensor, mutual_information: Option<f64>) -> Result<Forced> {
        let encoded = self.decoder.encode(features)?;
        let size = targets.size();
        let n = features.size()[0];
        if size.len() != 2 || size[0] != n || size[1] == 0 {
            let expected = format!("[{n}, length], at least one token");
            return Err(Error::Shape { what: "target tokens".into(), received: size, expected });
        }
        let (least, most) = (targets.min().int64_value(&[]), targets.max().int64_value(&[]));
        if least < 0 || most >= self.decoder.sizes().tokens {
            return Err(Error::invalid("target token", most, format!("0 to {}", self.decoder.sizes().tokens - 1)));
        }
        let lm = match (mutual_information, self.lm) {
            (Some(lambda), Some(lm)) => Some((lm, lambda)),
            (Some(_), None) => {
                return Err(Error::invalid("mutual information", "no language model", "a checkpoint with one"));
            }
            (None, _) => None,
        };
        tch::no_grad(|| {
            let mut tokens = Tensor::full([n], self.indexer.start(), (Kind::Int64, tch::Device::Cpu));
            let mut state = self.decoder.begin(&encoded);
            let mut prior = lm.map(|(lm, _)| lm.begin(n));
            let (mut predictions, mut attentions) = (Vec::new(), Vec::new());
            for t in 0..size[1] {
                let (mut here, next, attention) = self.decoder.step(&encoded, &tokens, &state);
                state = next;
                if let (Some((lm, lambda)), Some(before)) = (lm, &prior) {
                    let (p, next) = lm.step(&tokens, before);
                    here -= p * lambda;
                    prior = Some(next);
                }
                predictions.push(here);
                attentions.push(attention);
                tokens = targets.select(1, t);
            }
            let predictions = Tensor::stack(&predictions, 1);
            let scores = predictions.gather(2, &targets.unsqueeze(2), false).squeeze_dim(2).sum_dim_intlist(
                1,
                false,
                Kind::Float,
            );
            Ok(Forced { predictions, attentions: Tensor::stack(&attentions, 1), scores })
        })
    }

    /// `log p(d|E)` of texts: of their words and one stop. One text per unit, or several for one unit.
    ///
    /// **Shapes:** `features` `[texts, k, features]` or `[1, k, features]`. `mutual_information` is λ: each word then counts
    /// against the language model.
    ///
    /// # Errors
    /// As [`forced`](Self::forced).
    pub fn score<S: AsRef<str>>(
        &self,
        texts: &[S],
        features: &Tensor,
        mutual_information: Option<f64>,
    ) -> Result<Vec<f64>> {
        let flags = super::Flags { start: false, stop: true, pad: true, length: None, ..self.indexer.flags().clone() };
        let ids = self.indexer.with_flags(flags).index(texts);
        let n = texts.len() as i64;
        let length = ids.first().map_or(0, Vec::len) as i64;
        let targets = Tensor::from_slice(&ids.concat()).view([n, length]);
        let features = if features.size()[0] == 1 && n != 1 {
            features.expand([n, -1, -1], false)
        } else {
            features.shallow_clone()
        };
        let forced = self.forced(&features, &targets, mutual_information)?;
        let picked = forced.predictions.gather(2, &targets.unsqueeze(2), false).squeeze_dim(2);
        let scores = (picked * targets.not_equal(self.indexer.pad())).sum_dim_intlist(1, false, Kind::Double);
        Vec::try_from(&scores).map_err(Error::torch("reading scores"))
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
