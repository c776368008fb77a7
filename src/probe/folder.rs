//! Probes from a folder of image files.

use super::files::Files;
use super::identity::Origin;
use super::kind::READ;
use super::left_out::{LeftOutFiles, Why};
use super::listing::Listing;
use super::outputs::Outputs;
use super::stream::{ImageStream, Reader};
use super::{Corrupt, Digest, Fit, Images, Labels, Made, Preprocess, Probe, Skipped};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many files are decoded before their errors are looked at.
const CHUNK: usize = 2048;

/// A folder of images, to be read at once with [`load`](Self::load), or with [`stream`](Self::stream) while a model runs.
///
/// Either all images lie in the folder itself (no labels), or each class has a sub-folder (labels in the order of the
/// sorted class names, images of deeper folders included). Files count as images if their content or their extension is
/// JPEG, PNG, WebP, BMP, TIFF or GIF. Everything else is left out, and [`Images::left_out`] is the account of that: images
/// of other kinds, hidden ones, and those in folders of other programs (`@eaDir`, `__MACOSX`), which are no classes. The
/// order is that of the sorted paths. Of several pictures in a file the first is read. Images are turned upright as their
/// EXIF data say; grey becomes RGB, 16 bits become 8, transparent pixels are laid over white. One of more than
/// [`MAX_PIXELS`](super::MAX_PIXELS) is not decoded, and cannot be read.
///
/// Where the class folders are some of a model's classes, or are not sorted as its outputs are,
/// [`classes`](Self::classes) says which output each is about.
///
/// ```no_run
/// use tch_audit::probe::{Corrupt, ImageFolder, Preprocess};
/// # fn main() -> tch_audit::Result<()> {
/// let preprocess = Preprocess::new(3, 32, 32, vec![0.4914, 0.4822, 0.4465], vec![0.2023, 0.1994, 0.2010])?;
/// let probe = ImageFolder::open("photos/test").preprocess(preprocess).corrupt(Corrupt::Skip).load()?;
/// println!("{} images of {} classes", probe.len(), probe.classes().len());
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ImageFolder {
    root: PathBuf,
    preprocess: Option<Preprocess>,
    pub(super) corrupt: Corrupt,
    pub(super) fit: Fit,
    limit_per_class: Option<usize>,
    classes: Option<Vec<String>>,
}

impl ImageFolder {
    /// The folder at `path`; nothing is read yet.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let root = path.as_ref().to_path_buf();
        let (corrupt, fit) = (Corrupt::default(), Fit::default());
        Self { root, preprocess: None, corrupt, fit, limit_per_class: None, classes: None }
    }

    /// The model's size, mean and standard deviation; must be given.
    pub fn preprocess(mut self, preprocess: Preprocess) -> Self {
        self.preprocess = Some(preprocess);
        self
    }

    /// What to do with files that cannot be read; fatal unless said otherwise.
    pub fn corrupt(mut self, corrupt: Corrupt) -> Self {
        self.corrupt = corrupt;
        self
    }

    /// How images of another shape are made to fit; squashed unless said otherwise.
    pub fn fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }

    /// Reads only the first `n` files of each class (of the folder, without classes), in the order of their paths.
    pub fn limit_per_class(mut self, n: usize) -> Self {
        self.limit_per_class = Some(n);
        self
    }

    /// The names of the model's outputs, one for each, in their order: the label of an image is then the output that has
    /// the name of its class folder, and [`Images::classes`] are these names. Without them the class folders, sorted, are
    /// taken for the outputs. They are no part of the [fingerprint](Images::fingerprint). [`read_classes`] reads them from
    /// a file.
    ///
    /// [`read_classes`]: super::read_classes
    pub fn classes(mut self, outputs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.classes = Some(outputs.into_iter().map(Into::into).collect());
        self
    }

    /// Reads, decodes and resizes all images in parallel.
    ///
    /// **Errors:** [`Error::Io`] if a folder cannot be listed; [`Error::Image`] naming the first unreadable file, if
    /// those are fatal; [`Error::Invalid`] if there is no image, if a class has none, if images lie both in the
    /// folder and in sub-folders, if a class folder has the name of no [output](Self::classes) or of several, if the limit
    /// is 0, or if the preprocessing is missing or not valid.
    pub fn load(&self) -> Result<Probe> {
        let stream = self.stream()?;
        let (read, skipped) = self.read(&stream)?;
        if let (true, Some(first)) = (read.is_empty(), skipped.first()) {
            let count = stream.files.len();
            let received = format!("{count} files, none readable ({}: {})", first.path.display(), first.reason);
            return Err(Error::invalid(
                format!("image folder {}", self.root.display()),
                received,
                format!("{READ} files"),
            ));
        }
        let names = read.iter().map(|read| stream.files.name(read.number).to_string()).collect();
        let labels: Option<Vec<usize>> = read.iter().map(|read| stream.label(read.number)).collect();
        let labels = labels.map(|labels| Labels::new(labels, stream.classes())).transpose()?;
        let classes_are_folders = stream.classes_are_folders();
        let files = read.iter().map(|read| (read.length, read.digest)).collect();
        let origin = Some(Origin { fit: stream.fit, outputs: stream.outputs, files });
        let images = read.into_iter().map(|read| read.image).collect();
        let probe = Probe::shared(images, Some(names), labels, stream.preprocess)?;
        Ok(Probe { skipped, left_out: stream.left_out, classes_are_folders, origin, ..probe })
    }

    /// The preprocessing, if what was asked for makes sense.
    fn checked(&self) -> Result<Preprocess> {
        let preprocess = self.preprocess.clone().ok_or_else(|| {
            Error::invalid(format!("preprocessing of {}", self.root.display()), "nothing", "size, mean and std")
        })?;
        preprocess.validate()?;
        if self.limit_per_class == Some(0) {
            return Err(Error::invalid("limit per class", 0, "1 and above"));
        }
        Ok(preprocess)
    }

    /// The files to read, in order, and what is left out.
    fn find(&self) -> Result<(Files, Vec<LeftOutFiles>)> {
        let what = || format!("image folder {}", self.root.display());
        let limit = self.limit_per_class.unwrap_or(usize::MAX);
        let mut listing = Listing::new(&self.root);
        let (folders, here) = listing.of(&self.root)?;
        let (mut files, mut in_folders, mut without) = (Files::new(&self.root), 0, None);
        for folder in &folders {
            let mut images = listing.below(folder)?;
            if images.is_empty() {
                without.get_or_insert_with(|| listing.name(folder));
            }
            in_folders += images.len();
            limited(&mut images, limit, &mut listing);
            files.add(images);
            files.end_class(listing.name(folder));
        }
        if in_folders == 0 && !here.is_empty() {
            let mut images = here;
            limited(&mut images, limit, &mut listing);
            files = Files::new(&self.root);
            files.add(images);
            files.shrink();
            return Ok((files, listing.account.finish()));
        }
        if !here.is_empty() {
            let received = format!("{} images in it and {in_folders} in its sub-folders", here.len());
            return Err(Error::invalid(what(), received, "images either in it or in a sub-folder for each class"));
        }
        let left_out = listing.account.finish();
        if in_folders == 0 {
            let received = format!("no image, {} sub-folders{}", folders.len(), others(&left_out, ""));
            let allowed = format!("{READ} files, or a sub-folder of them for each class");
            return Err(Error::invalid(what(), received, allowed));
        }
        if let Some(name) = without {
            let allowed = "at least one image in each (sub-folders are classes; their order numbers the labels)";
            let received = format!("sub-folder `{name}` without images{}", others(&left_out, &format!("{name}/")));
            return Err(Error::invalid(what(), received, allowed));
        }
        files.shrink();
        Ok((files, left_out))
    }

    /// The images of a stream, and the files left out.
    fn read(&self, stream: &ImageStream) -> Result<(Vec<Read>, Vec<Skipped>)> {
        let count = stream.files.len();
        let bar = crate::progress::bar("reading", count);
        let (mut read, mut skipped) = (Vec::with_capacity(count), Vec::new());
        for start in (0..count).step_by(CHUNK) {
            let chunk = start..count.min(start + CHUNK);
            let make = |reader: &mut Reader<'_>, i| {
                let made = reader.make(i);
                bar.inc(1);
                (made, reader.length())
            };
            let results: Vec<(Made, u64)> =
                chunk.clone().into_par_iter().map_init(|| Reader::new(stream), make).collect();
            for (number, (Made { digest, image, .. }, length)) in chunk.zip(results) {
                match (image, self.corrupt) {
                    (Ok(image), _) => read.push(Read { number, image, length, digest }),
                    (Err(Error::Image { path, reason }), Corrupt::Skip) => skipped.push(Skipped { path, reason }),
                    (Err(error), _) => return Err(error),
                }
            }
        }
        bar.finish_and_clear();
        Ok((read, skipped))
    }

    /// The same images as [`load`](Self::load), to be read as they are needed. Only the names of the files are read now.
    ///
    /// **Errors:** as [`load`](Self::load), but for what the images themselves hold: that none can be read, for one, is
    /// not known yet.
    pub fn stream(&self) -> Result<ImageStream> {
        let preprocess = self.checked()?;
        let (files, left_out) = self.find()?;
        let outputs = match &self.classes {
            Some(_) if files.classes().is_empty() => {
                let what = format!("image folder {}", self.root.display());
                let allowed = "a sub-folder for each class, as the model's classes are given";
                return Err(Error::invalid(what, "images without class folders", allowed));
            }
            Some(names) => Some(Arc::new(Outputs::new(names, files.classes())?)),
            None => None,
        };
        Ok(ImageStream { files, left_out, outputs, preprocess, corrupt: self.corrupt, fit: self.fit })
    }
}

/// Only the first `limit` images of a class; the others are left out.
fn limited(images: &mut Vec<PathBuf>, limit: usize, listing: &mut Listing<'_>) {
    let beyond = images.len().saturating_sub(limit);
    if beyond > 0 {
        let name = images.get(limit).map_or_else(String::new, |path| listing.name(path));
        listing.account.add(Why::BeyondLimit, "", (beyond, false), || name);
        images.truncate(limit);
    }
}

/// The files that are left out of the folders whose names begin so, for an error: ` and 3 other files (a, b, c)`; of some
/// folders only those that are named in the account.
fn others(left_out: &[LeftOutFiles], below: &str) -> String {
    let there = |l: &&LeftOutFiles| l.names.iter().any(|name| name.starts_with(below));
    let names: Vec<&str> =
        left_out.iter().flat_map(|l| &l.names).filter(|n| n.starts_with(below)).map(String::as_str).collect();
    let count = if below.is_empty() { left_out.iter().map(|l| l.files).sum() } else { names.len() };
    let kinds: Vec<String> =
        left_out.iter().filter(|l| l.why == Why::KindNotRead).filter(there).map(|l| l.what.clone()).collect();
    let unread = if kinds.is_empty() { String::new() } else { format!("; {} is not read", kinds.join(", ")) };
    let more = if names.len() > 3 { ", …" } else { "" };
    match names.get(..names.len().min(3)).unwrap_or_default() {
        [] => String::new(),
        shown => format!(" and {count} other files ({}{more}{unread})", shown.join(", ")),
    }
}

/// An image that was read, and its file.
struct Read {
    number: usize,
    image: Arc<RgbImage>,
    length: u64,
    digest: Digest,
}
