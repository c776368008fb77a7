//! One entry of `any`, `all` or `none`: a phrase or a regular expression.

use super::words::{Groups, Phrase, PhraseError};
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
    /// It names a group of words that there is not; its bytes of the entry.
    Group(String, Range<usize>),
    /// A brace without the other one, at this byte of the entry.
    Brace(usize),
    /// It is no regular expression; the bytes of the entry that are at fault, if that is known.
    Regex(String, Option<Range<usize>>),
}

impl Pattern {
    /// Compiles an entry as written. Regular expressions ignore case unless they say `(?-i)`.
    pub fn new(entry: &str, groups: &Groups) -> Result<Self, PatternError> {
        let Some(inner) = entry.strip_prefix('/') else {
            if entry.ends_with('/') {
                return Err(PatternError::Regex("it ends with `/` and does not begin with one".into(), Some(0..0)));
            }
            return Phrase::new(entry, groups).map(Self::Phrase).map_err(|error| match error {
                PhraseError::Empty(why) => PatternError::Empty(why),
                PhraseError::Group(name, at) => PatternError::Group(name, at),
                PhraseError::Brace(at) => PatternError::Brace(at),
            });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_expression_ignores_case_and_reports_where() {
        let Ok(Pattern::Regex(regex)) = Pattern::new(r"/\btext\b/", &Groups::default()) else { panic!("valid") };
        assert_eq!(regex.find("Blue TEXT, texture").map(|m| m.range()), Some(5..9));
    }

    #[test]
    fn faulty_entries_are_refused_with_their_place() {
        let pattern = |entry: &str| Pattern::new(entry, &Groups::default());
        assert_eq!(pattern("/a(b/").err(), Some(PatternError::Regex("unclosed group".into(), Some(2..3))));
        assert!(matches!(pattern("abc/").err(), Some(PatternError::Regex(_, Some(r))) if r == (0..0)));
        assert!(matches!(pattern("/abc").err(), Some(PatternError::Regex(_, Some(r))) if r == (4..4)));
        assert!(matches!(pattern("/x*/").err(), Some(PatternError::Empty(_))));
        assert!(matches!(pattern("//").err(), Some(PatternError::Empty(_))));
        assert!(matches!(pattern(r"/\b/").err(), Some(PatternError::Empty(_))));
        assert!(matches!(pattern("/").err(), Some(PatternError::Regex(..))));
        assert!(matches!(pattern("...").err(), Some(PatternError::Empty(_))));
        assert!(matches!(pattern(r"/(\w{100}){100}/").err(), Some(PatternError::Regex(_, None))));
        assert!(pattern(&format!("/{}a{}/", "(".repeat(99), ")".repeat(99))).is_err());
    }
}
