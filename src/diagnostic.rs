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
//! In an [`Error::Faults`](crate::Error::Faults) a program finds each fault as a [`PlacedFault`].
//!
//! Policies, configuration files, tables of descriptions, baselines and reports all complain this way. What is shown of a
//! file is made harmless for a terminal.

mod render;
mod source;

pub use crate::error::nearest;
pub use crate::fault::{Code, FileFaults, Location, PlacedFault};
pub use render::{Fault, is_hidden, is_ignorable, visible};
pub use source::Source;
