//! The same as [`kernel`](super::kernel) by tensor operations, for activations that are not on the CPU.

use super::state::UnitState;
use crate::pass::Bad;
use tch::{Kind, TchError, Tensor};

/// Units whose histograms are counted at once: 32 MiB of counters.
const UNITS: i64 = 64;
const CODES: i64 = 1 << 16;

/// Reads `maps`, `[images, channels, H, W]` on any device, into `states`, one per unit of `units` (channels); the spatial
/// maxima go to `maxima`, the spatial means to `means`, `[units, images]`. Only histograms, summaries and the maps of
/// candidates leave the device. Means are as libtorch sums: equal to those of the kernel but for rounding.
///
/// Inside: the first activation (by image, then unit) that is not finite; `states` are then not to be used.
#[allow(clippy::type_complexity)]
pub(super) fn scan(
    maps: &Tensor,
    numbers: &[usize],
    units: &[usize],
    states: &mut [UnitState],
    maxima: &mut [f32],
    means: &mut [f32],
) -> Result<Result<(), Bad>, TchError> {
    let images = numbers.len() as i64;
    let channels =
        Tensor::from_slice(&units.iter().map(|u| *u as i64).collect::<Vec<_>>()).f_to_device(maps.device())?;
    let maps = maps.f_to_kind(Kind::Float)?.f_index_select(1, &channels)?.f_flatten(2, -1)?;
    // [units, images, positions]
    let maps = maps.f_permute([1, 0, 2])?.f_contiguous()?;
    if let Some(bad) = first_bad(&maps, units)? {
        return Ok(Err(bad));
    }
    let most: Vec<f32> = (&maps.f_amax(-1, false)?.f_flatten(0, -1)?).try_into()?;
    let least: Vec<f32> = (&maps.f_amin([1, 2], false)?).try_into()?;
    maxima.copy_from_slice(&most);
    means.copy_from_slice(&averages(&maps)?);
    for start in (0..units.len() as i64).step_by(UNITS as usize) {
        let length = UNITS.min(units.len() as i64 - start);
        count(&maps.f_narrow(0, start, length)?, &mut states[start as usize..(start + length) as usize])?;
    }
    let mut wanted: Vec<(usize, usize)> = Vec::new();
    for (unit, (state, maxima)) in states.iter().zip(maxima.chunks(numbers.len())).enumerate() {
        wanted.extend(state.wanted(numbers, maxima).into_iter().map(|image| (unit, image)));
    }
    let rows: Vec<i64> = wanted.iter().map(|(unit, image)| *unit as i64 * images + *image as i64).collect();
    let rows = Tensor::from_slice(&rows).f_to_device(maps.device())?;
    let planes = maps.f_flatten(0, 1)?.f_index_select(0, &rows)?.f_to_device(tch::Device::Cpu)?;
    let positions = planes.size()[1] as usize;
    let planes: Vec<f32> = (&planes.f_flatten(0, -1)?).try_into()?;
    let mut next = 0;
    for (unit, state) in states.iter_mut().enumerate() {
        let here = wanted[next..].iter().take_while(|(u, _)| *u == unit).count();
        let chosen = &wanted[next..next + here];
        let chosen_numbers: Vec<usize> = chosen.iter().map(|(_, image)| numbers[*image]).collect();
        let chosen_maxima: Vec<f32> = chosen.iter().map(|(_, image)| maxima[unit * numbers.len() + image]).collect();
        state.offer(&chosen_numbers, &chosen_maxima, |i| &planes[(next + i) * positions..(next + i + 1) * positions]);
        let most = maxima[unit * numbers.len()..(unit + 1) * numbers.len()].iter().copied();
        state.maximum = most.fold(state.maximum, f32::max);
        state.minimum = state.minimum.min(least[unit]);
        next += here;
    }
    Ok(Ok(()))
}

/// The means of `[units, images, positions]` over positions.
fn averages(maps: &Tensor) -> Result<Vec<f32>, TchError> {
    let mean: Vec<f32> = (&maps.f_mean_dim(-1, false, Kind::Float)?.f_flatten(0, -1)?).try_into()?;
    if mean.iter().all(|x| x.is_finite()) {
        return Ok(mean);
    }
    // Large numbers made a sum that single precision does not hold.
    let parts = maps.f_div_scalar(maps.size()[2])?;
    (&parts.f_sum_dim_intlist(-1, false, Kind::Float)?.f_flatten(0, -1)?).try_into()
}

/// The first value of `[units, images, positions]`, by image, then unit, that is not finite.
fn first_bad(maps: &Tensor, channels: &[usize]) -> Result<Option<Bad>, TchError> {
    // [images, units]
    let bad = maps.f_isfinite()?.f_logical_not()?.f_any_dim(-1, false)?.f_transpose(0, 1)?.f_contiguous()?;
    let found: Vec<i64> = (&bad.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?).try_into()?;
    let Some(&at) = found.first() else { return Ok(None) };
    let units = maps.size()[0];
    let (image, unit) = (at / units, at % units);
    let plane: Vec<f32> = (&maps.f_get(unit)?.f_get(image)?).try_into()?;
    let value = plane.into_iter().find(|x| !x.is_finite()).unwrap_or(f32::NAN);
    Ok(Some(Bad { unit: channels[unit as usize], image: image as usize, value }))
}

/// Adds the values of `[units, images, positions]` to the units' sketches.
fn count(maps: &Tensor, states: &mut [UnitState]) -> Result<(), TchError> {
    let units = maps.size()[0];
    let first = Tensor::f_arange(units, (Kind::Int64, maps.device()))?.f_mul_scalar(CODES)?.f_view([units, 1, 1])?;
    let upper = maps.f_view_dtype(Kind::Int)?.f_bitwise_right_shift_tensor_scalar(16)?;
    let keys = upper.f_bitwise_and(CODES - 1)?.f_to_kind(Kind::Int64)?.f_add(&first)?;
    let counts = keys.f_flatten(0, -1)?.f_bincount::<Tensor>(None, units * CODES)?;
    let found = counts.f_nonzero()?.f_flatten(0, -1)?;
    let keys: Vec<i64> = (&found).try_into()?;
    let counts: Vec<i64> = (&counts.f_index_select(0, &found)?).try_into()?;
    let mut counted = vec![Vec::new(); states.len()];
    for (key, count) in keys.into_iter().zip(counts) {
        counted[(key / CODES) as usize].push(((key % CODES) as u16, count as u64));
    }
    states.iter_mut().zip(counted).for_each(|(state, counted)| state.sketch.count_upper(counted));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::kernel;
    use super::super::options::Options;
    use super::*;
    use crate::hook::ffi;
    use crate::pass::Planes;

    /// Both ways over the same batches.
    fn both(batches: &[Tensor], units: &[usize], options: &Options) -> [Result<Vec<UnitState>, Bad>; 2] {
        let begin = || units.iter().map(|_| UnitState::new(options)).collect::<Vec<_>>();
        let mut results = [Ok(begin()), Ok(begin())];
        let mut first = 0;
        for batch in batches {
            let size = batch.size();
            let numbers: Vec<usize> = (first..first + size[0] as usize).collect();
            first += numbers.len();
            let mut maxima = vec![vec![0f32; units.len() * numbers.len()]; 2];
            let mut means = maxima.clone();
            if let Ok(states) = &mut results[0] {
                let (channels, positions) = (size[1] as usize, (size[2] * size[3]) as usize);
                let seen = ffi::with_floats(&batch.contiguous(), |values| {
                    let maps = Planes { values, channels, positions };
                    kernel::scan(maps, &numbers, units, states, &mut maxima[0], &mut means[0])
                });
                if let Err(bad) = seen.unwrap() {
                    results[0] = Err(bad);
                }
            }
            if let Ok(states) = &mut results[1]
                && let Err(bad) = scan(batch, &numbers, units, states, &mut maxima[1], &mut means[1]).unwrap()
            {
                results[1] = Err(bad);
            }
            if results.iter().all(Result::is_ok) {
                assert_eq!(maxima[0], maxima[1]);
                assert!(means[0].iter().zip(&means[1]).all(|(a, b)| (a - b).abs() <= 1e-5));
                assert!(means[0].iter().zip(&maxima[0]).all(|(mean, most)| mean <= most));
            }
        }
        results
    }

    fn noise(seed: i64, shape: [i64; 4]) -> Tensor {
        tch::manual_seed(seed);
        // Coarse steps, so that there are ties; both signs and zeros of both signs.
        (Tensor::randn(shape, (Kind::Float, tch::Device::Cpu)) * 4.0).round() / 4.0
    }

    #[test]
    fn equals_the_kernel() {
        let options = Options { k: 5, weakest: 3, random: 4, ..Options::default() };
        for shape in [[9, 7, 5, 6], [3, 70, 1, 1], [1, 1, 3, 3]] {
            let batches = [noise(1, shape), noise(2, shape).relu(), -noise(3, shape).relu()];
            let channels = shape[1] as usize;
            let units: Vec<usize> = (0..channels).filter(|u| u % 3 != 1).collect();
            let [a, b] = both(&batches, &units, &options);
            assert_eq!(a.unwrap(), b.unwrap());
        }
    }

    #[test]
    fn half_precision_is_read_exactly_and_strides_do_not_matter() {
        let options = Options::default();
        let maps = noise(1, [4, 6, 5, 3]);
        for other in
            [maps.to_kind(Kind::Half), maps.to_kind(Kind::BFloat16), maps.transpose(2, 3).contiguous().transpose(2, 3)]
        {
            let units: Vec<usize> = (0..6).collect();
            let mut states = vec![UnitState::new(&options); 6];
            let (mut maxima, mut means) = (vec![0f32; 24], vec![0f32; 24]);
            scan(&other, &[0, 1, 2, 3], &units, &mut states, &mut maxima, &mut means).unwrap().unwrap();
            let [want, _] = both(std::slice::from_ref(&maps), &units, &options);
            assert_eq!(states, want.unwrap());
        }
    }

    #[test]
    fn means_are_finite_where_their_sums_are_not() {
        let maps = Tensor::full([1, 1, 40, 40], f64::from(f32::MAX / 2.0), (Kind::Float, tch::Device::Cpu));
        let mut states = vec![UnitState::new(&Options::default())];
        let (mut maxima, mut means) = ([0f32], [0f32]);
        scan(&maps, &[0], &[0], &mut states, &mut maxima, &mut means).unwrap().unwrap();
        assert!((means[0] / maxima[0] - 1.0).abs() < 1e-5, "{means:?}");
    }

    #[test]
    fn both_name_the_first_value_that_is_not_finite() {
        let bad = noise(1, [4, 6, 3, 3]);
        let _ = bad.get(2).get(4).get(1).get(2).fill_(f64::NAN);
        let _ = bad.get(2).get(3).get(0).get(0).fill_(f64::NEG_INFINITY);
        let _ = bad.get(3).get(0).get(0).get(0).fill_(f64::INFINITY);
        let [a, b] = both(&[bad], &[0, 2, 3, 4], &Options::default());
        let want = Bad { unit: 3, image: 2, value: f32::NEG_INFINITY };
        assert_eq!((a.unwrap_err(), b.unwrap_err()), (want, want));
    }
}
