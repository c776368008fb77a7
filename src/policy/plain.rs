//! A description as a reader sees it: without what is invisible, in the usual form of every letter.
//!
//! A zero-width space within a word, a soft hyphen, letters of full width, a colour code of a terminal: none of it changes
//! what a person reads, and none of it may keep a policy from seeing the word.

use crate::diagnostic::is_ignorable;
use std::ops::Range;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A text in its plain form, and where each part of it stands in the original.
#[derive(Debug)]
pub(super) struct Plain {
    pub text: String,
    /// The byte of `text` at which a part begins, and the bytes of the original that it comes from.
    parts: Vec<(usize, Range<usize>)>,
}

impl Plain {
    /// The plain form of a text; `None` if the text is that already.
    pub fn of(text: &str) -> Option<Self> {
        if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return None;
        }
        let mut plain = Plain { text: String::with_capacity(text.len()), parts: Vec::new() };
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let hidden = hidden(rest);
            let length = if hidden > 0 { hidden } else { cluster(rest) };
            if hidden == 0 {
                plain.parts.push((plain.text.len(), at..at + length));
                let visible = rest.get(..length).unwrap_or_default().chars().filter(|c| !is_ignorable(*c));
                plain.text.extend(visible.nfkc());
            }
            at += length;
        }
        (plain.text != text).then_some(plain)
    }

    /// The bytes of the original from which some bytes of the plain text come.
    pub fn original(&self, at: &Range<usize>) -> Range<usize> {
        let part = |byte: usize| {
            let after = self.parts.partition_point(|(start, _)| *start <= byte);
            self.parts.get(after.saturating_sub(1)).map_or(0..0, |(_, from)| from.clone())
        };
        part(at.start).start..part(at.end.saturating_sub(1).max(at.start)).end
    }
}

/// The bytes at the beginning of a text that nobody sees: one character, or a whole code for a terminal.
fn hidden(text: &str) -> usize {
    if let Some(code) = text.strip_prefix("\u{1b}[") {
        let end = code.find(|c: char| ('@'..='~').contains(&c));
        let valid = |end: &usize| code.get(..*end).is_some_and(|code| code.bytes().all(|b| (b' '..b'@').contains(&b)));
        if let Some(end) = end.filter(valid) {
            return "\u{1b}[".len() + end + 1;
        }
    }
    let first = text.chars().next().filter(|c| is_ignorable(*c) || c.is_control() && !c.is_whitespace());
    first.map_or(0, char::len_utf8)
}

/// The bytes of the first character and of what is written onto it.
fn cluster(text: &str) -> usize {
    let joins = |c: &char| is_combining_mark(*c) || is_ignorable(*c) || matches!(c, '\u{1160}'..='\u{11ff}');
    let mut chars = text.chars();
    let first = chars.next().map_or(0, char::len_utf8);
    // What is invisible belongs to it only where a mark follows.
    let (mut end, mut at) = (first, first);
    for c in chars.take_while(joins) {
        at += c.len_utf8();
        if !is_ignorable(c) {
            end = at;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invisible_goes_and_forms_are_the_usual_ones() {
        for (text, expected) in [
            ("let\u{200b}ters", "letters"),
            ("let\u{ad}ters", "letters"),
            ("\u{ff4c}\u{ff45}\u{ff54}ters", "letters"),
            ("\u{202e}letters\u{202c}", "letters"),
            ("cafe\u{301}", "caf\u{e9}"),
            ("caf e\u{200d}\u{301}", "caf \u{e9}"),
            ("of\u{fb01}ce", "office"),
            ("printed \u{1b}[31mletters\u{1b}[0m \0", "printed letters "),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
        ] {
            assert_eq!(Plain::of(text).map(|p| p.text).as_deref(), Some(expected), "{text:?}");
        }
        assert!(Plain::of("letters, and caf\u{e9}").is_none() && Plain::of("").is_none());
    }

    #[test]
    fn places_are_those_of_the_original() {
        let text = "two let\u{200b}te\u{ad}rs \u{ff4f}f";
        let plain = Plain::of(text).unwrap();
        let original = |word: &str| {
            let at = plain.text.find(word).unwrap();
            &text[plain.original(&(at..at + word.len()))]
        };
        assert_eq!(
            [original("letters"), original("of"), original("two")],
            ["let\u{200b}te\u{ad}rs", "\u{ff4f}f", "two"]
        );
    }
}
