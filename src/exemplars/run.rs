//! A run that writes to a folder: it can be killed and goes on where it was, and it can be one of several shards.

use super::file::{self, States};
use super::options::Options;
use super::passes::Passes;
use super::settings::Settings;
use super::shard::Shard;
use super::state::State;
use super::store::{self, tape_of};
use super::tape::Tape;
use super::{Estimate, FILE, Stored, estimate};
use crate::graph::{Site, Traced};
use crate::probe::{Images, Skipped};
use crate::{Error, Result};
use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Batches between two checkpoints.
const EVERY: usize = 64;

/// Exemplars computed into a folder.
///
/// Every so many batches what is kept is written to a state file in the folder. A run that is killed and started again
/// goes on from there, and the result is the same to the byte. A [`Shard`] leaves its state files, each with a file of
/// summaries beside it, which [`merge`](super::merge()) puts together; any sharding gives the bytes of the single run, as
/// work is cut at the same batches.
///
/// ```no_run
/// use tch_audit::exemplars::{Exemplars, Options, Run};
/// # use tch_audit::{Model, Traced, probe::{ImageFolder, Preprocess}};
/// # fn main() -> tch_audit::Result<()> {
/// # let model = Model::load("model.pt")?;
/// # let probe = ImageFolder::open("photos").preprocess(Preprocess::plain(3, 224, 224)?).load()?;
/// let traced = Traced::new(&model, &probe.tensor(0..1)?)?;
/// let sites = traced.select(&["layer*"])?;
/// Run::new(&traced, &sites, &probe, &Options::default())?.write("exemplars")?;
/// let exemplars = Exemplars::load("exemplars")?;
/// # Ok(()) }
/// ```
pub struct Run<'a, 'm> {
    passes: Passes<'a, 'm>,
    sites: &'a [Site],
    estimate: Estimate,
    settings: Settings,
    shard: Shard,
    every: usize,
    /// Whether a state of another run makes way.
    discard: bool,
}

impl std::fmt::Debug for Run<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("settings", &self.settings).field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// What a run left behind.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// `exemplars.safetensors`, or the state files of a shard, one per pass.
    pub files: Vec<PathBuf>,
    /// How many images were looked at, those of earlier attempts included.
    pub images: u64,
    /// [`Traced::fingerprint`] of the model.
    pub model: String,
    /// Digest of the images that were looked at, see [`Images::digest`]; of a shard, of its part.
    pub probe: String,
    /// The images that could not be read.
    pub skipped: Vec<Skipped>,
    /// At which batch of the first pass this attempt went on; `None` if it began at the beginning.
    pub resumed: Option<usize>,
}

impl<'a, 'm> Run<'a, 'm> {
    /// A run over all images of `source`. Nothing is run yet.
    ///
    /// # Errors
    /// As [`estimate`](super::estimate()); [`Error::Torch`] when the model's tensors cannot be read.
    pub fn new(
        traced: &'a Traced<'m>,
        sites: &'a [Site],
        source: &'a dyn Images,
        options: &'a Options,
    ) -> Result<Self> {
        let estimate = estimate(sites, source, options)?;
        let passes = Passes { traced, source, options };
        let settings = Settings::new(&passes, sites, estimate.passes.clone())?;
        Ok(Self { passes, sites, estimate, settings, shard: Shard::default(), every: EVERY, discard: false })
    }

    /// Only a part of the batches.
    pub fn shard(mut self, shard: Shard) -> Self {
        self.shard = shard;
        self
    }

    /// Writes the state every `batches` batches (64 if not said).
    ///
    /// # Errors
    /// [`Error::Invalid`] for 0.
    pub fn checkpoint_every(mut self, batches: usize) -> Result<Self> {
        if batches == 0 {
            return Err(Error::invalid("batches between checkpoints", 0, "1 or more"));
        }
        self.every = batches;
        Ok(self)
    }

    /// What the whole run will take.
    pub fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// Runs what is left to do, and writes `exemplars.safetensors` (a shard: its state files) in `folder`, which is made if
    /// it does not exist.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a state in the folder that belongs to another run, with the first difference named;
    /// [`Error::NonFinite`] for an activation that is NaN or infinite; [`Error::Io`]; what reading the images and the
    /// forward pass return. What was checkpointed stays.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<Done> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let all = self.shard.batches(self.passes.batches());
        let files: Vec<PathBuf> = (0..self.settings.passes.len()).map(|p| folder.join(self.shard.file(p))).collect();
        let bar = crate::progress::bar("exemplars", self.images(&all) * files.len());
        let mut done = Done::new(&self.settings, files.clone());
        let mut only = None;
        for (pass, path) in files.iter().enumerate() {
            let begun = match self.go_on(path, pass, &all) {
                Err(error) if self.discard => {
                    tracing::info!(target: "tch_audit", "begins anew: {error}");
                    remove(&[path.clone(), tape_of(path)])?;
                    None
                }
                begun => begun?,
            };
            let next = begun.as_ref().and_then(|s| s.done.iter().last()).map_or(all.start, |last| last as usize + 1);
            if pass == 0 && begun.is_some() {
                done.resumed = Some(next);
            }
            let mut state = begun.map_or_else(|| self.begin(path, pass), Ok)?;
            bar.inc(self.images(&(all.start..next)) as u64);
            let save = |state: &State| store::write(path, &self.settings, pass, state, &self.passes.names(state));
            self.passes.run(self.sites, &mut state, next..all.end, &bar, |state, number| {
                let due = (number + 1 - all.start).is_multiple_of(self.every) && number + 1 < all.end;
                if due { save(state) } else { Ok(()) }
            })?;
            state.skipped.sort_by(|a, b| a.path.cmp(&b.path));
            // The only state of a whole run need not go to the disk and back.
            let keep = self.shard.is_whole() && files.len() == 1;
            if !keep && (next < all.end || !path.exists()) {
                save(&state)?;
            }
            done.saw(&state);
            only = keep.then_some(state);
        }
        bar.finish_and_clear();
        if !self.shard.is_whole() {
            return Ok(done);
        }
        let finished = folder.join(FILE);
        let only = RefCell::new(only.map(|state| {
            let names = self.passes.names(&state);
            store::Stored::in_memory(&self.settings, 0, state, names)
        }));
        let states = States::new(&self.settings, |pass| match only.take() {
            Some(stored) => Ok(stored),
            None => store::read(&files[pass]),
        });
        file::write(&finished, &states)?;
        drop(states);
        // States first: one without its summaries would be refused.
        let tapes = files.iter().map(|state| tape_of(state));
        remove(&files.iter().cloned().chain(tapes).collect::<Vec<_>>())?;
        done.files = vec![finished];
        Ok(done)
    }

    /// The exemplars in `folder`, with what was [done](Done) for them: nothing, if what this run would write is there
    /// already, of these units or of more; else it is written, beginning where an earlier attempt stopped. What another
    /// run left in the folder goes; with `fresh` everything that is there.
    ///
    /// # Errors
    /// As [`write`](Self::write), but for a state that belongs to another run.
    pub fn ensure(mut self, folder: impl AsRef<Path>, fresh: bool) -> Result<(Stored, Option<Done>)> {
        let folder = folder.as_ref();
        let path = folder.join(FILE);
        if path.exists() {
            match Stored::open(&path).and_then(|stored| self.within(stored)) {
                Ok(stored) if !fresh => return Ok((stored, None)),
                Err(error) if !fresh => tracing::info!(target: "tch_audit", "begins anew: {error}"),
                _ => {}
            }
            remove(&[path])?;
        }
        if fresh {
            let states = (0..self.settings.passes.len()).map(|pass| folder.join(self.shard.file(pass)));
            remove(&states.flat_map(|state| [tape_of(&state), state]).collect::<Vec<_>>())?;
        }
        self.discard = true;
        let done = self.write(folder).inspect_err(|_| {
            // Summaries without a state are of no use.
            let states = (0..self.settings.passes.len()).map(|pass| folder.join(self.shard.file(pass)));
            let _ = remove(&states.filter(|state| !state.exists()).map(|state| tape_of(&state)).collect::<Vec<_>>());
        })?;
        Ok((Stored::open(folder)?, Some(done)))
    }

    /// Those of `stored` that this run would write, if it would.
    fn within(&self, stored: Stored) -> Result<Stored> {
        let Passes { traced, source, options } = self.passes;
        let names: Vec<&str> = self.sites.iter().map(|site| site.name.as_str()).collect();
        let stored = stored.only(&names)?;
        stored.chosen_by(options)?;
        for site in self.sites {
            let (wanted, found) = (options.units_of(&site.name, site.units)?, stored.site(&site.name)?);
            if wanted != found.units {
                let received = format!("{} units of site `{}`", found.units.len(), site.name);
                return Err(Error::invalid("exemplars", received, format!("{} others", wanted.len())));
            }
        }
        stored.belongs_to(traced, source)?;
        Ok(stored)
    }

    fn images(&self, batches: &Range<usize>) -> usize {
        batches.clone().map(|b| self.passes.images(b).len()).sum()
    }

    /// The state of a pass before its first image.
    fn begin(&self, path: &Path, pass: usize) -> Result<State> {
        let sites = self.settings.begin(pass)?.unwrap_or_default();
        Ok(State::new(sites, Tape::create(&tape_of(path))?))
    }

    /// The state that an earlier attempt left, if it is of this run.
    fn go_on(&self, path: &Path, pass: usize, all: &Range<usize>) -> Result<Option<State>> {
        if !path.exists() {
            return Ok(None);
        }
        let header = store::read_header(path)?;
        self.settings.same_as(
            &header.settings,
            path,
            "(as now); remove the file to begin anew, or name another folder",
        )?;
        let store::Stored { header, mut state, .. } = store::read(path)?;
        let wrong =
            |received: String, allowed: &str| Err(Error::invalid(path.display().to_string(), received, allowed));
        let fits = match state.done.ranges() {
            [] => true,
            [done] => done.start == all.start as u64 && done.end <= all.end as u64,
            _ => false,
        };
        if header.pass != pass || !fits {
            let received = format!("pass {} of batches {:?}", header.pass + 1, state.done.ranges());
            return wrong(received, "a state of this shard");
        }
        let seen: Vec<usize> = state.done.iter().flat_map(|b| self.passes.images(b as usize)).collect();
        if self.passes.source.digest(&seen)? != state.digest {
            let received = format!("other images than the first {} are now", seen.len());
            return wrong(received, "the same images; remove the file to begin anew");
        }
        state.tape.go_on(&tape_of(path))?;
        Ok(Some(state))
    }
}

/// Removes the files that there are.
fn remove(files: &[PathBuf]) -> Result<()> {
    for path in files.iter().filter(|p| p.exists()) {
        std::fs::remove_file(path).map_err(Error::io("remove", path))?;
    }
    Ok(())
}

impl Done {
    pub(super) fn new(settings: &Settings, files: Vec<PathBuf>) -> Self {
        let (model, probe) = (settings.model.clone(), String::new());
        Self { files, images: 0, model, probe, skipped: Vec::new(), resumed: None }
    }

    /// Takes over what a pass saw.
    pub(super) fn saw(&mut self, state: &State) {
        self.images = state.rows.len();
        self.probe = state.digest.to_string();
        self.skipped.clone_from(&state.skipped);
    }
}
