//! What a traced pass computes as in training: dropout, statistics of the batch, random numbers.
//!
//! A file that was traced before `model.eval()` trains for ever: its numbers are random, and what it says of an image
//! depends on the others in its batch. The operators of the pass show it.

use super::{Graph, Op, Operand, ValueId, names};
use std::collections::BTreeSet;
use std::fmt;

/// So many places of a kind are named.
const NAMED: usize = 3;

/// What is computed as in training, or at random.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Training {
    /// Where values are dropped at random: `after `fc1``.
    pub dropout: Vec<String>,
    /// Normalisations that take statistics of the batch though they have running ones.
    pub batch_statistics: Vec<String>,
    /// Normalisations that have no running statistics, and so take those of the batch in evaluation mode too.
    pub no_running_statistics: Vec<String>,
    /// Other random numbers (stochastic depth, or a model that draws them by design): `bernoulli after `layer1``.
    pub random: Vec<String>,
}

impl Graph {
    /// What the traced pass computes as in training.
    pub fn training(&self) -> Training {
        let mut found = Training::default();
        for (i, op) in self.ops.iter().enumerate() {
            match mode(op) {
                Mode::Evaluation => {}
                Mode::Dropout => found.dropout.push(self.near(i)),
                Mode::BatchStatistics => found.batch_statistics.push(self.normalisation(i)),
                Mode::NoRunningStatistics => found.no_running_statistics.push(self.normalisation(i)),
                Mode::Random => found.random.push(format!("{} {}", op.name, self.near(i))),
            }
        }
        for places in
            [&mut found.dropout, &mut found.batch_statistics, &mut found.no_running_statistics, &mut found.random]
        {
            let mut seen = BTreeSet::new();
            places.retain(|place| seen.insert(place.clone()));
        }
        found
    }

    /// The operators of the pass that are quantised, by name: their weights are packed, and cannot be read or edited.
    pub fn quantised(&self) -> Vec<&str> {
        self.ops.iter().map(|op| op.aten.as_str()).filter(|name| name.starts_with("quantized::")).collect()
    }

    /// The module of a normalisation, or where it is.
    fn normalisation(&self, op: usize) -> String {
        self.module(op).map_or_else(|| self.near(op), |module| format!("`{module}`"))
    }

    fn module(&self, op: usize) -> Option<&str> {
        let named = |(p, _): (usize, bool)| {
            let name = self.parameters[p].as_str();
            match names::module_of(name) {
                // A constant of the code: it says nothing of the place.
                "" if p >= self.named() => None,
                "" => Some(name),
                module => Some(module),
            }
        };
        self.parameters_of(op).find_map(named)
    }

    /// Behind which module an operator without parameters lies, or in front of which.
    fn near(&self, op: usize) -> String {
        let (mut open, mut seen) = (vec![op], BTreeSet::new());
        let mut later: Vec<usize> = Vec::new();
        loop {
            while let Some(at) = open.pop() {
                if let Some(module) = self.module(at) {
                    return format!("after `{module}`");
                }
                let before = |v: ValueId| self.producer(v);
                open.extend(self.data_inputs(at).filter_map(before).filter(|o| seen.insert(*o)));
                later.extend(self.ops[at].outputs.iter().flat_map(|v| self.consumers(*v)).filter(|o| *o > at));
            }
            // It follows no module: then what reads it follows one, or is one.
            let Some(next) = later.iter().copied().filter(|o| !seen.contains(o)).min() else {
                return "on the input".to_string();
            };
            if let Some(module) = self.module(next) {
                return format!("before `{module}`");
            }
            seen.insert(next);
            later.retain(|o| *o != next);
            open.push(next);
        }
    }
}

/// How an operator computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Evaluation,
    Dropout,
    BatchStatistics,
    NoRunningStatistics,
    Random,
}

fn mode(op: &Op) -> Mode {
    let flag = |i: usize| op.inputs.get(i) == Some(&Operand::Bool(true));
    let number = || op.inputs.iter().position(|o| matches!(o, Operand::Float(_)));
    let above_zero = |i: usize| matches!(op.inputs.get(i), Some(Operand::Float(p)) if *p > 0.0);
    let yes = |condition: bool, mode: Mode| if condition { mode } else { Mode::Evaluation };
    match op.name.as_str() {
        // (x, p, train)
        "dropout" | "feature_dropout" | "alpha_dropout" | "feature_alpha_dropout" => {
            yes(above_zero(1) && flag(2), Mode::Dropout)
        }
        // (x, p, train or nothing)
        "native_dropout" => yes(above_zero(1) && op.inputs.get(2) != Some(&Operand::Bool(false)), Mode::Dropout),
        "fused_dropout" => Mode::Dropout,
        // (…, dropout, …)
        name if name.starts_with("scaled_dot_product") => yes(number().is_some_and(above_zero), Mode::Dropout),
        // (…, layers, dropout, train, …)
        "lstm" | "gru" | "rnn_tanh" | "rnn_relu" => {
            let layered = |at: usize| matches!(op.inputs.get(at - 1), Some(Operand::Int(layers)) if *layers > 1);
            yes(number().is_some_and(|at| at > 0 && above_zero(at) && flag(at + 1) && layered(at)), Mode::Dropout)
        }
        // (x, lower, upper, training)
        "rrelu" => yes(flag(3), Mode::Random),
        "rrelu_with_noise" => yes(flag(4), Mode::Random),
        // (x, weight, bias, running mean, running variance, take those of the input, …)
        "instance_norm" => yes(flag(5) && is_value(op, 3), Mode::BatchStatistics),
        name if name.contains("batch_norm") => batch_norm(op),
        "rand" | "rand_like" | "randn" | "randn_like" | "randint" | "randint_like" | "randperm" | "bernoulli"
        | "normal" | "normal_functional" | "uniform" | "multinomial" | "poisson" | "exponential" | "random"
        | "log_normal" | "cauchy" | "geometric" | "binomial" | "standard_gamma" | "sample_dirichlet" => Mode::Random,
        _ => Mode::Evaluation,
    }
}

/// (x, weight, bias, running mean, running variance, training, …), in some forms without the running ones or the flag.
fn batch_norm(op: &Op) -> Mode {
    let name = op.aten.as_str();
    let training = match op.inputs.iter().find(|o| matches!(o, Operand::Bool(_))) {
        _ if name.contains("no_training") || name.contains("no_update") => false,
        _ if name.contains("with_update") => true,
        Some(flag) => *flag == Operand::Bool(true),
        None => false,
    };
    match training {
        false => Mode::Evaluation,
        true if is_value(op, 3) => Mode::BatchStatistics,
        true => Mode::NoRunningStatistics,
    }
}

fn is_value(op: &Op, i: usize) -> bool {
    matches!(op.inputs.get(i), Some(Operand::Value(_)))
}

impl Training {
    /// Whether there is something of it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether passes draw random numbers.
    pub fn is_random(&self) -> bool {
        !self.dropout.is_empty() || !self.random.is_empty()
    }
}

/// What it is, what follows, and the remedy: lower case, without a full stop.
impl fmt::Display for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dropout, batch_statistics, no_running_statistics, random } = self;
        let sure = !dropout.is_empty() || !batch_statistics.is_empty();
        let mut parts = Vec::new();
        for (places, what) in [
            (dropout, "dropout is on"),
            (batch_statistics, "normalisations take the statistics of the batch, not the running ones"),
            (no_running_statistics, "normalisations have no running statistics and take those of the batch"),
            (random, "random numbers are drawn"),
        ] {
            if !places.is_empty() {
                parts.push(format!("{what} ({})", some(places)));
            }
        }
        let mut follows = Vec::new();
        if self.is_random() {
            follows.push("what it computes is random, though the same in each run");
        }
        if !batch_statistics.is_empty() || !no_running_statistics.is_empty() {
            follows.push("what it says of an image depends on the other images of the batch");
        }
        let subject = if sure { "the model computes as in training: " } else { "" };
        write!(f, "{subject}{}; {}", parts.join("; "), follows.join(", and "))?;
        if sure {
            f.write_str(
                "; call model.eval() before torch.jit.trace or torch.jit.script, give F.dropout training=self.training, \
                 and export it again",
            )
        } else if !random.is_empty() {
            f.write_str(
                "; if that is stochastic depth or the like, call model.eval() before torch.jit.trace and export it again",
            )
        } else {
            f.write_str("; track_running_stats=True gives them some")
        }
    }
}

fn some(places: &[String]) -> String {
    let named = places.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match places.len().saturating_sub(NAMED) {
        0 => named,
        1 => format!("{named} and 1 more"),
        n => format!("{named} and {n} more"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Model, Result, Traced};
    use tch::nn::{self, Module};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn what_trains_is_found_and_named() -> Result<()> {
        let vs = nn::VarStore::new(Device::Cpu);
        let conv = nn::conv2d(&vs.root() / "conv", 3, 4, 3, Default::default());
        let bn = nn::batch_norm2d(&vs.root() / "bn", 4, Default::default());
        let fc = nn::linear(&vs.root() / "fc", 4, 2, Default::default());
        let net = |train: bool| {
            let (conv, bn, fc) = (&conv, &bn, &fc);
            move |xs: &Tensor| {
                let x = bn_of(bn, &conv.forward(xs), train).relu().mean_dim([2_i64, 3].as_slice(), false, Kind::Float);
                let x = x.dropout(0.5, train);
                let kept = x.ones_like().bernoulli_float_(0.9);
                let y = fc.forward(&x);
                if train { y * kept.mean(Kind::Float) } else { y }
            }
        };
        let xs = Tensor::ones([2, 3, 8, 8], (Kind::Float, Device::Cpu));
        let model = Model::from_fn(&vs, net(true));
        let found = Traced::new(&model, &xs)?.training();
        assert_eq!(found.dropout, ["after `bn`"]);
        assert_eq!(found.batch_statistics, ["`bn`"]);
        assert_eq!(found.random.len(), 1, "{:?}", found.random);
        let said = found.to_string();
        assert!(said.contains("dropout is on (after `bn`)") && said.contains("model.eval()"), "{said}");
        // The same numbers each time, and libtorch's generator as it was.
        tch::manual_seed(7);
        let before = Tensor::rand([3], (Kind::Float, Device::Cpu));
        tch::manual_seed(7);
        assert_eq!(model.forward(&xs)?, model.forward(&xs)?);
        assert_eq!(before, Tensor::rand([3], (Kind::Float, Device::Cpu)));
        let model = Model::from_fn(&vs, net(false));
        let found = Traced::new(&model, &xs)?.training();
        assert!(found.dropout.is_empty() && found.batch_statistics.is_empty());
        Ok(())
    }

    fn bn_of(bn: &nn::BatchNorm, x: &Tensor, train: bool) -> Tensor {
        use tch::nn::ModuleT;
        bn.forward_t(x, train)
    }
}
