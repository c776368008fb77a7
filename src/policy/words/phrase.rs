//! Phrases of a policy, and the groups of words that they name.

use super::Word;
use super::{cut, inflect, is_joint, is_word_char, spans};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Named groups of words, each with all forms of its words: phrases share them.
#[derive(Debug, Default)]
pub(in crate::policy) struct Groups(BTreeMap<String, Arc<[String]>>);

impl Groups {
    /// Adds a group.
    pub fn insert(&mut self, name: String, words: &[String]) {
        self.0.insert(name, words.iter().flat_map(|word| forms(word)).collect());
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// A word or several in a row, as a policy lists them.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::policy) struct Phrase(pub(super) Vec<Position>);

/// What may stand at one place of a phrase.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Position {
    /// One of these, in the forms that [`inflect::numbers`] gives.
    Forms(Arc<[String]>),
    /// Any word.
    Any,
}

/// Why a text is no phrase.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::policy) enum PhraseError {
    /// It would match nothing, or something else than it says.
    Empty(&'static str),
    /// An opening or closing brace without the other, at this byte.
    Brace(usize),
    /// A group that there is not, and its bytes in the text.
    Group(String, Range<usize>),
}

impl Phrase {
    /// The phrase of these words.
    pub fn new(text: &str, groups: &Groups) -> Result<Self, PhraseError> {
        let mut positions = Vec::new();
        // Where the text begins that has been read neither as words nor as a group nor as a star.
        let mut rest = 0;
        for (i, c) in text.char_indices() {
            if i < rest {
                continue;
            }
            match c {
                '{' => {
                    plain(text.get(rest..i).unwrap_or_default(), &mut positions);
                    let end = i + text.get(i..).and_then(|t| t.find('}')).ok_or(PhraseError::Brace(i))?;
                    let name = text.get(i + 1..end).unwrap_or_default();
                    let Some(forms) = groups.0.get(name) else {
                        return Err(PhraseError::Group(name.to_string(), i..end + 1));
                    };
                    positions.push(Position::Forms(Arc::clone(forms)));
                    rest = end + 1;
                }
                '}' => return Err(PhraseError::Brace(i)),
                '*' => {
                    plain(text.get(rest..i).unwrap_or_default(), &mut positions);
                    let neighbour =
                        |c: Option<char>| c.is_some_and(|c| is_word_char(c) || matches!(c, '*' | '{' | '}'));
                    let before = text.get(..i).and_then(|t| t.chars().next_back());
                    if neighbour(before) || neighbour(text.get(i + 1..).and_then(|t| t.chars().next())) {
                        return Err(PhraseError::Empty("`*` is a whole word, and needs blanks around it"));
                    }
                    positions.push(Position::Any);
                    rest = i + 1;
                }
                _ => {}
            }
        }
        plain(text.get(rest..).unwrap_or_default(), &mut positions);
        let inside = text.trim_matches(|c: char| !is_word_char(c) && !matches!(c, '*' | '{' | '}'));
        if inside.chars().any(|c| !is_word_char(c) && !is_joint(c) && !matches!(c, '*' | '{' | '}')) {
            return Err(PhraseError::Empty(
                "punctuation parts phrases: what is parted by it belongs in entries of its own",
            ));
        }
        if positions.iter().any(|p| matches!(p, Position::Forms(_))) {
            Ok(Self(positions))
        } else if spans(text).is_empty() {
            Err(PhraseError::Empty("it has no letter or digit"))
        } else {
            Err(PhraseError::Empty("articles are passed over, and it has no other word"))
        }
    }
}

/// Adds the words of a text without braces and stars.
fn plain(text: &str, positions: &mut Vec<Position>) {
    let word = |word: Word| Position::Forms(forms(text.get(word.at).unwrap_or_default()).into());
    positions.extend(cut(text).into_iter().map(word));
}

/// What a word of a phrase stands for.
fn forms(word: &str) -> Vec<String> {
    inflect::numbers(&inflect::fold(word))
}

/// One word and nothing else, as an entry of a group must be.
pub(in crate::policy) fn is_one_word(text: &str) -> bool {
    cut(text).len() == 1 && !text.contains(['{', '}', '*'])
}
