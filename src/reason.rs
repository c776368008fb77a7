//! Why an edit is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of reasons for which an edit is refused or taken back; the text beside them says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The request makes no sense: nothing asked for, or something that does not exist.
    Request,
    /// The model is frozen: its weights are constants without names. Export it without freezing.
    Frozen,
    /// The channels are entries of the model's output.
    Output,
    /// The channels are channels of the model's input.
    Input,
    /// Nothing would be left of a layer.
    Empty,
    /// A layer norm or group norm takes statistics over the channels.
    NormOverChannels,
    /// Something else runs over the channels: a mean, a maximum, a softmax, the default scale of an attention.
    MixesChannels,
    /// The number of groups of a convolution stands in the model's code.
    GroupedConvolution,
    /// What belongs together is no rectangular slice of a tensor.
    Layout,
    /// A tensor is broadcast in a way that has no answer.
    Broadcast,
    /// There is no rule for an operator.
    UnknownOperator,
    /// Code that did not run in the traced pass reads what would change: a second method, the other side of a branch.
    UnseenCode,
    /// The edited model does not run: a size stands in its code.
    Code,
    /// The edited model runs, and computes something else.
    Silent,
    /// The output is not finite.
    NotFinite,
    /// Anything else.
    Other,
}

impl Reason {
    /// Its name as reports write it: `norm-over-channels`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Request => "request",
            Reason::Frozen => "frozen",
            Reason::Output => "output",
            Reason::Input => "input",
            Reason::Empty => "empty",
            Reason::NormOverChannels => "norm-over-channels",
            Reason::MixesChannels => "mixes-channels",
            Reason::GroupedConvolution => "grouped-convolution",
            Reason::Layout => "layout",
            Reason::Broadcast => "broadcast",
            Reason::UnknownOperator => "unknown-operator",
            Reason::UnseenCode => "unseen-code",
            Reason::Code => "code",
            Reason::Silent => "silent",
            Reason::NotFinite => "not-finite",
            Reason::Other => "other",
        }
    }
}
