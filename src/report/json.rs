//! `report.json`: everything, in one versioned schema.

use super::{Report, SCHEMA_VERSION};
use crate::{Error, Result};
use std::io::{self, Write};

/// Writes the report as indented JSON with a newline at the end.
///
/// Keys stand in the order of the struct's fields; floating-point numbers are the shortest that read back the same.
///
/// # Errors
/// What `out` returns; `InvalidData` when a number is not finite, which JSON cannot say.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(report).map_err(io::Error::from)?;
    // NaN and infinities are written as `null`, which does not read back where a number must be.
    serde_json::from_str::<Report>(&text).map_err(|e| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a number of the report is NaN or infinite ({e})"))
    })?;
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")
}

/// Reads a report back. `name` is what messages call it.
///
/// # Errors
/// [`Error::Invalid`] when it is not a report of version [`SCHEMA_VERSION`].
pub fn read(text: &str, name: &str) -> Result<Report> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let invalid = |e: serde_json::Error| Error::invalid(name, e, "a report.json of tch-audit");
    let Version { schema_version } = serde_json::from_str(text).map_err(invalid)?;
    if schema_version != SCHEMA_VERSION {
        return Err(Error::invalid(format!("schema_version of {name}"), schema_version, SCHEMA_VERSION.to_string()));
    }
    serde_json::from_str(text).map_err(invalid)
}
