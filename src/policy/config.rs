//! A policy file as it is written.
//!
//! Nothing here judges values: [`super::validate`] does, so that it can point at every fault at once. Words with a
//! fixed vocabulary (`level`, `action`) are therefore plain strings.

use serde::Deserialize;
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
}

/// The table `[match]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct MatchConfig {
    pub any: Vec<Spanned<String>>,
    pub all: Vec<Spanned<String>>,
    pub none: Vec<Spanned<String>>,
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

/// The keys of the file itself.
pub(super) const KEYS: &[&str] = &["level", "action", "reason", "match", "scope", "limits"];

/// The keys of one of the file's tables; `None` where there is no such table.
pub(super) fn keys_of(table: &str) -> Option<&'static [&'static str]> {
    match table {
        "match" => Some(&["any", "all", "none", "concepts", "min-score", "min-effect", "min-auc", "min-share"]),
        "scope" => Some(&["sites", "exclude"]),
        "limits" => Some(&["max-units", "max-share"]),
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
        for table in ["match", "scope", "limits"] {
            let expected = keys_of(table).unwrap_or_default().join(", ");
            let said = fields_by_serde(&format!("[{table}]\nx = 1")).replace('`', "").replace(" or ", ", ");
            assert!(said.contains(&expected), "{table}: {said}");
        }
    }
}
