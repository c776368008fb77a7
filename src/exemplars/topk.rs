//! The k strongest images of one unit, with their activation maps.

/// One candidate: an image and its map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub image: usize,
    pub activation: f32,
    pub map: Vec<f32>,
}

/// At most `k` candidates, strongest first, ties by smaller image number.
#[derive(Debug, Clone, Default)]
pub(super) struct TopK {
    k: usize,
    best: Vec<Candidate>,
}

impl TopK {
    pub fn new(k: usize) -> Self {
        Self { k, best: Vec::new() }
    }

    /// Considers an image; its map is copied only when it enters.
    pub fn offer(&mut self, image: usize, activation: f32, map: &[f32]) {
        let place = self.best.partition_point(|c| (c.activation, image) > (activation, c.image));
        if place >= self.k {
            return;
        }
        if self.best.len() == self.k {
            self.best.pop();
        }
        self.best.insert(place, Candidate { image, activation, map: map.to_vec() });
    }

    pub fn into_best(self) -> Vec<Candidate> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_a_full_sort_whatever_the_order(
            values in prop::collection::vec(0..20i32, 0..60),
            k in 1..20usize,
            seed in any::<u64>(),
        ) {
            let mut images: Vec<usize> = (0..values.len()).collect();
            fastrand::Rng::with_seed(seed).shuffle(&mut images);
            let mut top = TopK::new(k);
            for &i in &images {
                top.offer(i, values[i] as f32, &[]);
            }
            let got: Vec<usize> = top.into_best().into_iter().map(|c| c.image).collect();
            let mut want: Vec<usize> = (0..values.len()).collect();
            want.sort_by_key(|&i| (-values[i], i));
            want.truncate(k);
            prop_assert_eq!(got, want);
        }
    }
}
