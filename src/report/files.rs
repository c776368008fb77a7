//! A report's files.

use super::{Report, csv, json, markdown, picture};
use crate::files::write_atomically;
use crate::{Error, Result, UnitId};
use image::RgbImage;
use rayon::prelude::*;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    let mut written = Written::files(report, folder)?;
    let pictured: Vec<&UnitId> = pictured(report).collect();
    written.pictures(folder, &pictured, picture);
    written.finish()
}

/// The units whose entry names a picture.
pub(super) fn pictured(report: &Report) -> impl Iterator<Item = &UnitId> {
    report.units.iter().filter(|u| u.picture.is_some()).map(|u| &u.id)
}

/// What was written, and what could not be.
pub(super) struct Written(Vec<Result<PathBuf>>);

impl Written {
    /// Writes all but the pictures.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be made.
    pub fn files(report: &Report, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        type Renderer = fn(&Report, &mut dyn Write) -> io::Result<()>;
        let renderers: [Renderer; 3] = [json::write, csv::write, markdown::write];
        let write = |(name, render): (&&str, Renderer)| {
            let path = folder.join(name);
            write_atomically(&path, |out| render(report, out)).map(|()| path)
        };
        Ok(Self(FILES.iter().zip(renderers).map(write).collect()))
    }

    /// Draws and writes pictures on all cores.
    pub fn pictures(
        &mut self,
        folder: &Path,
        units: &[&UnitId],
        picture: &(dyn Fn(&UnitId) -> Option<RgbImage> + Sync),
    ) {
        if units.is_empty() {
            return;
        }
        let pictures = folder.join("pictures");
        match std::fs::create_dir_all(&pictures) {
            Err(e) => self.failed(Error::io("create", &pictures)(e)),
            Ok(()) => {
                let written: Vec<_> = units.par_iter().map(|&id| write_picture(id, folder, picture)).collect();
                self.0.extend(written);
            }
        }
    }

    /// Something that should have been written was not.
    pub fn failed(&mut self, error: Error) {
        self.0.push(Err(error));
    }

    /// # Errors
    /// One error as it is, several as [`Error::Several`].
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        let (mut paths, mut errors) = (Vec::with_capacity(self.0.len()), Vec::new());
        for result in self.0 {
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
}

fn write_picture(
    id: &UnitId,
    folder: &Path,
    picture: &(dyn Fn(&UnitId) -> Option<RgbImage> + Sync),
) -> Result<PathBuf> {
    let path = folder.join(picture::path(id));
    let image = picture(id).ok_or_else(|| Error::invalid(format!("the picture of {id}"), "none", "an image"))?;
    write_atomically(&path, |out| picture::write_png(&image, out)).map(|()| path)
}

/// Makes `folder` if need be and checks that files can be made in it: better now than after minutes of work.
///
/// # Errors
/// [`Error::Io`] with the folder.
pub fn check_writable(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    tempfile::tempfile_in(folder).map(drop).map_err(Error::io("write to", folder))
}
