//! `p(d|E)`: how likely a caption is for a unit with these exemplars.

use super::lstm::{Cell, gated};
use super::weights::Weights;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// A decoder: an LSTM that looks at the exemplars' features with attention and a gate.
///
/// **Source:** `src/milan/decoders.py` of MILAN (Hernandez et al. 2022, arXiv 2201.11114), after Xu et al. 2015 (Show,
/// Attend and Tell, arXiv 1502.03044).
#[derive(Debug)]
pub struct Decoder {
    /// `[tokens, 4 hidden]`: what the gates get from a token, bias included.
    table: Tensor,
    /// `[features, 4 hidden]`: what they get from the features.
    context: Tensor,
    /// `[hidden, attention + features + 4 hidden]`: what query, gate and LSTM get from the hidden state, in one product.
    hidden: Tensor,
    hidden_bias: Tensor,
    key: (Tensor, Tensor),
    attend: (Tensor, Tensor),
    init_h: (Tensor, Tensor),
    init_c: (Tensor, Tensor),
    output: (Tensor, Tensor),
    sizes: Sizes,
}

/// The sizes of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Numbers per exemplar.
    pub features: i64,
    /// Of the LSTM's state.
    pub hidden: i64,
    /// Of queries and keys.
    pub attention: i64,
    /// Of a token's embedding.
    pub embedding: i64,
    /// Of the vocabulary, special tokens included.
    pub tokens: i64,
}

/// The exemplars of some units, with what is the same at every step.
pub(super) struct Encoded {
    /// `[units, k, features]`.
    pub features: Tensor,
    /// `[units, 1, k, attention]`.
    keys: Tensor,
}

/// The state after some tokens: `[rows, hidden]` each.
pub(super) struct State {
    pub h: Tensor,
    pub c: Tensor,
}

impl State {
    pub fn select(&self, rows: &Tensor) -> State {
        State { h: self.h.index_select(0, rows), c: self.c.index_select(0, rows) }
    }
}

impl Decoder {
    /// From tensors with the official names; `tokens` is the size of the vocabulary, special tokens included.
    ///
    /// # Errors
    /// [`Error::Unknown`] and [`Error::Shape`] for a weight that is missing or of another shape.
    pub fn new(tensors: &BTreeMap<String, Tensor>, tokens: usize) -> Result<Self> {
        let w = Weights { tensors, prefix: "" };
        let embedding = w.shape("embedding.weight", 2)?[1];
        let (hidden, features) = match w.shape("init_h.0.weight", 2)?.as_slice() {
            [h, f] => (*h, *f),
            _ => (0, 0),
        };
        let attention = w.shape("attend.query_to_hidden.weight", 2)?[0];
        let s = Sizes { features, hidden, attention, embedding, tokens: tokens as i64 };
        let linear = |name: &str, from: i64, to: i64| -> Result<(Tensor, Tensor)> {
            let weight = w.get(&format!("{name}.weight"), &[to, from])?.transpose(0, 1).contiguous();
            Ok((weight, w.get(&format!("{name}.bias"), &[to])?))
        };
        let lstm = Cell::new(&w, "lstm", "", embedding + features, hidden)?;
        let (query, gate) =
            (linear("attend.query_to_hidden", hidden, attention)?, linear("feature_gate.0", hidden, features)?);
        let words = w.get("embedding.weight", &[s.tokens, embedding])?;
        Ok(Self {
            table: words.matmul(&lstm.input.narrow(0, 0, embedding)) + &lstm.bias,
            context: lstm.input.narrow(0, embedding, features).contiguous(),
            hidden: Tensor::cat(&[&query.0, &gate.0, &lstm.hidden], 1),
            hidden_bias: Tensor::cat(&[&query.1, &gate.1, &lstm.bias.zeros_like()], 0),
            key: linear("attend.key_to_hidden", features, attention)?,
            attend: linear("attend.output.0", attention, 1)?,
            init_h: linear("init_h.0", features, hidden)?,
            init_c: linear("init_c.0", features, hidden)?,
            output: linear("output.1", hidden, s.tokens)?,
            sizes: s,
        })
    }

    /// The sizes.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Checks features, `[units, k, features]`, and projects the keys.
    pub(super) fn encode(&self, features: &Tensor) -> Result<Encoded> {
        if !matches!(features.size().as_slice(), [_, k, f] if *k > 0 && *f == self.sizes.features) {
            let expected = format!("[units, exemplars, {}], at least one exemplar", self.sizes.features);
            return Err(Error::Shape { what: "features of exemplars".into(), received: features.size(), expected });
        }
        let features = features.to_kind(Kind::Float).contiguous();
        let keys = (features.matmul(&self.key.0) + &self.key.1).unsqueeze(1);
        Ok(Encoded { features, keys })
    }

    /// Before any token, one row per unit.
    pub(super) fn begin(&self, encoded: &Encoded) -> State {
        let mean = encoded.features.mean_dim(1, false, Kind::Float);
        let init = |(weight, bias): &(Tensor, Tensor)| Tensor::addmm(bias, &mean, weight).tanh();
        State { h: init(&self.init_h), c: init(&self.init_c) }
    }

    /// One more token per row, `[units x beams]`, the beams of a unit side by side: log-probabilities of the next,
    /// `[rows, tokens]`, the new state, and the attention to each exemplar, `[rows, k]`.
    pub(super) fn step(&self, encoded: &Encoded, tokens: &Tensor, state: &State) -> (Tensor, State, Tensor) {
        let Sizes { features, hidden, attention, .. } = self.sizes;
        let (rows, units) = (state.h.size()[0], encoded.features.size()[0]);
        let beams = rows / units;
        let mixed = Tensor::addmm(&self.hidden_bias, &state.h, &self.hidden);
        // One query per beam against all keys of its unit.
        let query = mixed.narrow(1, 0, attention).reshape([units, beams, 1, attention]);
        let energy = (&encoded.keys + query).tanh_().matmul(&self.attend.0).squeeze_dim(-1) + &self.attend.1;
        let weights = energy.softmax(-1, Kind::Float);
        let mut seen = weights.bmm(&encoded.features).view([rows, features]);
        let seen = seen.multiply_(&mixed.narrow(1, attention, features).sigmoid());
        let mut gates = mixed.narrow(1, attention + features, 4 * hidden) + self.table.index_select(0, tokens);
        let gates = gates.addmm_(&seen, &self.context);
        let (h, c) = gated(&gates, &state.c);
        let logits = Tensor::addmm(&self.output.1, &h, &self.output.0);
        (logits.log_softmax(-1, Kind::Float), State { h, c }, weights.view([rows, -1]))
    }
}
