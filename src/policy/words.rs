//! Whole-word matching: case folded, with plurals and simple inflections, and never a part of a word.
//!
//! A description is cut into words at everything that is neither letter nor digit, so `text-like` has the words `text`
//! and `like`, and `texture` is one word that has nothing to do with `text`. A possessive `'s` is dropped, also where a
//! describer writes `dog 's`. A pattern's word stands for itself, its plural and singular, and (for a verb in its base
//! form) its -ing, -ed and irregular forms: `write` matches `writes`, `writing` and `written`; `writing` matches
//! `writings` and nothing else.
//!
//! Articles are passed over, in descriptions and in phrases: `face of {animal}` stands in `the face of a dog`. In a phrase,
//! `{animal}` is any word of the group of that name, and `*` is any one word.
//!
//! **Source:** the rule of MILAN (Hernandez et al. 2022, arXiv 2201.11114) is a substring search for `word`, `text` and
//! `letter`; it takes `texture` for text and misses `writing`. This module is what replaces it.

mod finder;
mod inflect;
mod phrase;

pub(super) use finder::{Finder, Seen};
pub(super) use phrase::{Groups, Phrase, PhraseError, is_one_word};

use std::ops::Range;

/// One word of a description.
#[derive(Debug, Clone)]
pub(super) struct Word {
    /// Bytes of the description.
    pub at: Range<usize>,
    /// Whether punctuation separates it from the word before, so that no phrase reaches across.
    apart: bool,
}

/// The words of a description, without its articles.
pub(super) fn cut(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut apart = false;
    for (at, separated) in spans(text) {
        apart |= separated;
        let word = text.get(at.clone()).unwrap_or_default();
        if !ARTICLES.iter().any(|article| word.eq_ignore_ascii_case(article)) {
            words.push(Word { at, apart });
            apart = false;
        }
    }
    words
}

const ARTICLES: [&str; 3] = ["a", "an", "the"];

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
fn spans(text: &str) -> Vec<(Range<usize>, bool)> {
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
        let Ok(phrase) = Phrase::new(phrase, &animals()) else { return Vec::new() };
        let mut finder = Finder::default();
        finder.add(&phrase);
        finder.find(text, &mut Seen::default()).into_iter().filter_map(|(_, r)| text.get(r)).collect()
    }

    fn animals() -> Groups {
        let mut groups = Groups::default();
        groups.insert("animal".to_string(), &["dog", "bird", "cat", "dogs", "cow", "pig"].map(str::to_string));
        groups
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
        ignores("head", &["headings"]);
        ignores("ear", &["earring", "earrings"]);
        ignores("leg", &["a long-legged bird"]);
        ignores("sky", &["skiing"]);
        ignores("to", &["toes"]);
        ignores("toes", &["to"]);
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
        matches("menu", &["menus"]);
        matches("ski", &["skis"]);
        matches("toe", &["toes"]);
        matches("potato", &["potatoes"]);
        matches("man", &["mens shoes"]);
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
        ignores("written", &["write", "writing"]);
        ignores("held", &["holding"]);
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
        let empty = |text| matches!(Phrase::new(text, &Groups::default()), Err(PhraseError::Empty(_)));
        assert!(empty("te*t") && empty("text, word") && empty("and/or") && !empty("(text)"));
        assert!(empty(" -- ") && empty("") && empty("the") && empty("* *") && !empty("the text"));
    }

    #[test]
    fn articles_are_passed_over() {
        matches("face of dog", &["the face of a dog", "faces of the dogs", "Face of an  dog"]);
        matches("face of the dog", &["face of dogs"]);
        ignores("face of dog", &["face of, a dog", "face, of a dog", "face of every dog"]);
        assert_eq!(found("dog", "a dog, the dog"), ["dog", "dog"]);
    }

    #[test]
    fn groups_stand_for_their_words_and_stars_for_any() {
        matches("{animal} face", &["a dog's face", "birds' faces", "Cat-face"]);
        ignores("{animal} face", &["a man's face", "animal face", "dog, face"]);
        matches("face of {animal}", &["the face of a bird"]);
        matches("{animal} * face", &["a dog's black face", "a dog and the cat and face"]);
        ignores("{animal} * face", &["dog face", "dog, black face"]);
        matches("* dog", &["brown dogs", "the brown dog"]);
        ignores("* dog", &["dog", "the dog", "cat, dog"]);
        let group = Phrase::new("face of {anmal}", &Groups::default());
        assert_eq!(group, Err(PhraseError::Group("anmal".into(), 8..15)));
        assert_eq!(Phrase::new("x {y", &Groups::default()), Err(PhraseError::Brace(2)));
        assert_eq!(Phrase::new("x y}", &Groups::default()), Err(PhraseError::Brace(3)));
    }

    #[test]
    fn many_phrases_are_found_as_one_by_one() {
        let phrases = ["dog", "dog face", "* face", "{animal} of the {animal}", "face of dog", "letters", "writing"];
        let texts = ["A dog's face, and the face of dogs of the cat", "writings, letter", "faces faces faces", ""];
        let groups = animals();
        let mut all = Finder::default();
        let phrases: Vec<Phrase> = phrases.iter().filter_map(|p| Phrase::new(p, &groups).ok()).collect();
        phrases.iter().for_each(|p| assert!(all.add(p) < 7));
        let mut seen = Seen::default();
        for text in texts {
            let mut together = all.find(text, &mut seen);
            let mut apart = Vec::new();
            for (i, phrase) in phrases.iter().enumerate() {
                let mut one = Finder::default();
                one.add(phrase);
                apart.extend(one.find(text, &mut Seen::default()).into_iter().map(|(_, at)| (i, at)));
            }
            let order = |a: &(usize, Range<usize>), b: &(usize, Range<usize>)| (a.0, a.1.start).cmp(&(b.0, b.1.start));
            together.sort_by(order);
            apart.sort_by(order);
            assert_eq!(together, apart, "{text}");
        }
    }
}
