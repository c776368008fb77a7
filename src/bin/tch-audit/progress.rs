//! How far long work is, on standard error: bars on a terminal, a line now and then elsewhere.

use crate::output;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Debug;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The target of the library's events.
pub const TARGET: &str = "tch_audit::progress";
/// From one line to the next.
const PAUSE: Duration = Duration::from_secs(30);

/// Shows the events of [`TARGET`].
pub struct Progress(Mutex<Shown>);

enum Shown {
    Bars(Bars),
    Lines(Lines),
}

impl Progress {
    /// Bars if standard error is a terminal.
    pub fn new() -> Self {
        let shown = if std::io::stderr().is_terminal() {
            Shown::Bars(Bars::new(ProgressDrawTarget::stderr()))
        } else {
            Shown::Lines(Lines { last: Instant::now(), works: Vec::new() })
        };
        Self(Mutex::new(shown))
    }
}

impl<S: Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut step = Step::default();
        event.record(&mut step);
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Shown::Bars(bars) => bars.hear(&step),
            Shown::Lines(lines) => lines.hear(&step, Instant::now()).iter().for_each(|line| output::note(line)),
        }
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Step {
    what: String,
    done: u64,
    of: u64,
    ended: bool,
}

impl Visit for Step {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.what = format!("{value:?}");
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => self.done = value,
            "of" => self.of = value,
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.ended |= field.name() == "ended" && value;
    }
}

/// A bar for each work that goes on, gone when it ends.
struct Bars {
    all: MultiProgress,
    shown: Vec<(String, ProgressBar)>,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        Self { all: MultiProgress::with_draw_target(target), shown: Vec::new() }
    }

    fn hear(&mut self, step: &Step) {
        let place = self.shown.iter().position(|(what, _)| *what == step.what);
        if step.ended {
            if let Some((_, bar)) = place.map(|i| self.shown.remove(i)) {
                bar.finish_and_clear();
                self.all.remove(&bar);
            }
            return;
        }
        let place = place.unwrap_or_else(|| {
            let style = ProgressStyle::with_template("{msg:>12} {bar:32} {pos}/{len} ({per_sec}, {eta} left)");
            let bar = self.all.add(ProgressBar::new(step.of));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(step.what.clone());
            self.shown.push((step.what.clone(), bar));
            self.shown.len() - 1
        });
        if let Some((_, bar)) = self.shown.get(place) {
            bar.set_position(step.done);
        }
    }
}

/// Lines for whoever reads a log: none for work that is done soon.
struct Lines {
    last: Instant,
    /// When each began to be done, and how much was done then: what an earlier run did says nothing about the pace.
    works: Vec<(String, Option<(Instant, u64)>)>,
}

impl Lines {
    /// The line to write now, if any.
    fn hear(&mut self, step: &Step, now: Instant) -> Option<String> {
        let place = self.works.iter().position(|(what, _)| *what == step.what);
        if step.ended {
            place.map(|i| self.works.remove(i));
            return None;
        }
        let place = place.unwrap_or_else(|| {
            self.works.push((step.what.clone(), None));
            self.works.len() - 1
        });
        let (_, begun) = self.works.get_mut(place)?;
        if step.done > 0 && begun.is_none() {
            *begun = Some((now, step.done));
        }
        let (since, before) = begun.unwrap_or((now, step.done));
        if now.duration_since(self.last) < PAUSE {
            return None;
        }
        self.last = now;
        let left = left(now.duration_since(since), step.done.saturating_sub(before), step.of.saturating_sub(step.done));
        Some(format!("{}: {} of {}{}{left}", step.what, HumanCount(step.done), HumanCount(step.of), noun(&step.what)))
    }
}

/// What is counted, where it is no mere step.
fn noun(what: &str) -> &'static str {
    match what {
        "concepts" | "encoding" | "exemplars" | "reading" => " images",
        "describing" => " units",
        _ => "",
    }
}

/// `, 3 min left`, if the pace is known.
fn left(took: Duration, done: u64, to_do: u64) -> String {
    if done == 0 || took.is_zero() {
        return String::new();
    }
    let seconds = (took.as_secs_f64() * to_do as f64 / done as f64).ceil() as u64;
    match seconds {
        0..100 => format!(", {seconds} s left"),
        100..6000 => format!(", {} min left", seconds.div_ceil(60)),
        _ => format!(", {} h left", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(what: &str, done: u64, of: u64, ended: bool) -> Step {
        Step { what: what.to_string(), done, of, ended }
    }

    #[test]
    fn lines_come_seldom_and_say_what_is_left() {
        let start = Instant::now();
        let mut lines = Lines { last: start, works: Vec::new() };
        let mut hear = |at: u64, what: &str, done: u64, of: u64, ended: bool| {
            lines.hear(&step(what, done, of, ended), start + Duration::from_secs(at))
        };
        assert_eq!(hear(0, "exemplars", 0, 50_000, false), None);
        // An earlier run had done 2,000.
        assert_eq!(hear(1, "exemplars", 2_000, 50_000, false), None);
        assert_eq!(hear(29, "exemplars", 10_000, 50_000, false), None, "too early");
        let line = hear(31, "exemplars", 12_000, 50_000, false);
        assert_eq!(line.as_deref(), Some("exemplars: 12,000 of 50,000 images, 2 min left"));
        assert_eq!(hear(60, "exemplars", 20_000, 50_000, false), None, "too soon after the last");
        // A slow step of other work in between, of which no pace is known yet.
        assert_eq!(hear(62, "choosing", 1, 9, false).as_deref(), Some("choosing: 1 of 9"));
        assert_eq!(hear(95, "exemplars", 50_000, 50_000, true), None, "what has ended needs no line");
        assert_eq!(hear(102, "choosing", 2, 9, false).as_deref(), Some("choosing: 2 of 9, 5 min left"));
        assert_eq!(hear(140, "exemplars", 5, 10, false).as_deref(), Some("exemplars: 5 of 10 images"), "begun anew");
    }

    #[test]
    fn what_is_left_has_a_unit_that_fits() {
        let left = |seconds| left(Duration::from_secs(1), 1, seconds);
        assert_eq!(
            [5, 99, 100, 3600, 7200].map(left).concat(),
            ", 5 s left, 99 s left, 2 min left, 60 min left, 2 h left"
        );
        assert_eq!(super::left(Duration::from_secs(9), 0, 3), "");
    }

    #[test]
    fn a_bar_is_there_from_beginning_to_end() {
        let mut bars = Bars::new(ProgressDrawTarget::hidden());
        bars.hear(&step("choosing", 0, 9, false));
        bars.hear(&step("ranking", 0, 4, false));
        bars.hear(&step("ranking", 3, 4, false));
        let shown = |bars: &Bars| -> Vec<_> {
            bars.shown.iter().map(|(what, bar)| (what.clone(), bar.position(), bar.length())).collect()
        };
        assert_eq!(shown(&bars), [("choosing".to_string(), 0, Some(9)), ("ranking".to_string(), 3, Some(4))]);
        bars.hear(&step("ranking", 4, 4, true));
        bars.hear(&step("ranking", 4, 4, true));
        assert_eq!(shown(&bars), [("choosing".to_string(), 0, Some(9))]);
    }
}
