//! Every pattern of every policy, looked for in a description at once.

use super::pattern::Pattern;
use super::plain::Plain;
use super::words::{Finder, Seen};
use super::{Policies, Policy};
use regex::Regex;
use std::collections::HashMap;
use std::ops::Range;

/// The patterns of many policies under numbers of their own.
#[derive(Debug, Default)]
pub(super) struct Search<'p> {
    finder: Finder,
    /// Per phrase of the finder, the number of its pattern.
    phrases: Vec<usize>,
    regexes: Vec<(usize, &'p Regex)>,
    patterns: usize,
}

/// The numbers of one policy's patterns: a range per list, in the order of the list.
#[derive(Debug)]
pub(super) struct Numbers {
    pub any: Range<usize>,
    pub all: Range<usize>,
    pub none: Range<usize>,
    pub except: Range<usize>,
    /// One per concept; a concept has one number, whatever its synonyms.
    pub concepts: Range<usize>,
    /// One per waiver that has a pattern.
    pub waivers: Vec<Option<usize>>,
}

/// Where patterns stand in one description: sorted by pattern, then place.
#[derive(Debug, Default)]
pub(super) struct Hits(Vec<(usize, Range<usize>)>);

impl<'p> Search<'p> {
    /// A search for all patterns of `policies`, with the numbers of each.
    pub fn new(policies: &'p Policies) -> (Self, Vec<Numbers>) {
        let mut search = Self::default();
        let numbers = policies.iter().map(|policy| search.add(policy)).collect();
        (search, numbers)
    }

    fn add(&mut self, policy: &'p Policy) -> Numbers {
        let m = &policy.matching;
        let [any, all, none, except] = [&m.any, &m.all, &m.none, &m.except].map(|rules| {
            let first = self.patterns;
            rules.iter().for_each(|rule| {
                self.pattern(&rule.pattern);
            });
            first..self.patterns
        });
        let first = self.patterns;
        for concept in &m.concepts {
            let number = self.next();
            for phrase in &concept.phrases {
                self.finder.add(phrase);
                self.phrases.push(number);
            }
        }
        let concepts = first..self.patterns;
        let waivers = policy.waivers.iter().map(|w| w.description.as_ref().map(|p| self.pattern(p))).collect();
        Numbers { any, all, none, except, concepts, waivers }
    }

    fn next(&mut self) -> usize {
        self.patterns += 1;
        self.patterns - 1
    }

    fn pattern(&mut self, pattern: &'p Pattern) -> usize {
        let number = self.next();
        match pattern {
            Pattern::Phrase(phrase) => {
                self.finder.add(phrase);
                self.phrases.push(number);
            }
            Pattern::Regex(regex) => self.regexes.push((number, regex)),
        }
        number
    }

    /// Searches every different text once: the hits, and for each of `texts` which of them.
    pub fn find_all<'t>(&self, texts: impl Iterator<Item = &'t str>) -> (Vec<Hits>, Vec<usize>) {
        let (mut seen, mut known, mut hits) = (Seen::default(), HashMap::<&str, usize>::new(), Vec::new());
        let of = texts
            .map(|text| {
                *known.entry(text).or_insert_with(|| {
                    hits.push(self.find(text, &mut seen));
                    hits.len() - 1
                })
            })
            .collect();
        (hits, of)
    }

    fn find(&self, text: &str, seen: &mut Seen) -> Hits {
        let mut hits = self.find_in(text, seen);
        // As it is written, and as it is read.
        if let Some(plain) = Plain::of(text) {
            let found = self.find_in(&plain.text, seen).into_iter();
            hits.extend(found.map(|(number, at)| (number, plain.original(&at))));
        }
        hits.sort_unstable_by_key(|(number, at)| (*number, at.start, at.end));
        // Synonyms of a concept share its number, and may stand at the same place; so may two forms of a word.
        hits.dedup();
        Hits(hits)
    }

    fn find_in(&self, text: &str, seen: &mut Seen) -> Vec<(usize, Range<usize>)> {
        let number = |(phrase, at): (usize, Range<usize>)| Some((*self.phrases.get(phrase)?, at));
        let mut hits: Vec<_> = self.finder.find(text, seen).into_iter().filter_map(number).collect();
        for (number, regex) in &self.regexes {
            hits.extend(regex.find_iter(text).map(|m| (*number, m.range())));
        }
        hits
    }
}

impl Hits {
    /// The hits of some patterns, by pattern, then place.
    pub fn of(&self, numbers: Range<usize>) -> &[(usize, Range<usize>)] {
        let from = self.0.partition_point(|(n, _)| *n < numbers.start);
        let to = self.0.partition_point(|(n, _)| *n < numbers.end);
        self.0.get(from..to).unwrap_or_default()
    }

    /// Whether a pattern stands anywhere.
    pub fn has(&self, number: usize) -> bool {
        !self.of(number..number + 1).is_empty()
    }
}

/// Places that cover others: those of `except`.
#[derive(Debug)]
pub(super) struct Cover {
    /// Sorted by start; with each, the pattern among those up to here that reaches farthest, and how far.
    spans: Vec<(usize, usize, usize)>,
}

impl Cover {
    pub fn new(hits: &[(usize, Range<usize>)]) -> Self {
        let mut spans: Vec<(usize, usize, usize)> = hits.iter().map(|(n, at)| (at.start, at.end, *n)).collect();
        spans.sort_unstable();
        let mut farthest = (0, 0);
        for (_, end, number) in &mut spans {
            if *end > farthest.0 {
                farthest = (*end, *number);
            }
            (*end, *number) = farthest;
        }
        Self { spans }
    }

    /// The number of a pattern inside whose place `at` lies entirely.
    pub fn over(&self, at: &Range<usize>) -> Option<usize> {
        let until = self.spans.partition_point(|(start, ..)| *start <= at.start);
        let (_, end, number) = self.spans.get(until.checked_sub(1)?)?;
        (*end >= at.end).then_some(*number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cover_hides_what_lies_inside_one_of_its_places() {
        let hits = [(7, 0..20), (8, 2..5), (9, 30..40)];
        let cover = Cover::new(&hits);
        assert_eq!(cover.over(&(0..20)), Some(7));
        assert_eq!(cover.over(&(6..10)), Some(7));
        assert_eq!(cover.over(&(3..21)), None);
        assert_eq!(cover.over(&(31..40)), Some(9));
        assert_eq!(cover.over(&(21..22)), None);
        assert_eq!(Cover::new(&[]).over(&(0..1)), None);
    }
}
