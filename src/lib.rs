#![doc = include_str!("../README.md")]
//!
//! # From Rust, without training
//!
//! [`audit::Audit::run`] reads one model as it is now. Here a network with random weights is shown drawn images; what it
//! has learned is nothing, and a policy says so:
//!
//! ```
//! use tch::{Device, nn};
//! use tch_audit::{Model, audit::{Audit, Settings}, policy::Policies, probe};
//!
//! # fn main() -> tch_audit::Result<()> {
//! let vs = nn::VarStore::new(Device::Cpu);
//! let net = nn::seq_t()
//!     .add(nn::conv2d(&vs.root() / "conv", 3, 8, 3, Default::default()))
//!     .add_fn(|x| x.relu().adaptive_avg_pool2d([1, 1]).flat_view())
//!     .add(nn::linear(&vs.root() / "classifier", 8, 10, Default::default()));
//!
//! let photos = probe::drawn(2, 16, 1)?; // ten classes, two images of each, 16 x 16 pixels
//! let policies = Policies::parse("text.toml", "level = 'deny'\nreason = 'reads'\n[match]\nany = ['text', 'letter']")?;
//! let audit = Audit::run(&Model::new(&vs, &net), &photos, &Settings::default(), &policies)?;
//!
//! for unit in &audit.units {
//!     println!("{}: {}", unit.id, unit.description.text); // conv/0: nothing in the concept bank
//! }
//! assert_eq!(audit.units.len(), 8); // all but the classifier's
//! assert_eq!(audit.sites[0].name, "conv");
//! # Ok(()) }
//! ```
//!
//! # A walk through the house
//!
//! In the order in which data flows; each module uses what stands before it and nothing that comes after.
//!
//! | module | what it gives |
//! |---|---|
//! | [`hook`] | every operator of a forward pass, as it ends: [`hook::observe`] |
//! | [`graph`] | one traced pass, and the sites in it: [`graph::Graph`], [`graph::Site`] |
//! | [`probe`] | images to show: [`probe::Probe`], [`probe::ImageFolder`], [`probe::drawn`], [`probe::paint`] |
//! | [`exemplars`] | what excites each unit most: [`exemplars::Exemplars`], [`exemplars::Run`] |
//! | [`describe`] | words and evidence: [`describe::Describer`], [`describe::Description`], [`describe::concepts`], [`describe::milan`], [`describe::command`] |
//! | [`policy`] | what must not be learned: [`policy::Policies`], [`policy::check`], [`policy::Baseline`] |
//! | [`edit`] | mask and zero, exactly or not at all: [`edit::ZeroPlan`] |
//! | [`evaluate`] | accuracy before and after: [`evaluate::Evaluation`], [`stats`] |
//! | [`audit`] | the reading steps in order: [`audit::Audit`] |
//! | [`report`] | a renderer per format: [`report::Report`], [`report::Format`] |
//! | [`auditor`] | the callback for training loops: [`auditor::Auditor`] |
//!
//! Beside the way stand [`diagnostic`] (what is wrong with a file, shown with line and caret), [`exit`] (what exit codes
//! mean) and [`progress`].
//!
//! [`Model`] is a forward pass with named tensors (a tch network or a closure with its `VarStore`, or TorchScript),
//! [`UnitId`] a neuron's name, [`Error`] all that can go wrong. The command line is `src/bin/tch-audit/`.
//!
//! # Features
//!
//! - `cli` (on by default): the program `tch-audit`; library users can leave it out.
//! - `download-libtorch`: tch fetches libtorch during the build.
//! - `doc-only`: builds the documentation without libtorch.
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod arrays;
pub mod audit;
pub mod auditor;
pub mod describe;
pub mod diagnostic;
pub mod edit;
mod error;
pub mod evaluate;
pub mod exemplars;
pub mod exit;
mod files;
mod glob;
pub mod graph;
pub mod hook;
mod model;
pub mod policy;
pub mod probe;
pub mod progress;
mod reason;
pub mod report;
pub mod stats;
mod table;
mod unit;

pub use error::{Error, Result};
pub use graph::Traced;
pub use model::{IntoModel, Model, Outputs};
pub use reason::Reason;
pub use unit::{Region, UnitId};
