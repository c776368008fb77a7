//! Forward passes over the images, all sites of a pass at once.

use super::finish::Finish;
use super::kernel::{self, Maps};
use super::names::Names;
use super::options::Options;
use super::state::{SiteState, State};
use super::tensor;
use crate::graph::{Site, Traced};
use crate::hook::ffi;
use crate::probe::{Batch, Images, Want};
use crate::progress::Bar;
use crate::{Error, Result};
use half::f16;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// What the passes need.
#[derive(Clone, Copy)]
pub(super) struct Passes<'a, 'm> {
    pub traced: &'a Traced<'m>,
    pub source: &'a dyn Images,
    pub options: &'a Options,
}

impl<'a> Passes<'a, '_> {
    /// How many batches there are; the last may be smaller.
    pub fn batches(&self) -> usize {
        self.source.len().div_ceil(self.options.batch_size)
    }

    /// The images of a batch.
    pub fn images(&self, batch: usize) -> Range<usize> {
        let start = batch * self.options.batch_size;
        start..(start + self.options.batch_size).min(self.source.len())
    }

    /// An empty state of some sites.
    pub fn begin(&self, sites: &[Site]) -> Result<State> {
        let begin = |site: &Site| {
            let units = self.options.units_of(&site.name, site.units)?;
            Ok(SiteState::new(&site.name, site.units, units, self.options))
        };
        Ok(State::new(sites.iter().map(begin).collect::<Result<_>>()?))
    }

    /// Shows the model these batches and keeps in `state` what excites the units of `sites`. `after` is called after each
    /// batch, with its number.
    pub fn run(
        &self,
        sites: &[Site],
        state: &mut State,
        batches: Range<usize>,
        bar: &Bar,
        mut after: impl FnMut(&State, usize) -> Result<()>,
    ) -> Result<()> {
        let numbers: Vec<usize> = batches.clone().flat_map(|b| self.images(b)).collect();
        let mut number = batches.start;
        self.source.read(&numbers, self.options.batch_size, Want::Inputs, &mut |batch| {
            self.batch(sites, state, &batch)?;
            state.finished(number);
            bar.inc(batch.asked as u64);
            after(state, number)?;
            number += 1;
            Ok(())
        })
    }

    fn batch(&self, sites: &[Site], state: &mut State, batch: &Batch) -> Result<()> {
        if !batch.numbers.is_empty() {
            let _ = self.traced.read(sites, &batch.input, |i, activation| {
                match (sites.get(i), state.sites.get_mut(i)) {
                    (Some(site), Some(state)) => self.site(site, state, activation, &batch.numbers),
                    _ => Ok(()),
                }
            })?;
        }
        state.images += batch.numbers.len() as u64;
        state.digest = state.digest.and(batch.digest);
        state.skipped.extend(batch.skipped.iter().cloned());
        if self.options.maxima {
            state.rows.extend(batch.numbers.iter().map(|n| *n as u64));
        }
        Ok(())
    }

    /// Takes in the activation of one batch at one site.
    fn site(&self, site: &Site, state: &mut SiteState, activation: &Tensor, numbers: &[usize]) -> Result<()> {
        let maps = site.maps(activation)?;
        let size = maps.size();
        let map = match size.as_slice() {
            [n, c, h, w] if *n == numbers.len() as i64 && *c == state.channels as i64 && *h > 0 && *w > 0 => {
                (*h as usize, *w as usize)
            }
            _ => (0, 0),
        };
        if map == (0, 0) || (state.map != (0, 0) && state.map != map) {
            let size_before = match state.map {
                (0, 0) => "H, W".to_string(),
                (h, w) => format!("{h}, {w}"),
            };
            return Err(Error::Shape {
                what: format!("the activation of site `{}`", site.name),
                received: size,
                expected: format!("[{}, {}, {size_before}]", numbers.len(), state.channels),
            });
        }
        state.map = map;
        let mut maxima = vec![0f32; state.units.len() * numbers.len()];
        let bad = if maps.device() == Device::Cpu {
            let maps = on_cpu(site, &maps)?;
            let (channels, positions) = (state.channels, map.0 * map.1);
            let scan = |values: &[f32]| {
                let maps = Maps { values, channels, positions, numbers };
                kernel::scan(maps, &state.units, &mut state.states, &mut maxima)
            };
            ffi::with_floats(&maps, scan).ok_or_else(|| Error::Torch {
                during: format!("reading site `{}`", site.name),
                message: "the activation could not be made contiguous".to_string(),
            })?
        } else {
            tensor::scan(&maps, numbers, &state.units, &mut state.states, &mut maxima)
                .map_err(Error::torch(format!("reading site `{}`", site.name)))?
        };
        if let Err(bad) = bad {
            return Err(Error::NonFinite {
                site: site.name.clone(),
                unit: state.units.get(bad.unit).copied().unwrap_or(bad.unit),
                image: numbers.get(bad.image).map_or_else(String::new, |i| self.source.name(*i).into_owned()),
                value: bad.value,
            });
        }
        if self.options.maxima {
            let row = |image: usize| maxima.iter().skip(image).step_by(numbers.len());
            state.maxima.extend((0..numbers.len()).flat_map(row).map(|x| f16::from_f32(*x).to_bits()));
        }
        Ok(())
    }

    /// Names and classes of the candidates.
    pub fn names(&self, state: &State) -> Names {
        let mut names = Names::default();
        for number in state.candidates() {
            names.push(number, &self.source.name(number as usize), self.source.label(number as usize));
        }
        names
    }

    pub fn region(&self) -> (usize, usize) {
        let preprocess = self.source.preprocess();
        self.options.region_size.unwrap_or((preprocess.height, preprocess.width))
    }

    pub fn finish<'b>(&'b self, names: &'b Names) -> Finish<'b> {
        Finish { options: self.options, names, region: self.region() }
    }
}

/// A site's activation as contiguous CPU maps `[N, C, H, W]` of `f32`.
pub(crate) fn floats(site: &Site, activation: &Tensor) -> Result<Tensor> {
    on_cpu(site, &site.maps(activation)?)
}

fn on_cpu(site: &Site, maps: &Tensor) -> Result<Tensor> {
    maps.f_to_device(Device::Cpu)
        .and_then(|m| m.f_to_kind(Kind::Float))
        .and_then(|m| m.f_contiguous())
        .map_err(Error::torch(format!("reading site `{}`", site.name)))
}
