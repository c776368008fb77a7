//! A folder of images that is read while the model runs.

use super::batch::in_range;
use super::files::Files;
use super::left_out::LeftOutFiles;
use super::outputs::Outputs;
use super::{Corrupt, Digest, Fit, Images, Made, Maker, Preprocess, decode, identity, resize::Shaper};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// The images of an [`ImageFolder`](super::ImageFolder), read, decoded and resized on all cores while the model runs.
///
/// An image's number is its place in the sorted list of files. A file that cannot be read keeps its number: with
/// [`Corrupt::Skip`] it is listed in [`Batch::skipped`](super::Batch::skipped), with its reason; with
/// [`Corrupt::Fatal`] the first one, in the order of the numbers, is the error. That goes for files that vanish or are
/// damaged after they were listed, too; one that becomes another image is read as it then is, and
/// [`Batch::digest`](super::Batch::digest) tells.
///
/// **Shapes:** [`Batch::input`](super::Batch::input) is `[n, C, H, W]`, f32, on the CPU, with `C`, `H`, `W` as in the
/// preprocessing: the bytes of [`Probe::tensor`](super::Probe::tensor) after
/// [`ImageFolder::load`](super::ImageFolder::load), whatever the number of threads. `n` is 0 where no file of a batch
/// could be read.
///
/// **Threads:** the batches are used on the thread that called [`read`](Images::read). As many threads as rayon
/// would use there read on meanwhile, up to two batches ahead. They stop soon after `each` has failed or panicked, and
/// a panic of theirs goes on in the caller.
///
/// **Memory:** the names, and three batches, however many images there are: one in use and two ahead.
///
/// ```no_run
/// use tch_audit::probe::{Corrupt, ImageFolder, Images, Preprocess, Want};
/// # fn main() -> tch_audit::Result<()> {
/// let folder = ImageFolder::open("photos").preprocess(Preprocess::plain(3, 224, 224)?).corrupt(Corrupt::Skip);
/// let images = folder.stream()?;
/// let all: Vec<usize> = (0..images.len()).collect();
/// images.read(&all, 64, Want::Inputs, &mut |batch| {
///     println!("{:?}", batch.input.size());
///     batch.skipped.iter().for_each(|file| println!("without {}: {}", file.path.display(), file.reason));
///     Ok(())
/// })?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ImageStream {
    pub(super) files: Files,
    pub(super) left_out: Vec<LeftOutFiles>,
    /// The outputs of the model, if they were named.
    pub(super) outputs: Option<Arc<Outputs>>,
    pub(super) preprocess: Preprocess,
    pub(super) corrupt: Corrupt,
    pub(super) fit: Fit,
}

impl ImageStream {
    /// The file of image `i`.
    ///
    /// # Panics
    /// Unless `i < len()`.
    pub fn path(&self, i: usize) -> PathBuf {
        self.files.path(i)
    }
}

/// Reads the files of a stream one after the other, with buffers that are used again.
pub(super) struct Reader<'a> {
    stream: &'a ImageStream,
    bytes: Vec<u8>,
    shaper: Shaper,
}

impl<'a> Reader<'a> {
    pub fn new(stream: &'a ImageStream) -> Self {
        Self { stream, bytes: Vec::new(), shaper: Shaper::new(&stream.preprocess, stream.fit) }
    }

    /// Image `i` at the model's size. Panics unless `i < len()`.
    pub fn make(&mut self, i: usize) -> Made {
        let (digest, read) = self.bytes(i);
        let image = read.and_then(|()| {
            let image = decode::decode(&self.bytes)?;
            self.shaper.shape(image).map_err(|e| e.to_string())
        });
        let unreadable = |reason| Error::Image { path: self.stream.path(i), reason };
        Made { digest, image: image.map(Arc::new).map_err(unreadable), region: None }
    }

    /// How many bytes the last file had.
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The digest of a file that cannot be opened is that of its name.
    fn bytes(&mut self, i: usize) -> (Digest, Result<(), String>) {
        let read = decode::read(&self.stream.path(i), &mut self.bytes);
        (Digest::of(self.stream.files.name(i), &self.bytes), read)
    }
}

impl Images for ImageStream {
    fn len(&self) -> usize {
        self.files.len()
    }

    /// The path below the folder, with `/` between the parts.
    fn name(&self, i: usize) -> Cow<'_, str> {
        Cow::Borrowed(self.files.name(i))
    }

    fn label(&self, i: usize) -> Option<usize> {
        let folder = self.files.label(i)?;
        self.outputs.as_ref().map_or(Some(folder), |outputs| outputs.of_folder(folder))
    }

    fn classes(&self) -> &[String] {
        self.outputs.as_ref().map_or_else(|| self.files.classes(), |outputs| outputs.names())
    }

    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn corrupt(&self) -> Corrupt {
        self.corrupt
    }

    fn left_out(&self) -> &[LeftOutFiles] {
        &self.left_out
    }

    fn classes_are_folders(&self) -> bool {
        self.outputs.is_none() && !self.files.classes().is_empty()
    }

    /// Reads one file.
    ///
    /// **Errors:** [`Error::Invalid`] unless `i < len()`; [`Error::Image`] if it cannot be read, whatever was said of
    /// such files.
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        in_range(&[i], self.len())?;
        let image = Reader::new(self).make(i).image?;
        Ok(Cow::Owned(Arc::unwrap_or_clone(image)))
    }

    /// A hash of the names, class folders and lengths of the files, the preprocessing and the fit; their content is in
    /// [`digest`](Images::digest).
    fn fingerprint(&self) -> String {
        let length = |i| self.path(i).metadata().map_or(u64::MAX, |m| m.len());
        identity::fingerprint(self, self.fit, self.outputs.as_deref(), &|chunk| {
            chunk.into_par_iter().map(length).collect()
        })
    }

    fn maker(&self) -> Maker<'_> {
        let mut reader = Reader::new(self);
        Box::new(move |i| reader.make(i))
    }

    /// Reads the files, but decodes none: one that can be read and not decoded is no error here.
    ///
    /// **Errors:** [`Error::Image`] naming the first file that cannot be read, if those are fatal; [`Error::Invalid`]
    /// for a number that is not below `len()`.
    fn digest(&self, numbers: &[usize]) -> Result<Digest> {
        in_range(numbers, self.len())?;
        let digest = |reader: &mut Reader<'_>, i: &usize| match reader.bytes(*i) {
            (_, Err(reason)) if self.corrupt == Corrupt::Fatal => Err((*i, reason)),
            (digest, _) => Ok(digest),
        };
        numbers
            .par_iter()
            .map_init(|| Reader::new(self), digest)
            // The left one comes first.
            .reduce(|| Ok(Digest::default()), |a, b| Ok(a?.and(b?)))
            .map_err(|(i, reason)| Error::Image { path: self.path(i), reason })
    }
}
