//! What libtorch says when a model cannot be loaded or run, as a cause and a remedy.

use crate::Error;
use crate::error::first_line;
use std::path::Path;
use tch::TchError;

/// Said of a module that returns no tensor.
pub(super) const NOTHING: &str = "the module returns no tensor";

/// Why TorchScript could not be loaded.
pub(super) fn unloadable(path: &Path, error: &TchError) -> Error {
    let line = first_line(&error.to_string());
    let message = missing_operator(&line).or_else(|| damaged(&line)).unwrap_or(line);
    Error::Torch { during: format!("loading {} as TorchScript", path.display()), message }
}

fn missing_operator(line: &str) -> Option<String> {
    let operator = between(line, "Unknown builtin op: ", |c| !(c.is_alphanumeric() || "_:.".contains(c)))?;
    let operator = operator.trim_end_matches('.');
    let library = operator.split("::").next().unwrap_or(operator);
    Some(match library {
        "aten" => format!(
            "its code calls `{operator}`, which this version of libtorch does not have; export it with the version of \
             PyTorch that this program was built with"
        ),
        "torchvision" => format!(
            "its code calls `{operator}`, an operator of torchvision, which libtorch alone does not have; export a part of \
             the network without it: of a detector the backbone"
        ),
        _ => format!(
            "its code calls `{operator}`, an operator of the library `{library}`, which libtorch alone does not have; \
             export the network without it, or with plain operators in its place"
        ),
    })
}

fn damaged(line: &str) -> Option<String> {
    if line.contains("maximum supported version for reading") {
        return Some(format!(
            "it was written by a newer PyTorch than this program was built with ({line}); write it with an older one"
        ));
    }
    if line.contains("__torch__.torch.classes.") || line.contains("Unknown type name") {
        return Some(format!(
            "it needs a class of another library ({line}); export the network without it: of a quantised network the one \
             in floating point"
        ));
    }
    if line == "required keyword attribute 'value' is undefined" {
        return Some(
            "some of its constants are in a form that cannot be read again, as torch.jit.optimize_for_inference makes \
             them; save the module before it was optimised"
                .to_string(),
        );
    }
    let broken =
        ["PytorchStreamReader", "unpickling", "Unpickler", "archive", "expect"].iter().any(|w| line.contains(w));
    broken.then(|| format!("the file is damaged ({line}); copy or export it again"))
}

/// Why a forward pass failed, where the message leaves no doubt.
pub(super) fn certain(message: &str) -> Option<String> {
    if let Some(declaration) = message.strip_prefix("forward() is missing value for argument ") {
        let inputs = inputs_of(declaration);
        let named: Vec<String> = inputs.iter().map(|(name, kind)| format!("`{name}`: {kind}")).collect();
        return Some(format!(
            "the model takes {} inputs ({}) and is given one, the images; export a module whose forward takes the images \
             alone and sets the others itself",
            inputs.len(),
            named.join(", ")
        ));
    }
    if let Some(rest) = message.strip_prefix("forward() Expected a value of type '")
        && let Some((kind, rest)) = rest.split_once("' for argument '")
    {
        let name = rest.split('\'').next().unwrap_or_default();
        return Some(format!(
            "the model's input `{name}` is a {kind}, not a batch of images; export a module whose forward takes a tensor \
             [N, C, H, W] and makes the {kind} of it"
        ));
    }
    if message.starts_with("Expected at most 1 argument(s) for operator 'forward'") {
        return Some("the model takes no input; export a module whose forward takes the images".to_string());
    }
    if message == NOTHING {
        return Some(
            "the model returns no tensor; export a module whose forward returns its output as one".to_string(),
        );
    }
    if message.contains("ethod 'forward' is not defined") {
        return Some(
            "the module has no `forward`; export one whose forward takes the images, and calls what is to be run"
                .to_string(),
        );
    }
    let gpu = ["from the 'CUDA' backend", "Cannot initialize CUDA", "not compiled with CUDA", "no NVIDIA driver"];
    let gpu = gpu.iter().any(|m| message.contains(m)) || message.contains("not linked with support for mps");
    if gpu || message.contains("No CUDA GPUs are available") {
        let device = if message.contains("mps") { "mps" } else { "cuda" };
        return Some(format!(
            "the model's code asks for a GPU (`{device}`), and this program runs it on the CPU; in Python, make the network \
             with every device in its code taken from its input (`x.device`), then trace or script it again on the CPU"
        ));
    }
    if message.contains("quantized::") || message.contains("'QuantizedCPU' backend") {
        return Some(
            "the model is quantised, and this machine's libtorch cannot run it; give the network in floating point that it \
             was made of"
                .to_string(),
        );
    }
    None
}

/// What the arguments of a forward pass are called, and of which type: `forward(__torch__.Two self, Tensor x) -> Tensor`.
fn inputs_of(declaration: &str) -> Vec<(String, String)> {
    let list = declaration.split_once("Declaration: forward(").map_or("", |(_, rest)| rest);
    let list = list.split_once(") ->").map_or(list, |(list, _)| list);
    let argument = |a: &str| {
        let (kind, name) = a.trim().rsplit_once(' ')?;
        Some((name.to_string(), kind.to_string()))
    };
    top_level(list).into_iter().skip(1).filter_map(argument).collect()
}

/// The parts between commas that stand in no bracket.
fn top_level(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// What follows `before` in `line`, up to the first character that ends it.
fn between<'a>(line: &'a str, before: &str, ends: impl Fn(char) -> bool) -> Option<&'a str> {
    let (_, rest) = line.split_once(before)?;
    rest.split(ends).next().filter(|found| !found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_named_with_their_types() {
        let said = "forward() is missing value for argument 'y'. Declaration: forward(__torch__.Two s, Tensor x, \
                    Dict(str, Tensor) y) -> Tensor";
        let cause = certain(said).unwrap_or_default();
        assert!(cause.contains("2 inputs (`x`: Tensor, `y`: Dict(str, Tensor))"), "{cause}");
    }

    #[test]
    fn an_operator_of_another_library_is_named_with_it() {
        let said = missing_operator("Unknown builtin op: torchvision::nms.").unwrap_or_default();
        assert!(said.contains("`torchvision::nms`, an operator of torchvision"), "{said}");
        let said = missing_operator("Unknown builtin op: mylib::twice.").unwrap_or_default();
        assert!(said.contains("`mylib::twice`, an operator of the library `mylib`"), "{said}");
        assert_eq!(missing_operator("something else"), None);
    }

    #[test]
    fn what_is_not_known_is_left_as_it_is() {
        assert_eq!(certain("mat1 and mat2 shapes cannot be multiplied (1x7200 and 30752x10)"), None);
    }
}
