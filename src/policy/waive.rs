//! Findings that are excused, for a reason and for a while.

use super::pattern::Pattern;
use super::{Date, Location};
use crate::UnitId;
use crate::glob::Matcher;

/// One `[[waive]]`, compiled. Whatever is set must hold.
#[derive(Debug, Clone)]
pub(super) struct Waiver {
    /// What it says, for messages: `site = "layer4*", unit = 17`.
    pub text: String,
    pub site: Option<Matcher>,
    pub units: Option<Vec<usize>>,
    pub description: Option<Pattern>,
    pub reason: String,
    /// The last day on which it holds.
    pub expires: Option<Date>,
    pub location: Location,
}

impl Waiver {
    /// Whether it means this unit. `described` tells whether the pattern stands in the unit's description.
    pub fn means(&self, id: &UnitId, described: impl FnOnce(&Pattern) -> bool) -> bool {
        self.site.as_ref().is_none_or(|glob| glob.is_match(&id.site))
            && self.units.as_ref().is_none_or(|units| units.contains(&id.unit))
            && self.description.as_ref().is_none_or(described)
    }

    /// Whether it has expired.
    pub fn expired(&self, today: Date) -> bool {
        self.expires.is_some_and(|last| today > last)
    }
}
