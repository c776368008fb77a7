//! Names and classes of the images that are candidates, in little memory: some ten thousand of them are usual.

use super::ImageRef;
use crate::Result;
use crate::arrays::{Arrays, Opened};
use safetensors::Dtype;
use std::collections::BTreeMap;

/// Images by number, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    numbers: Vec<u64>,
    /// Where each name ends in `text`.
    ends: Vec<u64>,
    text: Vec<u8>,
    /// -1 without classes.
    classes: Vec<i64>,
}

impl Names {
    /// Adds an image whose number is above all others.
    pub fn push(&mut self, number: u64, name: &str, class: Option<usize>) {
        self.numbers.push(number);
        self.text.extend_from_slice(name.as_bytes());
        self.ends.push(self.text.len() as u64);
        self.classes.push(class.map_or(-1, |c| c as i64));
    }

    pub fn class(&self, number: u64) -> Option<u64> {
        let at = self.numbers.binary_search(&number).ok()?;
        self.classes.get(at).and_then(|c| u64::try_from(*c).ok())
    }

    fn entry(&self, at: usize) -> (u64, String, Option<usize>) {
        let end = |i: usize| self.ends[i] as usize;
        let start = at.checked_sub(1).map_or(0, end);
        let name = String::from_utf8_lossy(self.text.get(start..end(at)).unwrap_or_default()).into_owned();
        (self.numbers[at], name, usize::try_from(self.classes[at]).ok())
    }

    /// Those with these numbers, which ascend.
    pub fn only(&self, numbers: impl IntoIterator<Item = u64>) -> Names {
        let mut chosen = Names::default();
        for at in numbers.into_iter().filter_map(|n| self.numbers.binary_search(&n).ok()) {
            let (number, name, class) = self.entry(at);
            chosen.push(number, &name, class);
        }
        chosen
    }

    /// Those of both; of an image that both have the first is kept.
    pub fn and(&self, other: &Names) -> Names {
        let mut all: Vec<(u64, bool, usize)> = self.numbers.iter().enumerate().map(|(i, n)| (*n, false, i)).collect();
        all.extend(other.numbers.iter().enumerate().map(|(i, n)| (*n, true, i)));
        all.sort_unstable();
        all.dedup_by_key(|(number, ..)| *number);
        let mut sum = Names::default();
        for (_, second, at) in all {
            let (number, name, class) = if second { other.entry(at) } else { self.entry(at) };
            sum.push(number, &name, class);
        }
        sum
    }

    pub fn to_map(&self) -> BTreeMap<usize, ImageRef> {
        let named = |at| {
            let (number, name, class) = self.entry(at);
            (number as usize, ImageRef { name, class })
        };
        (0..self.numbers.len()).map(named).collect()
    }

    pub fn put(&self, arrays: &mut Arrays<'_>) {
        arrays.add("names.numbers", Dtype::U64, &[self.numbers.len()], &self.numbers);
        arrays.add("names.ends", Dtype::U64, &[self.ends.len()], &self.ends);
        arrays.add("names.text", Dtype::U8, &[self.text.len()], &self.text);
        arrays.add("names.classes", Dtype::I64, &[self.classes.len()], &self.classes);
    }

    pub fn get(arrays: &Opened) -> Result<Self> {
        let numbers: Vec<u64> = arrays.all("names.numbers", Dtype::U64)?;
        let text: Vec<u8> = arrays.all("names.text", Dtype::U8)?;
        let ends: Vec<u64> = arrays.get("names.ends", Dtype::U64, numbers.len())?;
        let classes = arrays.get("names.classes", Dtype::I64, numbers.len())?;
        let ascending = numbers.windows(2).all(|w| w[0] < w[1]) && ends.windows(2).all(|w| w[0] <= w[1]);
        if !ascending || ends.last().is_some_and(|end| *end > text.len() as u64) {
            return Err(arrays.wrong("`names` that are out of order", "ascending numbers"));
        }
        Ok(Self { numbers, ends, text, classes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_joined_and_chosen() {
        let (mut a, mut b) = (Names::default(), Names::default());
        a.push(2, "two", None);
        a.push(9, "neun", Some(3));
        b.push(2, "other", None);
        b.push(5, "fünf", Some(0));
        let both = a.and(&b);
        let map = both.to_map();
        assert_eq!(map.values().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["two", "fünf", "neun"]);
        assert_eq!((both.class(9), both.class(2), both.class(7)), (Some(3), None, None));
        assert_eq!(both.only([5, 6, 9]).to_map().len(), 2);
    }
}
