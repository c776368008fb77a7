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
    /// All units of a site, in order.
    pub fn units(&self, site: &SiteState) -> Vec<UnitExemplars> {
        (0..site.units.len()).into_par_iter().map_init(|| self.upsampler(site), |u, i| self.unit(site, i, u)).collect()
    }

    /// The `i`-th unit of a site.
    fn unit(&self, site: &SiteState, i: usize, upsampler: &mut Upsampler) -> UnitExemplars {
        let state = &site.states[i];
        let level = self.level(state);
        let mut finished = |list| {
            let chosen = self.chosen(state, list).into_iter();
            let exemplar = |c: &Candidate| Exemplar {
                image: c.image as usize,
                activation: c.activation,
                region: upsampler.region(&c.map, level),
                map: c.map.clone(),
            };
            chosen.map(exemplar).collect::<Vec<_>>()
        };
        UnitExemplars {
            top: finished(List::Strongest),
            weakest: finished(List::Weakest),
            random: finished(List::Random),
            id: UnitId::new(&site.name, site.units[i]),
            level,
            minimum: state.minimum,
            maximum: state.maximum,
            dead: is_dead(state),
            sketch: state.sketch.clone(),
        }
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
