//! The formats by name.

use super::{Report, csv, github, json, jsonl, junit, markdown, sarif, terminal};
use crate::{Error, Result};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// [`terminal`]: the summary for whoever is waiting, without colour.
    Text,
    /// [`json`]: everything.
    Json,
    /// [`jsonl`]: one object per line.
    Jsonl,
    /// [`csv`]: one row per unit.
    Csv,
    /// [`markdown`].
    Markdown,
    /// [`sarif`]: SARIF 2.1.0.
    Sarif,
    /// [`junit`]: JUnit XML.
    Junit,
    /// [`github`]: annotations of a GitHub workflow.
    Github,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 8] = [
        Format::Text,
        Format::Json,
        Format::Jsonl,
        Format::Csv,
        Format::Markdown,
        Format::Sarif,
        Format::Junit,
        Format::Github,
    ];

    /// Its name, for example `sarif`.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Markdown => "markdown",
            Format::Sarif => "sarif",
            Format::Junit => "junit",
            Format::Github => "github",
        }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// What `out` returns, and what the format cannot say.
    pub fn write(self, report: &Report, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Format::Text => terminal::write(report, out),
            Format::Json => json::write(report, out),
            Format::Jsonl => jsonl::write(report, out),
            Format::Csv => csv::write(report, out),
            Format::Markdown => markdown::write(report, out),
            Format::Sarif => sarif::write(report, out),
            Format::Junit => junit::write(report, out),
            Format::Github => github::write(report, out),
        }
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
