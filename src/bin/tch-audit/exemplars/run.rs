//! The run itself, and what its flags mean.

use super::RunArguments;
use crate::{Common, output, photos};
use anyhow::Context;
use indicatif::HumanBytes;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tch_audit::exemplars::{Compat, Done, Options, Run, Stored, merge as merge_shards};
use tch_audit::exit;
use tch_audit::probe::{Corrupt, ImageFolder, Images, LeftOutFiles};

pub fn run(arguments: &RunArguments, common: &Common) -> anyhow::Result<u8> {
    let model_path = arguments.model.as_deref().context("no model")?;
    let probe = arguments.probe.as_deref().context("no --probe")?;
    let preprocess = arguments.input.preprocess()?;
    let model = arguments.input.load(model_path, arguments.batch_size)?;
    let corrupt = if arguments.skip_corrupt { Corrupt::Skip } else { Corrupt::Fatal };
    let mut folder = ImageFolder::open(probe).preprocess(preprocess).corrupt(corrupt);
    if let Some(n) = arguments.limit_per_class {
        folder = folder.limit_per_class(n);
    }
    let source = folder.stream()?;
    let graph = arguments.input.trace(&model, &arguments.input.noise(1), common)?;
    let sites = graph.select(&arguments.sites)?;
    let options = arguments.options();
    let run = Run::new(&graph, &sites, &source, &options)
        .with_context(|| format!("cannot run {}", model_path.display()))?
        .shard(arguments.shard.unwrap_or_default())
        .checkpoint_every(arguments.checkpoint_every)?;
    if arguments.estimate {
        output::print(|out| writeln!(out, "{}", run.estimate()))?;
        photos::say_left_out("--probe", &source, common);
        return Ok(exit::CLEAN);
    }
    let clock = Instant::now();
    let done = run.write(&arguments.out).with_context(|| format!("cannot run {}", model_path.display()))?;
    say(common, &done, source.left_out(), clock);
    if arguments.outputs.any() && arguments.shard.unwrap_or_default().is_whole() {
        arguments.outputs.write(&Stored::open(&arguments.out)?, &source, &arguments.out, common)?;
    }
    Ok(exit::CLEAN)
}

/// What was done, and what could not be read.
fn say(common: &Common, done: &Done, left_out: &[LeftOutFiles], clock: Instant) {
    for skipped in &done.skipped {
        output::note(&format!("left out {}: {}", skipped.path.display(), skipped.reason));
    }
    if common.quiet {
        return;
    }
    if let Some(batch) = done.resumed {
        output::note(&format!("went on at batch {batch} of an earlier run"));
    }
    let seconds = clock.elapsed().as_secs_f64();
    let paths: Vec<String> = done.skipped.iter().map(|s| s.path.display().to_string()).collect();
    let unreadable = LeftOutFiles::unreadable(paths.iter().map(String::as_str));
    let left_out: Vec<LeftOutFiles> = left_out.iter().cloned().chain(unreadable).collect();
    output::note(&format!("{} images in {seconds:.1} s{}", done.images, photos::sentence(&left_out)));
    for file in &done.files {
        let size = std::fs::metadata(file).map_or(0, |m| m.len());
        output::note(&format!("wrote {} ({})", file.display(), HumanBytes(size)));
    }
}

pub fn merge(out: &Path, parts: &[PathBuf], common: &Common) -> anyhow::Result<u8> {
    let clock = Instant::now();
    say(common, &merge_shards(out, parts)?, &[], clock);
    Ok(exit::CLEAN)
}

impl RunArguments {
    fn options(&self) -> Options {
        let mut units = std::collections::BTreeMap::<String, Vec<usize>>::new();
        for (site, more) in &self.units {
            units.entry(site.clone()).or_default().extend(more);
        }
        let mut options = Options::default();
        options.k = self.k;
        options.quantile = self.quantile;
        options.batch_size = self.batch_size;
        options.weakest = self.weakest;
        options.random = self.random;
        options.seed = self.seed;
        options.min_distance = self.min_distance;
        options.units = units;
        options.region_size = self.region_size;
        options.compat = if self.official { Compat::Official } else { Compat::Fixed };
        options.budget = self.budget.or(options.budget);
        options
    }
}

/// `112x96`: height and width.
pub fn size(text: &str) -> Result<(usize, usize), String> {
    let parts = text.split_once(['x', '×']).and_then(|(h, w)| Some((h.trim().parse().ok()?, w.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected height x width, like 112x112".to_string())
}

/// `layer4:0-15,40`.
pub fn units(text: &str) -> Result<(String, Vec<usize>), String> {
    let bad = || "expected SITE:UNITS, like layer4:0-15,40".to_string();
    let (site, list) = text.rsplit_once(':').ok_or_else(bad)?;
    let mut units = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.trim().parse::<usize>().ok().filter(|n| *n < 1 << 24).ok_or_else(bad);
        units.extend(number(first)?..=number(last)?);
    }
    if site.is_empty() || units.is_empty() { Err(bad()) } else { Ok((site.to_string(), units)) }
}

/// `500MB`, `2GiB`, `1000000`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bad = || "expected a number of bytes, like 500MB or 2GiB".to_string();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(bad()),
    };
    let number: f64 = number.parse().map_err(|_| bad())?;
    Ok((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        assert_eq!(units("layer4:0-2,7"), Ok(("layer4".to_string(), vec![0, 1, 2, 7])));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1.5 MB"), Ok(1_500_000));
        assert_eq!(size("4x5"), Ok((4, 5)));
        assert!(units("layer4").is_err() && units(":1").is_err() && bytes("2XB").is_err() && size("4").is_err());
    }
}
