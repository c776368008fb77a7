//! Progress bars for long work: on a terminal only, gone when done.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::atomic::{AtomicBool, Ordering};

static HIDDEN: AtomicBool = AtomicBool::new(false);

/// From here on, no bar is shown in this process.
pub fn hide() {
    HIDDEN.store(true, Ordering::Relaxed);
}

/// A bar over `length` steps, with rate and remaining time.
pub(crate) fn bar(what: &'static str, length: usize) -> ProgressBar {
    let hidden = HIDDEN.load(Ordering::Relaxed);
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(length as u64), target);
    let style = ProgressStyle::with_template("{msg:>12} {bar:32} {pos}/{len} ({per_sec}, {eta} left)");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what)
}
