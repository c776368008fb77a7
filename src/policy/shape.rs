//! From the text of a file to [`Config`]: everything that is wrong with its shape.

use super::codes::Code;
use super::config::{Config, KEYS, keys_of};
use super::render::Fault;
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
        } else if let (Some(keys), DeValue::Table(inner)) = (keys_of(name), value.get_ref()) {
            let what = format!("a key of `[{name}]`");
            for inner_key in inner.keys() {
                let inner_name: &str = inner_key.get_ref();
                if !keys.contains(&inner_name) {
                    faults.push(unknown_key(inner_key.span(), inner_name, &what, keys));
                }
            }
        }
    }
    faults
}

fn unknown_key(span: std::ops::Range<usize>, name: &str, what: &str, keys: &[&str]) -> Fault {
    let mut fault = Fault::new(Code::UnknownKey, span, format!("`{name}` is not {what}")).one_of(name, keys);
    // A key in the wrong table is worth saying.
    if let Some(home) = ["match", "scope", "limits"].iter().find(|t| keys_of(t).is_some_and(|k| k.contains(&name))) {
        fault = fault.label(format!("`{name}` belongs in `[{home}]`"));
    } else if KEYS.contains(&name) {
        fault = fault.label(format!("`{name}` belongs at the top of the file, before the first table"));
    }
    fault
}
