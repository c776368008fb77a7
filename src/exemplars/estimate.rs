//! What a run will take, before it runs.

use super::options::Options;
use super::sketch::MAX_BINS;
use crate::graph::Site;
use crate::probe::Images;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// Some units of one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which of the sites.
    pub site: usize,
    /// Which of its units that are looked at, as places in their ascending order.
    pub units: Range<usize>,
}

/// What a run will take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// What each pass over the images reads.
    pub passes: Vec<Vec<Part>>,
    /// Upper bound of the candidates and sketches of the largest pass, in bytes: what [`Options::budget`] bounds.
    pub state: u64,
    /// Size of the [summaries](super::Summaries), in bytes. [`Exemplars::compute`](super::Exemplars::compute) holds up to
    /// 64 MB of them in memory; what is more, and those of a [`Run`](super::Run), are on disk.
    pub summaries: u64,
    /// Upper bound of the size of `exemplars.safetensors`, in bytes, with the summaries.
    pub file: u64,
    /// Upper bound of the memory that the exemplars of all units take together, in bytes: as
    /// [`Exemplars::compute`](super::Exemplars::compute) and [`Exemplars::load`](super::Exemplars::load) return them.
    pub held: u64,
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
            "{} units, {passes} pass{plural}, {} forward images, up to {} while running, up to {} on disk, up to {} to \
             hold all units",
            self.units,
            self.images,
            human(self.state),
            human(self.file),
            human(self.held),
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
/// Sites share a pass as long as they fit into [`Options::budget`] together; a site that does not fit alone is cut into
/// ranges of its units.
///
/// # Errors
/// [`Error::Invalid`] for options that make no sense, an empty probe set, no sites, units that do not exist, and a budget
/// that is too small for one unit; [`Error::Unknown`] for units of a site that is not among them.
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
    let images = source.len() as u64;
    let (height, width) = options.region(source.preprocess());
    let region = region_bytes((height, width));
    let mut plan = Plan { budget: options.budget.unwrap_or(u64::MAX), passes: Vec::new(), room: 0, largest: 0 };
    let (mut file, mut held, mut count) = (4096 + 8 * images, 0u64, 0);
    for (i, site) in sites.iter().enumerate() {
        let units = options.units_of(&site.name, site.units)?.len();
        plan.add(i, units, unit_bytes(site.size, options), &site.name)?;
        let map = if options.maps { site.size } else { (0, 0) };
        file += units as u64 * (shown(options, images) * (region + 12) + SKETCH + 64 + 8 * images);
        held += units as u64 * held_bytes(options, (height, width), images, map);
        count += units as u64;
    }
    let summaries = 8 * images * count;
    let images = images * plan.passes.len() as u64;
    Ok(Estimate { state: plan.largest, summaries, file, held, units: count, images, passes: plan.passes })
}

/// Which units are read together.
struct Plan {
    budget: u64,
    passes: Vec<Vec<Part>>,
    /// What the last pass may still take, in bytes.
    room: u64,
    /// What the largest pass takes.
    largest: u64,
}

impl Plan {
    /// Adds the units of a site that take so many bytes each.
    fn add(&mut self, site: usize, units: usize, bytes: u64, name: &str) -> Result<()> {
        if bytes > self.budget {
            let allowed = format!("at least {bytes} bytes, for one unit of site `{name}`");
            return Err(Error::invalid("budget", format!("{} bytes", self.budget), allowed));
        }
        let all = bytes.saturating_mul(units as u64);
        // As many at once as a pass of its own has room for.
        let step = usize::try_from(self.budget / bytes.max(1)).unwrap_or(usize::MAX).min(units);
        let mut first = 0;
        while first < units {
            let next = first.saturating_add(step).min(units);
            let taken = bytes.saturating_mul((next - first) as u64);
            if self.passes.is_empty() || self.room < taken || (first == 0 && self.room < all) {
                self.passes.push(Vec::new());
                self.room = self.budget;
            }
            if let Some(pass) = self.passes.last_mut() {
                pass.push(Part { site, units: first..next });
            }
            self.room = self.room.saturating_sub(taken);
            self.largest = self.largest.max(self.budget - self.room);
            first = next;
        }
        Ok(())
    }
}

/// Numbers, headers and what allocating takes, of one exemplar and of one unit.
const EXEMPLAR: u64 = 96;
const UNIT: u64 = 320;
const SKETCH: u64 = 10 * MAX_BINS as u64;

fn map_bytes(map: (usize, usize)) -> u64 {
    4 * map.0 as u64 * map.1 as u64
}

fn region_bytes(region: (usize, usize)) -> u64 {
    (region.0 as u64 * region.1 as u64).div_ceil(8)
}

/// How many images are kept of each unit.
fn shown(options: &Options, images: u64) -> u64 {
    ((options.k + options.weakest + options.random) as u64).min(images)
}

/// Upper bound of what the exemplars of one unit take in memory, with regions and maps of these sizes.
pub(super) fn held_bytes(options: &Options, region: (usize, usize), images: u64, map: (usize, usize)) -> u64 {
    shown(options, images) * (region_bytes(region).next_multiple_of(8) + map_bytes(map) + EXEMPLAR) + SKETCH + UNIT
}

/// Upper bound of what is kept of one unit of a site whose maps have this size, while it runs.
fn unit_bytes(map: (usize, usize), options: &Options) -> u64 {
    const CANDIDATE: u64 = 80;
    let candidates = (options.candidates() + options.weakest + options.random) as u64;
    candidates.saturating_mul(map_bytes(map).saturating_add(CANDIDATE)).saturating_add(SKETCH + UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Units = (usize, Range<usize>);

    fn plan(budget: u64, sites: &[(usize, u64)]) -> (Vec<Vec<Units>>, u64) {
        let mut plan = Plan { budget, passes: Vec::new(), room: 0, largest: 0 };
        sites.iter().enumerate().for_each(|(i, (units, bytes))| plan.add(i, *units, *bytes, "s").unwrap());
        let passes = plan.passes.into_iter().map(|pass| pass.into_iter().map(|p| (p.site, p.units)).collect());
        (passes.collect(), plan.largest)
    }

    #[test]
    fn sites_stay_whole_where_they_can_and_none_is_too_large() {
        assert_eq!(plan(u64::MAX, &[(4, 10), (5, 20)]), (vec![vec![(0, 0..4), (1, 0..5)]], 140));
        assert_eq!(plan(100, &[(4, 10), (5, 20)]), (vec![vec![(0, 0..4)], vec![(1, 0..5)]], 100));
        let (passes, largest) = plan(50, &[(3, 10), (5, 20), (1, 30)]);
        assert_eq!(passes, [vec![(0, 0..3)], vec![(1, 0..2)], vec![(1, 2..4)], vec![(1, 4..5), (2, 0..1)]]);
        assert_eq!(largest, 50);
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!([0, 1023, 1024, 3 << 19].map(human), ["0 B", "1023 B", "1.00 KiB", "1.50 MiB"]);
        assert_eq!([5 << 30, u64::MAX].map(human), ["5.00 GiB", "16.00 EiB"]);
    }
}
