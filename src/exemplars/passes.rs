//! Passes over the images, all sites of a pass at once.

use super::finish::Finish;
use super::kernel;
use super::names::Names;
use super::options::Options;
use super::state::State;
use super::tensor;
use crate::graph::{Site, Traced};
use crate::pass::{self, Bad, Maps, Visitor};
use crate::probe::{Batch, Images};
use crate::progress::Bar;
use crate::{Error, Result};
use std::ops::Range;

/// What the passes need.
#[derive(Clone, Copy)]
pub(super) struct Passes<'a, 'm> {
    pub traced: &'a Traced<'m>,
    pub source: &'a dyn Images,
    pub options: &'a Options,
}

impl Passes<'_, '_> {
    /// How many batches there are; the last may be smaller.
    pub fn batches(&self) -> usize {
        self.source.len().div_ceil(self.options.batch_size)
    }

    /// The images of a batch.
    pub fn images(&self, batch: usize) -> Range<usize> {
        let start = batch * self.options.batch_size;
        start..(start + self.options.batch_size).min(self.source.len())
    }

    /// Shows the model these batches and keeps in `state` what excites the units of its sites. `after` is called after each
    /// batch, with its number.
    pub fn run(
        &self,
        sites: &[Site],
        state: &mut State,
        batches: Range<usize>,
        bar: &Bar,
        after: impl FnMut(&State, usize) -> Result<()>,
    ) -> Result<()> {
        let numbers: Vec<usize> = batches.clone().flat_map(|b| self.images(b)).collect();
        let sites = state.sites.iter().map(|s| {
            let site = sites.iter().find(|site| site.name == s.name);
            site.cloned().ok_or_else(|| Error::unknown("site", &s.name, sites.iter().map(|s| s.name.as_str())))
        });
        let sites = sites.collect::<Result<Vec<Site>>>()?;
        let mut keeping = Keeping { state, summaries: Vec::new(), number: batches.start, bar, after };
        pass::run(self.traced, &sites, self.source, &numbers, self.options.batch_size, &mut keeping)
    }

    /// Names and classes of the candidates.
    pub fn names(&self, state: &State) -> Names {
        let mut names = Names::default();
        for number in state.candidates() {
            names.push(number, &self.source.name(number as usize), self.source.label(number as usize));
        }
        names
    }

    pub fn finish<'b>(&'b self, names: &'b Names) -> Finish<'b> {
        Finish { options: self.options, names, region: self.options.region(self.source.preprocess()) }
    }
}

/// Takes in batch after batch.
struct Keeping<'s, F> {
    state: &'s mut State,
    /// Of the batch, see [`tape`](super::tape).
    summaries: Vec<f32>,
    /// The number of the batch.
    number: usize,
    bar: &'s Bar,
    after: F,
}

impl<F: FnMut(&State, usize) -> Result<()>> Visitor for Keeping<'_, F> {
    fn begin(&mut self, batch: &Batch) {
        self.summaries.clear();
        self.summaries.resize(2 * batch.numbers.len() * self.state.units(), 0.0);
    }

    fn visit(&mut self, site: usize, maps: &Maps, batch: &Batch) -> Result<Result<(), Bad>> {
        let before: usize = self.state.sites.iter().take(site).map(|s| s.units.len()).sum();
        let Some(state) = self.state.sites.get_mut(site) else { return Ok(Ok(())) };
        if state.map != (0, 0) {
            maps.expect_size(state.map)?;
        }
        state.map = maps.size;
        let (images, numbers) = (maps.images, batch.numbers.as_slice());
        let room = self.summaries.get_mut(2 * images * before..).unwrap_or_default();
        let (maxima, room) = room.split_at_mut(room.len().min(images * state.units.len()));
        let means = room.get_mut(..maxima.len()).unwrap_or_default();
        match maps.elsewhere() {
            Some(tensor) => {
                tensor::scan(tensor, numbers, &state.units, &mut state.states, maxima, means).map_err(maps.torch())
            }
            None => maps.lend(|planes| kernel::scan(planes, numbers, &state.units, &mut state.states, maxima, means)),
        }
    }

    fn end(&mut self, batch: &Batch) -> Result<()> {
        let state = &mut *self.state;
        state.tape.append(self.number, batch.numbers.len(), &self.summaries)?;
        batch.numbers.iter().for_each(|n| state.rows.push(*n as u64));
        state.digest = state.digest.and(batch.digest);
        state.skipped.extend(batch.skipped.iter().cloned());
        state.done.push(self.number as u64);
        self.bar.inc(batch.asked as u64);
        (self.after)(self.state, self.number)?;
        self.number += 1;
        Ok(())
    }
}
