//! Files that appear whole or not at all.

use super::{Report, csv, json, markdown, picture};
use crate::{Error, Result, UnitId};
use image::RgbImage;
use rayon::prelude::*;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file so that it is seen either whole or not at all: a temporary file in the same folder, flushed to the
/// disk, then renamed. An older file of that name stays as it is until then, and for good when anything fails.
///
/// # Errors
/// [`Error::Io`] with the path, for what `write` returns and for what the file system refuses.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let attempt = || {
        // Its own error names the temporary file, which nobody asked for.
        let new = builder().prefix(".tch-audit-").suffix(".part").tempfile_in(folder);
        let mut file = new.map_err(|e| io::Error::from(e.kind()))?;
        let mut out = BufWriter::new(file.as_file_mut());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        sync_folder(folder);
        Ok(())
    };
    attempt().map_err(Error::io("write", path))
}

/// Files as the user's mask makes them: temporary files would be readable by their owner only.
fn builder() -> tempfile::Builder<'static, 'static> {
    #[allow(unused_mut)]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}

/// Makes the rename last. Not every file system can; the file is whole either way.
fn sync_folder(folder: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

/// The files that [`write_all`] writes beside pictures.
pub const FILES: [&str; 3] = ["report.json", "neurons.csv", "report.md"];

/// Writes `report.json`, `neurons.csv`, `report.md` and the pictures of all units that have one into `folder`, which is
/// made if need be. Returns the paths, pictures last.
///
/// `picture` is asked for the picture of every unit whose entry names one, from several threads.
///
/// # Errors
/// All of them: what cannot be written keeps nothing else from being written. One error comes as it is, several as
/// [`Error::Several`].
pub fn write_all(
    report: &Report,
    folder: &Path,
    picture: &(dyn Fn(&UnitId) -> Option<RgbImage> + Sync),
) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    type Renderer = fn(&Report, &mut dyn Write) -> io::Result<()>;
    let renderers: [Renderer; 3] = [json::write, csv::write, markdown::write];
    let mut results: Vec<Result<PathBuf>> = FILES
        .iter()
        .zip(renderers)
        .map(|(name, render)| {
            let path = folder.join(name);
            write_atomically(&path, |out| render(report, out)).map(|()| path)
        })
        .collect();

    let pictured: Vec<&UnitId> = report.units.iter().filter(|u| u.picture.is_some()).map(|u| &u.id).collect();
    if !pictured.is_empty() {
        let pictures = folder.join("pictures");
        match std::fs::create_dir_all(&pictures) {
            Err(e) => results.push(Err(Error::io("create", &pictures)(e))),
            Ok(()) => {
                let written: Vec<_> = pictured.par_iter().map(|&id| write_picture(id, folder, picture)).collect();
                results.extend(written);
            }
        }
    }

    let (mut paths, mut errors) = (Vec::with_capacity(results.len()), Vec::new());
    for result in results {
        match result {
            Ok(path) => paths.push(path),
            Err(e) => errors.push(e),
        }
    }
    match errors.len() {
        0 => Ok(paths),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several { errors }),
    }
}

fn write_picture(
    id: &UnitId,
    folder: &Path,
    picture: &(dyn Fn(&UnitId) -> Option<RgbImage> + Sync),
) -> Result<PathBuf> {
    let path = folder.join(picture::path(id));
    let image = picture(id).ok_or_else(|| Error::invalid(format!("the picture of {id}"), "none", "an image"))?;
    write_atomically(&path, |out| picture::write_png(&image, out))?;
    Ok(path)
}
