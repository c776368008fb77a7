//! Independent random streams from one seed.

/// A seed for stream number `salt` of `seed`; different salts give unrelated streams.
///
/// **Source:** the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
pub(crate) fn mix(seed: u64, salt: u64) -> u64 {
    let mut z = seed.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A salt for [`mix`] from a name (FNV-1a, 64 bits).
pub(crate) fn salt(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A uniform number in `low..high`.
pub(crate) fn uniform(rng: &mut fastrand::Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.f32()
}

/// A number from the standard normal distribution (Box and Muller 1958).
pub(crate) fn normal(rng: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.f32()).max(f32::MIN_POSITIVE).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.f32()).cos()
}

/// A seed for image number `image`.
pub(crate) fn of_image(seed: u64, image: usize) -> u64 {
    fastrand::Rng::with_seed(seed ^ (image as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}
