//! A linter for what a neural network has learned.
//!
//! It shows a network your images, finds what each neuron (*unit*) responds to, says so in words with a score and the
//! evidence, and holds the words against *policies*: TOML files that say what must not be learned. Units that violate one
//! can be masked, zeroed or pruned, exactly or not at all, and accuracy and robustness are measured before and after. The
//! network is one in [tch] (with its `VarStore`) or a TorchScript file, and it need not be changed: operators are watched
//! as they run.
//!
//! The seed is MILAN (Hernandez et al. 2022, arXiv 2201.11114); its published weights can do the describing, but a first
//! audit needs none. The program `tch-audit` does from the command line, on a TorchScript file, what this crate does from
//! Rust.
//!
//! # A first audit, without training
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
//! Images of your own come from a folder ([`probe::ImageFolder`]: read as they are needed, or at once), from memory
//! ([`probe::Probe`]), or from a type of yours ([`probe::Images`]); a TorchScript file is a [`Model::load`]. [`report::Report::of`] makes a report of an audit, which [`report::Format`] writes as JSON, SARIF,
//! JUnit, Markdown and more.
//!
//! # Words and evidence of your own
//!
//! Who puts units into words is a [`describe::Describer`], who measures how they respond to concepts an
//! [`evidence::EvidenceSource`]; each is a trait of three or four short functions, with a whole one as its example. They
//! stand in [`audit::Settings`], for an audit and for the auditor alike. What nobody asks for is not run.
//!
//! # In a training loop
//!
//! Four calls, and no change to the model. The audits run without gradients, in evaluation mode, and put the random number
//! generators back: training goes on as it would have.
//!
//! ```no_run
//! use tch::{Tensor, nn, nn::ModuleT, nn::OptimizerConfig};
//! use tch_audit::{auditor::Auditor, auditor::Every, policy::Policies, probe::ImageStream};
//!
//! type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
//!
//! fn train(vs: &nn::VarStore, net: &dyn ModuleT, data: &[(Tensor, Tensor)], photos: ImageStream) -> Result<()> {
//!     let mut opt = nn::Sgd::default().build(vs, 0.1)?;
//!     let mut auditor = Auditor::builder()                      // 1
//!         .probe(photos)
//!         .policies(Policies::load_dir("policies")?)
//!         .every(Every::Epochs(4))
//!         .reports("runs/audit")
//!         .build()?;
//!     for epoch in 1..=12 {
//!         for (xs, ys) in data {
//!             opt.backward_step(&net.forward_t(xs, true).cross_entropy_for_logits(ys));
//!             auditor.after_step((vs, net))?;                   // 2
//!         }
//!         auditor.after_epoch(epoch, (vs, net))?;               // 3
//!     }
//!     Ok(auditor.finish((vs, net))?.deny()?)                    // 4: Err when denied
//! }
//! ```
//!
//! # A walk through the house
//!
//! In the order in which data flows; each module uses what stands before it and nothing that comes after.
//!
//! | module | what it gives |
//! |---|---|
//! | [`hook`] | every operator of a forward pass, as it ends: [`hook::observe`] |
//! | [`graph`] | one traced pass, and the sites in it: [`Traced`], [`graph::Graph`], [`graph::Site`] |
//! | [`probe`] | images to show: [`probe::Images`], [`probe::Probe`], [`probe::ImageFolder`], [`probe::drawn`], [`probe::paint`] |
//! | [`exemplars`] | what excites each unit most: [`exemplars::Exemplars`], [`exemplars::Run`], [`exemplars::Held`] |
//! | [`evidence`] | what was measured about units and concepts: [`evidence::EvidenceSource`], [`evidence::Painted`], [`evidence::Study`] |
//! | [`describe`] | words: [`describe::Describer`], [`describe::Description`], [`describe::concepts`], [`describe::milan`], [`describe::command`] |
//! | [`policy`] | what must not be learned: [`policy::Policies`], [`policy::check`], [`policy::Baseline`] |
//! | [`edit`] | mask, zero and prune, exactly or not at all: [`edit::ZeroPlan`], [`edit::PrunePlan`] |
//! | [`evaluate`] | accuracy before and after: [`evaluate::Evaluation`], [`stats`] |
//! | [`audit`] | the reading steps in order: [`audit::Audit`], [`audit::Leftovers`] |
//! | [`report`] | a renderer per format: [`report::Report`], [`report::Format`] |
//! | [`auditor`] | the callback for training loops: [`auditor::Auditor`] |
//!
//! Beside the way stand [`diagnostic`] (what is wrong with a file, shown with line and caret) and [`exit`] (what exit codes
//! mean).
//!
//! [`Model`] is a forward pass with named tensors (a tch network or a closure with its `VarStore`, or TorchScript),
//! [`UnitId`] a neuron's name, [`ConceptName`] what a concept is called, [`Error`] all that can go wrong. The command line
//! is `src/bin/tch-audit/`.
//!
//! # Progress
//!
//! Nothing here draws or prints. Work that may take long says how far it is in events of [`tracing`]: target
//! `tch_audit::progress`, level `DEBUG`.
//!
//! | field | what |
//! |---|---|
//! | `message` | which work: `reading`, `exemplars`, `concepts`, `encoding`, `describing`, `ranking`, `choosing`, `evaluating`, `robustness` |
//! | `done` | how many steps are done, a `u64`; they may come out of order when several threads work |
//! | `of` | how many there are, a `u64` |
//! | `ended` | whether it is over, a `bool`; also of work that broke off, and then `done` is less than `of` |
//!
//! Each work has one event at its beginning, some ten a second at most in between, and one at its end. A program that has
//! a subscriber sees them as soon as it asks for the level: with `tracing_subscriber`, the filter
//! `tch_audit::progress=debug`. The program `tch-audit` makes its bars of them.
//!
//! # Features
//!
//! - `cli` (on by default): the program `tch-audit`; library users can leave it out.
//! - `download-libtorch`: tch fetches libtorch during the build.
//! - `doc-only`: builds the documentation without libtorch.
//!
//! Where libtorch is looked for when a crate is built, and how a program finds it when it runs, is for every user of tch to
//! decide: see "As a library in your own crate" in the [README](https://github.com/tch-audit/tch-audit#readme).
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod arrays;
pub mod audit;
pub mod auditor;
mod concept;
pub mod describe;
pub mod diagnostic;
pub mod edit;
mod error;
pub mod evaluate;
pub mod evidence;
pub mod exemplars;
pub mod exit;
mod fault;
mod files;
mod glob;
pub mod graph;
pub mod hook;
mod model;
mod pass;
mod pickle;
pub mod policy;
pub mod probe;
mod progress;
mod reason;
pub mod report;
pub mod stats;
mod table;
mod unit;

pub use concept::ConceptName;
pub use error::{Error, Result};
pub use graph::Traced;
pub use model::{InputLayout, IntoModel, Model, Outputs};
pub use reason::Reason;
pub use unit::{Region, UnitId};

/// The examples of the README are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
