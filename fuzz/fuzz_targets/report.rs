//! A report in which values were changed at random is read, or refused with a place; if it is read, it can be written in
//! every format and reads back the same. Text alone seldom comes this far: see `json` for it.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Number, Value, json};
use std::sync::LazyLock;
use tch_audit::diagnostic::Source;
use tch_audit::policy::Baseline;
use tch_audit::report::{Format, json};

static REPORT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../seeds/json/full.json")).expect("JSON"));

/// What is done at one place of the report.
#[derive(Debug, Arbitrary)]
enum Change {
    Whole(u64),
    Most,
    Negative(i64),
    Number(f64),
    Text(String),
    Null,
    Flag(bool),
    Nothing,
    Remove,
    Twice,
    /// The value of another place.
    From(u16),
    /// Written as a list of its values, which serde reads as well.
    List,
}

/// The places of all values, in order of the document.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_string());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(i, v)| places(v, &format!("{at}/{i}"), all)),
        Value::Object(items) => items.iter().for_each(|(k, v)| places(v, &format!("{at}/{}", escaped(k)), all)),
        _ => {}
    }
}

fn change(report: &mut Value, place: u16, change: &Change) {
    let mut all = Vec::new();
    places(report, "", &mut all);
    let at = all[usize::from(place) % all.len()].clone();
    let new = match change {
        Change::Whole(n) => Value::from(*n),
        Change::Most => Value::from(u64::MAX),
        Change::Negative(n) => Value::from(*n),
        Change::Number(n) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        Change::Text(text) => Value::from(text.as_str()),
        Change::Null => Value::Null,
        Change::Flag(flag) => Value::from(*flag),
        Change::Nothing => match report.pointer(&at) {
            Some(Value::Array(_)) => json!([]),
            Some(Value::Object(_)) => Value::Object(Map::new()),
            _ => json!(""),
        },
        Change::From(other) => report.pointer(&all[usize::from(*other) % all.len()]).cloned().unwrap_or_default(),
        Change::List => match report.pointer(&at) {
            Some(Value::Object(map)) => map.values().cloned().collect(),
            other => json!([other]),
        },
        Change::Remove | Change::Twice => {
            let Some((parent, key)) = at.rsplit_once('/') else { return };
            match report.pointer_mut(parent) {
                Some(Value::Object(map)) if matches!(change, Change::Remove) => drop(map.remove(key)),
                Some(Value::Array(items)) => {
                    let i: usize = key.parse().expect("an index");
                    match change {
                        Change::Remove => drop(items.remove(i)),
                        _ => items.insert(i, items[i].clone()),
                    }
                }
                _ => {}
            }
            return;
        }
    };
    if let Some(value) = report.pointer_mut(&at) {
        *value = new;
    }
}

fuzz_target!(|changes: Vec<(u16, Change)>| {
    let mut report = REPORT.clone();
    for (place, what) in changes.iter().take(20) {
        change(&mut report, *place, what);
    }
    let source = |text: String| Source::new("f.json", text);
    let text = report.to_string();
    if let Err(error) = Baseline::parse(source(text.clone())) {
        assert!(error.to_string().starts_with("error["), "{error}");
    }
    match json::read(&source(text)) {
        Ok(report) => {
            for format in Format::ALL {
                let mut out = Vec::new();
                format.write(&report, &mut out).expect("memory");
                if format == Format::Json {
                    let again = json::read(&source(String::from_utf8(out).expect("UTF-8")));
                    assert_eq!(again.expect("what was written"), report);
                }
            }
        }
        Err(error) => assert!(error.to_string().starts_with("error["), "{error}"),
    }
});
