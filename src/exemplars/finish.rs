//! From what was kept to what is reported: levels, chosen images, regions.

use super::mask::Upsampler;
use super::names::Names;
use super::options::{Compat, Options};
use super::state::{SiteState, UnitState};
use super::topk::Candidate;
use super::{Exemplar, UnitExemplars};
use crate::UnitId;
use rayon::prelude::*;

/// What finishing needs besides a state.
pub(super) struct Finish<'a> {
    pub options: &'a Options,
    /// The candidates' classes.
    pub names: &'a Names,
    /// Height and width of the regions.
    pub region: (usize, usize),
}

/// The three lists of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Strongest,
    Weakest,
    Random,
}

impl List {
    pub const ALL: [List; 3] = [List::Strongest, List::Weakest, List::Random];
}

impl Finish<'_> {
    /// All units of a site, in order. What was kept of each is dropped on the way.
    pub fn units(&self, site: SiteState) -> Vec<UnitExemplars> {
        let upsampler = self.upsampler(&site);
        let SiteState { name, units, states, .. } = site;
        let each = states.into_par_iter().zip(units);
        each.map_init(
            || upsampler.clone(),
            |upsampler, (state, unit)| self.unit(UnitId::new(&name, unit), state, upsampler),
        )
        .collect()
    }

    fn unit(&self, id: UnitId, state: UnitState, upsampler: &mut Upsampler) -> UnitExemplars {
        let level = self.level(&state);
        let mut finished = |list| {
            let chosen = self.chosen(&state, list).into_iter();
            let exemplar = |c: &Candidate| Exemplar {
                image: c.image as usize,
                activation: c.activation,
                region: upsampler.region(&c.map, level),
                map: if self.options.maps { c.map.clone() } else { Vec::new() },
            };
            chosen.map(exemplar).collect::<Vec<_>>()
        };
        let (top, weakest, random) = (finished(List::Strongest), finished(List::Weakest), finished(List::Random));
        let (minimum, maximum, dead) = (state.minimum, state.maximum, is_dead(&state));
        UnitExemplars { id, level, minimum, maximum, dead, top, weakest, random, sketch: state.sketch.trimmed() }
    }

    pub fn upsampler(&self, site: &SiteState) -> Upsampler {
        Upsampler::new(site.map, self.region, self.options.compat)
    }

    pub fn level(&self, state: &UnitState) -> f32 {
        state.sketch.quantile(self.options.quantile).clamp(state.minimum, state.maximum)
    }

    /// The images of a list, first come first.
    pub fn chosen<'s>(&self, state: &'s UnitState, list: List) -> Vec<&'s Candidate> {
        if is_dead(state) && self.options.compat == Compat::Fixed {
            return Vec::new();
        }
        match list {
            List::Strongest => {
                state.strongest.spaced(self.options.k, self.options.min_distance, |image| self.names.class(image))
            }
            List::Weakest => state.weakest.best().iter().collect(),
            List::Random => state.random.best().iter().collect(),
        }
    }
}

/// Whether the activation never changes.
pub(super) fn is_dead(state: &UnitState) -> bool {
    state.minimum >= state.maximum
}
