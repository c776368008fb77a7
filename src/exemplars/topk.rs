//! The images that come first for one unit by some order, with their activation maps.

/// By what images are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Largest spatial maximum first.
    Strongest,
    /// Smallest spatial maximum first.
    Weakest,
    /// By a hash of this seed and the image's number: a random sample, the same whatever the order of the images.
    Random(u64),
}

impl Order {
    /// Larger comes first.
    fn key(self, image: u64, activation: f32) -> u64 {
        // 0.0 and -0.0 are equal activations.
        let bits = (activation + 0.0).to_bits();
        let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        match self {
            Order::Strongest => u64::from(ascending),
            Order::Weakest => u64::from(!ascending),
            Order::Random(seed) => mixed(seed ^ mixed(image)),
        }
    }
}

/// SplitMix64's finaliser (Steele et al. 2014): a bijection.
fn mixed(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One candidate: an image and its map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    key: u64,
    pub image: u64,
    pub activation: f32,
    pub map: Vec<f32>,
}

/// At most `k` candidates, first come first, ties by smaller image number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopK {
    k: usize,
    order: Order,
    best: Vec<Candidate>,
}

impl TopK {
    pub fn new(k: usize, order: Order) -> Self {
        Self { k, order, best: Vec::new() }
    }

    /// Considers an image; its map is copied only when it enters.
    pub fn offer(&mut self, image: u64, activation: f32, map: impl Map) {
        let key = self.order.key(image, activation);
        let Some(place) = self.place(key, image) else { return };
        // The map that leaves makes room for the one that comes.
        let mut room =
            if self.best.len() == self.k { self.best.pop().map(|c| c.map) } else { None }.unwrap_or_default();
        map.write_to(&mut room);
        self.best.insert(place, Candidate { key, image, activation, map: room });
    }

    /// Whether anything can enter at all.
    pub fn has_room(&self) -> bool {
        self.k > 0
    }

    /// Whether the image would enter.
    pub fn wants(&self, image: u64, activation: f32) -> bool {
        self.place(self.order.key(image, activation), image).is_some()
    }

    fn place(&self, key: u64, image: u64) -> Option<usize> {
        let before = |c: &Candidate| (c.key, image) > (key, c.image);
        if self.best.len() == self.k && self.best.last().is_none_or(before) {
            return None;
        }
        Some(self.best.partition_point(before))
    }

    /// Takes over the candidates of another part of the images.
    pub fn merge(&mut self, other: TopK) {
        for c in other.best {
            self.offer(c.image, c.activation, c.map);
        }
    }

    /// First come first.
    pub fn best(&self) -> &[Candidate] {
        &self.best
    }

    /// The first `k` of the candidates that keep `distance` from every better one of their class that was chosen; image
    /// numbers of one class differ by at least `distance`. Exact if there is room for `k x (2 distance - 1)` candidates:
    /// one that is chosen shuts out at most `2 distance - 2` others.
    pub fn spaced(&self, k: usize, distance: usize, class: impl Fn(u64) -> Option<u64>) -> Vec<&Candidate> {
        let mut chosen: Vec<(&Candidate, Option<u64>)> = Vec::new();
        for c in &self.best {
            if chosen.len() == k {
                break;
            }
            let own = class(c.image);
            let near =
                |(o, other): &(&Candidate, Option<u64>)| *other == own && o.image.abs_diff(c.image) < distance as u64;
            if distance < 2 || !chosen.iter().any(near) {
                chosen.push((c, own));
            }
        }
        chosen.into_iter().map(|(c, _)| c).collect()
    }
}

/// Where a map is copied from.
pub(super) trait Map {
    /// Replaces what is in `room`.
    fn write_to(self, room: &mut Vec<f32>);
}

impl Map for &[f32] {
    fn write_to(self, room: &mut Vec<f32>) {
        room.clear();
        room.extend_from_slice(self);
    }
}

impl Map for Vec<f32> {
    fn write_to(self, room: &mut Vec<f32>) {
        *room = self;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(k: usize, order: Order, images: &[usize], values: &[i32]) -> TopK {
        let mut top = TopK::new(k, order);
        for &i in images {
            top.offer(i as u64, values[i] as f32, &[values[i] as f32][..]);
        }
        top
    }

    fn numbers(top: &TopK) -> Vec<u64> {
        assert!(top.best().iter().all(|c| c.map == [c.activation]));
        top.best().iter().map(|c| c.image).collect()
    }

    proptest! {
        #[test]
        fn equals_a_full_sort_whatever_the_order_and_the_parts(
            values in prop::collection::vec(-6..6i32, 0..60),
            k in 0..20usize,
            cut in 0..60usize,
            seed in any::<u64>(),
        ) {
            let mut images: Vec<usize> = (0..values.len()).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut images);
            for (order, sign) in [(Order::Strongest, -1), (Order::Weakest, 1)] {
                let mut want: Vec<u64> = (0..values.len() as u64).collect();
                want.sort_by_key(|&i| (sign * values[i as usize], i));
                want.truncate(k);
                prop_assert_eq!(numbers(&filled(k, order, &images, &values)), want.clone());
                let (left, right) = images.split_at(cut.min(images.len()));
                let mut merged = filled(k, order, right, &values);
                merged.merge(filled(k, order, left, &values));
                prop_assert_eq!(numbers(&merged), want);
            }
            let order = Order::Random(seed);
            let sorted: Vec<usize> = (0..values.len()).collect();
            prop_assert_eq!(numbers(&filled(k, order, &images, &values)), numbers(&filled(k, order, &sorted, &values)));
        }

        #[test]
        fn spacing_equals_choosing_among_all(
            values in prop::collection::vec(0..9i32, 0..60),
            k in 1..6usize,
            distance in 1..5usize,
        ) {
            let class = |i: u64| Some(i / 20);
            let images: Vec<usize> = (0..values.len()).collect();
            let of = |room: usize| {
                let top = filled(room, Order::Strongest, &images, &values);
                top.spaced(k, distance, class).iter().map(|c| c.image).collect::<Vec<_>>()
            };
            let got = of(k * (2 * distance - 1));
            prop_assert_eq!(&got, &of(values.len()));
            for (n, a) in got.iter().enumerate() {
                prop_assert!(got[..n].iter().all(|b| class(*a) != class(*b) || a.abs_diff(*b) >= distance as u64));
            }
        }
    }

    #[test]
    fn a_random_sample_depends_on_the_seed() {
        let values = vec![0; 100];
        let images: Vec<usize> = (0..100).collect();
        let sample = |seed| numbers(&filled(5, Order::Random(seed), &images, &values));
        assert_ne!(sample(1), sample(2));
    }

    #[test]
    fn both_zeros_tie() {
        let mut top = TopK::new(2, Order::Strongest);
        top.offer(0, -0.0, &[][..]);
        top.offer(1, 0.0, &[][..]);
        assert_eq!(top.best()[0].image, 0);
    }
}
