//! A user's forward pass, run so that nothing of it comes out but its result.

use crate::hook::panic_message;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic is caught and returned as its message, and nothing of it is printed.
///
/// tch panics when libtorch fails inside a module, with a message full of C++ frames. The process's panic hook is wrapped
/// once; it stays as it was for every other thread and for everything outside `work`. Gradient mode is put back.
pub(super) fn quietly<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    static WRAP: Once = Once::new();
    WRAP.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let _gradients = tch::no_grad_guard();
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.map_err(|panic| panic_message(panic.as_ref()))
}
