//! Which model this is.

use super::{Operand, Traced};
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

impl Traced<'_> {
    /// A hash of the operators, their constant arguments, and the names and values of all tensors that they read: 64
    /// hexadecimal digits (BLAKE3). Equal models have equal fingerprints.
    ///
    /// # Errors
    /// [`Error::Torch`] for a tensor that cannot be copied.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let text = |hash: &mut blake3::Hasher, s: &str| {
            hash.update(&(s.len() as u64).to_le_bytes()).update(s.as_bytes());
        };
        text(&mut hash, "tch-audit model 1");
        for op in &self.ops {
            text(&mut hash, &op.aten);
            text(&mut hash, &op.overload);
            hash.update(&(op.inputs.len() as u64).to_le_bytes());
            for input in &op.inputs {
                match input {
                    Operand::Value(v) => text(&mut hash, &format!("value {v}")),
                    other => text(&mut hash, &format!("{other:?}")),
                }
            }
        }
        let constants = self.parameters[self.named()..].iter().zip(&self.constants);
        let named = self.model().parameters().iter().map(|(name, tensor)| (name, tensor));
        for (name, tensor) in named.chain(constants) {
            text(&mut hash, name);
            text(&mut hash, &format!("{:?} {:?}", tensor.kind(), tensor.size()));
            hash.update(&bytes(tensor).map_err(Error::torch(format!("reading `{name}`")))?);
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?;
    let bytes = plain.f_view_dtype(Kind::Uint8)?;
    let mut out = vec![0u8; bytes.numel()];
    bytes.f_copy_data_u8(&mut out, bytes.numel())?;
    Ok(out)
}
