//! The summaries of a run, as they come: batch after batch, appended to a file or, where there are few, in memory.
//!
//! A batch of `n` images is one block of f32: for every site of the pass the maxima `[units, n]`, then the means.

use crate::files::Positioned;
use crate::{Error, Result};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Where numbers lie.
#[derive(Debug)]
pub(super) enum Place {
    Memory(Mutex<Vec<f32>>),
    File(Arc<Positioned>),
}

impl Place {
    /// In memory, or, where that would be more than `room` bytes, in a temporary file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(bytes: u64, room: u64) -> Result<Arc<Self>> {
        if bytes <= room {
            return Ok(Arc::new(Place::Memory(Mutex::default())));
        }
        let folder = std::env::temp_dir();
        let file = tempfile::tempfile_in(&folder).map_err(Error::io("write to", &folder))?;
        Ok(Arc::new(Place::File(Arc::new(Positioned::new(&folder, file)))))
    }

    /// Fills `out` with the numbers from the byte `offset` on.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, offset: u64, out: &mut [f32]) -> Result<()> {
        match self {
            Place::File(file) => file.read(offset, bytemuck::cast_slice_mut(out)),
            Place::Memory(numbers) => {
                let (numbers, start) = (numbers.lock().unwrap_or_else(PoisonError::into_inner), offset as usize / 4);
                // What was appended is there.
                out.iter_mut().zip(numbers.get(start..).unwrap_or_default()).for_each(|(out, x)| *out = *x);
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, block: &[f32]) -> Result<()> {
        match self {
            Place::File(file) => file.write(offset, bytemuck::cast_slice(block)),
            Place::Memory(numbers) => {
                let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
                numbers.truncate(offset as usize / 4);
                numbers.extend_from_slice(block);
                Ok(())
            }
        }
    }
}

/// One block.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The number of its batch.
    pub batch: usize,
    pub images: usize,
    /// Where it begins, in bytes.
    pub offset: u64,
    pub place: Arc<Place>,
}

/// The blocks of a pass.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    place: Arc<Place>,
    /// By batch.
    blocks: Vec<Block>,
    /// Where the next block begins, in bytes.
    end: u64,
}

impl Tape {
    /// An empty one, behind what `place` holds already.
    pub fn new(place: Arc<Place>, end: u64) -> Self {
        Self { place, blocks: Vec::new(), end }
    }

    /// An empty one in a file of its own, which replaces what is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        let file = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = Positioned::new(path, file.map_err(Error::io("write", path))?);
        Ok(Self::new(Arc::new(Place::File(Arc::new(file))), 0))
    }

    /// One that was written to `path`: of these batches, with so many images in each, and so many units.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for a file that is shorter.
    pub fn open(path: &Path, batches: impl IntoIterator<Item = (usize, usize)>, units: usize) -> Result<Self> {
        let file = Arc::new(Positioned::open(path)?);
        let length = file.len()?;
        let mut tape = Self::new(Arc::new(Place::File(file)), 0);
        batches.into_iter().for_each(|(batch, images)| tape.add(batch, images, units));
        if length < tape.end {
            let allowed = format!("{} or more, as the state beside it says", tape.end);
            return Err(Error::invalid(path.display().to_string(), format!("{length} bytes"), allowed));
        }
        Ok(tape)
    }

    /// Goes on writing to the file that this was [opened](Self::open) from; what a run that was killed wrote after its
    /// last checkpoint is cut off.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn go_on(&mut self, path: &Path) -> Result<()> {
        let file = std::fs::File::options().read(true).write(true).open(path);
        let file = file.and_then(|file| file.set_len(self.end).map(|()| file)).map_err(Error::io("write", path))?;
        self.place = Arc::new(Place::File(Arc::new(Positioned::new(path, file))));
        self.blocks.iter_mut().for_each(|block| block.place = Arc::clone(&self.place));
        Ok(())
    }

    /// Adds the block of a batch, whose number is above all others.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, batch: usize, images: usize, block: &[f32]) -> Result<()> {
        self.place.write(self.end, block)?;
        self.add(batch, images, (block.len() / 2).checked_div(images).unwrap_or(0));
        Ok(())
    }

    fn add(&mut self, batch: usize, images: usize, units: usize) {
        self.blocks.push(Block { batch, images, offset: self.end, place: Arc::clone(&self.place) });
        let bytes = (images as u64).saturating_mul(units as u64).saturating_mul(8);
        self.end = self.end.saturating_add(bytes);
    }

    /// Sees to it that all blocks are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        match &*self.place {
            Place::File(file) => file.sync(),
            Place::Memory(_) => Ok(()),
        }
    }

    /// Where the next block begins, in bytes.
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Takes over the blocks of other batches.
    pub fn merge(&mut self, other: Tape) {
        self.blocks.extend(other.blocks);
        self.blocks.sort_by_key(|block| block.batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_memory_is_in_a_file() {
        for (bytes, in_memory) in [(16, true), (17, false)] {
            let place = Place::new(bytes, 16).unwrap();
            assert_eq!(matches!(*place, Place::Memory(_)), in_memory);
            // The second pass goes on behind the first.
            let mut first = Tape::new(Arc::clone(&place), 0);
            first.append(0, 1, &[1.0, 2.0]).unwrap();
            let mut second = Tape::new(place, first.end());
            second.append(0, 1, &[3.0, 4.0]).unwrap();
            let of = |tape: &Tape| {
                let (block, mut out) = (&tape.blocks()[0], [0.0; 2]);
                block.place.read(block.offset, &mut out).unwrap();
                out
            };
            assert_eq!((of(&first), of(&second)), ([1.0, 2.0], [3.0, 4.0]));
        }
    }

    #[test]
    fn a_tape_goes_on_where_its_checkpoint_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tape");
        let mut tape = Tape::create(&path).unwrap();
        tape.append(0, 2, &[1.0, 2.0, 3.0, 4.0]).unwrap();
        tape.append(1, 0, &[]).unwrap();
        let end = tape.end();
        tape.append(2, 1, &[9.0, 9.0]).unwrap();
        drop(tape);
        assert!(Tape::open(&path, [(0, 2), (1, 0), (2, 2)], 1).unwrap_err().to_string().contains("24 bytes"));
        let mut tape = Tape::open(&path, [(0, 2), (1, 0)], 1).unwrap();
        assert_eq!(tape.end(), end);
        tape.go_on(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), end);
        tape.append(2, 1, &[5.0, 6.0]).unwrap();
        let block = &tape.blocks()[2];
        let mut out = [0.0; 2];
        block.place.read(block.offset, &mut out).unwrap();
        assert_eq!(out, [5.0, 6.0]);
    }
}
