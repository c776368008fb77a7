//! Where a training stands.

use serde::{Deserialize, Serialize};

/// A moment of a training, as it is counted from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moment {
    /// The epoch that ended last, from 1; 0 before.
    pub epoch: u64,
    /// Steps so far.
    pub step: u64,
}
