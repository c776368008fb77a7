//! What lies in a folder: images, folders that may be classes, and what is neither.

use super::kind::Kind;
use super::left_out::{Account, Why};
use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders nested deeper than this below a class are refused (links may form circles).
const MAX_DEPTH: usize = 16;
/// So much of another program's folder is looked at.
const COUNTED: usize = 100_000;

/// Folders that programs keep beside images, in lower case: of network drives, archives, file systems, viewers.
const OTHER_PROGRAMS: [&str; 18] = [
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "@sharebin",
    "#recycle",
    "#snapshot",
    "__macosx",
    "__pycache__",
    "_gsdata_",
    "$recycle.bin",
    "found.000",
    "lost+found",
    "system volume information",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
    "picasaoriginals",
];

/// Looks through a folder, and keeps an account of what it leaves out.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    root: &'a Path,
    pub account: Account,
}

impl<'a> Listing<'a> {
    /// Of what lies below `root`.
    pub fn new(root: &'a Path) -> Self {
        Self { root, account: Account::default() }
    }

    /// The path below the root, with `/` between the parts.
    pub fn name(&self, path: &Path) -> String {
        let below = path.strip_prefix(self.root).unwrap_or(path);
        below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// What lies directly in a folder, sorted: its sub-folders, and its images.
    pub fn of(&mut self, folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
            paths.push(entry.map_err(Error::io("list", folder))?.path());
        }
        paths.sort();
        let (mut folders, mut images) = (Vec::new(), Vec::new());
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hidden = name.starts_with('.');
            if path.is_dir() {
                if hidden || OTHER_PROGRAMS.contains(&name.to_lowercase().as_str()) {
                    self.leave(&path, &name, hidden);
                } else {
                    folders.push(path);
                }
                continue;
            }
            let left_out = match if hidden { Kind::of_name(&path) } else { Kind::of(&path) } {
                Kind::Other if hidden => continue,
                _ if hidden => (Why::Hidden, String::new()),
                Kind::Read => {
                    images.push(path);
                    continue;
                }
                Kind::Unread(kind) => (Why::KindNotRead, kind),
                Kind::Other => (Why::NoImage, String::new()),
            };
            let name = self.name(&path);
            self.account.add(left_out.0, &left_out.1, (1, false), || name);
        }
        Ok((folders, images))
    }

    /// All images of a folder and the folders in it, sorted by path.
    pub fn below(&mut self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut images = Vec::new();
        self.walk(folder, 1, &mut images)?;
        images.sort();
        Ok(images)
    }

    fn walk(&mut self, folder: &Path, depth: usize, images: &mut Vec<PathBuf>) -> Result<()> {
        if depth > MAX_DEPTH {
            let received = format!("{} and more below", folder.display());
            return Err(Error::invalid("depth of an image folder", received, format!("up to {MAX_DEPTH} folders")));
        }
        let (folders, here) = self.of(folder)?;
        images.extend(here);
        folders.iter().try_for_each(|f| self.walk(f, depth + 1, images))
    }

    /// Counts the images in another program's folder, by their names. A hidden folder without any is of no interest.
    fn leave(&mut self, folder: &Path, name: &str, hidden: bool) {
        let (mut found, mut left) = (0, COUNTED);
        let whole = count(folder, 1, &mut found, &mut left);
        if found > 0 || !hidden {
            let path = self.name(folder);
            self.account.add(Why::OtherProgram, name, (found, !whole), || path);
        }
    }
}

/// Adds the files below a folder that are named as images, and says whether all of it was seen. Links are not followed.
fn count(folder: &Path, depth: usize, found: &mut usize, left: &mut usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let mut whole = true;
    for entry in entries {
        let Ok((path, about)) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) else {
            whole = false;
            continue;
        };
        if *left == 0 {
            return false;
        }
        *left -= 1;
        if about.is_dir() {
            whole &= depth < MAX_DEPTH && count(&path, depth + 1, found, left);
        } else if Kind::of_name(&path) != Kind::Other {
            *found += 1;
        }
    }
    whole
}
