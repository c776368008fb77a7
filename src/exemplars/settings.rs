//! What a result depends on, so that parts of different runs are not mixed.

use super::Part;
use super::options::Options;
use super::passes::Passes;
use super::state::SiteState;
use crate::graph::Site;
use crate::probe::{Images, Preprocess};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// Raised when files of another version of this program cannot be gone on with.
const FORMAT: u32 = 2;

/// Everything that a run depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub format: u32,
    /// [`Traced::fingerprint`](crate::Traced::fingerprint).
    pub model: String,
    pub probe: ProbeSet,
    pub sites: Vec<SiteRef>,
    /// What each pass reads.
    pub passes: Vec<Vec<Part>>,
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

impl ProbeSet {
    pub fn of(images: &dyn Images) -> Self {
        let (fingerprint, preprocess) = (images.fingerprint(), images.preprocess().clone());
        Self { images: images.len(), fingerprint, preprocess }
    }
}

impl Settings {
    pub fn new(passes: &Passes<'_, '_>, sites: &[Site], plan: Vec<Vec<Part>>) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            model: passes.traced.fingerprint()?,
            probe: ProbeSet::of(passes.source),
            sites: SiteRef::all(sites),
            passes: plan,
            // What the budget does is in `passes`; maps are not for files.
            options: Options { budget: None, maps: false, ..passes.options.clone() },
        })
    }

    /// The sites of a pass, before the first image; `None` for a pass that is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] for units that a site does not have.
    pub fn begin(&self, pass: usize) -> Result<Option<Vec<SiteState>>> {
        self.passes.get(pass).map_or(Ok(None), |parts| begin(&self.sites, parts, &self.options))
    }

    /// # Errors
    /// [`Error::Invalid`] that names the first difference to the settings that a file was made with.
    pub fn same_as(&self, other: &Settings, file: &Path, allowed: &str) -> Result<()> {
        same(self, other, file, allowed)
    }
}

impl SiteRef {
    pub fn all(sites: &[Site]) -> Vec<Self> {
        sites.iter().map(|s| Self { name: s.name.clone(), channels: s.units }).collect()
    }
}

/// What is kept of these parts of `sites`, before the first image; `None` for parts that are not there.
///
/// # Errors
/// [`Error::Invalid`] for units that a site does not have.
pub(super) fn begin(sites: &[SiteRef], parts: &[Part], options: &Options) -> Result<Option<Vec<SiteState>>> {
    let mut begun = Vec::with_capacity(parts.len());
    for part in parts {
        let Some(site) = sites.get(part.site) else { return Ok(None) };
        let units = options.units_of(&site.name, site.channels)?;
        let Some(units) = units.get(part.units.clone()) else { return Ok(None) };
        begun.push(SiteState::new(&site.name, site.channels, units.to_vec(), options));
    }
    Ok(Some(begun))
}

/// # Errors
/// [`Error::Invalid`] that names the first difference of `mine` to `theirs`, with which a file was made.
pub(super) fn same(mine: &impl Serialize, theirs: &impl Serialize, file: &Path, allowed: &str) -> Result<()> {
    let value = |of: serde_json::Result<Value>| of.map_err(|e| Error::io("write", file)(e.into()));
    let (mine, theirs) = (value(serde_json::to_value(mine))?, value(serde_json::to_value(theirs))?);
    let Some((what, mine, theirs)) = difference(&mine, &theirs, "") else { return Ok(()) };
    let what = match what.as_str() {
        "model" => "the model's fingerprint".to_string(),
        "probe.fingerprint" => "the fingerprint of the probe set (names, sizes and labels of its images)".to_string(),
        other => format!("`{other}`"),
    };
    Err(Error::invalid(file.display().to_string(), format!("{what} = {theirs}"), format!("{mine} {allowed}")))
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
