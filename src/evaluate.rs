//! Accuracy and robustness, before and after.

pub mod stats;
