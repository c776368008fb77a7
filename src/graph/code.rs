//! The code of a TorchScript module: its methods, what they read, and the blocks that a pass may leave out.
//!
//! A graph holds the operators that one pass ran. The code holds the others too: the other side of an `if`, a loop that
//! was not entered, a second method. `training` and whatever else is fixed in the file has been decided already.

use crate::hook::ffi;
use crate::{Error, Model, Result};
use serde::Deserialize;
use std::path::Path;
use tch::Tensor;

/// What code there is behind a traced pass.
#[derive(Debug)]
pub(crate) enum Code {
    /// A network in Rust: its code cannot be seen.
    Hidden,
    /// That of a TorchScript module.
    Module(Vec<Method>),
    /// It could not be read, for this reason.
    Unreadable(String),
}

/// A method, inlined.
#[derive(Debug, Deserialize)]
pub(crate) struct Method {
    /// `embed`; of a part of the module `encoder.embed`.
    pub name: String,
    /// Whether this is the module's `forward`.
    pub forward: bool,
    /// Whether `forward` calls it.
    pub called: bool,
    /// The values that it returns.
    pub returns: Vec<usize>,
    pub body: Block,
}

/// Code that runs as a whole.
#[derive(Debug, Deserialize)]
pub(crate) struct Block {
    /// Whether the traced pass ran it. Blocks of other methods than `forward` it did not.
    pub ran: bool,
    /// Whether it does nothing but end in an exception.
    pub raises: bool,
    pub nodes: Vec<Node>,
}

/// An operator, an attribute that is read or written, a branch or a loop. Only values that can hold tensors are told.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    /// `aten::conv2d`, `prim::GetAttr`, `if`, `loop`, and `absent` for what makes no tensor.
    pub op: String,
    #[serde(default)]
    pub inputs: Vec<usize>,
    #[serde(default)]
    pub outputs: Vec<usize>,
    /// Whether it comes from `forward`, or from a method of the module that `forward` calls.
    #[serde(default)]
    pub known: bool,
    /// Of an attribute: the number of the parameter, or a number beyond those of all parameters.
    pub tensor: Option<usize>,
    /// Of a branch or a loop: `[result, one side, other side]`; of a loop `[result, before, after a turn, in a turn]`.
    #[serde(default)]
    pub joins: Vec<Vec<usize>>,
    #[serde(default)]
    pub blocks: Vec<Block>,
    /// Of a loop: whether it always runs the same number of turns.
    #[serde(default)]
    pub fixed: bool,
    /// What a branch depends on; of another operator the argument of the method that its numbers come from: `values`, `size`, ``argument `embed` ``, ``flag `fast` ``, …
    pub decided_by: Option<String>,
    pub file: Option<String>,
    pub line: Option<usize>,
    pub text: Option<String>,
}

impl Code {
    /// The code of `model`; its `forward` is run once more on `prepared`.
    pub fn of(model: &Model<'_>, prepared: &Tensor) -> Code {
        let Some(module) = model.module() else { return Code::Hidden };
        let named: Vec<&Tensor> = model.parameters().iter().map(|(_, t)| t).collect();
        match ffi::module_code(module, &named, prepared).and_then(|text| parse(&text)) {
            Ok(methods) => Code::Module(methods),
            Err(error) => Code::Unreadable(error.to_string()),
        }
    }

    /// Why a pass may leave out what starts at the parameter with this number: what decides over it, as far as is known.
    pub fn why_unseen(&self, parameter: usize) -> String {
        match (self.branch_around(parameter), self) {
            (Some(branch), _) => {
                format!(
                    "{} takes another way than when the model was traced; choose sites that every input reaches",
                    branch.describe()
                )
            }
            (None, Code::Hidden) => "the model computes something else than when it was traced".to_string(),
            (None, _) => {
                "the model computes something else than when it was traced (a TorchScript module that has run with \
                          gradients is rewritten by the JIT: load a fresh copy)"
                    .to_string()
            }
        }
    }

    /// The branch or loop of `forward` that decides whether a parameter is read; else the first that decides over tensors
    /// at all.
    fn branch_around(&self, parameter: usize) -> Option<&Node> {
        let Code::Module(methods) = self else { return None };
        let body = &methods.iter().find(|m| m.forward)?.body;
        let branches = || body.nodes.iter().filter(|n| n.is_branch() && !n.fixed && !n.joins.is_empty());
        branches().find(|n| n.blocks.iter().any(|b| b.reads(parameter))).or_else(|| branches().next())
    }
}

fn parse(text: &str) -> Result<Vec<Method>> {
    serde_json::from_str(text)
        .map_err(|e| Error::Torch { during: "reading the module's code".to_string(), message: e.to_string() })
}

impl Block {
    fn reads(&self, parameter: usize) -> bool {
        self.nodes.iter().any(|n| n.tensor == Some(parameter) || n.blocks.iter().any(|b| b.reads(parameter)))
    }
}

impl Node {
    /// Whether blocks of it may run or not.
    pub fn is_branch(&self) -> bool {
        matches!(self.op.as_str(), "if" | "loop")
    }

    /// A branch in words, up to the verb: ``the branch `if x.size(2) > 48:` (net.py, line 9), which depends on the size of
    /// the input,``.
    pub fn describe(&self) -> String {
        const SHOWN: usize = 60;
        let mut out = if self.op == "loop" { "the loop".to_string() } else { "the branch".to_string() };
        let text = self.text.as_deref().map(str::trim).unwrap_or_default();
        if !text.is_empty() {
            let short: String = text.chars().take(SHOWN).collect();
            let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
            out += &format!(" `{short}{more}`");
        }
        if let (Some(file), Some(line)) = (&self.file, self.line) {
            // Of a path only the file: the folder is that of whoever exported the model.
            let name = Path::new(file).file_name().map_or(file.as_str().into(), |n| n.to_string_lossy());
            out += &format!(" ({name}, line {line})");
        }
        match self.decided_by.as_deref() {
            Some("values") => out += ", which depends on the values of the input,",
            Some("size") => out += ", which depends on the size of the input,",
            Some(other) => out += &format!(", which depends on the {other},"),
            None => {}
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_by_its_line_and_by_what_decides_it() -> Result<()> {
        let text = r#"[{"name":"forward","forward":true,"called":true,"returns":[3],"body":{"ran":true,"raises":false,
            "nodes":[{"op":"if","file":"/home/a/net.py","line":9,"text":"  if x.size(2) > 48:","decided_by":"size",
            "joins":[[3,1,2]],"blocks":[{"ran":false,"raises":false,"nodes":[{"op":"prim::GetAttr","outputs":[7],
            "tensor":4}]},{"ran":true,"raises":false,"nodes":[]}]}]}}]"#;
        let code = Code::Module(parse(text)?);
        let branch = code.branch_around(4).map(Node::describe).unwrap_or_default();
        let expected = "the branch `if x.size(2) > 48:` (net.py, line 9), which depends on the size of the input,";
        assert_eq!(branch, expected);
        assert!(Code::Hidden.branch_around(4).is_none());
        assert!(parse("[{}]").is_err());
        Ok(())
    }
}
