//! The folder of a network's reports.

use crate::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;

/// A name for the sub-folder of the network called `name`, safe on every file system: names that hold anything but
/// lower-case ASCII letters, digits, `_` and `-`, that are long, or that mean something else are rewritten and told apart
/// by a hash.
pub(super) fn safe(name: &str) -> String {
    const TAKEN: [&str; 6] = ["pictures", "con", "prn", "aux", "nul", "auditor"];
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c.to_ascii_lowercase() } else { '-' };
    let slug: String = name.chars().map(kept).take(60).collect();
    let slug = slug.trim_matches('-');
    // Windows reserves `com1` to `lpt9` as well.
    let is_port = slug.len() == 4 && ["com", "lpt"].iter().any(|p| slug.starts_with(p));
    if slug == name && !slug.is_empty() && !TAKEN.contains(&slug) && !is_port {
        return slug.to_string();
    }
    let slug = if slug.is_empty() { "network" } else { slug };
    format!("{slug}-{}", &blake3::hash(name.as_bytes()).to_hex()[..8])
}

/// Removes files that are of no use any more; that one is gone already is no error.
pub(super) fn remove<'a>(folder: &Path, files: impl Iterator<Item = &'a String>) -> Result<()> {
    for file in files {
        let path = folder.join(file);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay_and_all_others_are_told_apart() {
        assert_eq!(safe("teacher"), "teacher");
        assert_eq!(safe("ema_0-999"), "ema_0-999");
        let odd = [
            "Teacher",
            "teacher/",
            "../teacher",
            "",
            "..",
            "pictures",
            "nul",
            "com1",
            "é",
            "report.json",
            "a/b",
            "a.b",
        ];
        let safe: std::collections::BTreeSet<String> = odd.iter().map(|n| safe(n)).collect();
        assert_eq!(safe.len(), odd.len(), "{safe:?}");
        for name in &safe {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b)), "{name}");
            assert!(!odd.contains(&name.as_str()) && name != "teacher");
        }
        assert!(super::safe(&"x".repeat(500)).len() < 80);
    }
}
