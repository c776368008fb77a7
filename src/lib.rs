//! tch-audit: a linter for what a neural network has learned.
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

pub mod audit;
pub mod auditor;
pub mod describe;
pub mod edit;
mod error;
pub mod evaluate;
pub mod exemplars;
pub mod graph;
pub mod hook;
mod model;
pub mod policy;
pub mod probe;
mod progress;
pub mod report;
mod unit;

pub use error::{Error, Result};
pub use model::Model;
pub use unit::{Region, UnitId};
