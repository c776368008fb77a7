//! From the text of a file to [`Config`]: everything that is wrong with its shape.

use super::config::{Config, KEYS, TABLES, keys_of};
use crate::diagnostic::{Code, Fault};
use toml::de::{DeTable, DeValue};

/// Reads a policy file.
///
/// All unknown keys are collected; of wrong types toml reports the first.
pub(super) fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let table = DeTable::parse(text).map_err(|e| vec![fault(Code::TomlSyntax, &e, text)])?;
    let mut unknown = unknown_keys(table.get_ref());
    unknown.sort_by_key(|f| f.span.start);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    toml::from_str(text).map_err(|e| vec![fault(Code::WrongType, &e, text)])
}

/// A fault that toml found. Its message may have several lines; the first says what is wrong.
fn fault(code: Code, error: &toml::de::Error, text: &str) -> Fault {
    let mut lines = error.message().lines();
    let message = lines.next().unwrap_or("not understood").to_string();
    let expected = lines.filter_map(|l| l.strip_prefix("expected ")).collect::<Vec<_>>().join("; ");
    Fault::new(code, error.span().unwrap_or(0..text.len().min(1)), message).expected(expected)
}

fn unknown_keys(table: &DeTable<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        if !KEYS.contains(&name) {
            faults.push(unknown_key(key.span(), name, "a policy key", KEYS));
        } else if let Some(keys) = keys_of(name) {
            match value.get_ref() {
                DeValue::Table(inner) => unknown_keys_of(name, inner, keys, &mut faults),
                DeValue::Array(all) => all.iter().for_each(|one| {
                    if let DeValue::Table(inner) = one.get_ref() {
                        unknown_keys_of(name, inner, keys, &mut faults);
                    }
                }),
                _ => {}
            }
        }
    }
    faults
}

fn unknown_keys_of(name: &str, table: &DeTable<'_>, keys: &[&str], faults: &mut Vec<Fault>) {
    for key in table.keys() {
        let inner: &str = key.get_ref();
        if !keys.contains(&inner) {
            faults.push(unknown_key(key.span(), inner, &format!("a key of `[{name}]`"), keys));
        }
    }
}

fn unknown_key(span: std::ops::Range<usize>, name: &str, what: &str, keys: &[&str]) -> Fault {
    let mut fault = Fault::new(Code::UnknownKey, span, format!("`{name}` is not {what}")).one_of(name, keys);
    // A key in the wrong table is worth saying.
    if KEYS.contains(&name) {
        fault = fault.label(format!("`{name}` belongs at the top of the file, before the first table"));
    } else if let Some(home) = TABLES.iter().find(|t| keys_of(t).is_some_and(|k| k.contains(&name))) {
        fault = fault.label(format!("`{name}` belongs in `[{home}]`"));
    }
    fault
}
