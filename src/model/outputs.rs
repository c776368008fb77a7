//! What a model's forward pass returns: of closures, and with the names that TorchScript gives.

use crate::{Error, Result};
use tch::Tensor;

/// One of the tensors that a model returns.
#[derive(Debug)]
pub(crate) struct Output {
    /// The keys that lead to it, joined by dots: `logits`, `1`, `1.boxes`; empty where it is all that is returned.
    pub name: String,
    pub tensor: Tensor,
}

impl Output {
    /// Tensors by their places.
    pub fn by_place(tensors: Vec<Tensor>) -> Vec<Self> {
        tensors.into_iter().enumerate().map(|(i, tensor)| Self { name: i.to_string(), tensor }).collect()
    }
}

/// The tensors, the one that is called `wanted` first. A number is a place in the list where nothing has it as its name.
pub(super) fn chosen(mut outputs: Vec<Output>, wanted: Option<&str>) -> Result<Vec<Tensor>> {
    if let Some(wanted) = wanted {
        let by_name = outputs.iter().position(|o| o.name == wanted);
        let place = || wanted.parse().ok().filter(|place: &usize| *place < outputs.len());
        let Some(place) = by_name.or_else(place) else {
            let allowed: Vec<String> = outputs.iter().enumerate().map(|(i, o)| described(i, o)).collect();
            return Err(Error::invalid("output of the model", format!("`{wanted}`"), allowed.join(", ")));
        };
        outputs[..=place].rotate_right(1);
    }
    Ok(outputs.into_iter().map(|output| output.tensor).collect())
}

/// `1 or `logits` [2, 10]`.
pub(super) fn described(place: usize, output: &Output) -> String {
    let shape = output.tensor.size();
    let by_place = place.to_string();
    match output.name.as_str() {
        "" => format!("{by_place} {shape:?}"),
        name if name == by_place => format!("{by_place} {shape:?}"),
        name => format!("{by_place} or `{}` {shape:?}", name.escape_debug()),
    }
}

/// What the closure of [`Model::from_fn`](crate::Model::from_fn) returns: a tensor, several of them as a tuple, an array
/// or a `Vec`, or a `Result` of these. The first one is the model's output. Only this crate can add others.
pub trait Outputs: sealed::Outputs {}

impl<O: sealed::Outputs> Outputs for O {}

pub(super) mod sealed {
    use std::fmt::Display;
    use tch::{TchError, Tensor};

    pub trait Outputs {
        fn tensors(self) -> Result<Vec<Tensor>, TchError>;
    }

    impl Outputs for Tensor {
        fn tensors(self) -> Result<Vec<Tensor>, TchError> {
            Ok(vec![self])
        }
    }

    impl Outputs for Vec<Tensor> {
        fn tensors(self) -> Result<Vec<Tensor>, TchError> {
            Ok(self)
        }
    }

    impl<const N: usize> Outputs for [Tensor; N] {
        fn tensors(self) -> Result<Vec<Tensor>, TchError> {
            Ok(self.into())
        }
    }

    impl<O: Outputs, E: Display> Outputs for Result<O, E> {
        fn tensors(self) -> Result<Vec<Tensor>, TchError> {
            self.map_err(|e| TchError::Torch(e.to_string()))?.tensors()
        }
    }

    macro_rules! tuple {
        ($($part:ident),+) => {
            impl<$($part: Outputs),+> Outputs for ($($part,)+) {
                fn tensors(self) -> Result<Vec<Tensor>, TchError> {
                    #[allow(non_snake_case)]
                    let ($($part,)+) = self;
                    let mut all = Vec::new();
                    $(all.extend($part.tensors()?);)+
                    Ok(all)
                }
            }
        };
    }

    tuple!(A);
    tuple!(A, B);
    tuple!(A, B, C);
    tuple!(A, B, C, D);
    tuple!(A, B, C, D, E);
    tuple!(A, B, C, D, E, F);
}
