//! The formats by name: a new one is a module with a `write`, and a line of the table.

use super::{Report, csv, github, json, jsonl, junit, markdown, sarif, terminal};
use crate::{Error, Result};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

macro_rules! formats {
    ($($variant:ident, $name:literal, $module:ident, $doc:literal;)*) => {
        /// How a report is written.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Format {
            $(#[doc = $doc] $variant,)*
        }

        impl Format {
            /// All of them.
            pub const ALL: [Format; [$($name),*].len()] = [$(Format::$variant),*];

            /// Its name, for example `sarif`.
            pub fn as_str(self) -> &'static str {
                match self { $(Format::$variant => $name),* }
            }

            /// Writes the report.
            ///
            /// # Errors
            /// What `out` returns, and what the format cannot say.
            pub fn write(self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
                match self { $(Format::$variant => $module::write(report, out)),* }
            }
        }
    };
}

// Variant, name, the module whose `write` renders, documentation.
formats! {
    Text, "text", terminal, "[`terminal`]: the summary for whoever is waiting, without colour.";
    Json, "json", json, "[`json`]: everything.";
    Jsonl, "jsonl", jsonl, "[`jsonl`]: one object per line.";
    Csv, "csv", csv, "[`csv`]: one row per unit.";
    Markdown, "markdown", markdown, "[`markdown`].";
    Sarif, "sarif", sarif, "[`sarif`]: SARIF 2.1.0.";
    Junit, "junit", junit, "[`junit`]: JUnit XML.";
    Github, "github", github, "[`github`]: annotations of a GitHub workflow.";
}

impl Format {
    /// Writes the report to a file, whole or not at all. What a link names is written, and a pipe or device as it is.
    ///
    /// # Errors
    /// [`Error::Io`] with the path.
    pub fn save(self, report: &Report, path: impl AsRef<Path>) -> Result<()> {
        crate::files::save(path.as_ref(), |out| self.write(report, out))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = || Self::ALL.iter().map(|f| f.as_str());
        Self::ALL.into_iter().find(|f| f.as_str() == name).ok_or_else(|| Error::unknown("format", name, names()))
    }
}
