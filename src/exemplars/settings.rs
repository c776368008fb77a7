//! What a result depends on, so that parts of different runs are not mixed.

use super::options::Options;
use super::pass::Passes;
use crate::graph::Site;
use crate::probe::Preprocess;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// Raised when files of another version of this program cannot be gone on with.
const FORMAT: u32 = 1;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub format: u32,
    /// [`Traced::fingerprint`](crate::Traced::fingerprint).
    pub model: String,
    pub probe: ProbeSet,
    pub sites: Vec<SiteRef>,
    /// The sites of each pass.
    pub passes: Vec<Range<usize>>,
    pub options: Options,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeSet {
    pub images: usize,
    /// [`Images::fingerprint`](crate::probe::Images::fingerprint).
    pub fingerprint: String,
    pub preprocess: Preprocess,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SiteRef {
    pub name: String,
    pub channels: usize,
}

impl Settings {
    pub fn new(passes: &Passes<'_, '_>, sites: &[Site], plan: Vec<Range<usize>>) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            model: passes.traced.fingerprint()?,
            probe: ProbeSet {
                images: passes.source.len(),
                fingerprint: passes.source.fingerprint(),
                preprocess: passes.source.preprocess().clone(),
            },
            sites: sites.iter().map(|s| SiteRef { name: s.name.clone(), channels: s.units }).collect(),
            passes: plan,
            // What it does is in `passes`.
            options: Options { budget: None, ..passes.options.clone() },
        })
    }

    /// # Errors
    /// [`Error::Invalid`] that names the first difference to the settings that a file was made with.
    pub fn same_as(&self, other: &Settings, file: &Path, allowed: &str) -> Result<()> {
        let (mine, theirs) = (serde_json::to_value(self), serde_json::to_value(other));
        let difference = match (mine, theirs) {
            (Ok(mine), Ok(theirs)) => difference(&mine, &theirs, ""),
            _ => (self != other).then(|| ("settings".to_string(), String::new(), String::new())),
        };
        let Some((what, mine, theirs)) = difference else { return Ok(()) };
        let what = match what.as_str() {
            "model" => "the model's fingerprint".to_string(),
            "probe.fingerprint" => {
                "the fingerprint of the probe set (names, sizes and labels of its images)".to_string()
            }
            other => format!("`{other}`"),
        };
        Err(Error::invalid(file.display().to_string(), format!("{what} = {theirs}"), format!("{mine} {allowed}")))
    }
}

/// The first place where two values differ, and what they have there.
fn difference(mine: &Value, theirs: &Value, path: &str) -> Option<(String, String, String)> {
    let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match (mine, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            keys.into_iter().find_map(|key| {
                let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
                difference(&of(a), &of(b), &below(key))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(a, b, &below(&i.to_string())))
        }
        (a, b) if a == b => None,
        (Value::Array(a), Value::Array(b)) => {
            Some((path.to_string(), format!("{} entries", a.len()), format!("{} entries", b.len())))
        }
        (a, b) => Some((path.to_string(), a.to_string(), b.to_string())),
    }
}
