//! MILAN's own layout: per site a folder with `images.npy`, `masks.npy`, `units.npy`, `activations.csv`, `ids.csv`.
//!
//! **Source:** `src/exemplars/compute.py` and `src/milannotations/datasets.py` of MILAN (Hernandez et al. 2022,
//! arXiv 2201.11114).

mod import;

pub use import::import_npy;

use super::pictures::with_pictures;
use super::{Compat, Exemplar, Exemplars, UnitExemplars};
use crate::files::Staging;
use crate::probe::{Fit, Images, Preprocess, resize};
use crate::{Error, Result};
use image::RgbImage;
use npyz::{DType, WriteOptions, WriterBuilder};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

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
pub fn export_npy(exemplars: &Exemplars, source: &dyn Images, folder: &Path) -> Result<()> {
    exemplars.belong_to(source)?;
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let pictures = Pictures { source, compat: exemplars.options.compat };
    for units in exemplars.units.chunk_by(|a, b| a.id.site == b.id.site) {
        let Some(first) = units.first() else { continue };
        let site = first.id.site.as_str();
        if site.contains(['/', '\\', '\0']) || matches!(site, "" | "." | "..") {
            return Err(Error::invalid("site", format!("`{site}`"), "a name that a folder can have"));
        }
        write_site(units, &pictures, &folder.join(site))?;
    }
    Ok(())
}

fn write_site(units: &[UnitExemplars], pictures: &Pictures<'_>, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let k = units.iter().map(|u| u.top.len()).max().unwrap_or(0);
    let size = units.iter().flat_map(|u| &u.top).map(|e| (e.region.height(), e.region.width())).next();
    let (height, width) = size.unwrap_or((1, 1));
    let (count, places, h, w) = (units.len() as u64, k as u64, height as u64, width as u64);
    let mut staging = Staging::new(folder)?;
    npy(&mut staging, "images.npy", "|u1", &[count, places, 3, h, w], |out| {
        let black = vec![0; 3 * height * width];
        with_pictures(units, pictures.source, |units, images| {
            let planes = images.par_iter().map(|(i, image)| Ok((*i, pictures.planes(image, (height, width))?)));
            let planes: BTreeMap<usize, Vec<u8>> = planes.collect::<Result<_>>()?;
            for (unit, i) in units.iter().flat_map(|u| (0..k).map(move |i| (u, i))) {
                let bytes = match unit.top.get(i) {
                    Some(e) => planes.get(&e.image).ok_or_else(|| unreadable(pictures.source, e.image))?,
                    None => &black,
                };
                out.write_all(bytes).map_err(Error::io("write", folder))?;
            }
            Ok(())
        })
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
#[derive(Clone, Copy)]
struct Pictures<'a> {
    source: &'a dyn Images,
    compat: Compat,
}

impl Pictures<'_> {
    /// An image as `[3, height, width]`.
    fn planes(&self, image: &RgbImage, size: (usize, usize)) -> Result<Vec<u8>> {
        Ok(match self.compat {
            Compat::Fixed => planes(&resize(image, size.0, size.1, Fit::Squash)?),
            Compat::Official => planes(&nearest(&cut_off(image, self.source.preprocess()), size)),
        })
    }
}

/// Why an image could not be read.
fn unreadable(source: &dyn Images, number: usize) -> Error {
    match source.image(number) {
        Err(error) => error,
        Ok(_) => Error::invalid(source.name(number), "a file that could not be read before", "a readable image"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_numpy_does() {
        let written: Vec<String> = [1.234567, 0.0, -0.00012, 3.0e12, 1e-10].map(scientific).into();
        assert_eq!(written, ["1.23457e+00", "0.00000e+00", "-1.20000e-04", "3.00000e+12", "1.00000e-10"]);
    }
}
