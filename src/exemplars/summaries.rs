//! What every unit does on every image, in two numbers.

use super::state::State;
use super::tape::Place;
use crate::arrays::Put;
use crate::{Error, Result, UnitId};
use std::sync::Arc;

/// How many bytes of summaries are held in memory.
pub(super) const ROOM: u64 = 64 << 20;

/// The spatial maximum and the spatial mean of every unit on every image that could be read.
///
/// Few of them are in memory; many lie in a file and are read when they are asked for: a clone costs nothing.
#[derive(Clone, Default)]
pub struct Summaries {
    images: Arc<Vec<usize>>,
    parts: Vec<Part>,
}

/// Some units of one site.
#[derive(Clone)]
pub(super) struct Part {
    pub site: String,
    /// Ascending.
    pub units: Vec<usize>,
    pub maxima: Series,
    pub means: Series,
}

impl std::fmt::Debug for Summaries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units: usize = self.parts.iter().map(|p| p.units.len()).sum();
        f.debug_struct("Summaries").field("images", &self.images.len()).field("units", &units).finish_non_exhaustive()
    }
}

impl Summaries {
    pub(super) fn new(images: Vec<usize>, parts: Vec<Part>) -> Self {
        Self { images: Arc::new(images), parts }
    }

    /// Adds the units of another pass over the same images.
    pub(super) fn extend(&mut self, other: Summaries) {
        self.images = other.images;
        self.parts.extend(other.parts);
    }

    pub(super) fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// The numbers of the images, ascending.
    pub fn images(&self) -> &[usize] {
        &self.images
    }

    /// The spatial maxima and the spatial means of one unit, one each per image of [`images`](Self::images).
    ///
    /// # Errors
    /// [`Error::Unknown`] for a site that is not there, [`Error::Invalid`] for such a unit; [`Error::Io`].
    pub fn of(&self, unit: &UnitId) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut of_site = self.parts.iter().filter(|part| part.site == unit.site).peekable();
        if of_site.peek().is_none() {
            return Err(Error::unknown("site", &unit.site, self.parts.iter().map(|part| part.site.as_str())));
        }
        let found = of_site.find_map(|part| Some((part, part.units.binary_search(&unit.unit).ok()?)));
        let allowed = "a unit that was looked at";
        let (part, row) =
            found.ok_or_else(|| Error::invalid(format!("unit of site `{}`", unit.site), unit.unit, allowed))?;
        let images = self.images.len();
        Ok((part.maxima.rows(row, 1, images)?, part.means.rows(row, 1, images)?))
    }
}

impl State {
    /// Where the summaries of its sites lie.
    pub(super) fn summaries(&self) -> Summaries {
        let mut before = 0;
        let pieces = |start: usize| -> Series {
            let place = |b: &super::tape::Block| {
                let offset = b.offset + 4 * b.images as u64 * start as u64;
                Piece { place: Arc::clone(&b.place), offset, images: b.images }
            };
            Series { pieces: self.tape.blocks().iter().map(place).collect() }
        };
        let part = |site: &super::state::SiteState| {
            let (units, start) = (site.units.clone(), before);
            before += 2 * units.len();
            let (maxima, means) = (pieces(start), pieces(start + units.len()));
            Part { site: site.name.clone(), units, maxima, means }
        };
        let parts = self.sites.iter().map(part).collect();
        Summaries::new(self.rows.iter().map(|n| n as usize).collect(), parts)
    }
}

/// Numbers of some units, `[units, images]`, in pieces `[units, images of the piece]`.
#[derive(Clone)]
pub(super) struct Series {
    pub pieces: Vec<Piece>,
}

#[derive(Clone)]
pub(super) struct Piece {
    pub place: Arc<Place>,
    /// Where it begins, in bytes.
    pub offset: u64,
    pub images: usize,
}

impl Series {
    /// The rows of `count` units from `first` on, `[count, images]`.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn rows(&self, first: usize, count: usize, images: usize) -> Result<Vec<f32>> {
        let mut rows = vec![0f32; count * images];
        let mut values = Vec::new();
        let mut at = 0;
        for piece in self.pieces.iter().filter(|piece| piece.images > 0) {
            values.resize(count * piece.images, 0f32);
            piece.place.read(piece.offset + 4 * (first * piece.images) as u64, &mut values)?;
            for (row, values) in rows.chunks_mut(images).zip(values.chunks(piece.images)) {
                if let Some(room) = row.get_mut(at..at + values.len()) {
                    room.copy_from_slice(values);
                }
            }
            at += piece.images;
        }
        Ok(rows)
    }

    /// Hands over all rows, of `units` units, in their order; about `room` bytes of them are in memory at a time.
    ///
    /// # Errors
    /// What `put` returns; [`Error::Io`].
    pub fn each_row(&self, units: usize, images: usize, room: usize, put: &mut Put<'_>) -> Result<()> {
        let step = (room / (4 * images.max(1))).max(1);
        for first in (0..units).step_by(step) {
            put(bytemuck::cast_slice(&self.rows(first, step.min(units - first), images)?))?;
        }
        Ok(())
    }
}
