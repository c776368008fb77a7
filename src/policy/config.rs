//! A policy file as it is written.
//!
//! Nothing here judges values: [`super::validate`] does, so that it can point at every fault at once. Words with a
//! fixed vocabulary (`level`, `action`) are therefore plain strings.

use super::minima::minima;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    pub level: Option<Spanned<String>>,
    pub action: Option<Spanned<String>>,
    pub reason: Option<Spanned<String>>,
    #[serde(default, rename = "match")]
    pub matching: Option<Spanned<MatchConfig>>,
    #[serde(default)]
    pub scope: ScopeConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub lints: BTreeMap<Spanned<String>, Spanned<String>>,
    #[serde(default)]
    pub labels: LabelsConfig,
    #[serde(default)]
    pub groups: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    pub waive: Vec<Spanned<WaiveConfig>>,
    #[serde(default)]
    pub test: Vec<Spanned<TestConfig>>,
}

macro_rules! match_config {
    ($($field:ident, $key:literal, $measure:ident, $name:literal, $unit:literal, $low:expr, $high:expr;)*) => {
        /// The table `[match]`.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
        pub(super) struct MatchConfig {
            pub any: Vec<Spanned<String>>,
            pub all: Vec<Spanned<String>>,
            pub none: Vec<Spanned<String>>,
            pub except: Vec<Spanned<String>>,
            pub concepts: Vec<Spanned<String>>,
            pub min_score: Option<Spanned<f64>>,
            $(#[serde(rename = $key)] $field: Option<Spanned<f64>>,)*
        }

        impl MatchConfig {
            /// The minima of evidence, in the order of [`MINIMA`](super::minima::MINIMA).
            pub fn minima(&self) -> Vec<Option<Spanned<f64>>> {
                vec![$(self.$field.clone()),*]
            }
        }

        const MATCH: &[(&str, Kind)] = &[
            ("any", Kind::Texts),
            ("all", Kind::Texts),
            ("none", Kind::Texts),
            ("except", Kind::Texts),
            ("concepts", Kind::Texts),
            ("min-score", Kind::Number),
            $(($key, Kind::Number),)*
        ];
    };
}
minima!(match_config);

/// The table `[scope]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct ScopeConfig {
    pub sites: Vec<Spanned<String>>,
    pub exclude: Vec<Spanned<String>>,
}

/// The table `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct LimitsConfig {
    pub max_units: Option<Spanned<i64>>,
    pub max_share: Option<Spanned<f64>>,
}

/// The table `[labels]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct LabelsConfig {
    pub positive: Vec<Spanned<String>>,
    pub leave_out: Vec<Spanned<String>>,
}

/// One table `[[waive]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct WaiveConfig {
    pub site: Option<Spanned<String>>,
    pub unit: Option<Spanned<UnitsConfig>>,
    pub description: Option<Spanned<String>>,
    pub reason: Option<Spanned<String>>,
    /// A date of TOML or a string.
    pub expires: Option<Spanned<toml::Value>>,
}

/// `unit = 17` or `unit = [3, 17]`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a unit's number, or a list of them")]
pub(super) enum UnitsConfig {
    One(i64),
    Several(Vec<i64>),
}

/// One table `[[test]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct TestConfig {
    pub description: Option<Spanned<String>>,
    pub matches: Option<Spanned<bool>>,
}

/// What may stand behind a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Texts,
    Number,
    Whole,
    /// A whole number, or a list of them.
    Wholes,
    Flag,
    /// A date of TOML, or a string.
    Date,
    /// A table with these keys.
    Table(&'static [(&'static str, Kind)]),
    /// Tables `[[...]]` with these keys.
    Tables(&'static [(&'static str, Kind)]),
    /// A table whose keys are the user's, with values of one kind.
    Named(&'static Kind),
}

impl Kind {
    /// In words, for messages.
    pub fn expected(self, key: &str) -> String {
        match self {
            Kind::Text => "a string".to_string(),
            Kind::Texts => "a list of strings".to_string(),
            Kind::Number => "a number".to_string(),
            Kind::Whole => "a whole number of at least 0, of at most 19 digits".to_string(),
            Kind::Wholes => "a unit's number, or a list of them".to_string(),
            Kind::Flag => "true or false".to_string(),
            Kind::Date => "a date, such as 2027-03-31".to_string(),
            Kind::Table(_) | Kind::Named(_) => format!("a table [{key}]"),
            Kind::Tables(_) => format!("tables [[{key}]]"),
        }
    }
}

/// The keys of a policy file, and what may stand behind them.
pub(super) const KEYS: &[(&str, Kind)] = &[
    ("level", Kind::Text),
    ("action", Kind::Text),
    ("reason", Kind::Text),
    ("match", Kind::Table(MATCH)),
    ("scope", Kind::Table(&[("sites", Kind::Texts), ("exclude", Kind::Texts)])),
    ("limits", Kind::Table(&[("max-units", Kind::Whole), ("max-share", Kind::Number)])),
    ("lints", Kind::Named(&Kind::Text)),
    ("labels", Kind::Table(&[("positive", Kind::Texts), ("leave-out", Kind::Texts)])),
    ("groups", Kind::Named(&Kind::Texts)),
    (
        "waive",
        Kind::Tables(&[
            ("site", Kind::Text),
            ("unit", Kind::Wholes),
            ("description", Kind::Text),
            ("reason", Kind::Text),
            ("expires", Kind::Date),
        ]),
    ),
    ("test", Kind::Tables(&[("description", Kind::Text), ("matches", Kind::Flag)])),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// serde lists the fields it knows when it meets one that it does not.
    fn fields_by_serde(text: &str) -> String {
        toml::from_str::<Config>(text).err().map(|e| e.message().to_string()).unwrap_or_default()
    }

    fn listed(keys: &[&str]) -> String {
        keys.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_keys_are_those_of_the_structs() {
        let names = |keys: &[(&'static str, Kind)]| keys.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert!(fields_by_serde("x = 1").contains(&listed(&names(KEYS))));
        for (table, kind) in KEYS {
            let (header, keys) = match kind {
                Kind::Table(keys) => (format!("[{table}]"), keys),
                Kind::Tables(keys) => (format!("[[{table}]]"), keys),
                _ => continue,
            };
            let expected = names(keys).join(", ");
            let said = fields_by_serde(&format!("{header}\nx = 1")).replace('`', "").replace(" or ", ", ");
            assert!(said.contains(&expected), "{table}: {said}");
        }
    }
}
