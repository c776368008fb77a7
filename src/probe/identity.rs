//! What tells image files apart without decoding them.

use super::outputs::Outputs;
use super::{Digest, Fit, Images};
use std::ops::Range;
use std::sync::Arc;

/// So many files are asked for their lengths at once.
const CHUNK: usize = 4096;

/// What a probe remembers of the files that it was read from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub fit: Fit,
    /// The outputs of the model, if they were named.
    pub outputs: Option<Arc<Outputs>>,
    /// Per image, the length of its file in bytes, and its digest.
    pub files: Vec<(u64, Digest)>,
}

impl Origin {
    /// Those with these numbers, which exist.
    pub fn select(&self, numbers: &[usize]) -> Self {
        let outputs = self.outputs.clone();
        Self { fit: self.fit, outputs, files: numbers.iter().map(|i| self.files[*i]).collect() }
    }
}

/// A hash of the names, class folders and lengths of the images' files, the preprocessing and the fit: 64 hexadecimal digits
/// (BLAKE3). Which outputs of a model the folders are about is no part of it.
pub(super) fn fingerprint(
    images: &dyn Images,
    fit: Fit,
    outputs: Option<&Outputs>,
    lengths: &dyn Fn(Range<usize>) -> Vec<u64>,
) -> String {
    fn number(hash: &mut blake3::Hasher, n: u64) {
        hash.update(&n.to_le_bytes());
    }
    fn text(hash: &mut blake3::Hasher, s: &str) {
        number(hash, s.len() as u64);
        hash.update(s.as_bytes());
    }
    let mut hash = blake3::Hasher::new();
    text(&mut hash, "tch-audit stream 1");
    let (p, classes) = (images.preprocess(), outputs.map_or_else(|| images.classes(), Outputs::folders));
    let folder = |label: usize| outputs.map_or(Some(label), |outputs| outputs.folder_of(label));
    let fit = match fit {
        Fit::Squash => 0,
        Fit::CenterCrop => 1,
    };
    let counts = [p.channels, p.height, p.width, p.mean.len(), p.std.len(), fit, classes.len(), images.len()];
    counts.iter().for_each(|n| number(&mut hash, *n as u64));
    p.mean.iter().chain(&p.std).for_each(|v| number(&mut hash, u64::from(v.to_bits())));
    classes.iter().for_each(|class| text(&mut hash, class));
    for start in (0..images.len()).step_by(CHUNK) {
        let chunk = start..images.len().min(start + CHUNK);
        for (i, length) in chunk.clone().zip(lengths(chunk)) {
            text(&mut hash, &images.name(i));
            number(&mut hash, images.label(i).and_then(folder).map_or(u64::MAX, |l| l as u64));
            number(&mut hash, length);
        }
    }
    hash.finalize().to_hex().to_string()
}
