//! One entry of `any`, `all` or `none`: a phrase or a regular expression.

use super::words::{Phrase, Words};
use regex::{Regex, RegexBuilder};
use std::ops::Range;

/// How large a compiled regular expression may be, in bytes.
const SIZE_LIMIT: usize = 1 << 20;
/// How deeply its groups may nest.
const NEST_LIMIT: u32 = 50;

/// What an entry looks for.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Phrase(Phrase),
    Regex(Regex),
}

/// Why an entry is no pattern.
#[derive(Debug, PartialEq)]
pub(super) enum PatternError {
    /// It would match nothing, or every description.
    Empty(&'static str),
    /// It is no regular expression; the bytes of the entry that are at fault, if that is known.
    Regex(String, Option<Range<usize>>),
}

impl Pattern {
    /// Compiles an entry as written. Regular expressions ignore case unless they say `(?-i)`.
    pub fn new(entry: &str) -> Result<Self, PatternError> {
        let Some(inner) = entry.strip_prefix('/') else {
            return Phrase::new(entry).map(Self::Phrase).ok_or(PatternError::Empty("it has no letter or digit"));
        };
        let Some(inner) = inner.strip_suffix('/') else {
            let end = entry.len();
            return Err(PatternError::Regex("it begins with `/` and does not end with one".into(), Some(end..end)));
        };
        let mut parser = regex_syntax::ParserBuilder::new().nest_limit(NEST_LIMIT).build();
        let parsed = parser.parse(inner).map_err(|error| {
            let (message, span) = match &error {
                regex_syntax::Error::Parse(e) => (e.kind().to_string(), Some(*e.span())),
                regex_syntax::Error::Translate(e) => (e.kind().to_string(), Some(*e.span())),
                _ => ("it cannot be parsed".to_string(), None),
            };
            // 1 for the opening slash.
            PatternError::Regex(message, span.map(|s| s.start.offset + 1..s.end.offset + 1))
        })?;
        if parsed.properties().minimum_len() == Some(0) {
            return Err(PatternError::Empty("it matches the empty text, so it would match every description"));
        }
        let regex = RegexBuilder::new(inner)
            .case_insensitive(true)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .nest_limit(NEST_LIMIT)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => {
                    PatternError::Regex(format!("compiled, it is larger than the {limit} bytes allowed"), None)
                }
                _ => PatternError::Regex("it cannot be compiled".into(), None),
            })?;
        Ok(Self::Regex(regex))
    }

    /// Where it matches, in bytes of `text`, whose words are `words`.
    pub fn find(&self, text: &str, words: &Words) -> Vec<Range<usize>> {
        match self {
            Self::Phrase(phrase) => words.find(phrase),
            Self::Regex(regex) => regex.find_iter(text).map(|m| m.range()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_ignores_case_and_reports_where() {
        let Ok(pattern) = Pattern::new(r"/\btext\b/") else { panic!("valid") };
        let text = "Blue TEXT, texture";
        assert_eq!(pattern.find(text, &Words::new(text)), std::slice::from_ref(&(5..9)));
    }

    #[test]
    fn faulty_entries_are_refused_with_their_place() {
        assert_eq!(Pattern::new("/a(b/").err(), Some(PatternError::Regex("unclosed group".into(), Some(2..3))));
        assert!(matches!(Pattern::new("/abc").err(), Some(PatternError::Regex(_, Some(r))) if r == (4..4)));
        assert!(matches!(Pattern::new("/x*/").err(), Some(PatternError::Empty(_))));
        assert!(matches!(Pattern::new("//").err(), Some(PatternError::Empty(_))));
        assert!(matches!(Pattern::new(r"/\b/").err(), Some(PatternError::Empty(_))));
        assert!(matches!(Pattern::new("/").err(), Some(PatternError::Regex(..))));
        assert!(matches!(Pattern::new("...").err(), Some(PatternError::Empty(_))));
        assert!(matches!(Pattern::new(r"/(\w{100}){100}/").err(), Some(PatternError::Regex(_, None))));
        assert!(Pattern::new(&format!("/{}a{}/", "(".repeat(99), ")".repeat(99))).is_err());
    }
}
