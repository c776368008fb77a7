//! Threads that make images a bounded number of batches ahead of whoever uses them.
//!
//! The threads are not rayon's: whoever uses the batches waits for them, and would wait for ever on a thread of a rayon
//! pool that has no other.

use super::batch::{Made, Maker};
use super::preprocess::{Normalizer, check_size};
use super::{Batch, Corrupt, Digest, Preprocess, Skipped, Want};
use crate::{Error, Result};
use std::any::Any;
use std::collections::BTreeMap;
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

/// Which images are made, and in what form.
pub(super) struct Order<'a> {
    pub numbers: &'a [usize],
    pub batch: usize,
    pub want: Want,
    pub preprocess: &'a Preprocess,
    pub corrupt: Corrupt,
}

/// Hands the images of an order to `each`, in order, on this thread, while as many threads as rayon would use here make the
/// next ones, each with a maker of its own.
pub(super) fn batches<'m>(
    order: &Order<'_>,
    maker: &(dyn Fn() -> Maker<'m> + Sync),
    each: &mut dyn FnMut(Batch) -> Result<()>,
) -> Result<()> {
    let ahead = Ahead { order, maker, plan: Mutex::default(), room: Condvar::new(), ready: Condvar::new() };
    let threads = rayon::current_num_threads().clamp(1, order.numbers.len().max(1));
    thread::scope(|scope| {
        let _stop = Stop(&ahead);
        for started in 0..threads {
            let thread = thread::Builder::new().name("probe images".into());
            match thread.spawn_scoped(scope, || ahead.work()) {
                Ok(_) => {}
                Err(error) if started == 0 => {
                    return Err(Error::invalid("threads that read images", error, "at least one"));
                }
                // Fewer do as well.
                Err(_) => break,
            }
        }
        (0..order.chunks()).try_for_each(|_| each(ahead.next()?))
    })
}

impl Order<'_> {
    fn chunks(&self) -> usize {
        self.numbers.len().div_ceil(self.batch)
    }

    fn chunk(&self, i: usize) -> &[usize] {
        self.numbers.chunks(self.batch).nth(i).unwrap_or_default()
    }
}

/// What the threads share.
struct Ahead<'a, 'm> {
    order: &'a Order<'a>,
    maker: &'a (dyn Fn() -> Maker<'m> + Sync),
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
    /// The last one begun, and which of its places no thread has been given.
    current: Option<(Arc<Mutex<Making>>, std::ops::Range<usize>)>,
    /// The finished ones that were not taken.
    finished: BTreeMap<usize, Arc<Mutex<Making>>>,
    stopped: bool,
    panic: Option<Box<dyn Any + Send>>,
}

/// A batch in the making.
struct Making {
    number: usize,
    /// `[n * C * H * W]`, to be filled, where inputs are wanted; or what went wrong with it.
    input: Result<Tensor>,
    seen: Vec<Option<Made>>,
    left: usize,
}

/// Stops the threads when it is dropped, in a panic too.
struct Stop<'a, 'b, 'm>(&'a Ahead<'b, 'm>);

impl Drop for Stop<'_, '_, '_> {
    fn drop(&mut self) {
        lock(&self.0.plan).stopped = true;
        self.0.room.notify_all();
    }
}

impl Ahead<'_, '_> {
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
            let (preprocess, want) = (self.order.preprocess, self.order.want);
            let mut make = (self.maker)();
            let normalizer = Normalizer::new(preprocess);
            let mut input = vec![0f32; if want.inputs() { preprocess.numel() } else { 0 }];
            while let Some((making, place, i)) = self.begin() {
                let mut made = make(i);
                if let Ok(image) = &made.image {
                    if let Err(error) = check_size(|| format!("image {i}"), image, preprocess) {
                        made.image = Err(error);
                    } else if want.inputs() {
                        normalizer.write(image, &mut input);
                        if let Err(error) = self.write(&making, place, &input) {
                            made.image = Err(error);
                        }
                    }
                }
                self.end(&making, place, made);
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

    /// An image to be made: its batch, its place there and its number. Waits until there is room; `None` when nothing is
    /// left.
    fn begin(&self) -> Option<(Arc<Mutex<Making>>, usize, usize)> {
        let mut plan = lock(&self.plan);
        loop {
            if plan.stopped {
                return None;
            }
            let chunk = plan.begun.checked_sub(1).map_or(&[] as &[usize], |last| self.order.chunk(last));
            if let Some((making, places)) = &mut plan.current
                && let Some(place) = places.next()
            {
                return chunk.get(place).map(|i| (Arc::clone(making), place, *i));
            }
            if plan.begun >= self.order.chunks() {
                return None;
            }
            if plan.begun >= plan.taken + AHEAD {
                plan = self.room.wait(plan).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let making = self.making(plan.begun);
            let places = 0..making.left;
            plan.begun += 1;
            plan.current = Some((Arc::new(Mutex::new(making)), places));
        }
    }

    fn making(&self, number: usize) -> Making {
        let n = self.order.chunk(number).len();
        let size = if self.order.want.inputs() { n * self.order.preprocess.numel() } else { 0 };
        let input = Tensor::f_empty([size as i64], (Kind::Float, Device::Cpu));
        let seen = std::iter::repeat_with(|| None).take(n).collect();
        Making { number, input: input.map_err(Error::torch(DURING)), seen, left: n }
    }

    /// Puts an image where it belongs.
    fn write(&self, making: &Mutex<Making>, place: usize, values: &[f32]) -> Result<()> {
        let input = {
            let making = lock(making);
            let Ok(input) = &making.input else { return Ok(()) };
            input.shallow_clone()
        };
        let start = place * values.len();
        let write = |(part, values): (usize, &[f32])| -> Result<(), TchError> {
            let at = start + part * PART;
            input.f_narrow(0, at as i64, values.len() as i64)?.f_copy_(&Tensor::f_from_slice(values)?)
        };
        values.chunks(PART).enumerate().try_for_each(write).map_err(Error::torch(DURING))
    }

    /// An image was made. Whoever makes the last one finishes the batch.
    fn end(&self, making: &Arc<Mutex<Making>>, place: usize, made: Made) {
        let mut batch = lock(making);
        batch.seen[place] = Some(made);
        batch.left -= 1;
        if batch.left == 0 {
            lock(&self.plan).finished.insert(batch.number, Arc::clone(making));
            self.ready.notify_all();
        }
    }

    /// What a finished batch holds, without the images that could not be read.
    fn batch(&self, making: &mut Making) -> Result<Batch> {
        let Order { want, preprocess, corrupt, .. } = *self.order;
        let chunk = self.order.chunk(making.number);
        let mut batch = Batch {
            asked: chunk.len(),
            numbers: Vec::with_capacity(chunk.len()),
            input: Tensor::new(),
            pixels: Vec::new(),
            regions: Vec::new(),
            digest: Digest::default(),
            skipped: Vec::new(),
        };
        let mut rows = Vec::with_capacity(chunk.len());
        for (place, (number, made)) in chunk.iter().zip(making.seen.drain(..).flatten()).enumerate() {
            batch.digest = batch.digest.and(made.digest);
            match (made.image, corrupt) {
                (Ok(image), _) => {
                    rows.push(place as i64);
                    batch.numbers.push(*number);
                    batch.pixels.extend(Some(image).filter(|_| want.pixels()));
                    batch.regions.extend(made.region);
                }
                (Err(Error::Image { path, reason }), Corrupt::Skip) => batch.skipped.push(Skipped { path, reason }),
                (Err(error), _) => return Err(error),
            }
        }
        if want.inputs() {
            let input = std::mem::replace(&mut making.input, Ok(Tensor::new()))?;
            let whole = input.f_view(preprocess.shape(chunk.len()).as_slice()).map_err(Error::torch(DURING))?;
            batch.input = match rows.len() == chunk.len() {
                true => whole,
                false => whole.f_index_select(0, &Tensor::from_slice(&rows)).map_err(Error::torch(DURING))?,
            };
        }
        Ok(batch)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbImage;

    #[test]
    fn a_panic_while_reading_goes_on_in_the_caller() {
        let preprocess = Preprocess::plain(3, 4, 4).unwrap();
        let numbers = [0, 1, 0];
        let order =
            Order { numbers: &numbers, batch: 1, want: Want::Inputs, preprocess: &preprocess, corrupt: Corrupt::Fatal };
        let only = [Arc::new(RgbImage::new(4, 4))];
        let maker = || -> Maker<'_> {
            // There is no image 1.
            Box::new(|i| Made { digest: Digest::default(), image: Ok(Arc::clone(&only[i])), region: None })
        };
        let mut calls = 0;
        let panic = catch_unwind(AssertUnwindSafe(|| {
            batches(&order, &maker, &mut |_| {
                calls += 1;
                Ok(())
            })
        }));
        assert!(panic.unwrap_err().downcast_ref::<String>().is_some_and(|message| message.contains("out of bounds")));
        assert!(calls <= 1);
    }
}
