//! What a run will take, before it runs.

use super::options::Options;
use super::sketch::MAX_BINS;
use crate::graph::Site;
use crate::probe::Images;
use crate::{Error, Result};
use std::fmt;
use std::ops::Range;

/// What a run will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// The sites that each pass over the images reads, as ranges of those given.
    pub passes: Vec<Range<usize>>,
    /// Upper bound of the candidates and sketches of the largest pass, in bytes.
    pub state: u64,
    /// Upper bound of the size of `exemplars.safetensors`, in bytes.
    pub file: u64,
    /// How many units.
    pub units: u64,
    /// How many images are shown, in all passes together.
    pub images: u64,
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passes = self.passes.len();
        let plural = if passes == 1 { "" } else { "es" };
        write!(
            f,
            "{} units, {passes} pass{plural}, {} forward images, up to {} while running, up to {} on disk",
            self.units,
            self.images,
            human(self.state),
            human(self.file),
        )
    }
}

/// So many bytes for people: `512 B`, `1.50 MiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    match bytes.checked_ilog2().map_or(0, |bits| bits as usize / 10) {
        0 => format!("{bytes} B"),
        n => format!("{:.2} {}", bytes as f64 / 1024f64.powi(n as i32), UNITS[n - 1]),
    }
}

/// What exemplars of `sites` over `source` will take: how many passes, how many bytes. Nothing is run.
///
/// Sites share a pass as long as they fit into [`Options::budget`] together.
///
/// # Errors
/// [`Error::Invalid`] for options that make no sense, an empty probe set, no sites, units that do not exist, and a budget
/// that is too small for one of the sites; [`Error::Unknown`] for units of a site that is not among them.
pub fn estimate(sites: &[Site], source: &dyn Images, options: &Options) -> Result<Estimate> {
    options.validate()?;
    if source.is_empty() {
        return Err(Error::invalid("probe set", "no image", "at least one image"));
    }
    if sites.is_empty() {
        return Err(Error::invalid("sites", "none", "at least one"));
    }
    if let Some(name) = options.units.keys().find(|name| sites.iter().all(|s| s.name != **name)) {
        return Err(Error::unknown("site", name, sites.iter().map(|s| s.name.as_str())));
    }
    let preprocess = source.preprocess();
    let (height, width) = options.region_size.unwrap_or((preprocess.height, preprocess.width));
    let images = source.len() as u64;
    let shown = (options.k + options.weakest + options.random) as u64;
    let (mut passes, mut bytes): (Vec<Range<usize>>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut total = Estimate { passes: Vec::new(), state: 0, file: 4096, units: 0, images: 0 };
    for (i, site) in sites.iter().enumerate() {
        let units = options.units_of(&site.name, site.units)?.len() as u64;
        let (per_unit, per_image) = state_bytes(site.size, options);
        let state = units.saturating_mul(per_unit.saturating_add(images.saturating_mul(per_image)));
        if let Some(budget) = options.budget.filter(|b| *b < state) {
            let received = format!("{budget} bytes");
            return Err(Error::invalid(
                "budget",
                received,
                format!("at least {state} bytes, for site `{}`", site.name),
            ));
        }
        match (passes.last_mut(), bytes.last_mut()) {
            (Some(pass), Some(sum)) if options.budget.is_none_or(|b| sum.saturating_add(state) <= b) => {
                pass.end = i + 1;
                *sum = sum.saturating_add(state);
            }
            _ => {
                passes.push(i..i + 1);
                bytes.push(state);
            }
        }
        total.units += units;
        let region = (height as u64 * width as u64).div_ceil(8) + 12;
        total.file += units * (shown.min(images) * region + 10 * MAX_BINS as u64 + 64 + per_image * images);
    }
    total.images = images * passes.len() as u64;
    total.state = bytes.into_iter().max().unwrap_or(0);
    total.passes = passes;
    Ok(total)
}

/// Upper bound of what is kept of one unit of a site whose maps have this size: bytes, and bytes per image.
fn state_bytes(map: (usize, usize), options: &Options) -> (u64, u64) {
    // Numbers, headers and what allocating takes.
    const CANDIDATE: u64 = 80;
    const UNIT: u64 = 320;
    let candidates = (options.candidates() + options.weakest + options.random) as u64;
    let map = 4 * map.0 as u64 * map.1 as u64;
    let bytes = candidates.saturating_mul(map.saturating_add(CANDIDATE)).saturating_add(10 * MAX_BINS as u64 + UNIT);
    (bytes, if options.maxima { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn bytes_are_readable() {
        assert_eq!([0, 1023, 1024, 3 << 19].map(human), ["0 B", "1023 B", "1.00 KiB", "1.50 MiB"]);
        assert_eq!([5 << 30, u64::MAX].map(human), ["5.00 GiB", "16.00 EiB"]);
    }
}
