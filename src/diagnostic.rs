//! What is wrong with a file that somebody wrote: which place, what stands there, what would be right.
//!
//! A [`Source`] is a text with a name; a [`Fault`] is a range of its bytes and what is the matter with it. Rendered, it
//! shows file, line, column, the line itself and a caret:
//!
//! ```text
//! error[unknown-key]: `levle` is not a policy key
//!   --> text.toml:1:1
//! 1 | levle = "deny"
//!   | ^^^^^ did you mean `level`?
//!   = expected: level, action, match, scope, limits
//! ```
//!
//! Policies, configuration files, tables of descriptions, baselines and reports all complain this way. What is shown of a
//! file is made harmless for a terminal.

mod codes;
mod render;
mod source;

pub use crate::error::nearest;
pub use codes::Code;
pub use render::{Fault, is_hidden, visible};
pub use source::Source;

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in a file. Displayed as `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Location {
    /// The file, as it was asked for.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
