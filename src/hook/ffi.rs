//! The border to C++: the only `unsafe` of the crate.
//!
//! What crosses it: an [`Event`] that lives as long as one callback, handles to tensors that are owned by tch from the
//! moment they arrive, and the loan of a contiguous CPU tensor as a slice. Panics never cross it.
#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::{Error, Result, error::first_line};
use std::any::Any;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};
use tch::{CModule, Device, Kind, Tensor};
use torch_sys::{C_tensor, CModule_};

#[repr(C)]
struct RawObservation {
    _private: [u8; 0],
}

/// An `Event` of aten.cpp.
#[repr(C)]
pub(super) struct RawEvent {
    _private: [u8; 0],
}

#[repr(C)]
struct RawStack {
    _private: [u8; 0],
}

type Callback = extern "C" fn(*mut c_void, *const RawEvent) -> i32;

unsafe extern "C" {
    fn tca_begin(user: *mut c_void, callback: Callback, error: *mut *mut c_char) -> *mut RawObservation;
    fn tca_end(observation: *mut RawObservation);
    fn tca_number(observation: *mut RawObservation, tensor: *const C_tensor) -> u64;
    fn tca_event_name(event: *const RawEvent) -> *const c_char;
    fn tca_event_overload(event: *const RawEvent) -> *const c_char;
    fn tca_event_len(event: *const RawEvent, outputs: i32) -> usize;
    fn tca_value_kind(event: *const RawEvent, outputs: i32, i: usize) -> i32;
    fn tca_value_len(event: *const RawEvent, outputs: i32, i: usize) -> usize;
    fn tca_value_int(event: *const RawEvent, outputs: i32, i: usize, j: usize) -> i64;
    fn tca_value_double(event: *const RawEvent, outputs: i32, i: usize) -> f64;
    fn tca_value_tensor(event: *const RawEvent, outputs: i32, i: usize, j: usize) -> *mut C_tensor;
    fn tca_value_numbers(e: *const RawEvent, outputs: i32, i: usize, j: usize, tensor: *mut u64, storage: *mut u64);
    fn tca_rng_state(device: i32, error: *mut *mut c_char) -> *mut C_tensor;
    fn tca_set_rng_state(device: i32, state: *const C_tensor, error: *mut *mut c_char);
    fn tca_seed(device: i32, seed: u64, error: *mut *mut c_char);
    fn tca_copy_of(tensor: *const C_tensor, error: *mut *mut c_char) -> *mut C_tensor;
    fn tca_put_back(tensor: *const C_tensor, copy: *const C_tensor, error: *mut *mut c_char) -> i32;
    fn tca_set_eval(module: *const CModule_, error: *mut *mut c_char);
    fn tca_free_message(message: *mut c_char);
    fn tca_value_text(event: *const RawEvent, outputs: i32, i: usize) -> *mut c_char;
    fn tca_stack_new() -> *mut RawStack;
    fn tca_stack_free(stack: *mut RawStack);
    fn tca_stack_none(stack: *mut RawStack);
    fn tca_stack_int(stack: *mut RawStack, i: i64);
    fn tca_stack_double(stack: *mut RawStack, x: f64);
    fn tca_stack_bool(stack: *mut RawStack, b: i32);
    fn tca_stack_ints(stack: *mut RawStack, values: *const i64, n: usize);
    fn tca_stack_text(stack: *mut RawStack, text: *const c_char, n: usize);
    fn tca_stack_tensor(stack: *mut RawStack, tensor: *const C_tensor);
    fn tca_stack_tensors(stack: *mut RawStack, tensors: *const *const C_tensor, n: usize);
    fn tca_stack_call(stack: *mut RawStack, name: *const c_char, overload: *const c_char, error: *mut *mut c_char);
    fn tca_stack_result(stack: *const RawStack, wanted: usize) -> *mut C_tensor;
    fn tca_storage_offset(tensor: *const C_tensor) -> i64;
    fn tca_reset_gradient(tensor: *const C_tensor, error: *mut *mut c_char);
    fn tca_module_code(
        module: *const CModule_,
        tensors: *const *const C_tensor,
        n: usize,
        example: *const C_tensor,
        error: *mut *mut c_char,
    ) -> *mut c_char;
    fn tca_named_buffers(module: *const CModule_, user: *mut c_void, callback: BufferCallback, error: *mut *mut c_char);
}

type BufferCallback = extern "C" fn(*mut c_void, *const c_char, *mut C_tensor);

/// Calls a C function that takes an error slot last and turns what it left there into an [`Error::Torch`].
macro_rules! checked {
    ($during:literal, $function:ident($($argument:expr),*)) => {{
        let mut message = null_mut();
        // SAFETY: every caller in this file passes pointers that are valid for the call; the error slot is ours.
        let result = unsafe { $function($($argument,)* &mut message) };
        match take_message(message) {
            None => Ok(result),
            Some(message) => Err(Error::Torch { during: $during.to_string(), message: first_line(&message) }),
        }
    }};
}

fn take_message(message: *mut c_char) -> Option<String> {
    if message.is_null() {
        return None;
    }
    // SAFETY: aten.cpp leaves either null or a zero-terminated string that it allocated for us; it is freed once, here.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        tca_free_message(message);
        Some(text)
    }
}

/// One operator that has just run. Lives only inside the observer's call.
#[derive(Debug, Clone, Copy)]
pub struct Event<'e> {
    raw: &'e RawEvent,
}

impl std::fmt::Debug for RawEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawEvent")
    }
}

/// One side of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Inputs = 0,
    Outputs = 1,
}

/// What [`Event::kind`] answers; the numbers of aten.cpp.
pub(super) mod kind {
    pub const NONE: i32 = 0;
    pub const TENSOR: i32 = 1;
    pub const TENSORS: i32 = 2;
    pub const INT: i32 = 3;
    pub const FLOAT: i32 = 4;
    pub const BOOL: i32 = 5;
    pub const INTS: i32 = 6;
    pub const TEXT: i32 = 8;
}

// SAFETY of all blocks below: `raw` borrows the event that aten.cpp passed to the callback and that it keeps alive until
// the callback returns; the `'e` of `Event` cannot outlive that call. Indices out of range are answered by aten.cpp with
// a neutral value, and it lets no exception out.
impl<'e> Event<'e> {
    /// The operator's name, for example `aten::conv2d`.
    pub fn name(&self) -> &'e str {
        // SAFETY: see above; the name is a zero-terminated string owned by the event.
        unsafe { CStr::from_ptr(tca_event_name(self.raw)) }.to_str().unwrap_or("?")
    }

    /// The overload's name, for example `Tensor`; often empty.
    pub fn overload(&self) -> &'e str {
        // SAFETY: see above; the name is null or a zero-terminated string owned by the event.
        unsafe {
            let name = tca_event_overload(self.raw);
            if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap_or("?") }
        }
    }

    pub(super) fn len(&self, side: Side) -> usize {
        // SAFETY: see above.
        unsafe { tca_event_len(self.raw, side as i32) }
    }

    pub(super) fn kind(&self, side: Side, i: usize) -> i32 {
        // SAFETY: see above.
        unsafe { tca_value_kind(self.raw, side as i32, i) }
    }

    pub(super) fn value_len(&self, side: Side, i: usize) -> usize {
        // SAFETY: see above.
        unsafe { tca_value_len(self.raw, side as i32, i) }
    }

    pub(super) fn int(&self, side: Side, i: usize, j: usize) -> i64 {
        // SAFETY: see above.
        unsafe { tca_value_int(self.raw, side as i32, i, j) }
    }

    pub(super) fn float(&self, side: Side, i: usize) -> f64 {
        // SAFETY: see above.
        unsafe { tca_value_double(self.raw, side as i32, i) }
    }

    pub(super) fn tensor(&self, side: Side, i: usize, j: usize) -> Option<Tensor> {
        // SAFETY: see above; the handle is new and owned by us, and tch frees it.
        unsafe {
            let handle = tca_value_tensor(self.raw, side as i32, i, j);
            if handle.is_null() { None } else { Some(Tensor::from_ptr(handle)) }
        }
    }

    pub(super) fn text(&self, side: Side, i: usize) -> Option<String> {
        // SAFETY: see above.
        take_message(unsafe { tca_value_text(self.raw, side as i32, i) })
    }

    /// The numbers of the tensor and of its storage.
    pub(super) fn numbers(&self, side: Side, i: usize, j: usize) -> (Option<u64>, Option<u64>) {
        let (mut tensor, mut storage) = (u64::MAX, u64::MAX);
        // SAFETY: see above; both slots are ours.
        unsafe { tca_value_numbers(self.raw, side as i32, i, j, &mut tensor, &mut storage) };
        let some = |n| if n == u64::MAX { None } else { Some(n) };
        (some(tensor), some(storage))
    }
}

/// What the trampoline is given: the observer, and the place for what went wrong.
pub(super) struct Client<'o> {
    pub observer: &'o mut dyn FnMut(&Event<'_>) -> Result<()>,
    pub failure: Option<Failure>,
}

/// Why an observer was stopped.
pub(super) enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

extern "C" fn trampoline(user: *mut c_void, event: *const RawEvent) -> i32 {
    // SAFETY: `user` is the `Client` that `Observation::begin` was given. It is borrowed mutably for as long as the
    // `Observation` lives, is used from this thread only (aten.cpp ignores other threads), and not re-entrantly:
    // the callback is off while it runs. `event` is valid until we return.
    let (client, event) = unsafe { (&mut *user.cast::<Client<'_>>(), Event { raw: &*event }) };
    client.failure = match catch_unwind(AssertUnwindSafe(|| (client.observer)(&event))) {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => Some(Failure::Error(error)),
        Err(panic) => Some(Failure::Panic(panic)),
    };
    1
}

/// An observation of this thread; dropping it ends it. Neither `Send` nor `Sync`.
pub(super) struct Observation<'c> {
    raw: NonNull<RawObservation>,
    _client: std::marker::PhantomData<&'c mut ()>,
}

impl<'c> Observation<'c> {
    /// # Safety
    /// `client` must stay valid, and be used by nothing else, until the observation is dropped, on this thread.
    pub(super) unsafe fn begin(client: *mut Client<'c>) -> Result<Self> {
        let raw = checked!("starting to observe", tca_begin(client.cast::<c_void>(), trampoline))?;
        let raw = NonNull::new(raw).ok_or_else(|| Error::Torch {
            during: "starting to observe".to_string(),
            message: "no observation was made".to_string(),
        })?;
        Ok(Self { raw, _client: std::marker::PhantomData })
    }

    /// The number under which `tensor` appears in events.
    pub(super) fn number(&self, tensor: &Tensor) -> u64 {
        // SAFETY: both pointers are valid for the call.
        unsafe { tca_number(self.raw.as_ptr(), tensor.as_ptr()) }
    }
}

impl Drop for Observation<'_> {
    fn drop(&mut self) {
        // SAFETY: `raw` came from tca_begin on this thread (the type is not Send) and is ended once.
        unsafe { tca_end(self.raw.as_ptr()) }
    }
}

/// Runs `forward` while `client` observes this thread. `prepare` gets the numbers of `named`, before anything runs.
pub(super) fn run<R>(
    client: &mut Client<'_>,
    named: &[Tensor],
    prepare: impl FnOnce(&[u64]),
    forward: impl FnOnce() -> R,
) -> Result<R> {
    // SAFETY: the client is borrowed for the whole call and not touched until the observation is dropped.
    let observation = unsafe { Observation::begin(client) }?;
    let numbers: Vec<u64> = named.iter().map(|t| observation.number(t)).collect();
    prepare(&numbers);
    let result = forward();
    drop(observation);
    Ok(result)
}

/// Lends the numbers of a contiguous CPU tensor of kind `Float` to `read`; `None` if it is something else.
pub(crate) fn with_floats<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Option<R> {
    if tensor.device() != Device::Cpu || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
        return None;
    }
    let n = tensor.numel();
    if n == 0 {
        return Some(read(&[]));
    }
    // SAFETY: a contiguous CPU tensor of kind Float holds `numel` f32 from its data pointer on, aligned by libtorch. The
    // tensor is borrowed for the whole loan; this thread runs `read`, which has no way to write to it, and tensors are not Sync.
    let floats = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), n) };
    Some(read(floats))
}

/// A device whose random number generator can be read and written, as aten.cpp numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generator(i32);

impl Generator {
    pub const CPU: Self = Self(-1);

    /// That of a device; `None` for devices without one.
    pub fn of(device: Device) -> Option<Self> {
        match device {
            Device::Cpu => Some(Self::CPU),
            Device::Cuda(n) => i32::try_from(n).ok().map(Self),
            Device::Mps => Some(Self(-2)),
            _ => None,
        }
    }

    /// Its state.
    pub fn state(self) -> Result<Tensor> {
        let state = checked!("reading the random number generator", tca_rng_state(self.0))?;
        // SAFETY: no error was reported, so the handle is new, not null, and owned by us.
        Ok(unsafe { Tensor::from_ptr(state) })
    }

    /// Puts back what [`state`](Self::state) returned.
    pub fn restore(self, state: &Tensor) -> Result<()> {
        checked!("restoring the random number generator", tca_set_rng_state(self.0, state.as_ptr()))
    }

    /// Starts it anew.
    pub fn seed(self, seed: u64) -> Result<()> {
        checked!("seeding the random number generator", tca_seed(self.0, seed))
    }
}

/// An argument of [`call`].
#[derive(Debug)]
pub(crate) enum Argument<'a> {
    None,
    Tensor(&'a Tensor),
    Tensors(Vec<&'a Tensor>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Ints(&'a [i64]),
    Text(&'a str),
}

/// Calls an ATen operator by name, without gradients, and returns the tensors among its results.
///
/// # Errors
/// [`Error::Torch`] with the first line of libtorch's message.
pub(crate) fn call(name: &str, overload: &str, arguments: &[Argument<'_>]) -> Result<Vec<Tensor>> {
    let during = || format!("calling `{name}`");
    let text = |s: &str| {
        CString::new(s).map_err(|_| Error::Torch { during: during(), message: "its name holds a zero".to_string() })
    };
    let (c_name, c_overload) = (text(name)?, text(overload)?);
    struct Stack(NonNull<RawStack>);
    impl Drop for Stack {
        fn drop(&mut self) {
            // SAFETY: the stack came from tca_stack_new and is freed once.
            unsafe { tca_stack_free(self.0.as_ptr()) }
        }
    }
    // SAFETY: no arguments.
    let stack = NonNull::new(unsafe { tca_stack_new() })
        .map(Stack)
        .ok_or_else(|| Error::Torch { during: during(), message: "no memory".to_string() })?;
    let s = stack.0.as_ptr();
    for argument in arguments {
        // SAFETY: the stack is ours; every pointer lives through its call, and aten.cpp copies what it is given.
        unsafe {
            match argument {
                Argument::None => tca_stack_none(s),
                Argument::Tensor(t) => tca_stack_tensor(s, t.as_ptr()),
                Argument::Tensors(list) => {
                    let pointers: Vec<*const C_tensor> = list.iter().map(|t| t.as_ptr()).collect();
                    tca_stack_tensors(s, pointers.as_ptr(), pointers.len());
                }
                Argument::Int(i) => tca_stack_int(s, *i),
                Argument::Float(x) => tca_stack_double(s, *x),
                Argument::Bool(b) => tca_stack_bool(s, i32::from(*b)),
                Argument::Ints(v) => tca_stack_ints(s, v.as_ptr(), v.len()),
                Argument::Text(t) => tca_stack_text(s, t.as_ptr().cast::<c_char>(), t.len()),
            }
        }
    }
    let mut message = null_mut();
    // SAFETY: as above; the error slot is ours.
    unsafe { tca_stack_call(s, c_name.as_ptr(), c_overload.as_ptr(), &mut message) };
    if let Some(message) = take_message(message) {
        return Err(Error::Torch { during: during(), message: first_line(&message) });
    }
    let mut results = Vec::new();
    loop {
        // SAFETY: as above; the handle is new and owned by us.
        let handle = unsafe { tca_stack_result(s, results.len()) };
        if handle.is_null() {
            return Ok(results);
        }
        // SAFETY: not null, new, and freed by tch.
        results.push(unsafe { Tensor::from_ptr(handle) });
    }
}

/// Where a tensor begins in its storage, in elements.
pub(crate) fn storage_offset(tensor: &Tensor) -> i64 {
    // SAFETY: the handle is valid for the call.
    unsafe { tca_storage_offset(tensor.as_ptr()) }
}

/// Forgets the gradient of a tensor that has been given another shape, and its place in graphs that still exist.
pub(crate) fn reset_gradient(tensor: &Tensor) -> Result<()> {
    checked!("resetting a gradient", tca_reset_gradient(tensor.as_ptr()))
}

/// A copy of a tensor, made without being observed.
pub(crate) fn copy_of(tensor: &Tensor) -> Result<Tensor> {
    let copy = checked!("copying a tensor", tca_copy_of(tensor.as_ptr()))?;
    // SAFETY: no error was reported, so the handle is new, not null, and owned by us.
    Ok(unsafe { Tensor::from_ptr(copy) })
}

/// Writes a [copy](copy_of) back to its tensor where their numbers differ, without being observed. Returns whether they did.
pub(crate) fn put_back(tensor: &Tensor, copy: &Tensor) -> Result<bool> {
    Ok(checked!("putting a tensor back", tca_put_back(tensor.as_ptr(), copy.as_ptr()))? != 0)
}

/// The module behind a handle; valid while `module` is borrowed.
fn raw(module: &CModule) -> *const CModule_ {
    // tch keeps the module's pointer to itself. A CModule of the pinned version holds it and nothing else; should that
    // change, this does not compile.
    const _: () = assert!(size_of::<CModule>() == size_of::<*const CModule_>());
    // SAFETY: same size, checked above; the struct's only field is the pointer.
    unsafe { *std::ptr::from_ref(module).cast::<*const CModule_>() }
}

/// The code of a TorchScript module, as the JSON that code.cpp writes. `named` are the tensors that have names, in the
/// order in which they are numbered; `forward` is run once on `example`.
///
/// # Errors
/// [`Error::Torch`] with the first line of libtorch's message.
pub(crate) fn module_code(module: &CModule, named: &[&Tensor], example: &Tensor) -> Result<String> {
    let tensors: Vec<*const C_tensor> = named.iter().map(|t| t.as_ptr()).collect();
    let (n, example) = (tensors.len(), example.as_ptr());
    let text = checked!("reading the module's code", tca_module_code(raw(module), tensors.as_ptr(), n, example))?;
    take_message(text).ok_or_else(|| Error::Torch {
        during: "reading the module's code".to_string(),
        message: "no memory".to_string(),
    })
}

/// Puts a TorchScript module and every module in it into evaluation mode, as far as they have one.
pub(crate) fn set_eval(module: &CModule) -> Result<()> {
    checked!("putting the module into evaluation mode", tca_set_eval(raw(module)))
}

/// The named buffers of a TorchScript module; the handles are shared with it.
pub(crate) fn named_buffers(module: &CModule) -> Result<Vec<(String, Tensor)>> {
    extern "C" fn collect(user: *mut c_void, name: *const c_char, tensor: *mut C_tensor) {
        // SAFETY: `user` is the vector below, used by nobody else during the call; the name is zero-terminated, and the
        // handle is new and ours. An allocation failure aborts, so nothing unwinds into C++.
        unsafe {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            (*user.cast::<Vec<(String, Tensor)>>()).push((name, Tensor::from_ptr(tensor)));
        }
    }
    let mut buffers: Vec<(String, Tensor)> = Vec::new();
    let user = std::ptr::from_mut(&mut buffers).cast::<c_void>();
    checked!("listing the module's buffers", tca_named_buffers(raw(module), user, collect))?;
    Ok(buffers)
}
