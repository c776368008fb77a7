//! What a checkpoint says besides its weights.

use crate::Error;
use crate::describe::milan::indexer::Flags;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::Tensor;

/// What a checkpoint says besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The encoder: `alexnet`, `resnet18`, `resnet50`, `resnet101`.
    pub encoder: String,
    /// Longest caption, in tokens.
    pub length: usize,
    /// Captions that are followed at once.
    pub beam_size: usize,
    /// How much the language model counts when reranking (λ).
    pub temperature: f64,
    /// Whether there is a language model.
    pub language_model: bool,
    /// What is done with texts.
    pub(in crate::describe::milan) flags: Flags,
    /// The vocabulary.
    pub words: Vec<String>,
}

/// What a file holds: the settings, and the tensors under the official names, all `f32`.
pub(super) type Parts = (Settings, BTreeMap<String, Tensor>);

pub(super) fn wrong(path: &Path, received: impl ToString) -> Error {
    let allowed = "a MILAN checkpoint (milan-*.pth, or one that `tch-audit milan convert` wrote)";
    Error::invalid(path.display().to_string(), received, allowed)
}
