//! Many phrases looked for in one description.

use super::phrase::{Phrase, Position};
use super::{Word, cut, inflect};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Many phrases, looked for all at once.
///
/// A description's words are turned into numbers, once for every different word; a phrase is only looked at where its
/// rarest-looking place, the first that is not `*`, has one of its words.
#[derive(Debug, Default)]
pub(in crate::policy) struct Finder {
    /// The number of every form that a phrase has somewhere.
    numbers: HashMap<String, u32>,
    /// Per phrase, what may stand at its places: sorted numbers, or anything.
    phrases: Vec<Vec<Option<Arc<[u32]>>>>,
    /// The groups of words that phrases share, by the address of their forms.
    groups: HashMap<*const String, Group>,
    /// Per number, the phrases that it may begin, and how many stars come before.
    starts: Vec<Vec<(u32, u32)>>,
}

/// The forms of a group of words as numbers.
#[derive(Debug)]
struct Group {
    /// Held, so that their address is not used for others.
    _forms: Arc<[String]>,
    /// Sorted.
    numbers: Arc<[u32]>,
}

/// A list of more forms than one word has is a group.
const FEW: usize = 8;

/// What a [`Finder`] has seen so far: the numbers of every different word, however written.
#[derive(Debug, Default)]
pub(in crate::policy) struct Seen(HashMap<String, Vec<u32>>);

impl Finder {
    /// Adds a phrase and returns its number, from 0.
    pub fn add(&mut self, phrase: &Phrase) -> usize {
        let index = self.phrases.len();
        let mut places: Vec<Option<Arc<[u32]>>> = Vec::with_capacity(phrase.0.len());
        for position in &phrase.0 {
            places.push(match position {
                Position::Any => None,
                Position::Forms(forms) => Some(self.numbers_of(forms)),
            });
        }
        if let Some((before, numbers)) = places.iter().enumerate().find_map(|(i, p)| Some((i, p.as_ref()?))) {
            for number in numbers.iter() {
                if let Some(starts) = self.starts.get_mut(*number as usize) {
                    starts.push((index as u32, before as u32));
                }
            }
        }
        self.phrases.push(places);
        index
    }

    /// The numbers of some forms, sorted.
    fn numbers_of(&mut self, forms: &Arc<[String]>) -> Arc<[u32]> {
        if let Some(group) = self.groups.get(&forms.as_ptr()) {
            return Arc::clone(&group.numbers);
        }
        let mut numbers: Vec<u32> = forms.iter().map(|form| self.number(form)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let numbers: Arc<[u32]> = numbers.into();
        if forms.len() > FEW {
            let group = Group { _forms: Arc::clone(forms), numbers: Arc::clone(&numbers) };
            self.groups.insert(forms.as_ptr(), group);
        }
        numbers
    }

    fn number(&mut self, form: &str) -> u32 {
        if let Some(number) = self.numbers.get(form) {
            return *number;
        }
        let number = self.starts.len() as u32;
        self.numbers.insert(form.to_string(), number);
        self.starts.push(Vec::new());
        number
    }

    /// Every place where a phrase stands: its number and the bytes of `text`, in no particular order; twice where two
    /// forms of a word begin the phrase.
    pub fn find(&self, text: &str, seen: &mut Seen) -> Vec<(usize, Range<usize>)> {
        let words = cut(text);
        let numbers: Vec<Vec<u32>> = words
            .iter()
            .map(|word| {
                let word = text.get(word.at.clone()).unwrap_or_default();
                if let Some(numbers) = seen.0.get(word) {
                    return numbers.clone();
                }
                let bases = inflect::bases(&inflect::fold(word));
                let numbers: Vec<u32> = bases.iter().filter_map(|base| self.numbers.get(base)).copied().collect();
                seen.0.insert(word.to_string(), numbers.clone());
                numbers
            })
            .collect();
        let mut found = Vec::new();
        for (at, here) in numbers.iter().enumerate() {
            for &(phrase, before) in here.iter().filter_map(|n| self.starts.get(*n as usize)).flatten() {
                let from = at.checked_sub(before as usize);
                let place = from.and_then(|from| self.stands(phrase, from, &words, &numbers));
                found.extend(place.map(|place| (phrase as usize, place)));
            }
        }
        found
    }

    /// The bytes of the phrase, if it stands from the word `from` on.
    fn stands(&self, phrase: u32, from: usize, words: &[Word], numbers: &[Vec<u32>]) -> Option<Range<usize>> {
        let places = self.phrases.get(phrase as usize)?;
        let words = words.get(from..from + places.len())?;
        let numbers = numbers.get(from..from + places.len())?;
        let fits = |(place, numbers): (&Option<Arc<[u32]>>, &Vec<u32>)| {
            place.as_ref().is_none_or(|allowed| numbers.iter().any(|n| allowed.binary_search(n).is_ok()))
        };
        let joined = words.iter().skip(1).all(|word| !word.apart);
        (joined && places.iter().zip(numbers).all(fits)).then(|| Some(words.first()?.at.start..words.last()?.at.end))?
    }
}
