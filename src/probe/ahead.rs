//! Threads that read images a bounded number of batches ahead of whoever uses them.
//!
//! The threads are not rayon's: whoever uses the batches waits for them, and would wait for ever on a thread of a rayon
//! pool that has no other.

use super::preprocess::Normalizer;
use super::{Batch, Corrupt, Digest, ImageStream, Skipped, Source, stream::Reader};
use crate::{Error, Result};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tch::{Device, Kind, TchError, Tensor};

/// So many batches may be begun or finished beside the one in use.
const AHEAD: usize = 2;
/// So many numbers are put into a tensor at once: few enough that libtorch starts no threads of its own for them, in each
/// thread that reads.
const PART: usize = 1 << 14;
/// What is being done when libtorch fails.
const DURING: &str = "making a tensor of images";

/// Hands the images of each range to `each`, in order, on this thread, while as many threads as rayon would use here read
/// the next ones.
pub(super) fn batches(
    stream: &ImageStream,
    ranges: &[Range<usize>],
    each: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let ahead = Ahead { stream, ranges, plan: Mutex::default(), room: Condvar::new(), ready: Condvar::new() };
    let images: usize = ranges.iter().map(ExactSizeIterator::len).sum();
    let threads = rayon::current_num_threads().clamp(1, images.max(1));
    thread::scope(|scope| {
        let _stop = Stop(&ahead);
        for started in 0..threads {
            let thread = thread::Builder::new().name("probe images".into());
            match thread.spawn_scoped(scope, || ahead.work()) {
                Ok(_) => {}
                Err(source) if started == 0 => {
                    return Err(Error::Io { action: "start a thread to read", path: stream.root().into(), source });
                }
                // Fewer do as well.
                Err(_) => break,
            }
        }
        (0..ranges.len()).try_for_each(|_| each(ahead.next()?))
    })
}

/// What the threads share.
struct Ahead<'a> {
    stream: &'a ImageStream,
    ranges: &'a [Range<usize>],
    plan: Mutex<Plan>,
    /// Notified when another batch may be begun, and when all is to stop.
    room: Condvar,
    /// Notified when a batch is finished, and when a thread has panicked.
    ready: Condvar,
}

/// What is done, and what is to be done next.
#[derive(Default)]
struct Plan {
    /// How many batches were taken.
    taken: usize,
    /// How many were begun.
    begun: usize,
    /// The last one begun, and which of its images no thread has been given.
    current: Option<(Arc<Mutex<Making>>, Range<usize>)>,
    /// The finished ones that were not taken.
    finished: BTreeMap<usize, Arc<Mutex<Making>>>,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// A batch in the making.
struct Making {
    number: usize,
    /// `[n * C * H * W]`, to be filled; or what went wrong with it.
    input: Result<Tensor>,
    seen: Vec<Option<Seen>>,
    left: usize,
}

/// What became of a file.
struct Seen {
    digest: Digest,
    failure: Option<String>,
}

/// Stops the threads when it is dropped, in a panic too.
struct Stop<'a>(&'a Ahead<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        lock(&self.0.plan).stopped = true;
        self.0.room.notify_all();
    }
}

impl Ahead<'_> {
    /// The next batch, once it is finished. A panic of a thread goes on here.
    fn next(&self) -> Result<Batch> {
        let mut plan = lock(&self.plan);
        loop {
            if let Some(panic) = plan.panic.take() {
                drop(plan);
                resume_unwind(panic);
            }
            let number = plan.taken;
            if let Some(making) = plan.finished.remove(&number) {
                plan.taken += 1;
                self.room.notify_all();
                drop(plan);
                return self.batch(&mut lock(&making));
            }
            plan = self.ready.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What each thread does.
    fn work(&self) {
        let work = || {
            let mut reader = Reader::new(self.stream);
            let normalizer = Normalizer::new(self.stream.preprocess());
            let mut input = vec![0f32; self.stream.preprocess().numel()];
            while let Some((making, i)) = self.begin() {
                let (digest, image) = reader.read(i);
                let mut written = Ok(());
                let failure = image.map(|image| {
                    normalizer.write(&image, &mut input);
                    written = self.write(&making, i, &input);
                });
                self.end(&making, i, Seen { digest, failure: failure.err() }, written);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            let mut plan = lock(&self.plan);
            plan.stopped = true;
            plan.panic = Some(panic);
            self.room.notify_all();
            self.ready.notify_all();
        }
    }

    /// An image to be read, and its batch. Waits until there is room; `None` when nothing is left.
    fn begin(&self) -> Option<(Arc<Mutex<Making>>, usize)> {
        let mut plan = lock(&self.plan);
        loop {
            if plan.stopped {
                return None;
            }
            if let Some((making, images)) = &mut plan.current
                && let Some(i) = images.next()
            {
                return Some((Arc::clone(making), i));
            }
            let range = self.ranges.get(plan.begun)?;
            if plan.begun >= plan.taken + AHEAD {
                plan = self.room.wait(plan).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let number = plan.begun;
            plan.begun += 1;
            let making = Arc::new(Mutex::new(self.making(number)));
            if range.is_empty() {
                plan.finished.insert(number, making);
                self.ready.notify_all();
            } else {
                plan.current = Some((making, range.clone()));
            }
        }
    }

    fn making(&self, number: usize) -> Making {
        let n = self.ranges[number].len();
        let input =
            Tensor::f_empty([self.stream.preprocess().shape(n).iter().product::<i64>()], (Kind::Float, Device::Cpu));
        let seen = std::iter::repeat_with(|| None).take(n).collect();
        Making { number, input: input.map_err(Error::torch(DURING)), seen, left: n }
    }

    /// Puts an image where it belongs.
    fn write(&self, making: &Mutex<Making>, i: usize, values: &[f32]) -> Result<()> {
        let (input, start) = {
            let making = lock(making);
            let Ok(input) = &making.input else { return Ok(()) };
            (input.shallow_clone(), (i - self.ranges[making.number].start) * values.len())
        };
        let write = |(part, values): (usize, &[f32])| -> Result<(), TchError> {
            let at = start + part * PART;
            input.f_narrow(0, at as i64, values.len() as i64)?.f_copy_(&Tensor::f_from_slice(values)?)
        };
        values.chunks(PART).enumerate().try_for_each(write).map_err(Error::torch(DURING))
    }

    /// An image was read. Whoever reads the last one finishes the batch.
    fn end(&self, making: &Arc<Mutex<Making>>, i: usize, seen: Seen, written: Result<()>) {
        let mut batch = lock(making);
        let i = i - self.ranges[batch.number].start;
        if let Err(error) = written {
            batch.input = Err(error);
        }
        batch.seen[i] = Some(seen);
        batch.left -= 1;
        if batch.left == 0 {
            lock(&self.plan).finished.insert(batch.number, Arc::clone(making));
            self.ready.notify_all();
        }
    }

    /// What a finished batch holds, without the files that could not be read.
    fn batch(&self, making: &mut Making) -> Result<Batch> {
        let range = self.ranges[making.number].clone();
        let mut numbers = Vec::with_capacity(range.len());
        let (mut digest, mut skipped) = (Digest::default(), Vec::new());
        for (number, seen) in range.clone().zip(making.seen.drain(..).flatten()) {
            digest = digest.and(seen.digest);
            match (seen.failure, self.stream.corrupt()) {
                (None, _) => numbers.push(number),
                (Some(reason), Corrupt::Skip) => skipped.push(Skipped { path: self.stream.path(number), reason }),
                (Some(reason), Corrupt::Fatal) => {
                    return Err(Error::Image { path: self.stream.path(number), reason });
                }
            }
        }
        let input = std::mem::replace(&mut making.input, Ok(Tensor::new()))?;
        let shape = self.stream.preprocess().shape(range.len());
        let mut input = input.f_view(shape.as_slice()).map_err(Error::torch(DURING))?;
        if !skipped.is_empty() {
            let rows: Vec<i64> = numbers.iter().map(|number| (number - range.start) as i64).collect();
            input = input.f_index_select(0, &Tensor::from_slice(&rows)).map_err(Error::torch(DURING))?;
        }
        Ok(Batch { range, numbers, input, digest, skipped })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{ImageFolder, Preprocess};

    #[test]
    fn a_panic_while_reading_goes_on_in_the_caller() {
        let root = tempfile::tempdir().unwrap();
        image::RgbImage::new(4, 4).save(root.path().join("only.png")).unwrap();
        let stream = ImageFolder::open(root.path()).preprocess(Preprocess::plain(3, 4, 4).unwrap()).stream().unwrap();
        let mut calls = 0;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            // There is no image 1.
            batches(&stream, &[0..1, 0..2, 0..1], &mut |_| {
                calls += 1;
                Ok(())
            })
        }));
        assert!(panic.unwrap_err().downcast_ref::<String>().is_some_and(|message| message.contains("out of bounds")));
        assert!(calls <= 1);
    }
}
