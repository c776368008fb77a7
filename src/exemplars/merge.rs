//! Shards put together.

use super::FILE;
use super::file::{self, States};
use super::run::Done;
use super::store::{self, Header, Stored};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Merges the states of all shards of a run into `folder/exemplars.safetensors`: the bytes of the run in one piece, in
/// whatever order the shards are given.
///
/// `parts` are folders that shards wrote to, or state files, each with its file of summaries beside it.
///
/// # Errors
/// [`Error::Invalid`] when a part is of another run (the first difference is named), when batches are missing or there
/// twice, when there is no state; [`Error::Io`].
pub fn merge(folder: impl AsRef<Path>, parts: &[PathBuf]) -> Result<Done> {
    let folder = folder.as_ref();
    let files = state_files(parts)?;
    let headers = files.iter().map(|f| Ok((f, store::read_header(f)?))).collect::<Result<Vec<_>>>()?;
    let Some((_, first)) = headers.first() else {
        let received = parts.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(
            "shards to merge",
            format!("no state in {received}"),
            "folders that shards wrote to",
        ));
    };
    let settings = first.settings.clone();
    for (file, header) in &headers {
        settings.same_as(&header.settings, file, &format!("(as in {})", headers[0].0.display()))?;
    }
    let batches = settings.probe.images.div_ceil(settings.options.batch_size.max(1));
    for pass in 0..settings.passes.len() {
        covers(&headers, pass, batches)?;
    }
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let load = |pass: usize| -> Result<Stored> {
        let mut merged: Option<Stored> = None;
        for (file, _) in headers.iter().filter(|(_, h)| h.pass == pass) {
            let part = store::read(file)?;
            match &mut merged {
                None => merged = Some(part),
                Some(sum) => sum.merge(part),
            }
        }
        merged.ok_or_else(|| Error::invalid("shards to merge", format!("none of pass {}", pass + 1), "all of them"))
    };
    let path = folder.join(FILE);
    let states = States::new(&settings, load);
    let mut done = Done::new(&settings, vec![path.clone()]);
    done.saw(&states.get(0)?.state);
    file::write(&path, &states)?;
    Ok(done)
}

/// The state files among `parts`, in the order of their paths, each once.
fn state_files(parts: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for part in parts {
        if !part.is_dir() {
            files.push(part.clone());
            continue;
        }
        for entry in std::fs::read_dir(part).map_err(Error::io("list", part))? {
            let path = entry.map_err(Error::io("list", part))?.path();
            if path.extension().is_some_and(|e| e == "state") {
                files.push(path);
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether a pass has every batch exactly once.
fn covers(headers: &[(&PathBuf, Header)], pass: usize, batches: usize) -> Result<()> {
    let of_pass = headers.iter().filter(|(_, h)| h.pass == pass);
    let mut done: Vec<_> = of_pass
        .flat_map(|(file, h)| h.done.ranges().iter().map(move |r| (r.start as usize, r.end as usize, *file)))
        .collect();
    done.sort();
    let mut next = 0;
    for (start, end, file) in done {
        if start < next {
            let received = format!("batch {start} of pass {} a second time", pass + 1);
            return Err(Error::invalid(file.display().to_string(), received, "every batch once"));
        }
        if start > next {
            return Err(missing(pass, next, start, batches));
        }
        next = end;
    }
    if next == batches { Ok(()) } else { Err(missing(pass, next, batches, batches)) }
}

fn missing(pass: usize, start: usize, end: usize, batches: usize) -> Error {
    let received = format!("batches {start} to {} of pass {} missing", end.saturating_sub(1), pass + 1);
    let allowed = format!("all {batches} batches: a shard has not finished, or was not named");
    Error::invalid("shards to merge", received, allowed)
}
