//! A checkpoint as safetensors, with settings and vocabulary as JSON beside it.

use super::settings::{Parts, Settings, wrong};
use crate::arrays::{Arrays, Opened};
use crate::{Error, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Tensor;

const FORMAT: u32 = 1;

fn json_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Reads both files.
pub(super) fn read(path: &Path) -> Result<Parts> {
    let json = json_of(path);
    let text = std::fs::read_to_string(&json).map_err(Error::io("read", &json))?;
    let settings: Settings = serde_json::from_str(&text).map_err(|e| wrong(&json, format!("settings with {e}")))?;
    let (arrays, format) = Opened::open::<u32>(path, "a checkpoint that `tch-audit milan convert` wrote")?;
    if format != FORMAT {
        return Err(arrays.wrong(format!("format {format}"), format!("format {FORMAT}")));
    }
    let mut tensors = BTreeMap::new();
    for (name, shape) in arrays.names() {
        let values: Vec<f32> = arrays.all(&name, Dtype::F32)?;
        let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let tensor =
            Tensor::from_slice(&values).f_view(shape.as_slice()).map_err(Error::torch(format!("reading `{name}`")))?;
        tensors.insert(name, tensor);
    }
    Ok((settings, tensors))
}

/// Writes both files.
pub(super) fn write(path: &Path, settings: &Settings, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    let json = json_of(path);
    let text = serde_json::to_string_pretty(settings).map_err(|e| Error::io("write", &json)(e.into()))?;
    let mut arrays = Arrays::default();
    for (name, tensor) in tensors {
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        let values = Vec::<f32>::try_from(&tensor.flatten(0, -1)).map_err(Error::torch(format!("reading `{name}`")))?;
        arrays.add(name, Dtype::F32, &shape, &values);
    }
    crate::files::replace_at(path, |part| arrays.write(part, path, &FORMAT))?;
    crate::files::write_atomically(&json, |out| out.write_all(text.as_bytes()))
}
