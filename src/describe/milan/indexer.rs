//! Words as numbers, and back.

use super::tokenizer;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What an [`Indexer`] does with a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    /// Begin with the start token.
    pub start: bool,
    /// End with the stop token.
    pub stop: bool,
    /// Fill up to the longest text with the pad token.
    pub pad: bool,
    /// Unknown words become the token for unknown words; else they are left out.
    pub unk: bool,
    /// At most so many words, start and stop not counted.
    pub length: Option<usize>,
    /// Lower case.
    pub lowercase: bool,
    /// Leave out punctuation.
    pub ignore_punct: bool,
}

impl Default for Flags {
    /// As MILAN's own.
    fn default() -> Self {
        Self { start: true, stop: true, pad: true, unk: true, length: None, lowercase: true, ignore_punct: false }
    }
}

/// A vocabulary: words first, then start, stop, pad and unknown.
///
/// **Source:** `src/utils/lang.py` of MILAN (Hernandez et al. 2022, arXiv 2201.11114).
#[derive(Debug, Clone, PartialEq)]
pub struct Indexer {
    tokens: Vec<String>,
    ids: HashMap<String, i64>,
    flags: Flags,
}

/// How the special tokens are written, in the order of their numbers.
const SPECIAL: [&str; 4] = ["<start>", "<stop>", "<pad>", "<unk>"];

impl Indexer {
    /// The vocabulary `tokens`, in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] for no words, more than a million, and a word that stands there twice.
    pub fn new(tokens: Vec<String>, flags: Flags) -> Result<Self> {
        if tokens.is_empty() || tokens.len() > 1_000_000 {
            return Err(Error::invalid("vocabulary", format!("{} words", tokens.len()), "1 to 1000000"));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (i, token) in tokens.iter().enumerate() {
            if ids.insert(token.clone(), i as i64).is_some() {
                return Err(Error::invalid("vocabulary", format!("`{token}` twice"), "every word once"));
            }
        }
        Ok(Self { tokens, ids, flags })
    }

    /// The words of these texts, by descending count, ties by first occurrence; those seen `rarer` times or less are left
    /// out.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn build<S: AsRef<str>>(texts: &[S], rarer: usize, flags: Flags) -> Result<Self> {
        let (mut order, mut counts): (Vec<String>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
        for token in texts.iter().flat_map(|t| tokenize(t.as_ref(), &flags)) {
            let count = counts.entry(token.clone()).or_insert(0);
            *count += 1;
            if *count == 1 {
                order.push(token);
            }
        }
        let count = |t: &String| counts.get(t).copied().unwrap_or(0);
        order.retain(|t| count(t) > rarer);
        order.sort_by_key(|t| std::cmp::Reverse(count(t)));
        Self::new(order, flags)
    }

    /// The words, in the order of their numbers.
    pub fn words(&self) -> &[String] {
        &self.tokens
    }

    /// What is done with a text.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// The same vocabulary with other flags.
    #[must_use]
    pub fn with_flags(&self, flags: Flags) -> Self {
        Self { flags, ..self.clone() }
    }

    /// How many tokens, the four special ones included.
    pub fn size(&self) -> usize {
        self.tokens.len() + SPECIAL.len()
    }

    /// The number of the start token; stop, pad and unknown follow.
    pub fn start(&self) -> i64 {
        self.tokens.len() as i64
    }

    /// The number of the stop token.
    pub fn stop(&self) -> i64 {
        self.start() + 1
    }

    /// The number of the pad token.
    pub fn pad(&self) -> i64 {
        self.start() + 2
    }

    /// The number of the token for unknown words.
    pub fn unk(&self) -> i64 {
        self.start() + 3
    }

    /// The words of a text.
    pub fn tokenize(&self, text: &str) -> Vec<String> {
        tokenize(text, &self.flags)
    }

    /// Texts as numbers, filled up to the longest (to [`Flags::length`], if that is given).
    pub fn index<S: AsRef<str>>(&self, texts: &[S]) -> Vec<Vec<i64>> {
        let tokens: Vec<Vec<String>> = texts.iter().map(|t| self.tokenize(t.as_ref())).collect();
        let longest = self.flags.length.unwrap_or_else(|| tokens.iter().map(Vec::len).max().unwrap_or(0));
        tokens.iter().map(|t| self.numbers(t, longest)).collect()
    }

    fn numbers(&self, tokens: &[String], length: usize) -> Vec<i64> {
        let mut ids: Vec<i64> = Vec::with_capacity(length + 2);
        if self.flags.start {
            ids.push(self.start());
        }
        let known = tokens.iter().filter_map(|t| match self.ids.get(t) {
            Some(id) => Some(*id),
            None => self.flags.unk.then(|| self.unk()),
        });
        ids.extend(known.take(length));
        if self.flags.stop {
            ids.push(self.stop());
        }
        if self.flags.pad {
            let full = length + usize::from(self.flags.start) + usize::from(self.flags.stop);
            ids.resize(full.max(ids.len()), self.pad());
        }
        ids
    }

    /// Numbers as words; the special tokens are left out unless `specials`.
    pub fn unindex(&self, ids: &[i64], specials: bool) -> Vec<String> {
        let word = |id: &i64| {
            let id = usize::try_from(*id).ok()?;
            match self.tokens.get(id) {
                Some(token) => Some(token.clone()),
                None => SPECIAL.get(id - self.tokens.len()).filter(|_| specials).map(|s| (*s).to_string()),
            }
        };
        ids.iter().filter_map(word).collect()
    }

    /// Numbers as a sentence, up to the first stop.
    pub fn reconstruct(&self, ids: &[i64]) -> String {
        let end = ids.iter().position(|id| *id == self.stop()).unwrap_or(ids.len());
        sentence(&self.unindex(&ids[..end], false))
    }
}

fn tokenize(text: &str, flags: &Flags) -> Vec<String> {
    let mut tokens = tokenizer::tokenize(text, flags.lowercase);
    tokens.retain(|t| !(flags.ignore_punct && tokenizer::is_punctuation(t)));
    tokens
}

/// Words as a sentence: no space before `. , ; :` and around `-`; what stands between dots begins with a capital letter
/// and goes on in lower case. Up to the first stop token; special tokens are left out.
pub fn sentence<S: AsRef<str>>(tokens: &[S]) -> String {
    let words = tokens.iter().map(AsRef::as_ref).take_while(|t| *t != SPECIAL[1]).filter(|t| !SPECIAL.contains(t));
    let mut text = words.collect::<Vec<_>>().join(" ");
    for mark in [".", ",", ";", ":"] {
        text = text.replace(&format!(" {mark}"), mark);
    }
    text = text.replace(" - ", "-").replace("- ", "-").replace(" -", "-");
    let capitalized = |piece: &str| {
        let mut chars = piece.trim().chars();
        chars
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
    };
    text.split('.').map(capitalized).collect::<Vec<_>>().join(". ").trim().to_string()
}
