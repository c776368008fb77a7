//! Files that appear whole or not at all.

use crate::{Error, Result};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Writes a file so that it is seen either whole or not at all: a temporary file in the same folder, flushed to the
/// disk, then renamed. An older file of that name stays as it is until then, and for good when anything fails.
///
/// # Errors
/// [`Error::Io`] with the path, for what `write` returns and for what the file system refuses.
pub(crate) fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let attempt = || {
        let mut file = part_of(path)?;
        let mut out = BufWriter::new(file.as_file_mut());
        write(&mut out)?;
        out.flush()?;
        drop(out);
        put(file, path)
    };
    attempt().map_err(Error::io("write", path))
}

/// As [`write_atomically`], for a path that somebody gave: what a link names is written, and the link stays; a pipe or
/// device is written to as it is.
///
/// # Errors
/// As there.
pub(crate) fn save(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let is_special = std::fs::metadata(path).is_ok_and(|m| !m.is_file() && !m.is_dir());
    if !is_special {
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        return write_atomically(&target, write);
    }
    let direct = || {
        let mut out = BufWriter::new(std::fs::OpenOptions::new().write(true).open(path)?);
        write(&mut out)?;
        out.flush()
    };
    direct().map_err(Error::io("write", path))
}

/// As [`write_atomically`], for libraries that write to a path of their own: `write` gets a path that ends in the same
/// file name.
///
/// # Errors
/// What `write` returns; [`Error::Io`] for what the file system refuses.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |e| Error::io("write", path)(e);
    let name = path.file_name().ok_or_else(|| Error::invalid("file", path.display(), "a path that ends in a name"))?;
    let made = tempfile::Builder::new().prefix(".tch-audit-").suffix(".part").tempdir_in(folder_of(path));
    let folder = made.map_err(|e| failed(io::Error::from(e.kind())))?;
    let part = folder.path().join(name);
    write(&part)?;
    let synced = File::open(&part).and_then(|f| f.sync_all());
    synced.and_then(|()| std::fs::rename(&part, path)).map_err(failed)?;
    sync_folder(folder_of(path));
    Ok(())
}

/// As [`replace`], with the temporary file always at `PATH.part`: for a file with one writer that is replaced again and
/// again, so that a writer that is killed leaves one such file at most.
///
/// # Errors
/// What `write` returns; [`Error::Io`] for what the file system refuses.
pub(crate) fn replace_at(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let put = || {
        write(&part)?;
        let synced = File::open(&part).and_then(|f| f.sync_all());
        synced.and_then(|()| std::fs::rename(&part, path)).map_err(Error::io("write", path))
    };
    put().inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    sync_folder(folder_of(path));
    Ok(())
}

/// Files of one folder that appear together: prepared in a hidden folder beside them, then put in place one after the
/// other. Until [`put`](Self::put), dropping this leaves the folder as it was.
pub(crate) struct Staging {
    root: PathBuf,
    part: tempfile::TempDir,
    names: Vec<PathBuf>,
}

impl Staging {
    /// # Errors
    /// [`Error::Io`] when nothing can be written in `root`.
    pub fn new(root: &Path) -> Result<Self> {
        let made = tempfile::Builder::new().prefix(".tch-audit-").suffix(".part").tempdir_in(root);
        let part = made.map_err(|e| Error::io("write to", root)(io::Error::from(e.kind())))?;
        Ok(Self { root: root.to_path_buf(), part, names: Vec::new() })
    }

    /// Where to write what will be the file `name` of the folder; the last file added is put in place last.
    ///
    /// # Errors
    /// [`Error::Io`] when a sub-folder for it cannot be made.
    pub fn add(&mut self, name: impl Into<PathBuf>) -> Result<PathBuf> {
        let name = name.into();
        let path = self.part.path().join(&name);
        std::fs::create_dir_all(folder_of(&path)).map_err(Error::io("create", folder_of(&path)))?;
        self.names.push(name);
        Ok(path)
    }

    /// Puts all files in place.
    ///
    /// # Errors
    /// [`Error::Io`] with the first file that cannot be.
    pub fn put(self) -> Result<()> {
        for name in &self.names {
            let synced = File::open(self.part.path().join(name)).and_then(|f| f.sync_all());
            synced.map_err(Error::io("write", self.root.join(name)))?;
        }
        for name in &self.names {
            let path = self.root.join(name);
            let folder = folder_of(&path);
            let is_new = !folder.exists();
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
            if let Err(error) = std::fs::rename(self.part.path().join(name), &path) {
                if is_new {
                    let _ = std::fs::remove_dir(folder);
                }
                return Err(Error::io("write", &path)(error));
            }
            sync_folder(folder);
        }
        Ok(())
    }
}

/// A file that is read and written at given places, from any thread.
#[derive(Debug)]
pub(crate) struct Positioned {
    path: PathBuf,
    file: Mutex<File>,
}

impl Positioned {
    /// A file that was opened; `path` is what errors call it.
    pub fn new(path: &Path, file: File) -> Self {
        Self { path: path.to_path_buf(), file: Mutex::new(file) }
    }

    /// Opens a file to be read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(path, File::open(path).map_err(Error::io("read", path))?))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`] when there are fewer.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.at("read", |file| file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(out)))
    }

    /// Writes `bytes` from `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.at("write", |file| file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes)))
    }

    /// How many bytes there are.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn len(&self) -> Result<u64> {
        self.at("read", |file| Ok(file.metadata()?.len()))
    }

    /// Sees to it that what was written is on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.at("write", |file| file.sync_data())
    }

    fn at<R>(&self, action: &'static str, work: impl FnOnce(&mut File) -> io::Result<R>) -> Result<R> {
        // Whoever panicked left no half state: every call says where.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut file).map_err(Error::io(action, &self.path))
    }
}

/// A temporary file beside `path`.
fn part_of(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // Its own error names the temporary file, which nobody asked for.
    let new = builder().prefix(".tch-audit-").suffix(".part").tempfile_in(folder_of(path));
    new.map_err(|e| io::Error::from(e.kind()))
}

fn put(part: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    part.as_file().sync_all()?;
    part.persist(path).map_err(|e| e.error)?;
    sync_folder(folder_of(path));
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
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
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_atomically(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::Error::other("interrupted"))
        });
        let error = failed.unwrap_err();
        assert!(error.to_string().contains("a.txt"), "{error}");
        assert_eq!(error.source().unwrap().to_string(), "interrupted");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file was left behind");
        assert!(write_atomically(&folder.path().join("none/b.txt"), |_| Ok(())).is_err());
    }
}
