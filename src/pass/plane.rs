//! One read of one unit's map on one image.

/// What one read of a map tells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Swept {
    pub least: f32,
    pub most: f32,
    /// Summed in single precision in 16 lanes of at most 64 values, beyond that in double: the same whatever the threads.
    pub mean: f32,
    /// The smallest magnitude but 0; infinite if all are 0.
    pub smallest: f32,
}

const LANES: usize = 16;
/// Values whose sum is kept in single precision.
const BLOCK: usize = 64 * LANES;
/// The bits of infinity.
const INFINITE: i32 = 0x7f80_0000;

/// Reads a map, in lanes, so that the compiler uses vector instructions.
///
/// # Errors
/// The first value that is not finite.
pub(crate) fn sweep(plane: &[f32]) -> Result<Swept, f32> {
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    // Magnitudes as integers, which are in the same order; that of 0 counts as infinite.
    let mut smallest = [INFINITE; LANES];
    let mut total = 0f64;
    for block in plane.chunks(BLOCK) {
        let mut sum = [0f32; LANES];
        let mut add = |j: usize, x: f32| {
            least[j] = if x < least[j] { x } else { least[j] };
            most[j] = if x > most[j] { x } else { most[j] };
            sum[j] += x;
            let bits = (x.to_bits() & 0x7fff_ffff) as i32;
            let bits = if bits == 0 { INFINITE } else { bits };
            smallest[j] = if bits < smallest[j] { bits } else { smallest[j] };
        };
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (j, x) in chunk.iter().enumerate() {
                add(j, *x);
            }
        }
        for x in rest {
            add(0, *x);
        }
        total += sum.into_iter().map(f64::from).sum::<f64>();
    }
    if !total.is_finite() {
        // A NaN or an infinity never leaves a sum again; but large numbers may make one.
        if let Some(bad) = plane.iter().find(|x| !x.is_finite()) {
            return Err(*bad);
        }
        total = plane.iter().map(|x| f64::from(*x)).sum();
    }
    Ok(Swept {
        least: least.into_iter().fold(f32::INFINITY, f32::min),
        most: most.into_iter().fold(f32::NEG_INFINITY, f32::max),
        mean: (total / plane.len().max(1) as f64) as f32,
        smallest: f32::from_bits(smallest.into_iter().fold(INFINITE, i32::min) as u32),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sweep_is_what_one_value_after_the_other_gives(
            plane in prop::collection::vec(prop_oneof![Just(0f32), -1e3f32..1e3], 1..3000),
            bad in prop::option::of((0..3000usize, prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY)])),
        ) {
            let mut plane = plane;
            let swept = sweep(&plane).unwrap();
            prop_assert_eq!(swept.most, plane.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            prop_assert_eq!(swept.least, plane.iter().copied().fold(f32::INFINITY, f32::min));
            let magnitudes = plane.iter().map(|x| x.abs()).filter(|x| *x > 0.0);
            prop_assert_eq!(swept.smallest, magnitudes.fold(f32::INFINITY, f32::min));
            let of = |f: fn(f32) -> f64| plane.iter().map(|x| f(*x)).sum::<f64>() / plane.len() as f64;
            prop_assert!((f64::from(swept.mean) - of(f64::from)).abs() <= 5e-6 * of(|x| f64::from(x.abs())) + 1e-30);
            if let Some((at, value)) = bad {
                let at = at % plane.len();
                plane[at] = value;
                prop_assert_eq!(sweep(&plane).unwrap_err().to_bits(), value.to_bits());
            }
        }
    }

    #[test]
    fn a_sum_beyond_single_precision_is_not_taken_for_an_infinity() {
        assert_eq!(sweep(&[f32::MAX; 5000]).map(|s| s.mean), Ok(f32::MAX));
        assert_eq!(sweep(&[f32::MAX, f32::NEG_INFINITY, f32::NAN]).unwrap_err(), f32::NEG_INFINITY);
    }
}
