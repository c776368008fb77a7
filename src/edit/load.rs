//! Pruned weights into a network that was just built in full size.

use crate::hook::ffi::reset_gradient;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tch::nn::VarStore;
use tch::{Kind, Tensor};

/// Loads a file that `VarStore::save` wrote of a pruned network into the variables of a freshly built, full-size one: they
/// shrink in place. Build optimizers afterwards.
///
/// Files of unpruned networks load as well.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Unknown`] for a variable that only one side has; [`Error::Shape`]
/// where the file's tensor has other dimensions, or more entries. Nothing is changed then.
pub fn load_pruned(vs: &VarStore, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    std::fs::File::open(path).map_err(Error::io("read", path))?;
    let is_safetensors = path.extension().is_some_and(|e| e == "safetensors");
    let read =
        if is_safetensors { Tensor::read_safetensors(path) } else { Tensor::load_multi_with_device(path, vs.device()) };
    let saved: BTreeMap<String, Tensor> =
        read.map_err(Error::torch(format!("reading {}", path.display())))?.into_iter().collect();
    let variables: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    if let Some(name) = saved.keys().find(|n| !variables.contains_key(*n)) {
        return Err(Error::unknown("variable of the network", name, variables.keys().map(String::as_str)));
    }
    let mut loaded = Vec::new();
    for (name, variable) in variables {
        let Some(tensor) = saved.get(&name) else {
            return Err(Error::unknown("tensor in the file", &name, saved.keys().map(String::as_str)));
        };
        let (own, given) = (variable.size(), tensor.size());
        if own.len() != given.len() || own.iter().zip(&given).any(|(own, given)| given > own || *given == 0 && *own > 0)
        {
            return Err(Error::Shape {
                what: format!("`{name}` in {}", path.display()),
                received: given,
                expected: format!("{own:?}, or that with fewer entries"),
            });
        }
        loaded.push((name, variable, tensor.shallow_clone()));
    }
    for (name, mut variable, tensor) in loaded {
        let during = || Error::torch(format!("loading `{name}`"));
        let kind: Kind = variable.kind();
        let data = tensor.f_to_device(variable.device()).and_then(|t| t.f_to_kind(kind)).map_err(during())?;
        if variable.size() == data.size() {
            tch::no_grad(|| variable.f_copy_(&data)).map_err(during())?;
        } else {
            variable.f_set_data(&data).map_err(during())?;
            reset_gradient(&variable)?;
        }
    }
    Ok(())
}
