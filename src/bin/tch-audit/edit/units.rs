//! Which units: `--site NAME --units 3,17`, or `--findings report.json`.

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueHint};
use std::path::{Path, PathBuf};
use tch_audit::UnitId;
use tch_audit::diagnostic::Source;
use tch_audit::policy::Wanted;
use tch_audit::report;

/// How large a report may be, in bytes.
const REPORT_LIMIT: u64 = 1 << 30;

#[derive(Debug, Args)]
pub struct Units {
    /// The site that the next --units belong to, as `tch-audit sites` lists it; may be given several times.
    #[arg(long, value_name = "NAME", help_heading = "Units")]
    site: Vec<String>,
    /// Numbers and ranges: 3,17 or 0-7.
    #[arg(long, value_name = "N,..", allow_hyphen_values = true, help_heading = "Units")]
    units: Vec<String>,
    /// The report.json of an audit: the units that violated policies want zeroed or pruned (`action`), and that are not
    /// waived. Those that cannot be edited are left out, and named.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["site", "units"], help_heading = "Units")]
    findings: Option<PathBuf>,
    /// With --findings: all units that policies of level warn or deny object to and that are not waived, whatever the
    /// policies want done.
    #[arg(long, requires = "findings", conflicts_with_all = ["site", "units"], help_heading = "Units")]
    all: bool,
}

impl Units {
    pub fn is_by_findings(&self) -> bool {
        self.findings.is_some()
    }

    /// The units, each once, in the order in which they were given.
    pub fn read(&self) -> anyhow::Result<Vec<UnitId>> {
        let mut all = Vec::new();
        if let Some(file) = &self.findings {
            all = self.found(file)?;
        } else {
            ensure!(
                !self.site.is_empty(),
                "nothing says which units: give --site NAME --units N,.. or --findings FILE"
            );
            ensure!(
                self.site.len() == self.units.len(),
                "received {} --site and {} --units, allowed one --units for each --site",
                self.site.len(),
                self.units.len()
            );
            for (site, units) in self.site.iter().zip(&self.units) {
                let units = numbers(units).context("--units")?;
                all.extend(units.into_iter().map(|unit| UnitId::new(site, unit)));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|u| seen.insert(u.clone()));
        Ok(all)
    }

    fn found(&self, file: &Path) -> anyhow::Result<Vec<UnitId>> {
        let report = report::json::read(&Source::read(file, REPORT_LIMIT)?)?;
        let counting: Vec<UnitId> = report.findings.iter().filter(|f| f.counts()).map(|f| f.unit.clone()).collect();
        let file = file.display();
        ensure!(!counting.is_empty(), "--findings: {file} has no finding that counts: there is nothing to edit");
        if self.all {
            return Ok(counting);
        }
        let wanted = Wanted::of(&report.findings, &report.policies).units();
        ensure!(
            !wanted.is_empty(),
            "--findings: {file} has no violated policy with an `action`: there is nothing to edit; with --all its {} that \
             count are edited",
            match counting.len() {
                1 => "1 finding".to_string(),
                n => format!("{n} findings"),
            }
        );
        Ok(wanted)
    }
}

/// `3,17,20-23` as numbers.
fn numbers(text: &str) -> anyhow::Result<Vec<usize>> {
    const MOST: usize = 1 << 20;
    let mut all = Vec::new();
    ensure!(!text.trim().is_empty(), "received nothing, allowed numbers and ranges: 3,17 or 0-7");
    for part in text.split(',').map(str::trim) {
        let number = |text: &str| {
            let n = text.trim().parse::<usize>();
            n.map_err(|_| anyhow::anyhow!("received `{part}`, allowed numbers and ranges: 3,17 or 0-7"))
        };
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                ensure!(first <= last, "received the range {part}, allowed the smaller number first");
                ensure!(last - first < MOST, "received the range {part}, allowed ranges of at most {MOST} units");
                all.extend(first..=last);
            }
            None if part.is_empty() => {
                bail!("received `{text}` with an empty number, allowed numbers and ranges: 3,17 or 0-7")
            }
            None => all.push(number(part)?),
        }
    }
    Ok(all)
}
