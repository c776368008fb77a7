//! The search itself: many captions at once, token by token.

use super::decoder::{self, Encoded};
use super::lm;
use super::search::{Search, Strategy};
use super::speaker::Speaker;
use crate::exemplars::Compat;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

/// A caption that was followed to its end.
pub(super) struct Row {
    /// Without the start token; as long as the search went.
    pub tokens: Vec<i64>,
    /// What it was chosen by.
    pub score: f64,
    /// `log p(d|E)` to its first stop.
    pub likelihood: f64,
}

/// The captions of each unit of `features`, `[units, k, features]`, best first.
pub(super) fn rows(speaker: &Speaker<'_>, features: &Tensor, search: &Search) -> Result<Vec<Vec<Row>>> {
    let encoded = speaker.decoder.encode(features)?;
    match search.strategy {
        Strategy::Greedy => alone(speaker, &encoded, search, None),
        Strategy::Sample(seed) => alone(speaker, &encoded, search, Some(seed)),
        Strategy::Beam | Strategy::Rerank => beams(speaker, &encoded, search),
    }
}

/// The states of decoder and language model of some rows.
struct States {
    decoder: decoder::State,
    lm: Option<lm::State>,
}

impl States {
    fn select(&self, rows: &Tensor) -> States {
        States { decoder: self.decoder.select(rows), lm: self.lm.as_ref().map(|s| s.select(rows)) }
    }
}

fn begin(speaker: &Speaker<'_>, encoded: &Encoded, search: &Search) -> States {
    let lm = speaker.lm.filter(|_| search.mutual_information);
    States { decoder: speaker.decoder.begin(encoded), lm: lm.map(|lm| lm.begin(encoded.features.size()[0])) }
}

/// What one step gives, `[rows, tokens]`.
struct Step {
    /// What captions are chosen by.
    counts: Tensor,
    /// The log-likelihoods, where they are something else.
    likelihood: Option<Tensor>,
    states: States,
}

impl Step {
    fn likelihood(&self) -> &Tensor {
        self.likelihood.as_ref().unwrap_or(&self.counts)
    }
}

fn step(speaker: &Speaker<'_>, encoded: &Encoded, search: &Search, tokens: &Tensor, states: &States) -> Step {
    let (likelihood, decoder, _) = speaker.decoder.step(encoded, tokens, &states.decoder);
    match (speaker.lm, &states.lm) {
        (Some(lm), Some(before)) => {
            let (prior, after) = lm.step(tokens, before);
            let counts = &likelihood - prior * search.temperature;
            Step { counts, likelihood: Some(likelihood), states: States { decoder, lm: Some(after) } }
        }
        _ => Step { counts: likelihood, likelihood: None, states: States { decoder, lm: None } },
    }
}

/// One caption per unit: the likeliest token each time, or one that is drawn.
fn alone(speaker: &Speaker<'_>, encoded: &Encoded, search: &Search, seed: Option<u64>) -> Result<Vec<Vec<Row>>> {
    let units = encoded.features.size()[0];
    let (stop, official) = (speaker.indexer.stop(), search.compat == Compat::Official);
    let mut draws: Vec<fastrand::Rng> = match seed {
        Some(seed) => draws(encoded, seed)?,
        None => Vec::new(),
    };
    let mut rows: Vec<Row> = (0..units).map(|_| Row { tokens: Vec::new(), score: 0.0, likelihood: 0.0 }).collect();
    let mut tokens = Tensor::full([units], speaker.indexer.start(), (Kind::Int64, Device::Cpu));
    let mut states = begin(speaker, encoded, search);
    for _ in 0..search.length {
        let ended = |r: &Row| r.tokens.contains(&stop);
        if !official && rows.iter().all(ended) {
            break;
        }
        let next = step(speaker, encoded, search, &tokens, &states);
        let wanted = match draws.is_empty() {
            true => next.counts.shallow_clone(),
            false => &next.counts + gumbel(&mut draws, next.counts.size()[1]),
        };
        tokens = wanted.argmax(-1, false);
        let picked = |of: &Tensor| Vec::<f32>::try_from(&of.gather(1, &tokens.unsqueeze(1), false).squeeze_dim(1));
        let read = Error::torch("reading a step of the search");
        let (scores, likelihoods) =
            picked(&next.counts).and_then(|a| Ok((a, picked(next.likelihood())?))).map_err(read)?;
        let chosen: Vec<i64> = Vec::try_from(&tokens).map_err(Error::torch("reading tokens"))?;
        for (i, row) in rows.iter_mut().enumerate() {
            if official || !ended(row) {
                row.score += f64::from(scores[i]);
            }
            if !ended(row) {
                row.likelihood += f64::from(likelihoods[i]);
            }
            row.tokens.push(chosen[i]);
        }
        states = next.states;
    }
    Ok(rows.into_iter().map(|row| vec![row]).collect())
}

/// Randomness of each unit's own, which depends on its features and not on its place.
fn draws(encoded: &Encoded, seed: u64) -> Result<Vec<fastrand::Rng>> {
    let rows: Vec<Vec<f32>> =
        Vec::try_from(&encoded.features.flatten(1, -1)).map_err(Error::torch("reading features"))?;
    let of = |row: Vec<f32>| {
        let hash = blake3::hash(bytemuck::cast_slice(&row));
        let bytes = hash.as_bytes();
        fastrand::Rng::with_seed(seed ^ u64::from_le_bytes(std::array::from_fn(|i| bytes[i])))
    };
    Ok(rows.into_iter().map(of).collect())
}

/// The largest of log-probabilities plus this noise is a draw from them.
fn gumbel(draws: &mut [fastrand::Rng], tokens: i64) -> Tensor {
    let noise = |rng: &mut fastrand::Rng| {
        let uniform = rng.f64().max(f64::MIN_POSITIVE);
        -(-uniform.ln()).ln() as f32
    };
    let values: Vec<f32> =
        draws.iter_mut().flat_map(|rng| (0..tokens).map(|_| noise(rng)).collect::<Vec<_>>()).collect();
    Tensor::from_slice(&values).view([draws.len() as i64, tokens])
}

fn beams(speaker: &Speaker<'_>, encoded: &Encoded, search: &Search) -> Result<Vec<Vec<Row>>> {
    let (units, beam) = (encoded.features.size()[0], search.beam as i64);
    let (vocabulary, stop) = (speaker.decoder.sizes().tokens, speaker.indexer.stop());
    let start = Tensor::full([units], speaker.indexer.start(), (Kind::Int64, Device::Cpu));
    let first = step(speaker, encoded, search, &start, &begin(speaker, encoded, search));
    // The first tokens all differ.
    let (mut scores, at) = first.counts.topk(beam, -1, true, true);
    let mut likelihoods = first.likelihood.map(|l| l.gather(1, &at, false));
    let mut tokens = at.unsqueeze(2);
    let of_unit = Tensor::arange(units, (Kind::Int64, Device::Cpu)).unsqueeze(1);
    let mut states = first.states.select(&of_unit.expand([units, beam], false).flatten(0, -1));
    // An ended caption can only go on with another stop, which costs nothing.
    let ended_row = Tensor::full([vocabulary], f64::NEG_INFINITY, (Kind::Float, Device::Cpu));
    let _ = ended_row.get(stop).fill_(0.0);
    let still = Tensor::zeros([vocabulary], (Kind::Float, Device::Cpu));
    for _ in 1..search.length {
        let last = tokens.select(2, -1);
        let ended = last.eq(stop);
        let is = |t: Tensor| bool::try_from(t).unwrap_or(false);
        if is(ended.all()) {
            break;
        }
        let Step { counts, likelihood, states: next } = step(speaker, encoded, search, &last.flatten(0, -1), &states);
        let some_ended = is(ended.any());
        let running = ended.logical_not().unsqueeze(2);
        let grid = |values: Tensor, else_: &Tensor| {
            let values = values.view([units, beam, vocabulary]);
            if some_ended { values.where_self(&running, else_) } else { values }
        };
        let mut counts = grid(counts, &ended_row);
        let (best, at) = counts.g_add_(&scores.unsqueeze(2)).flatten(1, -1).topk(beam, -1, true, true);
        let back = at.divide_scalar_mode(vocabulary, "floor");
        let token = at.remainder(vocabulary);
        likelihoods = likelihoods.zip(likelihood).map(|(sums, likelihood)| {
            let here = grid(likelihood, &still).flatten(1, -1).gather(1, &at, false);
            sums.gather(1, &back, false) + here
        });
        scores = best;
        let length = tokens.size()[2];
        let history = tokens.gather(1, &back.unsqueeze(2).expand([units, beam, length], false), false);
        tokens = Tensor::cat(&[history, token.unsqueeze(2)], 2);
        states = next.select(&(back + &of_unit * beam).flatten(0, -1));
    }
    let likelihoods = likelihoods.unwrap_or_else(|| scores.shallow_clone());
    let during = || Error::torch("reading the beams");
    let length = tokens.size()[2] as usize;
    let tokens: Vec<i64> = Vec::try_from(&tokens.flatten(0, -1)).map_err(during())?;
    let scores: Vec<f32> = Vec::try_from(&scores.flatten(0, -1)).map_err(during())?;
    let likelihoods: Vec<f32> = Vec::try_from(&likelihoods.flatten(0, -1)).map_err(during())?;
    let mut rows = tokens.chunks(length).zip(scores).zip(likelihoods).map(|((tokens, score), likelihood)| Row {
        tokens: tokens.to_vec(),
        score: f64::from(score),
        likelihood: f64::from(likelihood),
    });
    Ok((0..units).map(|_| rows.by_ref().take(beam as usize).collect()).collect())
}
