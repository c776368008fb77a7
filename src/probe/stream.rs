//! A folder of images that is read while the model runs.

use super::source::in_range;
use super::{Batch, Corrupt, Digest, Fit, ImageFolder, Preprocess, Skipped, Source, decode, preprocess, resize};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

/// Batches that wait for the model; one more is being read.
const AHEAD: usize = 1;

/// The images of an [`ImageFolder`], read, decoded and resized on all cores while the model runs. Memory does not depend
/// on how many there are, but for their names.
///
/// An image's number is its place in the sorted list of files. A file that cannot be read keeps its number.
///
/// ```no_run
/// use tch_audit::probe::{Corrupt, ImageFolder, Preprocess, Source};
/// # fn main() -> tch_audit::Result<()> {
/// let folder = ImageFolder::open("photos").preprocess(Preprocess::plain(3, 224, 224)?).corrupt(Corrupt::Skip);
/// let images = folder.stream()?;
/// images.batches(&[0..64, 64..128], &mut |batch| {
///     println!("{:?}, without {}", batch.input.size(), batch.skipped.len());
///     Ok(())
/// })?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ImageStream {
    root: PathBuf,
    /// Below the root.
    files: Vec<Box<Path>>,
    labels: Option<Vec<usize>>,
    classes: Vec<String>,
    preprocess: Preprocess,
    corrupt: Corrupt,
    fit: Fit,
}

/// What became of a file.
struct Read {
    digest: Digest,
    image: Result<RgbImage, String>,
}

impl ImageFolder {
    /// The same images as [`load`](Self::load), to be read as they are needed. Only the list of files is read now.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for what the images themselves hold.
    pub fn stream(&self) -> Result<ImageStream> {
        let preprocess = self.checked()?;
        let (files, labels) = self.find()?;
        let below = |path: &PathBuf| Box::from(path.strip_prefix(&self.root).unwrap_or(path));
        let (labels, classes) = labels.map_or((None, Vec::new()), |(labels, classes)| (Some(labels), classes));
        Ok(ImageStream {
            files: files.iter().map(below).collect(),
            root: self.root.clone(),
            labels,
            classes,
            preprocess,
            corrupt: self.corrupt,
            fit: self.fit,
        })
    }
}

impl ImageStream {
    /// The class names, in the order of the labels; empty without labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    fn path(&self, i: usize) -> PathBuf {
        self.files.get(i).map_or_else(PathBuf::new, |file| self.root.join(file))
    }

    fn bytes(&self, i: usize) -> (Digest, Result<Vec<u8>, String>) {
        let bytes = decode::read(&self.path(i));
        let digest = Digest::of(&self.name(i), bytes.as_deref().unwrap_or_default());
        (digest, bytes)
    }

    fn read(&self, i: usize) -> Read {
        let (digest, bytes) = self.bytes(i);
        Read { digest, image: bytes.and_then(|bytes| self.decode(&bytes)) }
    }

    fn decode(&self, bytes: &[u8]) -> Result<RgbImage, String> {
        let image = decode::decode(bytes)?;
        resize(&image, self.preprocess.height, self.preprocess.width, self.fit).map_err(|e| e.to_string())
    }

    fn batch(&self, range: &Range<usize>) -> Result<Batch> {
        let read: Vec<Read> = range.clone().into_par_iter().map(|i| self.read(i)).collect();
        let (mut numbers, mut images) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
        let (mut digest, mut skipped) = (Digest::default(), Vec::new());
        for (i, one) in range.clone().zip(read) {
            digest = digest.and(one.digest);
            match one.image {
                Ok(image) => {
                    numbers.push(i);
                    images.push(image);
                }
                Err(reason) if self.corrupt == Corrupt::Skip => skipped.push(Skipped { path: self.path(i), reason }),
                Err(reason) => return Err(Error::Image { path: self.path(i), reason }),
            }
        }
        let input = preprocess::tensor_of(&images, &self.preprocess)?;
        Ok(Batch { range: range.clone(), numbers, input, digest, skipped })
    }
}

impl Source for ImageStream {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn name(&self, i: usize) -> Cow<'_, str> {
        let parts: Vec<Cow<'_, str>> = self.files[i].components().map(|c| c.as_os_str().to_string_lossy()).collect();
        match parts.as_slice() {
            [one] => one.clone(),
            _ => Cow::Owned(parts.join("/")),
        }
    }

    fn label(&self, i: usize) -> Option<usize> {
        self.labels.as_ref().map(|l| l[i])
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        in_range(&(i..i + 1), self.files.len())?;
        self.read(i).image.map(Cow::Owned).map_err(|reason| Error::Image { path: self.path(i), reason })
    }

    /// A hash of the names, labels and sizes of the files and of the preprocessing; their content is in
    /// [`digest`](Source::digest).
    fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let described = format!("{:?} {:?} {:?}", self.preprocess, self.fit, self.classes);
        hash.update(b"tch-audit stream 1").update(described.as_bytes());
        let lengths: Vec<u64> = (0..self.files.len())
            .into_par_iter()
            .map(|i| self.path(i).metadata().map_or(u64::MAX, |m| m.len()))
            .collect();
        for (i, length) in lengths.into_iter().enumerate() {
            let name = self.name(i);
            hash.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(&length.to_le_bytes());
            hash.update(&self.label(i).map_or(u64::MAX, |l| l as u64).to_le_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    fn batches(&self, ranges: &[Range<usize>], each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        ranges.iter().try_for_each(|r| in_range(r, self.files.len()))?;
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            scope.spawn(move || {
                for range in ranges {
                    let batch = self.batch(range);
                    let last = batch.is_err();
                    // Nobody listens any more once `each` has failed.
                    if sender.send(batch).is_err() || last {
                        break;
                    }
                }
            });
            receiver.into_iter().try_for_each(|batch| each(batch?))
        })
    }

    fn digest(&self, ranges: &[Range<usize>]) -> Result<Digest> {
        ranges.iter().try_for_each(|r| in_range(r, self.files.len()))?;
        let digests = ranges.par_iter().flat_map(|r| r.clone().into_par_iter()).map(|i| self.bytes(i).0);
        Ok(digests.reduce(Digest::default, Digest::and))
    }
}
