//! From features to captions: what the search found, told by its numbers, best first.

use super::beam::{self, Row};
use super::search::{Search, Strategy};
use super::speaker::Speaker;
use crate::exemplars::Compat;
use crate::{Error, Result};
use tch::Tensor;

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

/// Units of one step: always as many, so that a unit's caption does not depend on its neighbours.
const GROUP: i64 = 4;

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
        search.validate(self.indexer.size(), self.lm.is_some())?;
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
}
