//! `report.json`: everything, in one versioned schema.

use super::{Report, SCHEMA_VERSION};
use crate::Result;
use crate::diagnostic::{Code, Fault, Source};
use std::io::{self, Write};

/// Writes the report as indented JSON with a newline at the end.
///
/// Keys stand in the order of the struct's fields; floating-point numbers are the shortest that read back the same.
///
/// # Errors
/// What `out` returns; `InvalidData` when a number is not finite, which JSON cannot say.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(io::Error::from)?;
    // NaN and infinities are written as `null`, which does not read back as what it was.
    let reads_back = serde_json::from_str::<Report>(&text).is_ok_and(|read| read == *report);
    if !reads_back {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a number of the report is NaN or infinite"));
    }
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// Reads a report back.
///
/// # Errors
/// [`Error::Faults`](crate::Error::Faults) with the place when it is not a report of version [`SCHEMA_VERSION`], or a unit
/// stands in it twice.
pub fn read(source: &Source) -> Result<Report> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version } = source.json()?;
    if schema_version != SCHEMA_VERSION {
        let key = "\"schema_version\"";
        let at = source.text.find(key).unwrap_or(0);
        let message = format!("the report has schema version {schema_version}");
        let fault = Fault::new(Code::UnknownValue, at..at + key.len(), message);
        return Err(source.refuse(&[fault.expected(SCHEMA_VERSION.to_string())]));
    }
    let report = source.json::<Report>()?.finish();
    if let Some([twice, _]) = report.units.windows(2).find_map(|w| w.first_chunk::<2>().filter(|[a, b]| a.id == b.id)) {
        let fault = Fault::new(Code::DuplicateRow, 0..0, format!("the report has {} twice", twice.id));
        return Err(source.refuse(&[fault.expected("every unit once")]));
    }
    Ok(report)
}

/// The JSON schema (draft 2020-12) of `report.json`, as published in the folder `schemas` of the source.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Report).to_value()
}
