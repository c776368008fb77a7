//! What a model does on images, in the folder of the reports: an audit that was stopped goes on, one that is repeated keeps
//! what is done.

use super::{Arguments, AuditArguments};
use crate::{Common, output, photos};
use anyhow::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch_audit::Traced;
use tch_audit::audit::{Audit, Leftovers, Settings};
use tch_audit::exemplars::{Done, Held, Run, Stored};
use tch_audit::graph::Site;
use tch_audit::policy::Policies;
use tch_audit::probe::{Corrupt, ImageFolder, ImageStream};

/// The folder, below that of the reports.
const FOLDER: &str = "study";
/// What was said of units, in it.
const WORDS: &str = "words.jsonl";

pub struct Study<'a> {
    pub arguments: &'a Arguments,
    pub settings: &'a Settings,
    pub policies: &'a Policies,
    /// The folder of the reports.
    pub out: &'a Path,
    pub common: &'a Common,
}

impl Study<'_> {
    /// Audits a model on images.
    pub fn audit(&self, traced: &Traced<'_>, images: &ImageStream) -> anyhow::Result<Audit> {
        let new = Made::of(&[self.out.to_path_buf(), self.out.join(FOLDER)]);
        self.judge(traced, images).inspect_err(|_| new.remove())
    }

    fn judge(&self, traced: &Traced<'_>, images: &ImageStream) -> anyhow::Result<Audit> {
        let folder = self.out.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let clock = Instant::now();
        let stored = match &self.arguments.exemplars {
            Some(given) => self.given(given, traced, images)?,
            None => self.own(&folder, traced, images)?,
        };
        let mut leftovers = Leftovers::open(folder.join(WORDS), self.arguments.fresh)?;
        let held = Held::try_from(stored)?;
        let seconds = clock.elapsed().as_secs_f64();
        let mut audit = Audit::from(traced, images, self.settings, self.policies, held, &mut leftovers)?;
        audit.seconds.insert(0, ("exemplars", seconds));
        Ok(audit)
    }

    /// Those in a folder that the user names.
    fn given(&self, folder: &Path, traced: &Traced<'_>, images: &ImageStream) -> anyhow::Result<Stored> {
        let stored =
            Stored::open(folder).context("--exemplars (`tch-audit exemplars` makes them; shards are to be merged)")?;
        stored.belongs_to(traced, images).context("--exemplars")?;
        let all = self.settings.sites == ["auto"];
        let sites = if all { Vec::new() } else { traced.select(&self.settings.sites)? };
        let stored = if all { stored } else { stored.only(&names(&sites)).context("--exemplars")? };
        for site in stored.sites() {
            let all = traced.site(&site.name)?.units;
            if site.units.len() < all {
                self.note(format!(
                    "{} of {all} units of {} have exemplars, and are judged",
                    site.units.len(),
                    site.name
                ));
            }
        }
        Ok(stored)
    }

    /// Those of this audit, made by the code of `tch-audit exemplars`.
    fn own(&self, folder: &Path, traced: &Traced<'_>, images: &ImageStream) -> anyhow::Result<Stored> {
        let sites = traced.select(&self.settings.sites)?;
        let run = Run::new(traced, &sites, images, &self.settings.exemplars)?;
        let estimate = run.estimate().to_string();
        let (stored, done) = run.ensure(folder, self.arguments.fresh)?;
        match done {
            None => self.note("what the units do on these images is known from an earlier run".to_string()),
            Some(Done { resumed: Some(batch), .. }) => self.note(format!("went on at batch {batch} of an earlier run")),
            Some(_) => self.note(estimate),
        }
        Ok(stored)
    }

    fn note(&self, text: String) {
        if !self.common.quiet {
            output::note(&text);
        }
    }
}

impl AuditArguments {
    /// The images of a folder, read as they are needed.
    pub fn images(&self, probe: &Path, classes: Option<&Path>) -> anyhow::Result<ImageStream> {
        let corrupt = if self.skip_corrupt { Corrupt::Skip } else { Corrupt::Fatal };
        let mut folder = ImageFolder::open(probe).preprocess(self.input.preprocess()?).corrupt(corrupt);
        if let Some(n) = self.limit_per_class {
            folder = folder.limit_per_class(n);
        }
        Ok(photos::with_classes(folder, classes)?.stream()?)
    }
}

fn names(sites: &[Site]) -> Vec<&str> {
    sites.iter().map(|site| site.name.as_str()).collect()
}

/// Folders that were not there before.
struct Made(Vec<PathBuf>);

impl Made {
    fn of(folders: &[PathBuf]) -> Self {
        Self(folders.iter().filter(|folder| !folder.exists()).cloned().collect())
    }

    /// Removes those that were made for nothing; one that has something in it stays.
    fn remove(&self) {
        for folder in self.0.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}
