//! Decoder, language model and vocabulary together, and what they say of given texts.

use super::decoder::Decoder;
use super::indexer::{Flags, Indexer};
use super::lm::LanguageModel;
use crate::{Error, Result};
use tch::{Kind, Tensor};

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

impl Speaker<'_> {
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
        let flags = Flags { start: false, stop: true, pad: true, length: None, ..self.indexer.flags().clone() };
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
