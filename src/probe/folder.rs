//! Probes from a folder of JPEG and PNG files.

use super::files::Files;
use super::identity::Origin;
use super::stream::{ImageStream, Reader};
use super::{Corrupt, Digest, Fit, Labels, Made, Preprocess, Probe, Skipped, decode};
use crate::{Error, Result};
use image::RgbImage;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders nested deeper than this below a class are refused (links may form circles).
const MAX_DEPTH: usize = 16;
/// So many files are decoded before their errors are looked at.
const CHUNK: usize = 2048;

/// A folder of images, to be read at once with [`load`](Self::load), or with [`stream`](Self::stream) while a model runs.
///
/// Either all images lie in the folder itself (no labels), or each class has a sub-folder (labels in the order of the
/// sorted class names, images of deeper folders included). Files count as images if their content or their
/// extension is JPEG or PNG; other files are ignored, and so is everything whose name begins with a dot. The order is
/// that of the sorted paths. Images are turned upright as their EXIF data say; grey becomes RGB, 16 bits become 8,
/// transparent pixels are laid over white.
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
}

/// The images found in one folder, and how many other things.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    others: Vec<String>,
}

impl ImageFolder {
    /// The folder at `path`; nothing is read yet.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let root = path.as_ref().to_path_buf();
        Self { root, preprocess: None, corrupt: Corrupt::default(), fit: Fit::default(), limit_per_class: None }
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

    /// Reads, decodes and resizes all images in parallel.
    ///
    /// **Errors:** [`Error::Io`] if a folder cannot be listed; [`Error::Image`] naming the first unreadable file, if
    /// those are fatal; [`Error::Invalid`] if there is no image, if a class has none, if images lie both in the
    /// folder and in sub-folders, if the limit is 0, or if the preprocessing is missing or not valid.
    pub fn load(&self) -> Result<Probe> {
        let stream = self.stream()?;
        let (read, skipped) = self.read(&stream)?;
        if let (true, Some(first)) = (read.is_empty(), skipped.first()) {
            let count = stream.files.len();
            let received = format!("{count} files, none readable ({}: {})", first.path.display(), first.reason);
            return Err(Error::invalid(format!("image folder {}", self.root.display()), received, "JPEG or PNG files"));
        }
        let names = read.iter().map(|read| stream.files.name(read.number).to_string()).collect();
        let labels: Option<Vec<usize>> = read.iter().map(|read| stream.files.label(read.number)).collect();
        let labels = labels.map(|labels| Labels::new(labels, stream.files.classes())).transpose()?;
        let origin = Origin { fit: stream.fit, files: read.iter().map(|read| (read.length, read.digest)).collect() };
        let images = read.into_iter().map(|read| read.image).collect();
        Ok(Probe { skipped, origin: Some(origin), ..Probe::shared(images, Some(names), labels, stream.preprocess)? })
    }

    /// The preprocessing, if what was asked for makes sense.
    pub(super) fn checked(&self) -> Result<Preprocess> {
        let preprocess = self.preprocess.clone().ok_or_else(|| {
            Error::invalid(format!("preprocessing of {}", self.root.display()), "nothing", "size, mean and std")
        })?;
        preprocess.validate()?;
        if self.limit_per_class == Some(0) {
            return Err(Error::invalid("limit per class", 0, "1 and above"));
        }
        Ok(preprocess)
    }

    /// The path below the folder, with `/` between the parts.
    fn name(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path);
        below.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// The files to read, in order.
    pub(super) fn find(&self) -> Result<Files> {
        let what = || format!("image folder {}", self.root.display());
        let limit = self.limit_per_class.unwrap_or(usize::MAX);
        let (folders, mut here) = list(&self.root)?;
        let (mut files, mut others) = (Files::new(&self.root), std::mem::take(&mut here.others));
        let (mut in_folders, mut without) = (0, None);
        for folder in &folders {
            let (mut found, name) = (Found::default(), self.name(folder));
            walk(folder, 1, &mut found)?;
            if found.images.is_empty() {
                without.get_or_insert_with(|| name.clone());
            }
            in_folders += found.images.len();
            others.append(&mut found.others);
            found.images.truncate(limit);
            files.add(found.images);
            files.end_class(name);
        }
        if here.images.is_empty() && in_folders == 0 {
            let mut received = vec![format!("{} sub-folders", folders.len())];
            received.push(format!("{} other files", others.len()));
            let shown = others.iter().take(3).map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
            let shown = if shown.is_empty() {
                shown
            } else {
                format!(" ({shown}{})", if others.len() > 3 { ", …" } else { "" })
            };
            let received = format!("no image, {}{shown}", received.join(" and "));
            return Err(Error::invalid(what(), received, "JPEG or PNG files, or a sub-folder of them for each class"));
        }
        if in_folders == 0 {
            here.images.truncate(limit);
            files = Files::new(&self.root);
            files.add(here.images);
            files.shrink();
            return Ok(files);
        }
        if !here.images.is_empty() {
            let received = format!("{} images in it and {in_folders} in its sub-folders", here.images.len());
            return Err(Error::invalid(what(), received, "images either in it or in a sub-folder for each class"));
        }
        if let Some(name) = without {
            let allowed = "at least one image in each (sub-folders are classes; their order numbers the labels)";
            return Err(Error::invalid(what(), format!("sub-folder `{name}` without images"), allowed));
        }
        files.shrink();
        Ok(files)
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
        Ok(ImageStream { files: self.find()?, preprocess, corrupt: self.corrupt, fit: self.fit })
    }
}

/// An image that was read, and its file.
struct Read {
    number: usize,
    image: Arc<RgbImage>,
    length: u64,
    digest: Digest,
}

/// What lies directly in a folder, sorted: its sub-folders, and its files; nothing hidden.
fn list(folder: &Path) -> Result<(Vec<PathBuf>, Found)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        paths.push(entry.map_err(Error::io("list", folder))?.path());
    }
    paths.sort();
    let (mut folders, mut found) = (Vec::new(), Found::default());
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if is_image(&path) {
            found.images.push(path);
        } else {
            found.others.push(name);
        }
    }
    Ok((folders, found))
}

/// All files of a folder and the folders in it, sorted by path.
fn walk(folder: &Path, depth: usize, found: &mut Found) -> Result<()> {
    if depth > MAX_DEPTH {
        let received = format!("{} and more below", folder.display());
        return Err(Error::invalid("depth of an image folder", received, format!("up to {MAX_DEPTH} folders")));
    }
    let (folders, here) = list(folder)?;
    found.images.extend(here.images);
    found.others.extend(here.others);
    folders.iter().try_for_each(|f| walk(f, depth + 1, found))?;
    if depth == 1 {
        found.images.sort();
    }
    Ok(())
}

/// Whether the extension or, failing that, the first bytes say JPEG or PNG. What cannot be opened is no image.
fn is_image(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "jpg" | "jpeg" | "png" => true,
        _ => path.is_file() && matches!(decode::sniff(path), Ok(Some(_))),
    }
}
