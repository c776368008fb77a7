//! What can go wrong, in one enum.
//!
//! Every message names the thing, says what was received and what is allowed,
//! and, for misspelt names, the nearest valid ones. A message never repeats its
//! source: print the chain.

use crate::Reason;
use crate::fault::{FileFaults, PlacedFault};
use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
///
/// `Debug` is the message with its chain of sources: what a `main` that returns this error prints is a sentence.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried: `read`, `write`, `list`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An image file could not be decoded.
    #[error("{path} is not a readable image: {reason}")]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        reason: String,
    },
    /// A file was given as a model and is something else.
    #[error("{path} is {what}; {remedy}")]
    NotTorchScript {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// An option, a flag or an argument has a value that makes no sense.
    #[error("{what}: received {received}, allowed {allowed}")]
    Invalid {
        /// Which option.
        what: String,
        /// Its value, as text.
        received: String,
        /// What would have been accepted.
        allowed: String,
    },
    /// A site, layer or other thing was asked for by a name that does not exist.
    #[error("no {kind} named `{name}`{}", suggestion(nearest))]
    Unknown {
        /// What kind of thing: `site`, `concept`, …
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The nearest valid names, best first.
        nearest: Vec<String>,
    },
    /// Something cannot be measured, and nothing is said rather than something wrong.
    #[error("{what}: not measured: {reason}")]
    NotMeasured {
        /// `accuracy`.
        what: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// A tensor has the wrong shape.
    #[error("{what}: received shape {received:?}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: String,
        /// Its shape.
        received: Vec<i64>,
        /// What shape it should have, in words.
        expected: String,
    },
    /// The model's forward pass failed (the panic of a tch closure included).
    #[error("the model's forward pass failed on an input of shape {input:?}: {message}")]
    Forward {
        /// The first line of what libtorch or the model said.
        message: String,
        /// The shape of the input.
        input: Vec<i64>,
    },
    /// libtorch failed somewhere else than in the model's forward pass.
    #[error("libtorch failed while {during}: {message}")]
    Torch {
        /// What was being done.
        during: String,
        /// The first line of what libtorch said.
        message: String,
    },
    /// The observer of a forward pass panicked; the pass itself ran to its end.
    #[error("the observer of a forward pass panicked: {message}")]
    ObserverPanicked {
        /// The panic's message.
        message: String,
    },
    /// A forward pass was observed from inside another observed forward pass.
    #[error("a forward pass is already being observed on this thread; observations do not nest")]
    NestedObservation,
    /// A site that the graph knows did not appear in a forward pass.
    #[error("site `{site}` did not appear in this forward pass: {why}")]
    SiteNotSeen {
        /// The site.
        site: String,
        /// What decides whether it appears, or what may have happened.
        why: String,
    },
    /// An activation is NaN or infinite.
    #[error("the activation of {site} unit {unit} on image {image} is {value}")]
    NonFinite {
        /// The site.
        site: String,
        /// The unit.
        unit: usize,
        /// The image, by name.
        image: String,
        /// `NaN`, `inf` or `-inf`.
        value: f32,
    },
    /// One or more files (policies, configuration, tables, reports) are wrong; the text shows every place.
    #[error("{}", files.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Faults {
        /// The files with their faults; each is shown with file, line, caret and suggestion.
        files: Vec<FileFaults>,
    },
    /// An edit cannot be made exactly, so it is not made.
    #[error("cannot {action} {unit}: {reason}")]
    Refused {
        /// What kind of reason.
        kind: Reason,
        /// `mask`, `zero`, `prune` or `repair`.
        action: &'static str,
        /// The unit or site.
        unit: String,
        /// Why.
        reason: String,
    },
    /// An edit was made, did not verify, and was taken back.
    #[error("the edit was rolled back: {reason}")]
    RolledBack {
        /// What kind of reason.
        kind: Reason,
        /// What the verification found.
        reason: String,
    },
    /// A policy with level `deny` is violated, or a notice about the policies has that level.
    #[error("denied: {violations}")]
    Denied {
        /// What violates what: `4 units violate text, 1 faces`.
        violations: String,
    },
    /// Several things failed, independently of each other.
    #[error("{} failures:{}", errors.len(), chains(errors))]
    Several {
        /// What failed, in order; two or more.
        errors: Vec<Error>,
    },
}

impl Error {
    /// What is wrong with files, where that is the error: code, message and place of every fault.
    pub fn faults(&self) -> impl Iterator<Item = &PlacedFault> {
        let files = if let Error::Faults { files } = self { files.as_slice() } else { &[] };
        files.iter().flat_map(FileFaults::faults)
    }

    /// An [`Error::Io`], for `map_err`.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Torch`] with the first line of libtorch's message, for `map_err`.
    pub(crate) fn torch(during: impl Into<String>) -> impl FnOnce(tch::TchError) -> Error {
        let during = during.into();
        move |e| Error::Torch { during, message: first_line(&e.to_string()) }
    }

    /// An [`Error::Unknown`] with the nearest of the valid names.
    pub(crate) fn unknown<'a>(kind: &'static str, name: &str, valid: impl IntoIterator<Item = &'a str>) -> Error {
        Error::Unknown { kind, name: name.to_string(), nearest: nearest(name, valid) }
    }

    /// An [`Error::Invalid`].
    pub(crate) fn invalid(what: impl Into<String>, received: impl ToString, allowed: impl Into<String>) -> Error {
        Error::Invalid { what: what.into(), received: received.to_string(), allowed: allowed.into() }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut link = std::error::Error::source(self);
        while let Some(source) = link {
            write!(f, ": {source}")?;
            link = source.source();
        }
        Ok(())
    }
}

/// Every error with its sources on a line of its own.
fn chains(errors: &[Error]) -> String {
    errors.iter().map(|error| format!("\n- {error:?}")).collect()
}

fn suggestion(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!("; did you mean {}?", names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The up to three names nearest to `name`, best first; names that have nothing in common with it are left out.
pub fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let lower = name.to_lowercase();
    let mut scored: Vec<(f64, &str)> = valid
        .into_iter()
        .map(|v| (strsim::jaro_winkler(&lower, &v.to_lowercase()), v))
        .filter(|(score, _)| *score > 0.7)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, v)| v.to_string()).collect()
}

/// The first line of a libtorch message: its C++ frames and its wrapping by tch are dropped.
pub(crate) fn first_line(message: &str) -> String {
    let unwrapped = message
        .strip_prefix("called `Result::unwrap()` on an `Err` value: Torch(\"")
        .map(|m| m.strip_suffix("\")").unwrap_or(m).replace("\\n", "\n").replace("\\\"", "\""));
    let text = unwrapped.as_deref().unwrap_or(message);
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(text);
    // A TorchScript traceback ends with the line that says what went wrong.
    if text.contains("Traceback of TorchScript") {
        if let Some(line) = text.lines().find_map(|l| l.trim().strip_prefix("RuntimeError: ")) {
            return line.to_string();
        }
        // The model's own: `builtins.ValueError: …`.
        let raised =
            |l: &&str| l.split_once(": ").is_some_and(|(kind, _)| kind.ends_with("Error") && !kind.contains(' '));
        if let Some((_, line)) = text.lines().rfind(raised).and_then(|l| l.split_once(": ")) {
            return line.to_string();
        }
    }
    text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or("no message").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tch_unwrap_is_reduced_to_libtorchs_first_line() {
        let m = "called `Result::unwrap()` on an `Err` value: Torch(\"mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)\\nException raised from addmm at x.cpp:1 (most recent call first):\\nframe #0: foo\")";
        assert_eq!(first_line(m), "mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)");
    }

    #[test]
    fn what_main_prints_is_a_sentence_with_its_causes() {
        let denied = Error::Denied { violations: "4 units violate text".to_string() };
        assert_eq!(format!("{denied:?}"), "denied: 4 units violate text");
        let missing = || Error::io("read", "photos")(std::io::Error::other("no such folder"));
        assert_eq!(format!("{:?}", missing()), "cannot read photos: no such folder");
        assert_eq!(format!("{:#?}", missing()), "cannot read photos: no such folder");
        let several = Error::Several { errors: vec![missing(), denied] };
        let expected = "2 failures:\n- cannot read photos: no such folder\n- denied: 4 units violate text";
        assert_eq!(format!("{several:?}"), expected);
    }

    #[test]
    fn nearest_names_come_best_first_and_strangers_are_left_out() {
        assert_eq!(nearest("layer3.1.cov2", ["layer3.1.conv2", "layer3.1.conv1", "fc"])[0], "layer3.1.conv2");
        assert!(nearest("layer3", ["xyz"]).is_empty());
    }
}
