//! The files of an image folder, in little memory: tens of millions of them fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files below a folder, in order, with the class of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    root: PathBuf,
    /// All names, one after the other.
    names: String,
    /// Where each name ends.
    ends: Vec<usize>,
    /// The files whose path does not follow from their name: those that are not Unicode.
    odd: BTreeMap<usize, PathBuf>,
    /// The names of the classes; empty without classes.
    classes: Vec<String>,
    /// Where each class ends.
    class_ends: Vec<usize>,
}

impl Files {
    /// No files yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf(), ..Self::default() }
    }

    /// Appends files that lie below the root.
    pub fn add(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            let start = self.names.len();
            let below = path.strip_prefix(&self.root).unwrap_or(&path);
            for (i, part) in below.components().enumerate() {
                if i > 0 {
                    self.names.push('/');
                }
                self.names.push_str(&part.as_os_str().to_string_lossy());
            }
            self.ends.push(self.names.len());
            if self.joined(&self.names[start..]).as_os_str() != path.as_os_str() {
                self.odd.insert(self.ends.len() - 1, path);
            }
        }
    }

    /// What was added since the last call is a class.
    pub fn end_class(&mut self, name: String) {
        self.classes.push(name);
        self.class_ends.push(self.ends.len());
    }

    /// Gives back the memory that more files would have taken.
    pub fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.ends.shrink_to_fit();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The path below the root, with `/` between the parts. Panics unless `i < len()`.
    pub fn name(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.names[start..self.ends[i]]
    }

    /// Panics unless `i < len()`.
    pub fn path(&self, i: usize) -> PathBuf {
        self.odd.get(&i).cloned().unwrap_or_else(|| self.joined(self.name(i)))
    }

    fn joined(&self, name: &str) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(name.split('/'));
        path
    }

    /// The class of a file; `None` without classes. Panics unless `i < len()`.
    pub fn label(&self, i: usize) -> Option<usize> {
        assert!(i < self.len(), "file {i} of {}", self.len());
        (!self.classes.is_empty()).then(|| self.class_ends.partition_point(|&end| end <= i))
    }

    pub fn classes(&self) -> &[String] {
        &self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_paths_and_classes_are_kept() {
        let root = Path::new("some/root");
        let mut files = Files::new(root);
        let paths = ["a/1.png", "a/deep/2 ü.png", "c/3.png"].map(|name| root.join(name));
        files.add(paths[..2].to_vec());
        files.end_class("a".into());
        files.add(paths[2..].to_vec());
        files.end_class("c".into());
        files.shrink();
        assert_eq!(files.len(), 3);
        assert_eq!([0, 1, 2].map(|i| files.name(i)), ["a/1.png", "a/deep/2 ü.png", "c/3.png"]);
        assert_eq!([0, 1, 2].map(|i| files.path(i)), paths);
        assert_eq!([0, 1, 2].map(|i| files.label(i)), [Some(0), Some(0), Some(1)]);
        assert_eq!(files.classes(), ["a", "c"]);
        assert!(files.odd.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_unicode_keep_their_paths() {
        use std::os::unix::ffi::OsStrExt;
        let root = Path::new("root");
        let paths: Vec<PathBuf> =
            [&b"a.png"[..], b"b\xff.png", b"c.png"].iter().map(|n| root.join(std::ffi::OsStr::from_bytes(n))).collect();
        let mut files = Files::new(root);
        files.add(paths.clone());
        assert_eq!((0..3).map(|i| files.path(i)).collect::<Vec<_>>(), paths);
        assert_eq!((files.name(1), files.label(1)), ("b\u{fffd}.png", None));
        assert_eq!(files.odd.len(), 1);
    }
}
