//! What earlier audits said of units, each with a hash of everything that made it.

use crate::describe::{DescribedUnit, Description};
use crate::evidence::ConceptEvidence;
use crate::files::write_atomically;
use crate::{Error, Result, UnitId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Words and evidence of earlier audits, to be kept where everything that made them is the same.
///
/// On disk ([`open`](Self::open)) a unit is written down as soon as it is described, so that an audit that is killed goes
/// on where it was; what holds is a hash of the weights in front of the unit, images, settings, sources, describer and
/// version. In a training loop ([`in_training`](Self::in_training)) the weights change all the time: there, words are kept
/// where the same images excite the unit and the sources decide alike, and evidence is always measured anew.
#[derive(Debug)]
pub struct Leftovers {
    by: By,
    entries: HashMap<UnitId, Entry>,
    file: Option<(PathBuf, File)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Nothing,
    Weights,
    Exemplars,
}

/// What was said of one unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    unit: UnitId,
    /// A hash of everything that made it.
    key: String,
    description: Description,
    evidence: Vec<ConceptEvidence>,
    /// A hash of the rest: what was changed since, by whom ever, is not kept.
    seal: String,
}

impl Entry {
    pub fn new(unit: &DescribedUnit, key: String) -> Self {
        let DescribedUnit { id, description, evidence } = unit.clone();
        let seal = Self::seal(&id, &key, &description, &evidence);
        Self { unit: id, key, description, evidence, seal }
    }

    fn seal(unit: &UnitId, key: &str, description: &Description, evidence: &[ConceptEvidence]) -> String {
        // What cannot be written as JSON has no seal, and is not kept.
        let text = serde_json::to_vec(&(unit, key, description, evidence)).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }

    fn is_sealed(&self) -> bool {
        self.seal == Self::seal(&self.unit, &self.key, &self.description, &self.evidence)
    }

    pub fn unit(&self) -> DescribedUnit {
        let Self { unit, description, evidence, .. } = self.clone();
        DescribedUnit { id: unit, description, evidence }
    }
}

impl Leftovers {
    /// Nothing is kept.
    pub fn none() -> Self {
        Self { by: By::Nothing, entries: HashMap::new(), file: None }
    }

    /// Kept in memory from audit to audit of a network that is trained.
    pub fn in_training() -> Self {
        Self { by: By::Exemplars, ..Self::none() }
    }

    /// Those in the file at `path` (JSON lines), which need not be there yet; what is said from now on is added to it.
    /// With `fresh` nothing of what it holds is kept.
    ///
    /// # Errors
    /// [`Error::Io`]. A line that is not understood (of another version, cut off when an audit was killed, changed since)
    /// is passed over: its unit is described anew.
    pub fn open(path: impl AsRef<Path>, fresh: bool) -> Result<Self> {
        let path = path.as_ref();
        let mut entries = HashMap::new();
        if !fresh && path.exists() {
            let file = BufReader::new(File::open(path).map_err(Error::io("read", path))?);
            for line in file.split(b'\n') {
                let line = line.map_err(Error::io("read", path))?;
                if let Some(entry) = serde_json::from_slice::<Entry>(&line).ok().filter(Entry::is_sealed) {
                    entries.insert(entry.unit.clone(), entry);
                }
            }
        }
        // Only whole lines stand in it from here on.
        let left: Vec<&Entry> = sorted(&entries);
        write_atomically(path, |out| lines(&left, out))?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io("write", path))?;
        Ok(Self { by: By::Weights, entries, file: Some((path.to_path_buf(), file)) })
    }

    /// Forgets everything: the units have other numbers now.
    pub fn forget(&mut self) {
        self.entries.clear();
    }

    pub(super) fn by_weights(&self) -> bool {
        self.by == By::Weights
    }

    pub(super) fn by_exemplars(&self) -> bool {
        self.by == By::Exemplars
    }

    /// What was said of a unit, if the same made it.
    pub(super) fn get(&self, unit: &UnitId, key: &str) -> Option<&Entry> {
        self.entries.get(unit).filter(|entry| entry.key == key)
    }

    /// Keeps what is said of a unit, at once.
    pub(super) fn add(&mut self, entry: Entry) -> Result<()> {
        if self.by == By::Nothing {
            return Ok(());
        }
        if let Some((path, file)) = &mut self.file {
            let mut line = Vec::new();
            let written = lines(&[&entry], &mut line).and_then(|()| file.write_all(&line));
            written.map_err(Error::io("write", &*path))?;
        }
        self.entries.insert(entry.unit.clone(), entry);
        Ok(())
    }

    /// Writes the file anew, with one line for each unit. Units that were not looked at now keep theirs: another audit may
    /// look at them again.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        write_atomically(path, |out| lines(&sorted(&self.entries), out))?;
        *file = OpenOptions::new().append(true).open(&*path).map_err(Error::io("write", &*path))?;
        Ok(())
    }
}

fn sorted(entries: &HashMap<UnitId, Entry>) -> Vec<&Entry> {
    let mut all: Vec<&Entry> = entries.values().collect();
    all.sort_by(|a, b| a.unit.cmp(&b.unit));
    all
}

fn lines(entries: &[&Entry], out: &mut dyn Write) -> std::io::Result<()> {
    for entry in entries {
        serde_json::to_writer(&mut *out, entry)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}
