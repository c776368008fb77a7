//! What a closure may return that is a model's forward pass.

use std::fmt::Display;
use tch::{TchError, Tensor};

/// What the closure of [`Model::from_fn`](crate::Model::from_fn) returns: a tensor, several of them as a tuple, an array
/// or a `Vec`, or a `Result` of these. The first one is the model's output. Only this crate can add others.
pub trait Outputs: sealed::Outputs {}

impl<O: sealed::Outputs> Outputs for O {}

pub(super) mod sealed {
    use super::*;

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
