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

mod inflect;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

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

/// Named groups of words, each with all forms of its words: phrases share them.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<String, Arc<[String]>>);

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
pub(super) struct Phrase(Vec<Position>);

/// What may stand at one place of a phrase.
#[derive(Debug, Clone, PartialEq)]
enum Position {
    /// One of these, in the forms that [`inflect::numbers`] gives.
    Forms(Arc<[String]>),
    /// Any word.
    Any,
}

/// Why a text is no phrase.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum PhraseError {
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
pub(super) fn is_one_word(text: &str) -> bool {
    cut(text).len() == 1 && !text.contains(['{', '}', '*'])
}

/// Many phrases, looked for all at once.
///
/// A description's words are turned into numbers, once for every different word; a phrase is only looked at where its
/// rarest-looking place, the first that is not `*`, has one of its words.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// The number of every form that a phrase has somewhere.
    numbers: HashMap<String, u32>,
    /// Per phrase, what may stand at its places: sorted numbers, or anything.
    phrases: Vec<Vec<Option<Arc<[u32]>>>>,
    /// The numbers of the forms of groups, which many phrases share; with the forms, so that their address is not reused.
    groups: HashMap<*const String, (Arc<[String]>, Arc<[u32]>)>,
    /// Per number, the phrases that it may begin, and how many stars come before.
    starts: Vec<Vec<(u32, u32)>>,
}

/// A list of more forms than one word has is a group.
const FEW: usize = 8;

/// What a [`Finder`] has seen so far: the numbers of every different word, however written.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<String, Vec<u32>>);

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
        if let Some((_, numbers)) = self.groups.get(&forms.as_ptr()) {
            return Arc::clone(numbers);
        }
        let mut numbers: Vec<u32> = forms.iter().map(|form| self.number(form)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let numbers: Arc<[u32]> = numbers.into();
        if forms.len() > FEW {
            self.groups.insert(forms.as_ptr(), (Arc::clone(forms), Arc::clone(&numbers)));
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

    /// Every place where a phrase stands: its number and the bytes of `text`, in no particular order.
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
            let mut tried: Vec<(u32, u32)> = Vec::new();
            for candidates in here.iter().filter_map(|n| self.starts.get(*n as usize)) {
                for &(phrase, before) in candidates {
                    // Two forms of one word may begin the same phrase.
                    if here.len() > 1 {
                        if tried.contains(&(phrase, before)) {
                            continue;
                        }
                        tried.push((phrase, before));
                    }
                    let place =
                        at.checked_sub(before as usize).and_then(|from| self.stands(phrase, from, &words, &numbers));
                    found.extend(place.map(|place| (phrase as usize, place)));
                }
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
