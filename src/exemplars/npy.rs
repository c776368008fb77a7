//! MILAN's own layout: per site a folder with `images.npy`, `masks.npy`, `units.npy`, `activations.csv`, `ids.csv`.
//!
//! **Source:** `src/exemplars/compute.py` and `src/milannotations/datasets.py` of MILAN (Hernandez et al. 2022,
//! arXiv 2201.11114).

use super::{Compat, Exemplar, Exemplars, ImageRef, Options, Sketch, UnitExemplars};
use crate::files::Staging;
use crate::probe::{Fit, Preprocess, Probe, Source, resize};
use crate::{Error, Region, Result, UnitId};
use image::RgbImage;
use npyz::{DType, NpyHeader, WriteOptions, WriterBuilder};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Writes exemplars as MILAN's own Python reads them: into `folder`, a sub-folder per site.
///
/// | file | shape | what |
/// |---|---|---|
/// | `images.npy` | u8 `[units, k, 3, H, W]` | the images, at the size of the regions |
/// | `masks.npy` | u8 `[units, k, 1, H, W]` | 1 in the region, else 0 |
/// | `units.npy` | i64 `[units]` | the units' channels, ascending |
/// | `activations.csv`, `ids.csv` | `units x k` | spatial maxima, image numbers |
///
/// `k` is the largest number of exemplars that any unit of the site has. Where a unit has fewer (dead ones have none), an
/// image is black, its mask empty, its activation 0 and its id -1. `source` must be the images that the exemplars were
/// computed from.
///
/// # Errors
/// [`Error::Invalid`] when `source` is not that probe set, or a site's name cannot be a folder's; [`Error::Io`].
pub fn export_npy(exemplars: &Exemplars, source: &dyn Source, folder: &Path) -> Result<()> {
    exemplars.belong_to(source)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let mut pictures = Pictures { source, compat: exemplars.options.compat, known: HashMap::new() };
    for units in exemplars.units.chunk_by(|a, b| a.id.site == b.id.site) {
        let Some(first) = units.first() else { continue };
        let site = first.id.site.as_str();
        if site.contains(['/', '\\', '\0']) || matches!(site, "" | "." | "..") {
            return Err(Error::invalid("site", format!("`{site}`"), "a name that a folder can have"));
        }
        // Images recur within a site; between sites less so, and memory is finite.
        pictures.known.clear();
        write_site(units, &mut pictures, &folder.join(site))?;
    }
    Ok(())
}

fn write_site(units: &[UnitExemplars], pictures: &mut Pictures<'_>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let k = units.iter().map(|u| u.top.len()).max().unwrap_or(0);
    let size = units.iter().flat_map(|u| &u.top).map(|e| (e.region.height(), e.region.width())).next();
    let (height, width) = size.unwrap_or((1, 1));
    let (count, places, h, w) = (units.len() as u64, k as u64, height as u64, width as u64);
    let mut staging = Staging::new(folder)?;
    npy(&mut staging, "images.npy", "|u1", &[count, places, 3, h, w], |out| {
        for (unit, i) in units.iter().flat_map(|u| (0..k).map(move |i| (u, i))) {
            match unit.top.get(i) {
                Some(e) => {
                    out.write_all(pictures.planes(e.image, (height, width))?).map_err(Error::io("write", folder))?
                }
                None => out.write_all(&vec![0; 3 * height * width]).map_err(Error::io("write", folder))?,
            }
        }
        Ok(())
    })?;
    npy(&mut staging, "masks.npy", "|u1", &[count, places, 1, h, w], |out| {
        for (unit, i) in units.iter().flat_map(|u| (0..k).map(move |i| (u, i))) {
            let mask = unit.top.get(i).map_or_else(|| vec![0; height * width], |e| e.region.bytes());
            out.write_all(&mask).map_err(Error::io("write", folder))?;
        }
        Ok(())
    })?;
    npy(&mut staging, "units.npy", "<i8", &[count], |out| {
        let bytes: Vec<u8> = units.iter().flat_map(|u| (u.id.unit as i64).to_le_bytes()).collect();
        out.write_all(&bytes).map_err(Error::io("write", folder))
    })?;
    csv(&mut staging, "activations.csv", units, k, |e| scientific(e.map_or(0.0, |e| e.activation)))?;
    csv(&mut staging, "ids.csv", units, k, |e| e.map_or_else(|| "-1".to_string(), |e| e.image.to_string()))?;
    staging.put()
}

fn npy(
    staging: &mut Staging,
    name: &str,
    kind: &str,
    shape: &[u64],
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let path = staging.add(name)?;
    let failed = |e: io::Error| Error::io("write", &path)(e);
    let kind = DType::Plain(kind.parse().map_err(|e| failed(io::Error::other(e)))?);
    let file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(failed)?);
    let header = WriteOptions::new_header_only().shape(shape).dtype(kind).writer(file);
    let mut out = header.write_header_only().map_err(|e| Error::io("write", &path)(e))?;
    write(&mut out)?;
    out.flush().map_err(Error::io("write", &path))
}

fn csv(
    staging: &mut Staging,
    name: &str,
    units: &[UnitExemplars],
    k: usize,
    cell: impl Fn(Option<&Exemplar>) -> String,
) -> Result<()> {
    let path = staging.add(name)?;
    let mut out = String::new();
    for unit in units {
        let cells: Vec<String> = (0..k).map(|i| cell(unit.top.get(i))).collect();
        out.push_str(&cells.join(","));
        out.push('\n');
    }
    std::fs::write(&path, out).map_err(Error::io("write", &path))
}

/// As C's `%.5e`: `1.23457e+00`.
fn scientific(x: f32) -> String {
    let text = format!("{x:.5e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

/// Probe images as they are exported.
struct Pictures<'a> {
    source: &'a dyn Source,
    compat: Compat,
    /// Planes by number.
    known: HashMap<usize, Vec<u8>>,
}

/// How many images are kept for the units that come.
const KNOWN: usize = 1024;

impl Pictures<'_> {
    /// Image `number` as `[3, height, width]`.
    fn planes(&mut self, number: usize, size: (usize, usize)) -> Result<&[u8]> {
        if self.known.len() >= KNOWN && !self.known.contains_key(&number) {
            self.known.clear();
        }
        if !self.known.contains_key(&number) {
            let image = self.source.image(number)?;
            let planes = match self.compat {
                Compat::Fixed => planes(&resize(&image, size.0, size.1, Fit::Squash)?),
                Compat::Official => planes(&nearest(&cut_off(&image, self.source.preprocess()), size)),
            };
            self.known.insert(number, planes);
        }
        Ok(self.known.get(&number).map_or(&[], Vec::as_slice))
    }
}

fn planes(image: &RgbImage) -> Vec<u8> {
    (0..3).flat_map(|c| image.pixels().map(move |p| p.0[c])).collect()
}

/// Normalised, and back to bytes that are cut off and not rounded.
fn cut_off(image: &RgbImage, preprocess: &Preprocess) -> RgbImage {
    let table = |c: usize| -> [u8; 256] {
        let of = |list: &[f32]| list.get(c).or(list.first()).copied().unwrap_or(0.0);
        let (mean, std) = (of(&preprocess.mean), of(&preprocess.std));
        // The factors are formed in double precision, then rounded; multiplied and added apart.
        let (factor, offset) = ((f64::from(std) * 255.0) as f32, (f64::from(mean) * 255.0) as f32);
        std::array::from_fn(|v| ((v as f32 / 255.0 - mean) / std * factor + offset).clamp(0.0, 255.0) as u8)
    };
    let tables = [table(0), table(1), table(2)];
    let mut out = image.clone();
    out.pixels_mut().for_each(|p| p.0 = std::array::from_fn(|c| tables[c][usize::from(p.0[c])]));
    out
}

/// Every pixel is the one that its upper left corner lies in.
fn nearest(image: &RgbImage, (height, width): (usize, usize)) -> RgbImage {
    let from = |t: u32, inside: u32, outside: usize| (u64::from(t) * u64::from(inside) / outside as u64) as u32;
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        *image.get_pixel(from(x, image.width(), width), from(y, image.height(), height))
    })
}

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
    Ok((Exemplars { preprocess, options, images, units: read.units, names: read.names, maxima: None }, probe))
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
    fn numbers_are_written_as_numpy_does() {
        let written: Vec<String> = [1.234567, 0.0, -0.00012, 3.0e12, 1e-10].map(scientific).into();
        assert_eq!(written, ["1.23457e+00", "0.00000e+00", "-1.20000e-04", "3.00000e+12", "1.00000e-10"]);
    }

    #[test]
    fn sites_are_sorted_as_people_do() {
        let mut names = ["layer10", "conv1", "layer2", "layer2.1.conv", "layer2.0.conv"];
        names.sort_by_key(|n| natural(n));
        assert_eq!(names, ["conv1", "layer2", "layer2.0.conv", "layer2.1.conv", "layer10"]);
    }
}
