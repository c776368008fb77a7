//! Texts that are split in a way of their own, or not at all.
//!
//! **Source:** the exceptions of spaCy 3.8's English tokenizer (explosion.ai, MIT license): contractions, times of day,
//! abbreviations, emoticons.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The parts of a text that is an exception.
pub(super) fn parts(text: &str) -> Option<&'static [String]> {
    if text.len() > *LONGEST { None } else { ALL.get(text).map(Vec::as_slice) }
}

/// No exception has more bytes, so none has more tokens.
pub(super) static LONGEST: LazyLock<usize> = LazyLock::new(|| ALL.keys().map(String::len).max().unwrap_or(0));

/// Not split.
const WHOLE: &str = r##"
\t \n — ' \") <space> '' C++ a. b. c. d. e. f. g. h. i. j. k. l. m. n. o. p. q. r. s. t. u. v. w. x. y. z. ä. ö. ü.
[: =[ 0_0 (= -_- (-; :) <33 >.< ^___^ :))) o.O <.< :0 :-)) )-: (>_<) ;-) xDD :-] [= 8) :p (-: :(( :-((( ಠ_ಠ ಠ︵ಠ :-O
=3 :-P :-* :((( ;) o_o :-0 (*_*) =) (: :} @_@ :-p 8D -__- o.o :-( o_O ;D :X 0_o </3 :-x =| O.O :-| :( :') V_V :1 0.0
¯\(ツ)/¯ :-D :'( O_O ^_^ =( :-))) :() ><(((*> (ಠ_ಠ) (o: 8-D :3 o_0 (^_^) (¬_¬) O.o (-8 [-: 0.o :-3 ;_; :-> ): =/ :O
V.V v.v 8-) :-) :D =D :] :o xD <333 :-o v_v o.0 :P :> O_o :-/ XDD (╯°□°）╯︵┻━┻ (._.) ._. :-(( :'-) :'-( :-X >.> :-}
:| :x ]= :/ XD :* :)) ;-D <3 =] (; >:o (-_-) :o) >:( ^__^ doin doin' Doin Doin' goin goin' Goin Goin' nothin nothin'
Nothin Nothin' nuthin nuthin' Nuthin Nuthin' ol ol' Ol Ol' somethin somethin' Somethin Somethin' em 'em ll 'll nuff
'nuff 'S 's ‘S ‘s and/or w/o 're 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout ma'am Ma'am o'clock O'clock
lovin' Lovin' lovin Lovin havin' Havin' havin Havin Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del.
Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J.
N.M. N.Y. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. 'd a.m. Adm. Bros. co. Co.
Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D.
Prof. Rep. Rev. Sen. St. vs. v.s."##;

const SUBJECTS: &str = "i you he she it we they";
const QUESTIONS: &str = "who what when where why how there that this these those";
/// What stands before `n't`, and before `n't've`.
const MODAL: &str = "ca could do does did had may might must need ought sha should wo would";
/// What stands before `n't` alone.
const NEGATED: &str = "ai are is was were have has dare";
/// Words of their own, without an apostrophe.
const WORDS: &str = "ill its hell shell shed were well whore";

static ALL: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    let mut add = |parts: &[&str]| {
        all.insert(parts.concat(), parts.iter().map(|p| (*p).to_string()).collect::<Vec<_>>());
    };
    WHOLE.split_whitespace().for_each(|whole| add(&[whole]));
    for word in ["i", "I"] {
        for m in ["'m", "m"] {
            add(&[word, m]);
            add(&[word, m, "a"]);
        }
    }
    let both = |words: &'static str| words.split(' ').flat_map(|w| [w.to_string(), capitalized(w)]);
    for word in both(SUBJECTS).chain(both(QUESTIONS)) {
        for (tail, bare) in [("'ll", "ll"), ("'d", "d")] {
            add(&[&word, tail]);
            add(&[&word, tail, "'ve"]);
            add(&[&word, bare]);
            add(&[&word, bare, "ve"]);
        }
        let is = |words: &str| words.split(' ').any(|w| w == word.to_lowercase());
        for (tail, bare, fits) in [
            ("'s", "s", !is("i you we they these those")),
            ("'re", "re", !is("i he she it that this")),
            ("'ve", "ve", !is("he she it that this")),
        ] {
            if fits {
                add(&[&word, tail]);
                add(&[&word, bare]);
            }
        }
    }
    for word in both(MODAL) {
        add(&[&word, "n't", "'ve"]);
        add(&[&word, "nt", "ve"]);
    }
    for word in both(MODAL).chain(both(NEGATED)) {
        add(&[&word, "n't"]);
        add(&[&word, "nt"]);
    }
    for word in both("could might must should would not") {
        add(&[&word, "'ve"]);
        add(&[&word, "ve"]);
    }
    for (first, second) in [("can", "not"), ("gon", "na"), ("got", "ta"), ("let", "'s"), ("c'm", "on")] {
        add(&[first, second]);
        add(&[&capitalized(first), second]);
    }
    for word in ["how", "How"] {
        add(&[word, "'d", "'y"]);
    }
    add(&["y'", "all"]);
    add(&["y", "all"]);
    for hour in 1..=12 {
        ["a.m.", "am", "p.m.", "pm"].iter().for_each(|half| add(&[&hour.to_string(), half]));
    }
    for unit in ["c", "f", "k", "C", "F", "K"] {
        add(&["°", unit, "."]);
    }
    for word in both(WORDS) {
        all.remove(&word);
    }
    let curled = |t: &String| t.replace('\'', "’");
    let typographic = all.iter().filter(|(text, _)| text.contains('\''));
    let typographic: Vec<_> =
        typographic.map(|(text, parts)| (curled(text), parts.iter().map(curled).collect())).collect();
    all.extend(typographic);
    all
});

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
