//! A policy file as it is written.
//!
//! Nothing here judges values: [`super::validate`] does, so that it can point at every fault at once. Words with a
//! fixed vocabulary (`level`, `action`) are therefore plain strings.

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
    pub min_effect: Option<Spanned<f64>>,
    pub min_auc: Option<Spanned<f64>>,
    pub min_share: Option<Spanned<f64>>,
}

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

/// The keys of the file itself.
pub(super) const KEYS: &[&str] =
    &["level", "action", "reason", "match", "scope", "limits", "lints", "labels", "groups", "waive", "test"];

/// The tables with a fixed list of keys.
pub(super) const TABLES: &[&str] = &["match", "scope", "limits", "labels", "waive", "test"];

/// The keys of one of [`TABLES`]; `None` for any other name.
pub(super) fn keys_of(table: &str) -> Option<&'static [&'static str]> {
    match table {
        "match" => {
            Some(&["any", "all", "none", "except", "concepts", "min-score", "min-effect", "min-auc", "min-share"])
        }
        "scope" => Some(&["sites", "exclude"]),
        "limits" => Some(&["max-units", "max-share"]),
        "labels" => Some(&["positive", "leave-out"]),
        "waive" => Some(&["site", "unit", "description", "reason", "expires"]),
        "test" => Some(&["description", "matches"]),
        _ => None,
    }
}

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
    fn the_lists_of_keys_are_those_of_the_structs() {
        assert!(fields_by_serde("x = 1").contains(&listed(KEYS)));
        for table in TABLES {
            let expected = keys_of(table).unwrap_or_default().join(", ");
            let header = if matches!(*table, "waive" | "test") { format!("[[{table}]]") } else { format!("[{table}]") };
            let said = fields_by_serde(&format!("{header}\nx = 1")).replace('`', "").replace(" or ", ", ");
            assert!(said.contains(&expected), "{table}: {said}");
        }
    }
}
