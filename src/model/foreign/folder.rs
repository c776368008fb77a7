//! What a folder is that was given as a model.

use super::{Found, SCRIPT, weights};
use std::path::Path;

pub(super) fn found(path: &Path) -> Found {
    let has = |name: &str| path.join(name).exists();
    if has("saved_model.pb") {
        return Found::new("a folder with a model of TensorFlow", SCRIPT);
    }
    if has("constants.pkl") && has("code") {
        return Found::new(
            "an unpacked TorchScript file",
            "give the archive that it was, `zip -0 -r model.pt` of the folder",
        );
    }
    if has("data.pkl") {
        return Found::new(
            "an unpacked file of torch.save: weights without code",
            weights("torch.load(…) of the file that it was"),
        );
    }
    let names = || std::fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.file_name());
    let mut names: Vec<String> = names().map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    if has("config.json") && names.iter().any(|n| n.ends_with(".safetensors") || n == "pytorch_model.bin") {
        return Found::new(
            "a folder with a configuration and weights, without code",
            "in Python, model = AutoModel.from_pretrained(…, torchscript=True).eval(), then \
             torch.jit.trace(model, example).save(…)",
        );
    }
    match names.iter().find(|n| [".pt", ".pth", ".ts", ".torchscript"].iter().any(|end| n.ends_with(end))) {
        Some(name) => {
            Found::new("a folder", format!("give the TorchScript file, such as {}", path.join(name).display()))
        }
        None => Found::new("a folder", "give a TorchScript file, as torch.jit.script(model).save(…) writes"),
    }
}
