//! The gradient of the loss with respect to the input.

use super::Model;
use crate::{Error, Result};
use tch::{Device, Kind, Tensor};

impl Model<'_> {
    /// The gradient of the summed cross-entropy loss with respect to the input, and the logits, in evaluation mode.
    ///
    /// The parameters are left as they are: their own gradients are not touched, and whether they want any is not
    /// changed. A TorchScript module that has run with gradients is rewritten by the JIT, and its sites may then not be
    /// found: call this on a second copy, loaded again.
    ///
    /// **Shapes:** `input` is `[N, C, H, W]`, `labels` `[N]` of an integer kind; the gradient has the shape of `input`,
    /// the logits are `[N, classes]`. Both are on the model's device and in its kind.
    ///
    /// # Errors
    /// [`Error::Forward`] when the pass fails or panics; [`Error::Shape`] when output or labels have another shape;
    /// [`Error::Invalid`] for labels that are no classes, and when the output does not depend on the input by operators
    /// that have derivatives; [`Error::Torch`] when the pass back fails.
    pub fn input_gradient(&self, input: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let leaf = self.moved(input)?.f_detach().and_then(|x| x.f_set_requires_grad(true));
        let leaf = leaf.map_err(Error::torch(GRADIENT))?;
        let outputs = self.outputs_of(&tch::with_grad(|| self.layout.arrange(&leaf))?, true)?;
        let logits = outputs.first().ok_or_else(|| self.nothing(&leaf))?;
        Ok((loss_gradient(&leaf, logits, labels)?, logits.detach()))
    }
}

const GRADIENT: &str = "computing the gradient of the loss with respect to the input";

/// The gradient of the summed cross-entropy loss with respect to `leaf` alone, of which `logits` were computed.
fn loss_gradient(leaf: &Tensor, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (size, n) = (logits.size(), leaf.size().first().copied().unwrap_or(0));
    let shape =
        |what: &str, received: Vec<i64>, expected: String| Error::Shape { what: what.into(), received, expected };
    let &[rows, classes] = size.as_slice() else {
        return Err(shape("the model's output", size, format!("[{n}, classes]")));
    };
    if rows != n {
        return Err(shape("the model's output", size, format!("[{n}, classes]")));
    }
    if labels.size() != [n] {
        return Err(shape("labels", labels.size(), format!("[{n}], one per image")));
    }
    if !matches!(labels.kind(), Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64) {
        return Err(Error::invalid("labels", format!("kind {:?}", labels.kind()), "an integer kind"));
    }
    let labels = labels.f_to_kind(Kind::Int64).and_then(|l| l.f_to_device(Device::Cpu));
    let labels = labels.map_err(Error::torch(GRADIENT))?;
    let values = Vec::<i64>::try_from(&labels).map_err(Error::torch(GRADIENT))?;
    if let Some((i, label)) = values.iter().enumerate().find(|(_, l)| !(0..classes).contains(*l)) {
        return Err(Error::invalid(format!("label of image {i}"), label, format!("0 to {}", classes - 1)));
    }
    let none = || {
        let allowed = "a model whose output depends on its input by operators with derivatives";
        Error::invalid("gradient of the loss with respect to the input", "none", allowed)
    };
    if !logits.requires_grad() {
        return Err(none());
    }
    // In double precision, so that the loss of an image that the model is sure of still has a gradient.
    let backward = || {
        let labels = labels.f_to_device(logits.device())?;
        let loss = logits.f_to_kind(Kind::Double)?;
        let loss = loss.f_cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Sum, -100, 0.0)?;
        Tensor::f_run_backward(&[loss], &[leaf], false, false)
    };
    let gradients = tch::with_grad(backward).map_err(Error::torch(GRADIENT))?;
    gradients.into_iter().next().filter(Tensor::defined).map(|g| g.detach()).ok_or_else(none)
}
