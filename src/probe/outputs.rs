//! Which output of a model each class folder is about.

use crate::diagnostic::Source;
use crate::error::nearest;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// How large a list of classes may be, in bytes.
const LIMIT: u64 = 1 << 24;

/// The names of a model's outputs, from a file with a line for each, in the order of the outputs.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::Faults`] for one that is not UTF-8 text; [`Error::Invalid`] for
/// one that is too large, has no line, or an empty one between others.
pub fn read_classes(file: impl AsRef<Path>) -> Result<Vec<String>> {
    let file = file.as_ref();
    let source = Source::read(file, LIMIT)?;
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text).trim_end();
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    let what = |line: usize| format!("line {line} of {}", file.display());
    let allowed = "a name on each line: that of the class, or of its folder, for each output of the model in its order";
    match names.iter().position(String::is_empty) {
        Some(i) => Err(Error::invalid(what(i + 1), "an empty line", allowed)),
        None if names.is_empty() => Err(Error::invalid(what(1), "nothing", allowed)),
        None => Ok(names),
    }
}

/// The names of a model's outputs, and the output of each class folder.
#[derive(Debug, Clone)]
pub(super) struct Outputs {
    names: Vec<String>,
    folders: Vec<String>,
    of_folder: Vec<usize>,
    folder_of: BTreeMap<usize, usize>,
}

impl Outputs {
    /// # Errors
    /// [`Error::Invalid`] naming the first folder that has the name of no output, or of several.
    pub fn new(names: &[String], folders: &[String]) -> Result<Self> {
        let mut places = BTreeMap::<&str, Vec<usize>>::new();
        for (i, name) in names.iter().enumerate() {
            places.entry(name.as_str()).or_default().push(i);
        }
        let output = |folder: &String| match places.get(folder.as_str()).map(Vec::as_slice) {
            Some([one]) => Ok(*one),
            Some(several) => {
                let lines = several.iter().map(|i| (i + 1).to_string()).collect::<Vec<_>>().join(", ");
                let received = format!("a name that {} of the {} classes have: {lines}", several.len(), names.len());
                Err(Error::invalid(format!("class folder `{folder}`"), received, "a name that one of them has"))
            }
            None => {
                let received = format!("a name that none of the {} classes has", names.len());
                let like = nearest(folder, names.iter().map(String::as_str));
                let shown = if like.is_empty() { names.iter().take(3).cloned().collect() } else { like };
                let shown = shown.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Err(Error::invalid(format!("class folder `{folder}`"), received, format!("one of them, as {shown}")))
            }
        };
        let of_folder: Vec<usize> = folders.iter().map(output).collect::<Result<_>>()?;
        let folder_of = of_folder.iter().enumerate().map(|(folder, output)| (*output, folder)).collect();
        Ok(Self { names: names.to_vec(), folders: folders.to_vec(), of_folder, folder_of })
    }

    /// The names of the outputs, in their order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The class folders, in their order.
    pub fn folders(&self) -> &[String] {
        &self.folders
    }

    /// The output that a class folder is about.
    pub fn of_folder(&self, folder: usize) -> Option<usize> {
        self.of_folder.get(folder).copied()
    }

    /// The class folder that is about an output.
    pub fn folder_of(&self, output: usize) -> Option<usize> {
        self.folder_of.get(&output).copied()
    }
}
