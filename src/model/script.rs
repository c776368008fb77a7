//! What a TorchScript module holds and returns.

use super::causes::NOTHING;
use super::kept::Kept;
use super::outputs::Output;
use crate::{Error, Result};
use std::rc::Rc;
use tch::{CModule, Device, IValue, TchError, Tensor};

/// Its parameters and buffers.
pub(super) fn named(module: &CModule) -> Result<Vec<(String, Tensor)>> {
    let mut all = module.named_parameters().map_err(Error::torch("listing the module's parameters"))?;
    all.extend(crate::hook::ffi::named_buffers(module)?);
    Ok(all)
}

/// How many numbers its buffers hold, and the buffers.
pub(super) fn buffers(module: &CModule) -> Result<(u64, Rc<Kept>)> {
    let buffers: Vec<Tensor> = crate::hook::ffi::named_buffers(module)?.into_iter().map(|(_, t)| t).collect();
    Ok((buffers.iter().map(|t| t.numel() as u64).sum(), Rc::new(Kept::new(buffers))))
}

/// Where its parameters live.
pub(super) fn device_hint(module: &CModule) -> Device {
    named(module).ok().and_then(|p| p.first().map(|(_, t)| t.device())).unwrap_or(Device::Cpu)
}

/// Runs a module and collects the tensors that it returns, in order, each with the way to it: `logits`, `1`, `1.boxes`.
pub(super) fn forward(module: &CModule, xs: &Tensor) -> Result<Vec<Output>, TchError> {
    let mut outputs = Vec::new();
    collect(module.forward_is(&[IValue::Tensor(xs.shallow_clone())])?, "", &mut outputs);
    if outputs.is_empty() { Err(TchError::Torch(NOTHING.to_string())) } else { Ok(outputs) }
}

fn collect(value: IValue, at: &str, outputs: &mut Vec<Output>) {
    let below = |key: &str| if at.is_empty() { key.to_string() } else { format!("{at}.{key}") };
    let listed = |items: Vec<IValue>, outputs: &mut Vec<Output>| {
        items.into_iter().enumerate().for_each(|(i, item)| collect(item, &below(&i.to_string()), outputs));
    };
    match value {
        IValue::Tensor(tensor) => outputs.push(Output { name: at.to_string(), tensor }),
        IValue::TensorList(list) => listed(list.into_iter().map(IValue::Tensor).collect(), outputs),
        IValue::Tuple(items) | IValue::GenericList(items) => listed(items, outputs),
        IValue::GenericDict(pairs) => {
            for (i, (key, item)) in pairs.into_iter().enumerate() {
                let key = match key {
                    IValue::String(text) => text,
                    IValue::Int(n) => n.to_string(),
                    _ => i.to_string(),
                };
                collect(item, &below(&key), outputs);
            }
        }
        _ => {}
    }
}
