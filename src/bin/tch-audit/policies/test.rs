//! `tch-audit policies test`: the tests inside policies.

use super::Which;
use crate::{Common, output};
use std::collections::BTreeMap;
use tch_audit::{exit, policy};

/// Runs the tests of every policy; exit code 1 when one fails.
pub fn run(which: &Which, common: &Common) -> anyhow::Result<u8> {
    let policies = which.load()?;
    let tested = policy::test(&policies);
    let failed: Vec<_> = tested.iter().filter(|t| !t.passed()).collect();
    let mut counts: BTreeMap<&str, (usize, usize)> = policies.iter().map(|p| (p.name(), (0, 0))).collect();
    for test in &tested {
        let (passed, failed) = counts.entry(&test.policy).or_default();
        *(if test.passed() { passed } else { failed }) += 1;
    }
    let width = counts.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for test in &failed {
        let what = match test.because.as_slice() {
            [] => "does not match, and should".to_string(),
            all => {
                let because: Vec<String> = all.iter().map(ToString::to_string).collect();
                format!("matches, and should not: {}", because.join("; "))
            }
        };
        lines.push(format!("{}: failed: `{}` {what}", test.location, test.description));
    }
    if !common.quiet {
        for (name, (passed, failed)) in &counts {
            lines.push(match (passed, failed) {
                (0, 0) => format!("{name:width$}  no tests"),
                (passed, 0) => format!("{name:width$}  {passed} passed"),
                (passed, failed) => format!("{name:width$}  {passed} passed, {failed} failed"),
            });
        }
    }
    output::print(|out| lines.iter().try_for_each(|line| writeln!(out, "{}", output::line(line))))?;
    Ok(if failed.is_empty() { exit::CLEAN } else { exit::DENIED })
}
