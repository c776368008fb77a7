//! Files that appear whole or not at all.

use crate::{Error, Result};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a file so that it is seen either whole or not at all: a temporary file in the same folder, flushed to the
/// disk, then renamed. An older file of that name stays as it is until then, and for good when anything fails.
///
/// # Errors
/// [`Error::Io`] with the path, for what `write` returns and for what the file system refuses.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
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
    let synced = std::fs::File::open(&part).and_then(|f| f.sync_all());
    synced.and_then(|()| std::fs::rename(&part, path)).map_err(failed)?;
    sync_folder(folder_of(path));
    Ok(())
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
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = folder;
}
