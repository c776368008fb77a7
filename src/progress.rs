//! How far long work is, as events of [`tracing`]: the library draws nothing itself. The crate's documentation describes
//! them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Milliseconds from one event of a bar to the next.
const PAUSE: u64 = 100;

/// Work of a known length; several threads may count on it. Says that it begins, how far it is, and, however it ends, that
/// it ended.
#[derive(Debug)]
pub(crate) struct Bar {
    what: &'static str,
    of: u64,
    done: AtomicU64,
    begun: Instant,
    /// In milliseconds after the beginning, when the next event is due.
    due: AtomicU64,
}

/// Work of `length` steps.
pub(crate) fn bar(what: &'static str, length: usize) -> Bar {
    let bar =
        Bar { what, of: length as u64, done: AtomicU64::new(0), begun: Instant::now(), due: AtomicU64::new(PAUSE) };
    bar.say(0, false);
    bar
}

impl Bar {
    /// So many more steps are done.
    pub fn inc(&self, steps: u64) {
        let done = self.done.fetch_add(steps, Ordering::Relaxed) + steps;
        let now = self.begun.elapsed().as_millis() as u64;
        let due = self.due.load(Ordering::Relaxed);
        // Of several threads that find it due, one speaks.
        let mine = || self.due.compare_exchange(due, now + PAUSE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now >= due && mine() {
            self.say(done, false);
        }
    }

    /// The work is done.
    pub fn finish_and_clear(self) {}

    fn say(&self, done: u64, ended: bool) {
        tracing::debug!(target: "tch_audit::progress", done, of = self.of, ended, "{}", self.what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.say(self.done.load(Ordering::Relaxed), true);
    }
}

#[cfg(test)]
mod tests {
    use super::bar;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Writes events down as `message done/of`, with an `!` at the end of the last.
    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<String>>>);

    #[derive(Default)]
    struct Fields(String, u64, u64, bool);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            assert_eq!(field.name(), "message");
            self.0 = format!("{value:?}");
        }
        fn record_u64(&mut self, field: &Field, value: u64) {
            match field.name() {
                "done" => self.1 = value,
                "of" => self.2 = value,
                other => panic!("{other}"),
            }
        }
        fn record_bool(&mut self, field: &Field, value: bool) {
            assert_eq!(field.name(), "ended");
            self.3 = value;
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "tch_audit::progress"
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let Fields(message, done, of, ended) = fields;
            self.0.lock().unwrap().push(format!("{message} {done}/{of}{}", if ended { "!" } else { "" }));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn heard(work: impl FnOnce(&tracing::Dispatch)) -> Vec<String> {
        let listener = Listener::default();
        let dispatch = tracing::Dispatch::new(listener.clone());
        tracing::dispatcher::with_default(&dispatch, || work(&dispatch));
        listener.0.lock().unwrap().clone()
    }

    #[test]
    fn beginning_and_end_are_said_also_of_what_breaks_off() {
        let events = heard(|_| {
            let whole = bar("sorting", 3);
            (0..3).for_each(|_| whole.inc(1));
            whole.finish_and_clear();
            let broken = bar("ranking", 5);
            broken.inc(2);
        });
        assert_eq!(events, ["sorting 0/3", "sorting 3/3!", "ranking 0/5", "ranking 2/5!"]);
    }

    #[test]
    fn threads_count_together_and_speak_seldom() {
        let events = heard(|dispatch| {
            let bar = bar("drawing", 4000);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        tracing::dispatcher::with_default(dispatch, || {
                            (0..1000).for_each(|i| {
                                if i % 250 == 0 {
                                    std::thread::sleep(Duration::from_millis(70));
                                }
                                bar.inc(1);
                            })
                        })
                    });
                }
            });
            bar.finish_and_clear();
        });
        assert_eq!(events.first().map(String::as_str), Some("drawing 0/4000"));
        assert_eq!(events.last().map(String::as_str), Some("drawing 4000/4000!"));
        // Four waits of 70 ms: two or more events are due in between, and not one per step.
        assert!((3..200).contains(&events.len()), "{}", events.len());
    }
}
