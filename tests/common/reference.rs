//! Numbers of a reference implementation: JSON for facts, safetensors for arrays. What is missing is named.
#![allow(dead_code)]

use super::golden;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

/// The folders of this form that have a file that is `wanted`: the small one in this repository, and that of
/// `TCH_AUDIT_GOLDEN`.
pub fn folders(name: &str, what: &str, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let small = Path::new("tests/golden").join(name);
    let has = |folder: &PathBuf| std::fs::read_dir(folder).is_ok_and(|all| all.flatten().any(|e| wanted(&e.path())));
    let all: Vec<PathBuf> = std::iter::once(small).chain(golden(name)).filter(has).collect();
    if all.is_empty() {
        eprintln!("skipped: no {what} in any folder `{name}` (set TCH_AUDIT_GOLDEN)");
    }
    all
}

/// As [`folders`], with a file of this name.
pub fn folders_with(name: &str, file: &str) -> Vec<PathBuf> {
    folders(name, file, |path| path.ends_with(file))
}

pub fn json(folder: &Path, name: &str) -> Value {
    let path = folder.join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Named arrays.
pub struct Arrays {
    path: PathBuf,
    pub all: BTreeMap<String, Tensor>,
}

impl Arrays {
    pub fn read(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        let all = Tensor::read_safetensors(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { path, all: all.into_iter().collect() }
    }

    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.all.get(name)
    }

    #[track_caller]
    pub fn get(&self, name: &str) -> &Tensor {
        self.find(name).unwrap_or_else(|| panic!("{}: no array `{name}`", self.path.display()))
    }

    /// What follows `prefix` in the names that begin with it.
    pub fn endings<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.all.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    #[track_caller]
    pub fn floats(&self, name: &str) -> Vec<f32> {
        (&self.get(name).to_kind(Kind::Float).flatten(0, -1)).try_into().unwrap()
    }

    #[track_caller]
    pub fn integers(&self, name: &str) -> Vec<i64> {
        (&self.get(name).to_kind(Kind::Int64).flatten(0, -1)).try_into().unwrap()
    }

    #[track_caller]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        (&self.get(name).flatten(0, -1)).try_into().unwrap()
    }
}

/// The fact `name`, a whole number.
#[track_caller]
pub fn count(facts: &Value, name: &str) -> usize {
    facts[name].as_u64().unwrap_or_else(|| panic!("`{name}` is {}, it should be a count", facts[name])) as usize
}

#[track_caller]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} should be a list"))
}

#[track_caller]
pub fn entries(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} should have entries"))
}

#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} should be a text"))
}

#[track_caller]
pub fn texts(value: &Value) -> Vec<String> {
    list(value).iter().map(|v| text(v).to_string()).collect()
}

#[track_caller]
pub fn integers(value: &Value) -> Vec<i64> {
    list(value).iter().map(|v| v.as_i64().unwrap_or_else(|| panic!("{v} should be a whole number"))).collect()
}

/// The number at the end of a name.
pub fn trailing(name: &str) -> Option<usize> {
    name[name.trim_end_matches(|c: char| c.is_ascii_digit()).len()..].parse().ok()
}

/// Mean and standard deviation per channel of images in 0 to 1: given as `mean` and `std`, or by one of the names that
/// MILAN's `renormalize` knows.
pub fn normalisation(facts: &Value, channels: usize) -> (Vec<f32>, Vec<f32>) {
    let numbers = |v: &Value| v.as_array().map(|a| a.iter().map(|x| x.as_f64().unwrap() as f32).collect::<Vec<f32>>());
    let named = &facts["normalisation"];
    for from in [named, facts] {
        if let (Some(mean), Some(std)) = (numbers(&from["mean"]), numbers(&from["std"])) {
            return (mean, std);
        }
    }
    let imagenet = vec![0.485, 0.456, 0.406];
    match named.as_str() {
        Some("pt" | "none") => (vec![0.0; channels], vec![1.0; channels]),
        Some("zc") => (vec![0.5; channels], vec![0.5; channels]),
        Some("byte") => (vec![0.0; channels], vec![1.0 / 255.0; channels]),
        Some("imagenet") => (imagenet, vec![0.229, 0.224, 0.225]),
        Some("imagenet_meanonly") => (imagenet, vec![1.0 / 255.0; 3]),
        Some("places_meanonly") => (vec![0.475, 0.441, 0.408], vec![1.0 / 255.0; 3]),
        _ => panic!("`normalisation` is {named}: neither `mean` and `std` nor a name that MILAN's renormalize knows"),
    }
}
