//! Faults of files as data: what is wrong, and where. How they are found and shown is [`crate::diagnostic`]'s.

mod codes;

pub use codes::Code;

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

/// One thing that is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlacedFault {
    /// What kind of fault.
    pub code: Code,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// Where what is wrong begins.
    pub location: Location,
    /// More about the place: a suggestion, or a parser's words; may be empty.
    pub label: String,
    /// What would have been accepted; may be empty.
    pub expected: String,
}

/// What is wrong with one file; never without a fault. Displayed with the lines at fault, a caret under each place, up to
/// a number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFaults {
    pub(crate) file: String,
    pub(crate) faults: Vec<PlacedFault>,
    pub(crate) rendered: String,
}

impl FileFaults {
    /// The file, as it was asked for.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Everything that is wrong with it, also what is only counted where it is displayed.
    pub fn faults(&self) -> &[PlacedFault] {
        &self.faults
    }
}

impl fmt::Display for FileFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rendered)
    }
}
