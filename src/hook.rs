//! How a model is observed without touching its code: a callback around every ATen operator of a forward pass.
//!
//! tch has no forward hooks. libtorch has `at::RecordFunction`, which [`observe`] brings to Rust: it runs a closure and
//! reports every operator that the closure runs on this thread, with inputs and outputs, once the operator has ended.
//! Only outermost operators are reported, backward passes are not, and the observer may do tensor work of its own
//! without being observed.

pub(crate) mod ffi;

use crate::{Error, Result};
use ffi::{Client, Failure, Generator, Side, kind};
use std::cell::Cell;
use tch::{Device, Tensor};

pub use ffi::Event;

thread_local! {
    static OBSERVING: Cell<bool> = const { Cell::new(false) };
}

/// A tensor that an operator reads or returns.
///
/// `number` stands for the tensor (its `TensorImpl`) and `storage` for the memory behind it, within one observation:
/// views have another number and the same storage, in-place operators return the number that they were given.
#[derive(Debug)]
pub struct Seen {
    /// The tensor's number.
    pub number: u64,
    /// The number of its storage; `None` for tensors that have none.
    pub storage: Option<u64>,
    /// A handle to the tensor. Holding on to it keeps its memory alive.
    pub tensor: Tensor,
}

/// One argument or result of an operator.
#[derive(Debug)]
pub enum Arg {
    /// An absent optional argument.
    None,
    /// A tensor.
    Tensor(Seen),
    /// A list of tensors; absent ones are left out.
    Tensors(Vec<Seen>),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A text.
    Text(String),
    /// Something else: a device, a generator.
    Other,
}

impl Arg {
    /// The tensors of this argument.
    pub fn tensors(&self) -> &[Seen] {
        match self {
            Arg::Tensor(seen) => std::slice::from_ref(seen),
            Arg::Tensors(seen) => seen,
            _ => &[],
        }
    }
}

impl Event<'_> {
    /// The arguments, in the order of the operator's schema.
    pub fn inputs(&self) -> Vec<Arg> {
        self.args(Side::Inputs)
    }

    /// The results. Empty when the operator threw.
    pub fn outputs(&self) -> Vec<Arg> {
        self.args(Side::Outputs)
    }

    /// The numbers of the tensors that the operator reads, without handles to them: cheaper than [`inputs`](Self::inputs).
    pub fn input_numbers(&self) -> Vec<u64> {
        self.tensor_numbers(Side::Inputs)
    }

    /// The numbers of the tensors that the operator returns.
    pub fn output_numbers(&self) -> Vec<u64> {
        self.tensor_numbers(Side::Outputs)
    }

    /// A handle to the first tensor that the operator returns; `None` when it threw or returns none.
    pub fn output(&self) -> Option<Tensor> {
        (0..self.len(Side::Outputs)).find_map(|i| self.tensor(Side::Outputs, i, 0))
    }

    fn tensor_numbers(&self, side: Side) -> Vec<u64> {
        let mut numbers = Vec::new();
        for i in 0..self.len(side) {
            if matches!(self.kind(side, i), kind::TENSOR | kind::TENSORS) {
                numbers.extend((0..self.value_len(side, i)).filter_map(|j| self.numbers(side, i, j).0));
            }
        }
        numbers
    }

    fn args(&self, side: Side) -> Vec<Arg> {
        (0..self.len(side)).map(|i| self.arg(side, i)).collect()
    }

    fn arg(&self, side: Side, i: usize) -> Arg {
        let seen = |j| {
            let (number, storage) = self.numbers(side, i, j);
            Some(Seen { number: number?, storage, tensor: self.tensor(side, i, j)? })
        };
        match self.kind(side, i) {
            kind::NONE => Arg::None,
            kind::TENSOR => seen(0).map_or(Arg::None, Arg::Tensor),
            kind::TENSORS => Arg::Tensors((0..self.value_len(side, i)).filter_map(seen).collect()),
            kind::INT => Arg::Int(self.int(side, i, 0)),
            kind::FLOAT => Arg::Float(self.float(side, i)),
            kind::BOOL => Arg::Bool(self.int(side, i, 0) != 0),
            kind::INTS => Arg::Ints((0..self.value_len(side, i)).map(|j| self.int(side, i, j)).collect()),
            kind::TEXT => self.text(side, i).map_or(Arg::Other, Arg::Text),
            _ => Arg::Other,
        }
    }
}

/// Runs `forward` and hands every operator that it runs on this thread to `observer`.
///
/// `named` are tensors whose numbers matter (a model's parameters): `prepare` receives them, in the same order, before
/// `forward` starts. The same tensor given twice has the same number twice.
///
/// # Errors
/// The first error of `observer`, or [`Error::ObserverPanicked`] if it panicked. After either it is not called again;
/// `forward` runs to its end undisturbed. [`Error::NestedObservation`] if this thread is being observed already.
///
/// # Panics
/// If `forward` panics; the observation is over by then.
pub fn observe<R>(
    named: &[Tensor],
    prepare: impl FnOnce(&[u64]),
    mut observer: impl FnMut(&Event<'_>) -> Result<()>,
    forward: impl FnOnce() -> R,
) -> Result<R> {
    let _one = OneAtATime::enter()?;
    let mut client = Client { observer: &mut observer, failure: None };
    let result = ffi::run(&mut client, named, prepare, forward)?;
    match client.failure {
        None => Ok(result),
        Some(Failure::Error(error)) => Err(error),
        Some(Failure::Panic(panic)) => Err(Error::ObserverPanicked { message: panic_message(panic.as_ref()) }),
    }
}

struct OneAtATime;

impl OneAtATime {
    fn enter() -> Result<Self> {
        if OBSERVING.replace(true) { Err(Error::NestedObservation) } else { Ok(Self) }
    }
}

impl Drop for OneAtATime {
    fn drop(&mut self) {
        OBSERVING.set(false);
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_else(|| "a panic without a message".to_string())
}

/// Runs `work` and puts libtorch's random number generators back to where they were, so that what a training loop draws
/// next does not depend on whether it was audited.
///
/// # Errors
/// [`Error::Torch`] when a generator cannot be read or written.
pub fn with_rng_restored<R>(device: Device, work: impl FnOnce() -> R) -> Result<R> {
    restored(&generators(device), work)
}

/// As [`with_rng_restored`], with the generators started anew before `work`: what draws random numbers in it draws the
/// same ones each time.
///
/// # Errors
/// As there.
pub(crate) fn with_rng_seeded<R>(device: Device, seed: u64, work: impl FnOnce() -> R) -> Result<R> {
    let generators = generators(device);
    restored(&generators, || {
        generators.iter().try_for_each(|generator| generator.seed(seed))?;
        Ok(work())
    })?
}

/// Those that a pass on `device` may use.
fn generators(device: Device) -> Vec<Generator> {
    let own = Generator::of(device).filter(|own| *own != Generator::CPU);
    [Generator::CPU].into_iter().chain(own).collect()
}

fn restored<R>(generators: &[Generator], work: impl FnOnce() -> R) -> Result<R> {
    let states = generators.iter().map(|generator| generator.state()).collect::<Result<Vec<_>>>()?;
    let result = work();
    for (generator, state) in generators.iter().zip(&states) {
        generator.restore(state)?;
    }
    Ok(result)
}
