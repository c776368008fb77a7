//! From the text of a file to [`Config`]: everything that is wrong with its shape.

use super::config::{Config, KEYS, Kind};
use crate::diagnostic::{Code, Fault};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// How many edits may lie between a key and the one that was meant, though it is a key of another table.
const NEAR: usize = 2;

/// Reads a policy file. All unknown keys and wrong types are collected.
pub(super) fn parse(text: &str) -> Result<Config, Vec<Fault>> {
    let table = DeTable::parse(text).map_err(|e| vec![fault(Code::TomlSyntax, &e, text)])?;
    let mut faults = Vec::new();
    keys(table.get_ref(), KEYS, "a policy key", &mut faults);
    faults.sort_by_key(|f| f.span.start);
    if !faults.is_empty() {
        return Err(faults);
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

/// Holds the keys of a table, and what stands behind them, against those that it may have.
fn keys(table: &DeTable<'_>, known: &[(&str, Kind)], what: &str, faults: &mut Vec<Fault>) {
    for (key, value) in table.iter() {
        let name: &str = key.get_ref();
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, kind)) => check(name, *kind, value.span(), value.get_ref(), faults),
            None => faults.push(unknown_key(key.span(), name, what, known)),
        }
    }
}

fn check(name: &str, kind: Kind, span: Range<usize>, value: &DeValue<'_>, faults: &mut Vec<Fault>) {
    let inner = format!("a key of `[{name}]`");
    let mut items = |items: &toml::de::DeArray<'_>, kind: Kind| {
        for item in items.iter() {
            check(name, kind, item.span(), item.get_ref(), faults);
        }
    };
    match (kind, value) {
        (Kind::Text | Kind::Date, DeValue::String(_))
        | (Kind::Flag, DeValue::Boolean(_))
        | (Kind::Number, DeValue::Integer(_) | DeValue::Float(_))
        | (Kind::Date, DeValue::Datetime(_)) => {}
        (Kind::Whole | Kind::Wholes, DeValue::Integer(number)) if number.to_string().parse::<i64>().is_ok() => {}
        (Kind::Texts, DeValue::Array(all)) => items(all, Kind::Text),
        (Kind::Wholes, DeValue::Array(all)) => items(all, Kind::Whole),
        (Kind::Table(known), DeValue::Table(table)) => keys(table, known, &inner, faults),
        (Kind::Tables(known), DeValue::Array(all)) => items(all, Kind::Table(known)),
        (Kind::Named(kind), DeValue::Table(table)) => {
            for (key, value) in table.iter() {
                check(key.get_ref(), *kind, value.span(), value.get_ref(), faults);
            }
        }
        (kind, value) => {
            let short = |text: &str| text.chars().take(40).collect::<String>();
            let received = match value {
                DeValue::Table(_) => "a table".to_string(),
                DeValue::Array(_) => "a list".to_string(),
                DeValue::String(text) => format!("the string \"{}\"", short(text)),
                DeValue::Integer(number) => format!("the integer `{}`", short(&number.to_string())),
                DeValue::Float(number) => format!("the number `{}`", short(&number.to_string())),
                DeValue::Boolean(flag) => format!("the boolean `{flag}`"),
                DeValue::Datetime(date) => format!("the date `{date}`"),
            };
            let message = format!("`{name}` is {received}");
            faults.push(Fault::new(Code::WrongType, span, message).expected(kind.expected(name)));
        }
    }
}

fn unknown_key(span: Range<usize>, name: &str, what: &str, known: &[(&str, Kind)]) -> Fault {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let fault = Fault::new(Code::UnknownKey, span, format!("`{name}` is not {what}")).one_of(name, &names);
    // A key in the wrong table is worth saying, unless it is nearly one of this table's.
    if names.iter().any(|known| strsim::levenshtein(known, name) <= NEAR) {
        return fault;
    }
    let has = |keys: &[(&str, Kind)]| keys.iter().any(|(known, _)| *known == name);
    if has(KEYS) {
        return fault.label(format!("`{name}` belongs at the top of the file, before the first table"));
    }
    let home = KEYS.iter().find_map(|(table, kind)| match kind {
        Kind::Table(keys) if has(keys) => Some(format!("[{table}]")),
        Kind::Tables(keys) if has(keys) => Some(format!("[[{table}]]")),
        _ => None,
    });
    match home {
        Some(home) => fault.label(format!("`{name}` belongs in `{home}`")),
        None => fault,
    }
}
