//! Whole-word matching: case folded, with plurals and simple inflections, and never a part of a word.
//!
//! A description is cut into words at everything that is neither letter nor digit, so `text-like` has the words `text`
//! and `like`, and `texture` is one word that has nothing to do with `text`. A possessive `'s` is dropped, also where a
//! describer writes `dog 's`. A pattern's word stands for itself, its plural and singular, and (for a verb in its base
//! form) its -ing, -ed and irregular forms: `write` matches `writes`, `writing` and `written`; `writing` matches
//! `writings` and nothing else.
//!
//! **Source:** the rule of MILAN (Hernandez et al. 2022, arXiv 2201.11114) is a substring search for `word`, `text` and
//! `letter`; it takes `texture` for text and misses `writing`. This module is what replaces it.

mod inflect;

use std::ops::Range;

/// One word of a description.
#[derive(Debug, Clone)]
struct Word {
    /// Bytes of the description.
    at: Range<usize>,
    /// Everything that it may be a form of, folded, itself first.
    bases: Vec<String>,
    /// Whether punctuation separates it from the word before, so that no phrase reaches across.
    apart: bool,
}

/// A description, cut into words once and matched against many phrases.
#[derive(Debug, Clone)]
pub(super) struct Words(Vec<Word>);

impl Words {
    /// The words of `text`.
    pub fn new(text: &str) -> Self {
        Self(
            cut(text)
                .into_iter()
                .map(|(at, apart)| {
                    let folded = inflect::fold(text.get(at.clone()).unwrap_or_default());
                    Word { at, bases: inflect::bases(&folded), apart }
                })
                .collect(),
        )
    }

    /// The byte ranges of the description where `phrase` stands, in order.
    pub fn find(&self, phrase: &Phrase) -> Vec<Range<usize>> {
        let n = phrase.0.len();
        if n == 0 {
            return Vec::new();
        }
        self.0
            .windows(n)
            .filter(|words| words.iter().skip(1).all(|w| !w.apart))
            .filter(|words| {
                words.iter().zip(&phrase.0).all(|(word, forms)| word.bases.iter().any(|b| forms.contains(b)))
            })
            .filter_map(|words| Some(words.first()?.at.start..words.last()?.at.end))
            .collect()
    }
}

/// A word or several in a row, as a policy lists them.
#[derive(Debug, Clone)]
pub(super) struct Phrase(Vec<Vec<String>>);

impl Phrase {
    /// The phrase of these words; `None` if there is no letter or digit.
    pub fn new(text: &str) -> Option<Self> {
        let words: Vec<_> = cut(text)
            .into_iter()
            .map(|(at, _)| inflect::numbers(&inflect::fold(text.get(at).unwrap_or_default())))
            .collect();
        (!words.is_empty()).then_some(Self(words))
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | 'ʼ')
}

/// Letters, digits, and the combining marks that belong to them.
fn is_word_char(c: char) -> bool {
    (c.is_alphanumeric() && !is_apostrophe(c)) || matches!(c, '\u{300}'..='\u{36f}')
}

/// What may stand between two words of a phrase.
fn is_joint(c: char) -> bool {
    c.is_whitespace() || is_apostrophe(c) || matches!(c, '-' | '_' | '\u{ad}' | '\u{2010}' | '\u{2011}')
}

/// The byte ranges of the words, each with whether punctuation stands before it; possessive `s` left out.
fn cut(text: &str) -> Vec<(Range<usize>, bool)> {
    let mut words: Vec<(Range<usize>, bool)> = Vec::new();
    let mut start = None;
    let mut apart = false;
    let mut last = ' ';
    let mut possessive = false;
    // A blank at the end closes the last word.
    for (i, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if is_word_char(c) {
            if start.is_none() {
                start = Some(i);
                possessive = is_apostrophe(last) && !words.is_empty();
            }
        } else {
            if let Some(start) = start.take() {
                let is_s = text.get(start..i).is_some_and(|w| w.eq_ignore_ascii_case("s"));
                if !(possessive && is_s) {
                    words.push((start..i, apart));
                    apart = false;
                }
            }
            apart |= !is_joint(c);
        }
        last = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<'a>(phrase: &str, text: &'a str) -> Vec<&'a str> {
        let Some(phrase) = Phrase::new(phrase) else { return Vec::new() };
        Words::new(text).find(&phrase).into_iter().filter_map(|r| text.get(r)).collect()
    }

    #[track_caller]
    fn matches(phrase: &str, texts: &[&str]) {
        for text in texts {
            assert!(!found(phrase, text).is_empty(), "`{phrase}` should match `{text}`");
        }
    }

    #[track_caller]
    fn ignores(phrase: &str, texts: &[&str]) {
        for text in texts {
            assert_eq!(found(phrase, text), [""; 0], "`{phrase}` should not match `{text}`");
        }
    }

    #[test]
    fn parts_of_words_never_match() {
        ignores("text", &["texture", "Textures", "textured surfaces", "textile", "context", "subtext", "text2"]);
        ignores("face", &["surface", "surfaces", "facet", "typeface", "a dog facing left"]);
        ignores("head", &["headlight", "forehead", "headed north", "heading"]);
        ignores("word", &["sword", "swords", "crossword", "password"]);
        ignores("letter", &["letterbox", "newsletter"]);
        ignores("number", &["numb", "numberless"]);
        ignores("hand", &["handle", "second-handed"]);
        ignores("red", &["reds-x", "rendered", "reed", "hundred"].map(|t| if t == "reds-x" { "redder" } else { t }));
        ignores("car", &["caring", "cared", "cart", "scar"]);
        ignores("see", &["seed", "seeds"]);
        ignores("new", &["news"]);
        ignores("star", &["staring"]);
        ignores("rat", &["rating", "ration"]);
        ignores("man", &["human", "manned", "mane"]);
    }

    #[test]
    fn plurals_and_possessives_match() {
        matches("text", &["Text", "TEXTS", "the text's colour", "text-like", "red_text", "(text)", "text/paper"]);
        matches("face", &["faces", "Dog 's face", "dogs' faces", "face’s edge"]);
        matches("box", &["boxes"]);
        matches("body", &["bodies"]);
        matches("leaf", &["leaves"]);
        matches("wave", &["waves"]);
        matches("bus", &["buses"]);
        matches("letters", &["letter", "letter's underneath"]);
        matches("id", &["IDs"]);
        matches("glass", &["glasses"]);
    }

    #[test]
    fn irregular_forms_match() {
        matches("person", &["people", "persons", "People's hats"]);
        matches("man", &["men"]);
        matches("woman", &["women"]);
        matches("fireman", &["firemen"]);
        matches("child", &["children"]);
        matches("grandchild", &["grandchildren"]);
        matches("foot", &["feet"]);
        matches("tooth", &["teeth"]);
        matches("people", &["person"]);
        matches("write", &["written text", "writing", "wrote", "writings", "writes"]);
    }

    #[test]
    fn verb_forms_match_their_base_and_not_the_other_way() {
        matches("letter", &["lettering", "lettered"]);
        matches("stamp", &["stamped", "stamping"]);
        matches("run", &["running"]);
        matches("smile", &["smiling", "smiled"]);
        matches("carry", &["carried", "carrying"]);
        matches("fall", &["falling"]);
        matches("writing", &["writings"]);
        ignores("writing", &["write", "written"]);
        ignores("lettering", &["letter"]);
        ignores("building", &["build"]);
    }

    #[test]
    fn phrases_stay_within_punctuation_and_ignore_hyphens() {
        matches("license plate", &["License plates", "a license-plate", "licence or license plate"]);
        matches("dog-face", &["a dog's face", "dogs ' faces"]);
        ignores("license plate", &["license, plate", "plate license", "license of a plate"]);
    }

    #[test]
    fn case_folds_beyond_ascii() {
        matches("straße", &["STRASSE", "Straße"]);
        matches("ΛΌΓΟΣ", &["λόγος"]);
        matches("été", &["ÉTÉ"]);
        matches("e\u{301}te\u{301}", &["E\u{301}te\u{301}"]);
    }

    #[test]
    fn places_are_byte_ranges_of_the_description() {
        assert_eq!(found("letter", "Ümlaut letters, and Lettering"), ["letters", "Lettering"]);
        assert_eq!(found("dog face", "Dog 's face"), ["Dog 's face"]);
        assert!(Phrase::new(" -- ").is_none() && Phrase::new("").is_none());
    }
}
