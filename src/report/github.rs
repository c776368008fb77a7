//! Annotations in the log of a GitHub workflow: `::error file=…,line=…,title=…::…`.
//!
//! GitHub shows ten errors and ten warnings of a step, so the gravest findings come first, and the last line of each kind
//! that is shown says how many there are. The verdict ends the log.

use super::Report;
use super::escape::{annotation, annotation_property, line};
use crate::policy::{Finding, Level, Location};
use std::io::{self, Write};

/// How many annotations of one kind GitHub shows of one step.
const SHOWN: usize = 10;

/// The most characters of a message.
const MAX_TEXT: usize = 1_000;

/// Writes the annotations: notices, then findings of violated policies that are new; errors first. Then the verdict.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for (level, command) in [(Level::Deny, "error"), (Level::Warn, "warning")] {
        let mut all: Vec<(&Location, String, String)> = Vec::new();
        for notice in report.notices.iter().filter(|n| n.level == level) {
            let about = notice.policy.as_ref().map_or(String::new(), |p| format!("{p}: "));
            all.push((&notice.location, notice.code.to_string(), format!("{about}{}", notice.message)));
        }
        let counts = |f: &&Finding| report.gravity(f) == level;
        for finding in report.findings.iter().filter(counts) {
            let message = format!("{} ({}): {}", finding.unit, finding.description, finding.because.join("; "));
            all.push((&finding.location, format!("{}: {}", finding.code, finding.policy), message));
        }
        let more = all.len().saturating_sub(SHOWN);
        for (i, (location, title, message)) in all.iter().enumerate() {
            let rest =
                if i + 1 == SHOWN && more > 0 { format!(" (and {more} more, see the log)") } else { String::new() };
            writeln!(
                out,
                "::{command} file={},line={},col={},title={}::{}",
                annotation_property(&location.file),
                location.line,
                location.column,
                annotation_property(title),
                annotation(&format!("{}{rest}", message.chars().take(MAX_TEXT).collect::<String>()))
            )?;
        }
    }
    writeln!(out, "{}", line(&report.verdict))
}
