//! What is cut off at the front and the back of a text without white space, and what splits it in between.
//!
//! **Source:** `spacy/lang/punctuation.py` and `spacy/lang/en/punctuation.py` of spaCy 3.8 (explosion.ai). Differs: letters
//! are those of Unicode, and of the units behind numbers only those in Latin letters are known.

use regex::Regex;
use std::sync::LazyLock;

const PUNCTUATION: &str = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪";
const QUOTES: &str = "'\"”“`‘´’‚,„»«「」『』（）〔〕【】《》〈〉〈〉⟦⟧";
const CURRENCIES: [&str; 3] = ["US$", "C$", "A$"];
/// What follows a number without a space.
const UNITS: [&str; 48] = [
    "km", "km²", "km³", "m", "m²", "m³", "dm", "dm²", "dm³", "cm", "cm²", "cm³", "mm", "mm²", "mm³", "ha", "µm", "nm",
    "yd", "in", "ft", "kg", "g", "mg", "µg", "t", "lb", "oz", "m/s", "km/h", "kmh", "mph", "hPa", "Pa", "mbar", "mb",
    "MB", "kb", "KB", "gb", "GB", "tb", "TB", "T", "G", "M", "K", "%",
];
/// Tried in this order.
const HYPHENS: [&str; 7] = ["-", "–", "—", "--", "---", "——", "~"];

/// Addresses, which are not split: `close-up.eyes` looks like one.
static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let letter = r"A-Za-z0-9\u{a1}-\u{ffff}";
    let host = format!(r"(?:(?:[{letter}][{letter}_-]{{0,62}})?[{letter}]\.)+[\p{{Ll}}\p{{Lo}}]{{2,63}}");
    Regex::new(&format!(r"^(?:[\w+\-.]{{2,}}://)?(?:\S+@)?{host}(?::\d{{2,5}})?(?:[/?#]\S*)?$")).ok()
});

static SYMBOL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{So}$").ok());

/// Whether a text is taken for an address.
pub(super) fn is_address(text: &str) -> bool {
    ADDRESS.as_ref().is_some_and(|r| r.is_match(text))
}

fn is_symbol(c: char) -> bool {
    !c.is_ascii() && SYMBOL.as_ref().is_some_and(|r| r.is_match(c.encode_utf8(&mut [0; 4])))
}

fn is_currency(c: char) -> bool {
    "$£€¥฿﷼".contains(c) || ('\u{20a0}'..='\u{20bf}').contains(&c)
}

fn is_mark(c: char) -> bool {
    PUNCTUATION.contains(c) || QUOTES.contains(c) || is_symbol(c)
}

/// Small letters, and those of scripts that have only one size.
fn is_small(c: char) -> bool {
    c.is_alphabetic() && !c.is_uppercase()
}

/// Capital letters, and those of scripts that have only one size.
fn is_capital(c: char) -> bool {
    c.is_alphabetic() && !c.is_lowercase()
}

fn is_word(c: char) -> bool {
    c.is_alphabetic() || c.is_ascii_digit()
}

/// How many bytes are cut off at the front.
pub(super) fn prefix(text: &str) -> usize {
    let mut chars = text.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return 0 };
    let dots = text.len() - text.trim_start_matches('.').len();
    if dots > 1 {
        return dots;
    }
    let plus = first == '+' && !second.is_some_and(|c| c.is_ascii_digit());
    if plus || "§%=—–".contains(first) || is_mark(first) || is_currency(first) {
        return first.len_utf8();
    }
    CURRENCIES.iter().find(|c| text.starts_with(**c)).map_or(0, |c| c.len())
}

/// How many bytes are cut off at the back: as many as any rule allows.
pub(super) fn suffix(text: &str) -> usize {
    let Some(last) = text.chars().next_back() else { return 0 };
    let before = &text[..text.len() - last.len_utf8()];
    let dots = text.len() - text.trim_end_matches('.').len();
    let alone = match last {
        '.' if dots > 1 => dots,
        '.' if full_stop(before) => 1,
        '—' | '–' => last.len_utf8(),
        c if is_mark(c) => c.len_utf8(),
        _ => 0,
    };
    let fixed = ["……", "'s", "'S", "’s", "’S"].into_iter().filter(|s| text.ends_with(s)).map(str::len);
    alone.max(fixed.max().unwrap_or(0)).max(behind_number(text, last))
}

/// Whether a dot behind this is one that ends a sentence.
fn full_stop(before: &str) -> bool {
    let mut back = before.chars().rev();
    let (last, earlier) = (back.next(), back.next());
    let ends = |c: char| {
        c.is_ascii_digit() || is_small(c) || "%²-+|".contains(c) || PUNCTUATION.contains(c) || QUOTES.contains(c)
    };
    let degrees = earlier == Some('°') && last.is_some_and(|c| "FfCcKk".contains(c));
    degrees || last.is_some_and(ends) || (last.is_some_and(is_capital) && earlier.is_some_and(is_capital))
}

/// A unit or a currency directly behind a digit.
fn behind_number(text: &str, last: char) -> usize {
    let fits = |s: &str| text.strip_suffix(s).is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit()));
    let own = if last == '+' || is_currency(last) { last.encode_utf8(&mut [0; 4]).to_string() } else { String::new() };
    let all = UNITS.iter().chain(&CURRENCIES).copied().chain(std::iter::once(own.as_str()));
    all.filter(|s| !s.is_empty() && fits(s)).map(str::len).max().unwrap_or(0)
}

/// Where a text is split in between: the bytes of each infix, from left to right.
pub(super) fn infixes(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut all: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, c) in text.char_indices() {
        if all.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let length = infix(&text[..at], c, &text[at..]);
        if length > 0 {
            all.push(at..at + length);
        }
    }
    all
}

/// How many bytes of `rest`, which begins with `c` and follows `before`, are an infix.
fn infix(before: &str, c: char, rest: &str) -> usize {
    let left = before.chars().next_back();
    let left_is = |f: fn(char) -> bool| left.is_some_and(f);
    let right_is = |length: usize, f: fn(char) -> bool| rest[length..].chars().next().is_some_and(f);
    let one = c.len_utf8();
    let dots = rest.len() - rest.trim_start_matches('.').len();
    let splits = match c {
        '.' if dots > 1 => return dots,
        '.' => left_is(|c| is_small(c) || QUOTES.contains(c)) && right_is(1, |c| is_capital(c) || QUOTES.contains(c)),
        '…' => true,
        '+' | '-' | '*' | '^' if left_is(|c| c.is_ascii_digit()) && right_is(1, |c| c.is_ascii_digit() || c == '-') => {
            true
        }
        ',' => left_is(char::is_alphabetic) && right_is(1, char::is_alphabetic),
        ':' | '<' | '>' | '=' | '/' => left_is(is_word) && right_is(1, char::is_alphabetic),
        c => is_symbol(c),
    };
    if splits {
        return one;
    }
    let hyphen = HYPHENS.iter().find(|h| rest.starts_with(**h) && right_is(h.len(), char::is_alphabetic));
    hyphen.filter(|_| left_is(is_word)).map_or(0, |h| h.len())
}
