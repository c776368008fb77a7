//! The parts of a report that say what was audited and what its units respond to.

use super::{plural, thousands};
use crate::UnitId;
use crate::describe::{DescribedUnit, Description, Status};
use crate::evidence::ConceptEvidence;
use crate::exemplars::UnitExemplars;
use crate::graph::Site;
use crate::probe::{Images, LeftOutFiles, Preprocess, Skipped, left_out_sentence};
use crate::stats::Accuracy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What made the report. The default is this crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// `tch-audit`.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Default for Tool {
    fn default() -> Self {
        Self { name: env!("CARGO_PKG_NAME").to_string(), version: env!("CARGO_PKG_VERSION").to_string() }
    }
}

/// What was judged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// A model, shown images.
    #[default]
    Model,
    /// Descriptions that some other tool made; model and probe are not known.
    Descriptions {
        /// The file.
        file: String,
    },
}

/// The model.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelInfo {
    /// Its file or what its owner calls it.
    pub name: String,
    /// Numbers in its parameters.
    pub parameters: u64,
    /// What it computes as in training, in a sentence; none for a model in evaluation mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<String>,
    /// The audited sites, in order of execution.
    pub sites: Vec<SiteInfo>,
}

/// One audited site.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SiteInfo {
    /// Its name, see [`crate::graph`].
    pub name: String,
    /// `layer`, `raw`, `scope` or `heads`; empty where it is not known.
    pub kind: String,
    /// How many units.
    pub units: usize,
    /// Rows of the activation map; 1 for vectors.
    pub height: usize,
    /// Columns of the activation map; 1 for vectors.
    pub width: usize,
}

impl From<&Site> for SiteInfo {
    fn from(site: &Site) -> Self {
        let (height, width) = site.size;
        Self { name: site.name.clone(), kind: site.kind.name().to_string(), units: site.units, height, width }
    }
}

/// The images that the units were shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ProbeInfo {
    /// How many were used.
    pub images: usize,
    /// The classes by number; empty without labels.
    pub classes: Vec<String>,
    /// How many of them an image has, unreadable ones included.
    #[serde(default)]
    pub classes_present: usize,
    /// Files that could not be read and were left out, by path.
    pub skipped: Vec<SkippedImage>,
    /// All files beside the images that were used, by reason: unreadable ones, those of kinds that are not read, those in
    /// folders of other programs, those beyond a limit, those that are no images.
    #[serde(default)]
    pub left_out: Vec<LeftOutFiles>,
    /// How images become inputs.
    pub preprocess: InputFormat,
    /// A hash of the images as they were used, as text.
    pub fingerprint: String,
}

/// A file that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
pub struct SkippedImage {
    /// The file.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// How images become inputs: pixels scaled to 0-1, then `(x - mean) / std` per channel.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct InputFormat {
    /// 1 or 3.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub std: Vec<f32>,
}

impl ProbeInfo {
    /// So many of these images, all but the files that were left out.
    pub fn new(images: &dyn Images, looked_at: usize, left_out: &[Skipped]) -> Self {
        let skipped = |s: &Skipped| SkippedImage { path: s.path.display().to_string(), reason: s.reason.clone() };
        let skipped: Vec<SkippedImage> = left_out.iter().map(skipped).collect();
        let unreadable = LeftOutFiles::unreadable(skipped.iter().map(|s| s.path.as_str()));
        let mut left_out: Vec<LeftOutFiles> = images.left_out().iter().cloned().chain(unreadable).collect();
        left_out.sort_by(|a, b| (a.why, &a.what).cmp(&(b.why, &b.what)));
        let present: BTreeSet<usize> = (0..images.len()).filter_map(|i| images.label(i)).collect();
        Self {
            images: looked_at,
            classes: images.classes().to_vec(),
            classes_present: present.len(),
            skipped,
            left_out,
            preprocess: images.preprocess().into(),
            fingerprint: images.fingerprint(),
        }
    }

    /// `300 images, 10 classes, 2 files left out: …`: how many there are, and what was left out, as one line. Names are as
    /// they are.
    pub fn line(&self) -> String {
        let mut line = plural(self.images, "image", "images");
        let (all, present) = (self.classes.len(), self.classes_present);
        match (all, present) {
            (0, _) => {}
            (_, present) if present == 0 || present == all => line += &format!(", {}", plural(all, "class", "classes")),
            _ => line += &format!(", {} of {}", thousands(present as u64), plural(all, "class", "classes")),
        }
        line + &left_out_sentence(&self.left_out)
    }
}

impl From<&Preprocess> for InputFormat {
    fn from(p: &Preprocess) -> Self {
        let Preprocess { channels, height, width, mean, std } = p.clone();
        Self { channels, height, width, mean, std }
    }
}

/// What else the results depend on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Settings {
    /// Exemplars per unit.
    pub k: usize,
    /// Which quantile of a unit's activations is its level, 0 to 1.
    pub quantile: f64,
    /// Where all randomness starts.
    pub seed: u64,
    /// Which sites were asked for.
    pub sites: Vec<String>,
    /// [`Describer::fingerprint`](crate::describe::Describer::fingerprint), and that of each source of evidence.
    pub describer: String,
    /// The sources of evidence that were asked, by name.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Every description that the describer can give, if there are only so many.
    pub sayings: Option<Vec<String>>,
}

/// How often the model is right on a labelled probe.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ModelAccuracy {
    /// The counts.
    pub accuracy: Accuracy,
    /// What guessing reaches, 0 to 1.
    pub chance: f64,
    /// What is suspicious about it, as a sentence.
    pub warning: Option<String>,
}

impl ModelAccuracy {
    /// With a warning when the interval reaches down to about chance: the sign of wrong normalisation, size or class order.
    pub fn new(accuracy: Accuracy, classes: usize) -> Self {
        let chance = 1.0 / classes.max(1) as f64;
        // 15 % for ten classes, 55 % for two.
        let near = (1.5 * chance).min(chance + 0.1 * (1.0 - chance));
        let warning = (classes > 1 && accuracy.total > 0 && accuracy.wilson().0 <= near).then(|| {
            format!(
                "The model is right on {:.1} % of the probe images, guessing on {:.1} %: check mean, standard \
                 deviation, input size and the order of the classes (--classes FILE says it). What the units respond \
                 to below is what they respond to on such inputs.",
                100.0 * accuracy.rate(),
                100.0 * chance
            )
        });
        Self { accuracy, chance, warning }
    }
}

/// How many units there are of each kind. `units` is the denominator of the next three, `described` that of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All audited units.
    pub units: usize,
    /// Of these, units with a description.
    pub described: usize,
    /// Of these, units about which the describer found nothing reliable.
    pub abstained: usize,
    /// Of these, units that never vary.
    pub dead: usize,
    /// Different descriptions.
    pub distinct_descriptions: usize,
    /// Described units whose words describe another unit as well.
    pub sharing_a_description: usize,
}

/// One unit: its words, its range and what excites it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitEntry {
    /// Which unit.
    pub id: UnitId,
    /// Its description.
    pub description: Description,
    /// What was measured about it and concepts, strongest first.
    #[serde(default)]
    pub evidence: Vec<ConceptEvidence>,
    /// The activation above which a position counts as a response; none where the unit was not observed.
    pub level: Option<f32>,
    /// The smallest activation.
    pub minimum: Option<f32>,
    /// The largest activation.
    pub maximum: Option<f32>,
    /// Whether it never varies.
    pub dead: bool,
    /// The images that excite it most, strongest first.
    pub exemplars: Vec<ExemplarEntry>,
    /// The picture of its exemplars, relative to the report; see [`picture`](super::picture).
    pub picture: Option<String>,
}

/// One image that excites a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExemplarEntry {
    /// The image's number in the probe.
    pub image: usize,
    /// Its name, usually its path in the probe folder.
    pub name: String,
    /// The largest activation on it.
    pub activation: f32,
}

impl UnitEntry {
    /// An entry without evidence and picture; `name` gives the names of probe images.
    pub fn new(unit: &UnitExemplars, description: Description, name: impl Fn(usize) -> String) -> Self {
        let exemplar = |e: &crate::exemplars::Exemplar| ExemplarEntry {
            image: e.image,
            name: name(e.image),
            activation: e.activation,
        };
        Self {
            id: unit.id.clone(),
            description,
            evidence: Vec::new(),
            level: Some(unit.level),
            minimum: Some(unit.minimum),
            maximum: Some(unit.maximum),
            dead: unit.dead,
            exemplars: unit.top.iter().map(exemplar).collect(),
            picture: None,
        }
    }

    /// An entry of a unit of which only description and evidence are known.
    pub fn described(unit: &DescribedUnit) -> Self {
        Self {
            id: unit.id.clone(),
            description: unit.description.clone(),
            evidence: unit.evidence.clone(),
            level: None,
            minimum: None,
            maximum: None,
            dead: unit.description.status == Status::Dead,
            exemplars: Vec::new(),
            picture: None,
        }
    }

    /// The same entry, with a picture (which [`write_all`](super::write_all) then asks for).
    #[must_use]
    pub fn with_picture(self) -> Self {
        Self { picture: Some(super::picture::path(&self.id)), ..self }
    }
}

/// Date and timings, and what else differs from run to run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// When the run began, in words or RFC 3339; empty when not recorded.
    pub date: String,
    /// What took how long, in order.
    pub stages: Vec<Stage>,
    /// How many units keep their words from an earlier audit, as everything that made them is the same.
    #[serde(default)]
    pub kept: usize,
}

/// One stage of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// `observe`, `describe`, …
    pub name: String,
    /// How long it took.
    pub seconds: f64,
}
