//! What a file of `torch.save` holds: a state dict, a whole module, a checkpoint. Nothing in it is run.

use super::{Found, SCRIPT, weights};
use crate::pickle::{Id, Pickle, Value};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How files of torch.save begin that are no archive: a pickle of this number.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
/// So many bytes of such a file are read.
const MAX_PICKLE: u64 = 1 << 26;
/// So many keys of a dictionary are named.
const NAMED: usize = 4;

/// What a file is that begins as a pickle, if it does.
pub(super) fn legacy(path: &Path, start: &[u8]) -> Option<Found> {
    if start.starts_with(MAGIC) {
        let mut bytes = Vec::new();
        // One that cannot be read again is only told less precisely.
        let _ = File::open(path).and_then(|file| file.take(MAX_PICKLE).read_to_end(&mut bytes));
        // The number, the version of the format, what wrote it; then what was saved.
        let mut rest = bytes.as_slice();
        for _ in 0..3 {
            let length = Pickle::outline(rest).map_or(rest.len(), |(_, length)| length);
            rest = rest.get(length..).unwrap_or_default();
        }
        return Some(found(rest));
    }
    let pickle = matches!(start, [0x80, 2..=5, ..]);
    pickle.then(|| Found::new("a Python pickle: no TorchScript", SCRIPT))
}

/// What a pickle that torch.save wrote holds. One that cannot be read is told as far as is known.
pub(super) fn found(bytes: &[u8]) -> Found {
    const SAVED: &str = "a file of torch.save";
    let Ok((pickle, _)) = Pickle::outline(bytes) else {
        return Found::new(format!("{SAVED}: weights without code"), weights("torch.load(…)"));
    };
    let root = pickle.root();
    if let Some(class) = object(&pickle, root) {
        return Found::new(
            format!("{SAVED} with a whole module (of class `{class}`): a pickle without code"),
            "in Python, where the class is at hand, model = torch.load(…, weights_only=False), model.eval(), then \
             torch.jit.script(model).save(…)",
        );
    }
    if is_tensor(&pickle, root) {
        return Found::new(format!("{SAVED} with one tensor: numbers without code"), SCRIPT);
    }
    let Value::Dict(entries) = pickle.get(root) else {
        return Found::new(format!("{SAVED} without a module: no code"), SCRIPT);
    };
    if is_state_dict(&pickle, root) {
        let tensors = entries.iter().filter(|(_, value)| is_tensor(&pickle, *value)).count();
        let count = if tensors == 1 { "1 tensor".to_string() } else { format!("{tensors} tensors") };
        let what = format!("{SAVED} with a state dict ({count}): weights without code");
        return Found::new(what, weights("torch.load(…)"));
    }
    let keys: Vec<&str> = entries
        .iter()
        .filter_map(|(key, _)| if let Value::Text(key) = pickle.get(*key) { Some(key.as_str()) } else { None })
        .collect();
    let mut named: Vec<String> = keys
        .iter()
        .take(NAMED)
        .map(|k| format!("`{}`", k.chars().take(40).collect::<String>().escape_debug()))
        .collect();
    if keys.len() > NAMED {
        named.push("…".to_string());
    }
    let what = format!("{SAVED} with a checkpoint (a dictionary with {}): weights without code", named.join(", "));
    let holds = |wanted: &dyn Fn(Id) -> bool| {
        let mut found =
            entries.iter().filter(|(_, value)| wanted(*value)).filter_map(|(key, _)| match pickle.get(*key) {
                Value::Text(key) => Some(key.as_str()),
                _ => None,
            });
        // The optimizer has tensors too.
        found.find(|key| !key.contains("optim")).map(|key| key.escape_debug().to_string())
    };
    let remedy = match (holds(&|v| is_state_dict(&pickle, v)), holds(&|v| object(&pickle, v).is_some())) {
        (Some(key), _) => weights(&format!("torch.load(…)[\"{key}\"]")),
        (None, Some(key)) => format!(
            "in Python, where its class is at hand, model = torch.load(…, weights_only=False)[\"{key}\"], model.eval(), \
             then torch.jit.script(model).save(…)"
        ),
        (None, None) => weights("the part of torch.load(…) with the weights"),
    };
    Found::new(what, remedy)
}

fn is_tensor(pickle: &Pickle, id: Id) -> bool {
    match pickle.get(id) {
        Value::Tensor { .. } => true,
        Value::Object(class) => {
            class.starts_with("torch._utils._rebuild") || class.starts_with("torch._tensor._rebuild")
        }
        _ => false,
    }
}

/// The class of an object that may be a module.
fn object(pickle: &Pickle, id: Id) -> Option<&str> {
    match pickle.get(id) {
        Value::Object(class) if !is_tensor(pickle, id) => {
            let plain = ["torch.device", "torch.Size", "numpy.", "argparse.", "pathlib.", "collections.", "builtins."];
            (!plain.iter().any(|p| class.starts_with(p))).then_some(class.as_str())
        }
        _ => None,
    }
}

/// Whether this is a dictionary in which at least half of the values are tensors.
fn is_state_dict(pickle: &Pickle, id: Id) -> bool {
    let Value::Dict(entries) = pickle.get(id) else { return false };
    let tensors = entries.iter().filter(|(_, value)| is_tensor(pickle, *value)).count();
    tensors > 0 && 2 * tensors >= entries.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor of one number, as torch.save writes it.
    const TENSOR: &[u8] =
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000\
                            X\x03\0\0\0cpuK\x01tQK\0K\x01\x85K\x01\x85\x89}tR";

    fn pickle(parts: &[&[u8]]) -> Vec<u8> {
        [b"\x80\x02".as_slice(), &parts.concat(), b"."].concat()
    }

    fn what(bytes: &[u8]) -> String {
        let found = found(bytes);
        format!("{}; {}", found.what, found.remedy)
    }

    #[test]
    fn a_state_dict_a_checkpoint_and_a_module_are_told_apart() {
        let state: &[&[u8]] = &[b"}(X\x01\0\0\0a", TENSOR, b"u"];
        let said = what(&pickle(state));
        assert!(said.contains("a state dict (1 tensor)") && said.contains("load_state_dict(torch.load(…))"), "{said}");
        let state = state.concat();
        let said = what(&pickle(&[b"}(X\x05\0\0\0epochK\x01X\x05\0\0\0model", &state, b"u"]));
        assert!(said.contains("with `epoch`, `model`") && said.contains("torch.load(…)[\"model\"]"), "{said}");
        let said = what(&pickle(&[b"c__main__\nNet\n)\x81}(X\x01\0\0\0aK\x01ub"]));
        assert!(said.contains("a whole module (of class `__main__.Net`)"), "{said}");
    }

    #[test]
    fn a_pickle_that_cannot_be_read_is_still_one_of_torch_save() {
        for bytes in [b"".as_slice(), b"\x80\x02}(", b"\xff\xff"] {
            assert!(what(bytes).contains("a file of torch.save: weights without code"));
        }
    }

    #[test]
    fn the_format_before_archives_has_the_object_fourth() {
        let object = pickle(&[b"c__main__\nNet\n)\x81"]);
        let file = [MAGIC, b".", &pickle(&[b"M\xe9\x03"]), &pickle(&[b"}"]), &object].concat();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("old.pt");
        std::fs::write(&path, &file).expect("written");
        let found = legacy(&path, &file).map(|f| f.what).unwrap_or_default();
        assert!(found.contains("`__main__.Net`"), "{found}");
        assert!(legacy(&path, b"PK\x03\x04").is_none());
    }
}
