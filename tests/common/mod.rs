//! Where tests find their data. Tests that find none say so and pass.
#![allow(dead_code)]

pub mod reference;

use std::path::PathBuf;

/// A value, changed: options that cannot be written as a struct outside of their crate.
pub fn with<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

fn folder(variable: &str, default: &str, name: &str) -> Option<PathBuf> {
    let root = std::env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from);
    let path = root.join(name);
    if path.exists() {
        Some(path)
    } else {
        eprintln!("skipped: no {} (set {variable})", path.display());
        None
    }
}

/// A folder of real data.
pub fn data(name: &str) -> Option<PathBuf> {
    folder("TCH_AUDIT_DATA", "../shared/data", name)
}

/// A folder of numbers computed by reference implementations.
pub fn golden(name: &str) -> Option<PathBuf> {
    folder("TCH_AUDIT_GOLDEN", "../shared/golden", name)
}
