//! Reading MILAN's own layout.

use crate::exemplars::{Exemplar, Exemplars, ImageRef, Options, Sketch, Summaries, UnitExemplars};
use crate::probe::{Preprocess, Probe};
use crate::{Error, Region, Result, UnitId};
use image::RgbImage;
use npyz::NpyHeader;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

/// Reads exemplars in MILAN's own layout, written by us or by MILAN's Python: every sub-folder of `folder` that has
/// `images.npy` and `masks.npy` is a site, in the order of their names (numbers within them as numbers).
///
/// Returned are also the images, each once; the exemplars' image numbers are places in it. Activations are 0 without
/// `activations.csv`. What the layout does not hold is unknown: levels and extremes are NaN, sketches empty. A unit whose
/// masks are all empty counts as dead.
///
/// # Errors
/// [`Error::Io`]; [`Error::Invalid`] for a folder without such sub-folders, and for files of other shapes.
pub fn import_npy(folder: &Path) -> Result<(Exemplars, Probe)> {
    let mut sites: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.join("images.npy").is_file() && path.join("masks.npy").is_file() {
            sites.push(path);
        }
    }
    sites.sort_by_cached_key(|p| natural(&p.file_name().unwrap_or_default().to_string_lossy()));
    if sites.is_empty() {
        let allowed = "a folder per site with images.npy and masks.npy";
        return Err(Error::invalid(format!("exemplars in {}", folder.display()), "no such sub-folder", allowed));
    }
    let mut read = Imported::default();
    for site in &sites {
        read.site(site)?;
    }
    let (height, width) = read.size.unwrap_or((1, 1));
    let preprocess = Preprocess::plain(3, height, width)?;
    let names: Vec<String> = read.names.values().map(|n| n.name.clone()).collect();
    let images = read.images.len();
    let probe = Probe::from_images(read.images, Some(names), None, preprocess.clone())?;
    let k = read.units.iter().map(|u| u.top.len()).max().unwrap_or(0).max(1);
    let options = Options { k, region_size: Some((height, width)), ..Options::default() };
    let summaries = Summaries::default();
    Ok((Exemplars { preprocess, options, images, units: read.units, names: read.names, summaries }, probe))
}

/// `layer10` after `layer2`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0u64)];
    let mut digits = String::new();
    for c in name.chars().chain(std::iter::once('\0')) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if !digits.is_empty() {
            if let Some(last) = parts.last_mut() {
                last.1 = std::mem::take(&mut digits).parse().unwrap_or(u64::MAX);
            }
            parts.push((String::new(), 0));
        }
        if let Some(last) = parts.last_mut() {
            last.0.push(c);
        }
    }
    parts
}

#[derive(Default)]
struct Imported {
    images: Vec<RgbImage>,
    names: BTreeMap<usize, ImageRef>,
    /// Places in `images` by content.
    places: HashMap<blake3::Hash, usize>,
    units: Vec<UnitExemplars>,
    size: Option<(usize, usize)>,
}

/// An array of bytes that is read bit by bit.
struct Bytes {
    path: PathBuf,
    shape: Vec<usize>,
    reader: BufReader<File>,
}

impl Bytes {
    fn open(path: PathBuf, dimensions: usize, channels: usize) -> Result<Self> {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).map_err(Error::io("read", &path))?);
        let allowed = format!("a C-ordered array of bytes [units, k, {channels}, height, width]");
        let wrong = |received: String| Error::invalid(path.display().to_string(), received, allowed.as_str());
        let header = NpyHeader::from_reader(&mut reader).map_err(|e| wrong(format!("{e}")))?;
        let shape: Vec<usize> = header.shape().iter().map(|n| *n as usize).collect();
        let kind = header.dtype().descr();
        let bytes = matches!(kind.trim_matches('\''), "|u1" | "|b1" | "u1" | "<u1");
        let fits = shape.len() == dimensions
            && shape.get(2) == Some(&channels)
            && shape[3..].iter().all(|n| (1..=4096).contains(n));
        if !fits || !bytes || header.order() != npyz::Order::C {
            return Err(wrong(format!("{kind} of shape {shape:?}")));
        }
        Ok(Self { path, shape, reader })
    }

    fn next(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.shape[2..].iter().product()];
        self.reader.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }
}

impl Imported {
    fn site(&mut self, folder: &Path) -> Result<()> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut images = Bytes::open(folder.join("images.npy"), 5, 3)?;
        let mut masks = Bytes::open(folder.join("masks.npy"), 5, 1)?;
        let (units, k) = (images.shape[0], images.shape[1]);
        let size = (images.shape[3], images.shape[4]);
        let wrong = |path: PathBuf, received: String, allowed: String| {
            Error::invalid(path.display().to_string(), received, allowed)
        };
        if masks.shape[..2] != images.shape[..2] || masks.shape[3..] != images.shape[3..] {
            let allowed = format!("[{units}, {k}, 1, {}, {}] as images.npy", size.0, size.1);
            return Err(wrong(masks.path, format!("shape {:?}", masks.shape), allowed));
        }
        if let Some(other) = self.size.replace(size).filter(|other| *other != size) {
            let allowed = format!("{}x{}, as the other sites", other.0, other.1);
            return Err(wrong(images.path, format!("images of {}x{}", size.0, size.1), allowed));
        }
        let numbers = units_of(&folder.join("units.npy"), units)?;
        let activations = table(&folder.join("activations.csv"), units, k)?;
        let ids = table(&folder.join("ids.csv"), units, k)?;
        for (row, number) in numbers.into_iter().enumerate() {
            let mut top = Vec::with_capacity(k);
            for i in 0..k {
                let (planes, mask) = (images.next()?, masks.next()?);
                let cell = |table: &Option<Vec<Vec<f64>>>| table.as_ref().map(|t| t[row][i]);
                let id = cell(&ids);
                if id.is_some_and(|id| id < 0.0) {
                    continue;
                }
                let called = id.map_or_else(|| format!("{name}/{number}/{i}"), |id| format!("image {id}"));
                let image = self.place(&planes, size, called);
                let region = Region::from_fn(size.0, size.1, |y, x| mask[y * size.1 + x] != 0);
                let activation = cell(&activations).unwrap_or(0.0) as f32;
                top.push(Exemplar { image, activation, map: Vec::new(), region });
            }
            self.units.push(UnitExemplars {
                id: UnitId::new(&name, number),
                level: f32::NAN,
                minimum: f32::NAN,
                maximum: f32::NAN,
                dead: top.iter().all(|e| e.region.area() == 0),
                top,
                weakest: Vec::new(),
                random: Vec::new(),
                sketch: Sketch::default(),
            });
        }
        Ok(())
    }

    /// The place of an image, `[3, height, width]`.
    fn place(&mut self, planes: &[u8], (height, width): (usize, usize), name: String) -> usize {
        let next = self.images.len();
        let place = *self.places.entry(blake3::hash(planes)).or_insert(next);
        if place == next {
            let area = height * width;
            self.images.push(RgbImage::from_fn(width as u32, height as u32, |x, y| {
                let at = y as usize * width + x as usize;
                image::Rgb(std::array::from_fn(|c| planes[c * area + at]))
            }));
            self.names.insert(next, ImageRef { name, class: None });
        }
        place
    }
}

/// The units' channels; without the file they are counted from 0.
fn units_of(path: &Path, units: usize) -> Result<Vec<usize>> {
    if !path.exists() {
        return Ok((0..units).collect());
    }
    let allowed = format!("{units} whole numbers, one per unit of images.npy");
    let wrong = |received: String| Error::invalid(path.display().to_string(), received, allowed.as_str());
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = npyz::NpyFile::new(bytes.as_slice()).map_err(|e| wrong(format!("{e}")))?;
    if file.shape() != [units as u64] {
        return Err(wrong(format!("shape {:?}", file.shape())));
    }
    let kind = file.dtype().descr();
    let numbers: Vec<i64> = match file.try_data::<i64>() {
        Ok(data) => data.collect::<io::Result<_>>().map_err(|e| wrong(format!("{e}")))?,
        Err(_) => return Err(wrong(format!("numbers of type {kind}"))),
    };
    numbers.into_iter().map(|n| usize::try_from(n).map_err(|_| wrong(format!("{n}")))).collect()
}

/// A table of numbers without a header; `None` if there is no such file.
fn table(path: &Path, rows: usize, columns: usize) -> Result<Option<Vec<Vec<f64>>>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let wrong =
        |received: String| Error::invalid(path.display().to_string(), received, format!("{rows} x {columns} numbers"));
    let number = |cell: &str| cell.trim().parse::<f64>().map_err(|_| wrong(format!("`{}`", cell.trim())));
    let table = text.lines().map(|l| l.split(',').map(number).collect()).collect::<Result<Vec<Vec<f64>>>>()?;
    if table.len() != rows || table.iter().any(|row| row.len() != columns) {
        return Err(wrong(format!("{} rows of {:?} numbers", table.len(), table.first().map(Vec::len))));
    }
    Ok(Some(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_sorted_as_people_do() {
        let mut names = ["layer10", "conv1", "layer2", "layer2.1.conv", "layer2.0.conv"];
        names.sort_by_key(|n| natural(n));
        assert_eq!(names, ["conv1", "layer2", "layer2.0.conv", "layer2.1.conv", "layer10"]);
    }
}
