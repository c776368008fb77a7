//! Memory does not grow with the number of images: of exemplars, evaluations and whole audits. Each is measured in a process
//! of its own.

#[path = "memory/audit.rs"]
mod audit;
#[path = "memory/evaluate.rs"]
mod evaluate;
#[path = "memory/exemplars.rs"]
mod exemplars;

use image::{Rgb, RgbImage};
use std::fmt::Display;
use std::path::Path;

/// Set for a process that measures itself.
const CHILD: &str = "TCH_AUDIT_MEMORY_CHILD";
/// Set to anything, it makes tests take 20,000 images.
const LONG: &str = "TCH_AUDIT_LONG_TESTS";
const SIDE: usize = 24;

/// The largest resident set so far, in KB.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// Whether this is to go on: in a process that measures itself `work` does its task; where no process can, the test is
/// skipped.
fn is_parent(work: impl FnOnce(&str)) -> bool {
    if peak().is_none() {
        println!("skipped: this system does not tell a process its peak memory");
        return false;
    }
    let Ok(task) = std::env::var(CHILD) else { return true };
    work(&task);
    println!("peak: {}", peak().unwrap());
    false
}

/// Peak memory in KB of processes of their own that do a task of this test: the least of several, as what threads happen to
/// do at the same time comes on top.
fn measured(test: &str, task: impl Display) -> u64 {
    let task = task.to_string();
    (0..3).map(|_| measured_once(test, &task)).min().unwrap()
}

fn measured_once(test: &str, task: &str) -> u64 {
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, task);
    // The allocator gives large blocks back at once, so that what is measured is what is kept and not how it lay.
    child.env("MALLOC_MMAP_THRESHOLD_", "65536").env("MALLOC_ARENA_MAX", "1").env("RAYON_NUM_THREADS", "1");
    let output = child.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let peak = said.lines().find_map(|l| l.rsplit_once("peak: ")).unwrap_or_else(|| panic!("{said}"));
    peak.1.trim().parse().unwrap()
}

/// A folder of two classes with so many images each.
fn folder(per_class: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
        for i in 0..per_class {
            let shade = |x: u32, y: u32| Rgb([(i % 256) as u8, (x * 10) as u8, (y * 10) as u8]);
            let image = RgbImage::from_fn(SIDE as u32, SIDE as u32, shade);
            image.save(folder.path().join(format!("{class}/{i:05}.png"))).unwrap();
        }
    }
    folder
}

/// How many images per class are few, and many.
fn few_and_many() -> (usize, usize) {
    if std::env::var_os(LONG).is_some() { (250, 10_000) } else { (250, 1500) }
}

/// A task of so many images per class of a folder.
fn of(folder: &Path, per_class: usize) -> String {
    format!("{per_class} {}", folder.display())
}
