//! Which model this is, and what lies in front of a site.

use super::{Op, Operand, Site, Traced, ValueId};
use crate::{Error, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use tch::{Device, Kind, Tensor};

impl Traced<'_> {
    /// A hash of the operators, their constant arguments, and the names and values of all tensors that they read: 64
    /// hexadecimal digits (BLAKE3). Equal models have equal fingerprints.
    ///
    /// # Errors
    /// [`Error::Torch`] for a tensor that cannot be copied.
    pub fn fingerprint(&self) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        text(&mut hash, "tch-audit model 1");
        self.ops.iter().for_each(|op| operator(&mut hash, op));
        let constants = self.parameters[self.named()..].iter().zip(&self.constants);
        let named = self.model().parameters().iter().map(|(name, tensor)| (name, tensor));
        for (name, tensor) in named.chain(constants) {
            parameter(&mut hash, name, tensor)?;
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    /// Per site a hash of everything that its activations are computed by: the operators in front of it, with what they
    /// read. What comes behind a site does not change its hash.
    ///
    /// # Errors
    /// As [`fingerprint`](Self::fingerprint).
    pub fn fingerprints(&self, sites: &[&Site]) -> Result<Vec<String>> {
        let mut known: BTreeMap<usize, blake3::Hash> = BTreeMap::new();
        sites.iter().map(|site| self.in_front_of(site, &mut known)).collect()
    }

    fn in_front_of(&self, site: &Site, known: &mut BTreeMap<usize, blake3::Hash>) -> Result<String> {
        let (mut operators, mut parameters) = (BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<ValueId> = vec![site.value];
        while let Some(value) = open.pop() {
            parameters.extend(self.values[value].parameter.map(|(p, _)| p));
            // All that was written to the same memory before has a part in what stands there.
            if let Some(op) = self.producer(value)
                && operators.insert(op)
            {
                open.extend(self.ops[op].reads());
            }
        }
        let mut hash = blake3::Hasher::new();
        text(&mut hash, "tch-audit site 1");
        text(&mut hash, &format!("{} {:?} {}", site.name, site.layout, site.units));
        operators.iter().for_each(|op| operator(&mut hash, &self.ops[*op]));
        for p in parameters {
            if let Entry::Vacant(new) = known.entry(p) {
                let (mut own, name) = (blake3::Hasher::new(), &self.parameters[p]);
                parameter(&mut own, name, &self.tensor(self.model(), name)?)?;
                new.insert(own.finalize());
            }
            if let Some(own) = known.get(&p) {
                hash.update(own.as_bytes());
            }
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

fn text(hash: &mut blake3::Hasher, s: &str) {
    hash.update(&(s.len() as u64).to_le_bytes()).update(s.as_bytes());
}

fn operator(hash: &mut blake3::Hasher, op: &Op) {
    text(hash, &op.aten);
    text(hash, &op.overload);
    hash.update(&(op.inputs.len() as u64).to_le_bytes());
    for input in &op.inputs {
        match input {
            Operand::Value(v) => text(hash, &format!("value {v}")),
            other => text(hash, &format!("{other:?}")),
        }
    }
}

fn parameter(hash: &mut blake3::Hasher, name: &str, tensor: &Tensor) -> Result<()> {
    text(hash, name);
    text(hash, &format!("{:?} {:?}", tensor.kind(), tensor.size()));
    hash.update(&bytes(tensor).map_err(Error::torch(format!("reading `{name}`")))?);
    Ok(())
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>, tch::TchError> {
    let plain = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?.f_flatten(0, -1)?;
    let bytes = plain.f_view_dtype(Kind::Uint8)?;
    let mut out = vec![0u8; bytes.numel()];
    bytes.f_copy_data_u8(&mut out, bytes.numel())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use crate::{Model, Traced};
    use tch::nn::Module;
    use tch::{Device, Kind, Tensor, nn};

    #[test]
    fn a_sites_hash_follows_what_lies_in_front_of_it_and_nothing_else() {
        let vs = nn::VarStore::new(Device::Cpu);
        let p = vs.root();
        let (a, b) = (nn::linear(&p / "a", 4, 5, Default::default()), nn::linear(&p / "b", 5, 3, Default::default()));
        let net = nn::func(move |x| b.forward(&a.forward(x).relu()));
        let model = Model::new(&vs, &net);
        let hashes = || {
            let traced = Traced::new(&model, &Tensor::zeros([2, 4], (Kind::Float, Device::Cpu))).unwrap();
            let sites = ["a", "b"].map(|name| traced.site(name).unwrap().clone());
            (traced.fingerprints(&[&sites[0], &sites[1]]).unwrap(), traced.fingerprint().unwrap())
        };
        let change = |name: &str| tch::no_grad(|| drop(vs.variables()[name].shallow_clone().g_add_scalar_(1.0)));
        let before = hashes();
        assert_eq!(before, hashes());
        change("b.bias");
        let behind = hashes();
        assert!(behind.0[0] == before.0[0] && behind.0[1] != before.0[1] && behind.1 != before.1);
        change("a.weight");
        let front = hashes();
        assert!(front.0[0] != behind.0[0] && front.0[1] != behind.0[1]);
    }
}
