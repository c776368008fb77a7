//! What concepts are called, whoever measures them: names, families, synonyms.

/// The name of something that a unit may respond to, and the words for it.
///
/// ```
/// let stamp = tch_audit::ConceptName::new("date-stamp", "text", "a date in the corner").with_synonyms(["date"]);
/// assert_eq!(stamp.synonyms, ["date"]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConceptName {
    /// Unique and kebab-case, for example `horizontal-stripes`.
    pub name: String,
    /// The group of related concepts, for example `stripes`.
    pub family: String,
    /// What a unit responds to that responds to this concept, for example `rendered text`.
    pub description: String,
    /// Words by which a policy may mean this concept.
    pub synonyms: Vec<String>,
}

impl ConceptName {
    /// A concept without synonyms.
    pub fn new(name: impl Into<String>, family: impl Into<String>, description: impl Into<String>) -> Self {
        Self { name: name.into(), family: family.into(), description: description.into(), synonyms: Vec::new() }
    }

    /// Adds synonyms.
    #[must_use]
    pub fn with_synonyms(mut self, synonyms: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.synonyms.extend(synonyms.into_iter().map(Into::into));
        self
    }

    /// The concepts that this crate knows, those of [`probe::paint::bank`](crate::probe::paint::bank) in its order.
    pub fn built_in() -> Vec<Self> {
        let all = BUILT_IN.iter();
        all.map(|(name, family, description, words)| {
            Self::new(*name, *family, *description).with_synonyms(words.iter().copied())
        })
        .collect()
    }
}

/// Name, family, description, synonyms.
const BUILT_IN: [(&str, &str, &str, &[&str]); 25] = [
    (
        "text",
        "text",
        "rendered text",
        &[
            "text",
            "word",
            "words",
            "letter",
            "letters",
            "writing",
            "caption",
            "lettering",
            "digits",
            "label",
            "watermark",
        ],
    ),
    ("red", "color", "red color", &["red", "crimson", "scarlet"]),
    ("green", "color", "green color", &["green"]),
    ("blue", "color", "blue color", &["blue"]),
    ("yellow", "color", "yellow color", &["yellow"]),
    ("cyan", "color", "cyan color", &["cyan", "turquoise", "aqua"]),
    ("magenta", "color", "magenta color", &["magenta", "fuchsia", "pink"]),
    ("white", "color", "white color", &["white"]),
    ("black", "color", "black color", &["black"]),
    (
        "horizontal-stripes",
        "stripes",
        "horizontal stripes",
        &["stripes", "striped", "horizontal stripes", "bars", "lines"],
    ),
    ("vertical-stripes", "stripes", "vertical stripes", &["stripes", "striped", "vertical stripes", "bars", "lines"]),
    (
        "diagonal-stripes",
        "stripes",
        "diagonal stripes",
        &["stripes", "striped", "diagonal stripes", "diagonal", "lines"],
    ),
    ("dots", "texture", "dots", &["dots", "dotted", "spots", "polka dots"]),
    ("checks", "texture", "checks", &["checks", "checkered", "checkerboard", "grid"]),
    ("horizontal-edge", "edge", "a horizontal edge", &["edge", "horizontal edge", "horizon"]),
    ("vertical-edge", "edge", "a vertical edge", &["edge", "vertical edge"]),
    ("border", "border", "a frame around the image", &["border", "margin"]),
    ("disc", "shape", "a disc", &["disc", "circle", "circular"]),
    ("square", "shape", "a square", &["square", "rectangle", "rectangular"]),
    ("triangle", "shape", "a triangle", &["triangle", "triangular"]),
    ("cross", "shape", "a cross", &["cross", "plus sign"]),
    ("blur", "quality", "blur", &["blur", "blurry", "blurred", "out of focus"]),
    ("noise", "quality", "noise", &["noise", "noisy", "grainy"]),
    ("bright", "quality", "brightness", &["bright", "brightness", "overexposed"]),
    ("dark", "quality", "darkness", &["dark", "darkness", "underexposed"]),
];
