//! Files, folders and texts to [`Policies`].

use super::{Policies, Policy, Vocabulary, shape, validate};
use crate::diagnostic::Source;
use crate::{ConceptName, Error, Result};
use std::path::{Path, PathBuf};

/// How large a policy file may be, in bytes.
const LIMIT: u64 = 1 << 24;

/// The policies that come with tch-audit, by name, as they stand in the folder `policies` of its source.
const SHIPPED: [(&str, &str); 7] = [
    ("colors", include_str!("../../policies/colors.toml")),
    ("faces", include_str!("../../policies/faces.toml")),
    ("frames", include_str!("../../policies/frames.toml")),
    ("people", include_str!("../../policies/people.toml")),
    ("quality", include_str!("../../policies/quality.toml")),
    ("text", include_str!("../../policies/text.toml")),
    ("watermarks", include_str!("../../policies/watermarks.toml")),
];

/// A policy file with every key and its default, to start from.
pub const TEMPLATE: &str = include_str!("../../policies/template.toml");

/// The files of the policies that come with tch-audit: name and text, by name.
pub fn shipped_files() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    SHIPPED.into_iter()
}

/// Loads policies, with the concepts that can be measured if they are known.
///
/// ```
/// # fn main() -> tch_audit::Result<()> {
/// let loader = tch_audit::policy::Loader::new().concepts(&tch_audit::ConceptName::built_in());
/// let policies = loader.parse("text", "level = 'deny'\nreason = 'shortcut'\nmatch.concepts = ['text']")?;
/// assert_eq!(policies.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Loader {
    vocabulary: Vocabulary,
}

impl Default for Loader {
    fn default() -> Self {
        Self { vocabulary: Vocabulary::open() }
    }
}

impl Loader {
    /// A loader that takes every concept's name as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// From here on, a concept by another name than those of `concepts` and their families is a fault.
    pub fn concepts<'a>(mut self, concepts: impl IntoIterator<Item = &'a ConceptName>) -> Self {
        self.vocabulary = Vocabulary::of(concepts);
        self
    }

    /// Every `.toml` file of a folder, by name; not its sub-folders, and not files whose name begins with a dot.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder or a file cannot be read, [`Error::Invalid`] if there is no policy in it,
    /// [`Error::Faults`] with every fault of every file.
    pub fn load_dir(&self, path: impl AsRef<Path>) -> Result<Policies> {
        let path = path.as_ref();
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(path).map_err(Error::io("list", path))? {
            let file = entry.map_err(Error::io("list", path))?.path();
            let is_toml = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
            let is_hidden = file.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if is_toml && !is_hidden && !file.is_dir() {
                files.push(file);
            }
        }
        if files.is_empty() {
            let allowed = "a folder with at least one file NAME.toml";
            return Err(Error::invalid("the folder of policies", path.display(), allowed));
        }
        files.sort();
        let sources = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
        self.build(sources)
    }

    /// One file; the policy is called by its stem.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Faults`] with every fault.
    pub fn load(&self, file: impl AsRef<Path>) -> Result<Policies> {
        self.build(vec![read(file.as_ref())?])
    }

    /// Every file and folder of `paths`.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`load_dir`](Self::load_dir), and [`Error::Invalid`] when two policies have one name.
    pub fn load_all<P: AsRef<Path>>(&self, paths: impl IntoIterator<Item = P>) -> Result<Policies> {
        paths.into_iter().try_fold(Policies::default(), |all, path| {
            let path = path.as_ref();
            all.join(if path.is_dir() { self.load_dir(path)? } else { self.load(path)? })
        })
    }

    /// A policy from memory. In messages it is called `NAME.toml`.
    ///
    /// # Errors
    /// [`Error::Faults`] with every fault.
    pub fn parse(&self, name: &str, text: &str) -> Result<Policies> {
        let source = Source::new(format!("{name}.toml"), text);
        self.build(vec![(name.to_string(), source)])
    }

    /// The policies that come with tch-audit, those of the folder `policies` of its source.
    ///
    /// # Errors
    /// [`Error::Faults`] if one asks for a concept that is not known.
    pub fn shipped(&self) -> Result<Policies> {
        // Not `policies/...`: that is where one's own are.
        let file = |name: &str| format!("tch-audit/policies/{name}.toml");
        let source = |text: &str, name: &str| Source::new(file(name), text);
        self.build(SHIPPED.iter().map(|(name, text)| (name.to_string(), source(text, name))).collect())
    }

    fn build(&self, sources: Vec<(String, Source)>) -> Result<Policies> {
        let mut policies: Vec<Policy> = Vec::new();
        let mut refused = Vec::new();
        for (name, source) in sources {
            let validate = |config| validate::validate(&name, &source, config, &self.vocabulary);
            match shape::parse(&source.text).and_then(validate) {
                Ok(policy) if policies.iter().any(|p| p.name == policy.name) => {
                    let allowed = "one file per name (letter case of the extension aside)";
                    return Err(Error::invalid("the name of a policy", name, allowed));
                }
                Ok(policy) => policies.push(policy),
                Err(faults) => refused.push(source.placed(&faults)),
            }
        }
        if refused.is_empty() {
            policies.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Policies(policies))
        } else {
            Err(Error::Faults { files: refused })
        }
    }
}

/// A file's policy name and text.
fn read(file: &Path) -> Result<(String, Source)> {
    let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    Ok((name, Source::read(file, LIMIT)?))
}
