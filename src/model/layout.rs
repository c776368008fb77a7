//! How a model wants its images laid out.

use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// How the images of a batch lie in a model's input. `N` counts images, `C` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum InputLayout {
    /// `[N, C, H, W]`, as PyTorch's networks want it.
    #[default]
    Nchw,
    /// `[N, H, W, C]`, as those want it that came from TensorFlow or JAX.
    Nhwc,
}

impl InputLayout {
    /// Whether it is the usual one.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// A batch `[N, C, H, W]`, laid out so; other inputs than images stay as they are.
    pub(super) fn arrange(self, input: &Tensor) -> Result<Tensor> {
        match (self, input.dim()) {
            (Self::Nhwc, 4) => input
                .f_permute([0, 2, 3, 1])
                .and_then(|x| x.f_contiguous())
                .map_err(Error::torch("laying out the input as [N, H, W, C]")),
            _ => Ok(input.shallow_clone()),
        }
    }
}
