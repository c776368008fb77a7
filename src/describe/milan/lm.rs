//! `p(d)`: how likely a caption is whatever it describes.

use super::lstm::{Cell, gated};
use super::weights::Weights;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use tch::{Device, Kind, Tensor};

/// A language model: an LSTM of some layers over the tokens so far.
///
/// **Source:** `src/milan/lms.py` of MILAN (Hernandez et al. 2022, arXiv 2201.11114).
#[derive(Debug)]
pub struct LanguageModel {
    /// `[tokens, 4 hidden]`: what the first layer's gates get from a token, bias included.
    table: Tensor,
    layers: Vec<Cell>,
    hidden: i64,
    /// `[hidden, tokens]`.
    output: Tensor,
    bias: Tensor,
    tokens: i64,
}

/// Rows of one step: always as many, so that a caption's number does not depend on what else is scored.
const ROWS: usize = 50;

/// The state after some tokens: per layer `[rows, hidden]`.
#[derive(Debug)]
pub(super) struct State {
    h: Vec<Tensor>,
    c: Vec<Tensor>,
}

impl State {
    /// The rows `rows`, in this order.
    pub fn select(&self, rows: &Tensor) -> State {
        let pick = |list: &[Tensor]| list.iter().map(|t| t.index_select(0, rows)).collect();
        State { h: pick(&self.h), c: pick(&self.c) }
    }
}

impl LanguageModel {
    /// From tensors with the official names behind `prefix` (`lm.`); `tokens` is the size of the vocabulary, special tokens
    /// included.
    ///
    /// # Errors
    /// [`Error::Unknown`] and [`Error::Shape`] for a weight that is missing or of another shape.
    pub fn new(tensors: &BTreeMap<String, Tensor>, prefix: &str, tokens: usize) -> Result<Self> {
        let weights = Weights { tensors, prefix };
        let tokens = tokens as i64;
        let width = weights.shape("embedding.weight", 2)?[1];
        let hidden = weights.shape("lstm.weight_hh_l0", 2)?[1];
        let embedding = weights.get("embedding.weight", &[tokens, width])?;
        let mut layers = Vec::new();
        while weights.has(&format!("lstm.weight_hh_l{}", layers.len())) || layers.is_empty() {
            let input = if layers.is_empty() { width } else { hidden };
            layers.push(Cell::new(&weights, "lstm", &format!("_l{}", layers.len()), input, hidden)?);
        }
        let output = weights.get("output.0.weight", &[tokens, hidden])?.transpose(0, 1).contiguous();
        let bias = weights.get("output.0.bias", &[tokens])?;
        let table = embedding.matmul(&layers[0].input) + &layers[0].bias;
        Ok(Self { table, layers, hidden, output, bias, tokens })
    }

    /// Before any token.
    pub(super) fn begin(&self, rows: i64) -> State {
        let zeros = || Tensor::zeros([rows, self.hidden], (Kind::Float, Device::Cpu));
        State { h: self.layers.iter().map(|_| zeros()).collect(), c: self.layers.iter().map(|_| zeros()).collect() }
    }

    /// One more token per row, `[rows]`: the log-probabilities of the next, `[rows, tokens]`.
    pub(super) fn step(&self, tokens: &Tensor, state: &State) -> (Tensor, State) {
        let mut next = State { h: Vec::new(), c: Vec::new() };
        let mut below: Option<Tensor> = None;
        for (i, cell) in self.layers.iter().enumerate() {
            let from_below = match &below {
                None => self.table.index_select(0, tokens),
                Some(h) => Tensor::addmm(&cell.bias, h, &cell.input),
            };
            let gates = Tensor::addmm(&from_below, &state.h[i], &cell.hidden);
            let (h, c) = gated(&gates, &state.c[i]);
            below = Some(h.shallow_clone());
            next.h.push(h);
            next.c.push(c);
        }
        let logits = Tensor::addmm(&self.bias, &below.unwrap_or_default(), &self.output);
        (logits.log_softmax(-1, Kind::Float), next)
    }

    /// The log-probability of every token after every prefix, for sequences of one length.
    ///
    /// **Shapes:** `[n, length]` in, `[n, length, tokens]` out; entry `t` is the distribution of token `t + 1`.
    /// **Errors:** [`Error::Invalid`] for a token that the vocabulary does not have.
    pub fn predictions(&self, sequences: &Tensor) -> Result<Tensor> {
        self.check(sequences)?;
        let size = sequences.size();
        let mut state = self.begin(size[0]);
        let mut all = Vec::new();
        tch::no_grad(|| {
            for t in 0..size[1] {
                let (predictions, next) = self.step(&sequences.select(1, t), &state);
                all.push(predictions);
                state = next;
            }
        });
        Ok(Tensor::stack(&all, 1))
    }

    fn check(&self, sequences: &Tensor) -> Result<()> {
        if sequences.dim() != 2 || sequences.numel() == 0 {
            let expected = "[n, length], not empty".to_string();
            return Err(Error::Shape { what: "token sequences".into(), received: sequences.size(), expected });
        }
        let (least, most) = (sequences.min().int64_value(&[]), sequences.max().int64_value(&[]));
        if least < 0 || most >= self.tokens {
            return Err(Error::invalid(
                "token",
                if least < 0 { least } else { most },
                format!("0 to {}", self.tokens - 1),
            ));
        }
        Ok(())
    }

    /// `log p(d)` of sequences that begin with the start token: up to and with their first stop, or to their end.
    ///
    /// What is common to the beginnings of several sequences is computed once. `official` adds the term after the first
    /// stop, as the official code does: it keeps one term too many, which depends on what stands behind the stop.
    ///
    /// **Errors:** [`Error::Invalid`] for a token that the vocabulary does not have, and for an empty sequence.
    pub fn scores(&self, sequences: &[Vec<i64>], stop: i64, official: bool) -> Result<Vec<f64>> {
        if let Some(token) = sequences.iter().flatten().find(|t| !(0..self.tokens).contains(*t)) {
            return Err(Error::invalid("token", token, format!("0 to {}", self.tokens - 1)));
        }
        if sequences.iter().any(Vec::is_empty) {
            return Err(Error::invalid("token sequence", "no token", "at least the start token"));
        }
        let mut scores = vec![0f64; sequences.len()];
        // How many terms count: t = 0 .. terms of log p(x[t + 1] | x[0 ..= t]).
        let terms = |s: &[i64]| {
            let end = s.iter().position(|t| *t == stop).map_or(s.len(), |at| at + usize::from(official));
            end.min(s.len() - 1)
        };
        let longest = sequences.iter().map(|s| terms(s)).max().unwrap_or(0);
        // Distinct prefixes of the step before, and which of them each sequence has.
        let mut place: Vec<usize> = vec![0; sequences.len()];
        let mut state: Option<State> = None;
        tch::no_grad(|| {
            for t in 0..longest {
                let mut known: HashMap<(usize, i64), usize> = HashMap::new();
                let (mut parents, mut tokens) = (Vec::new(), Vec::new());
                let live: Vec<usize> = (0..sequences.len()).filter(|i| t < terms(&sequences[*i])).collect();
                for &i in &live {
                    let key = (place[i], sequences[i][t]);
                    place[i] = *known.entry(key).or_insert_with(|| {
                        parents.push(key.0 as i64);
                        tokens.push(key.1);
                        tokens.len() - 1
                    });
                }
                let (predictions, next) = self.step_in_blocks(&parents, &tokens, state.as_ref());
                state = Some(next);
                let rows: Vec<i64> = live.iter().map(|i| place[*i] as i64).collect();
                let targets: Vec<i64> = live.iter().map(|i| sequences[*i][t + 1]).collect();
                let picked = predictions.index_select(0, &Tensor::from_slice(&rows)).gather(
                    1,
                    &Tensor::from_slice(&targets).unsqueeze(1),
                    false,
                );
                let picked: Vec<f32> = Vec::try_from(&picked.flatten(0, -1)).unwrap_or_default();
                live.iter().zip(picked).for_each(|(i, x)| scores[*i] += f64::from(x));
            }
        });
        Ok(scores)
    }

    /// [`step`](Self::step) in blocks of equal size.
    fn step_in_blocks(&self, parents: &[i64], tokens: &[i64], state: Option<&State>) -> (Tensor, State) {
        let (mut predictions, mut parts) = (Vec::new(), Vec::new());
        for (parents, tokens) in parents.chunks(ROWS).zip(tokens.chunks(ROWS)) {
            let full = |list: &[i64]| {
                let mut list = list.to_vec();
                list.resize(ROWS, 0);
                Tensor::from_slice(&list)
            };
            let before = state.map_or_else(|| self.begin(ROWS as i64), |s| s.select(&full(parents)));
            let (p, next) = self.step(&full(tokens), &before);
            predictions.push(p);
            parts.push(next);
        }
        let layers = self.layers.len();
        let join = |f: &dyn Fn(&State) -> &Vec<Tensor>| {
            (0..layers).map(|i| Tensor::cat(&parts.iter().map(|p| &f(p)[i]).collect::<Vec<_>>(), 0)).collect()
        };
        (Tensor::cat(&predictions, 0), State { h: join(&|s| &s.h), c: join(&|s| &s.c) })
    }
}
