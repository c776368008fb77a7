//! Changing a model: plan, apply, verify, roll back.
//!
//! An edit is a transaction. A plan ([`ZeroPlan::zero`], [`PrunePlan::new`]) says what would change and changes nothing; its
//! `apply` changes the model in place, verifies it with a forward pass, and puts every byte back when the pass fails or
//! gives something else than the plan promises. What `apply` returns can take the edit back later.
//!
//! - **zero** ([`ZeroPlan`]): no operator sees anything but 0 from the unit; shapes stay. [`Applied::enforce`] keeps it so
//!   through further training.
//! - **prune** ([`PrunePlan`]): the unit and everything coupled to it leaves; parameters shrink in place, for every
//!   holder of them, with no change to the model's code.

mod cost;
mod coupling;
pub mod journal;
mod load;
mod method;
mod optimizers;
mod prune;
pub mod repair;
mod shrink;
mod silence;
mod unseen;
mod verify;
mod zero;
mod zeroed;

pub use cost::Cost;
pub use load::load_pruned;
pub use method::{Edit, Edited, LeftOut, Method};
pub use optimizers::{NoOptimizer, Optimizers};
pub use prune::{PrunePlan, Pruned};
pub use zero::{Applied, ZeroPlan};
pub(crate) use zeroed::Zeroed;

use crate::graph::{Graph, Site};
use crate::{Error, Result, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Part of a parameter or buffer that an edit sets to 0 or takes out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// The parameter's name.
    pub parameter: String,
    /// Which dimension of it.
    pub dimension: i64,
    /// Which entries along this dimension.
    pub indices: Vec<i64>,
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dimension {}: {}", self.parameter, self.dimension, list(&self.indices))
    }
}

/// The first few of a list, and how many there are.
fn list<T: fmt::Display>(items: &[T]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = items.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if items.len() > SHOWN { format!(", … ({})", items.len()) } else { String::new() };
    shown.join(", ") + &more
}

/// The site that a unit names, if it has such a unit.
fn site_of<'g>(graph: &'g Graph, id: &UnitId) -> Result<&'g Site> {
    let site = graph.site(&id.site)?;
    if id.unit >= site.units {
        return Err(Error::invalid(
            format!("unit of site `{}`", site.name),
            id.unit,
            format!("0 to {}", site.units.saturating_sub(1)),
        ));
    }
    Ok(site)
}
