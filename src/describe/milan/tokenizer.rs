//! Words and punctuation of English descriptions, as the rules of spaCy's English tokenizer split them.
//!
//! **Source:** the rules of spaCy 3 (explosion.ai) as MILAN (Hernandez et al. 2022, arXiv 2201.11114) uses them: lower case,
//! punctuation and stop words kept, no lemmas, white space dropped. Differs: of spaCy's list of exceptions (emoticons,
//! abbreviations, contractions) only contractions and common abbreviations are known.

/// The tokens of a text.
pub(super) fn tokenize(text: &str, lowercase: bool) -> Vec<String> {
    let cased = |t: &str| if lowercase { t.to_lowercase() } else { t.to_string() };
    text.split_whitespace().flat_map(chunk).map(|t| cased(&t)).collect()
}

/// Whether a token is punctuation and nothing else.
pub(super) fn is_punctuation(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| !c.is_alphanumeric() && !c.is_whitespace() && !SYMBOLS.contains(c))
}

/// Neither letters nor punctuation.
const SYMBOLS: &str = "$£€¥+<=>^`|~";
const OPENING: &str = "([{<\"'`“‘«…$£€¥#&%=§—–*";
const CLOSING: &str = ")]}>\"'`”’»…,:;!?*&#%—–|";
const HYPHENS: &str = "-–—~";
/// What follows a number without a space.
const UNITS: [&str; 16] =
    ["%", "km", "cm", "mm", "kg", "mg", "mb", "gb", "kb", "hz", "ghz", "mph", "kmh", "ml", "g", "m"];
const ABBREVIATIONS: [&str; 33] = [
    "adm.", "bros.", "co.", "corp.", "dr.", "e.g.", "gen.", "gov.", "i.e.", "inc.", "jr.", "ltd.", "messrs.", "mr.",
    "mrs.", "ms.", "mt.", "ph.d.", "prof.", "rep.", "rev.", "sen.", "sr.", "st.", "vs.", "v.s.", "a.m.", "p.m.",
    "o'clock", "ma'am", "o.o", "c'mon", "y'all",
];
/// What stands before `n't`.
const NEGATED: [&str; 22] = [
    "ai", "are", "ca", "could", "did", "do", "does", "had", "has", "have", "is", "may", "might", "must", "need",
    "ought", "sha", "should", "was", "were", "wo", "would",
];
/// What stands before `'m`, `'re`, `'ve`, `'ll` and `'d`.
const SUBJECTS: [&str; 18] = [
    "i", "you", "he", "she", "it", "we", "they", "this", "that", "these", "those", "there", "who", "what", "where",
    "when", "why", "how",
];

/// The tokens of a text without white space.
fn chunk(text: &str) -> Vec<String> {
    let mut rest = text;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let middle = loop {
        if rest.is_empty() {
            break Vec::new();
        }
        if let Some(tokens) = exception(rest) {
            break tokens;
        }
        if let Some((first, after)) = prefix(rest) {
            front.push(first.to_string());
            rest = after;
        } else if let Some((before, last)) = suffix(rest) {
            back.push(last.to_string());
            rest = before;
        } else {
            break infixes(rest);
        }
    };
    front.extend(middle);
    front.extend(back.into_iter().rev());
    front
}

fn exception(text: &str) -> Option<Vec<String>> {
    let lower = text.to_lowercase().replace('’', "'");
    let single_letter = lower.len() == 2 && lower.ends_with('.') && lower.starts_with(|c: char| c.is_ascii_lowercase());
    if single_letter || ABBREVIATIONS.contains(&lower.as_str()) {
        return Some(vec![text.to_string()]);
    }
    let chars: Vec<char> = text.chars().collect();
    let split = |tail: usize| {
        let at = chars.len() - tail;
        Some(vec![chars[..at].iter().collect(), chars[at..].iter().collect()])
    };
    if lower == "cannot" {
        return split(3);
    }
    if let Some(verb) = lower.strip_suffix("n't")
        && NEGATED.contains(&verb)
    {
        return split(3);
    }
    let tails = ["'m", "'re", "'ve", "'ll", "'d"];
    let tail = tails.into_iter().find(|t| lower.strip_suffix(t).is_some_and(|s| SUBJECTS.contains(&s)))?;
    split(tail.chars().count())
}

fn prefix(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next().filter(|c| OPENING.contains(*c) || CLOSING.contains(*c))?;
    Some(text.split_at(first.len_utf8()))
}

fn suffix(text: &str) -> Option<(&str, &str)> {
    let cut = |length: usize| text.split_at(text.len() - length);
    for possessive in ["'s", "'S", "’s", "’S"] {
        if text.ends_with(possessive) && text.len() > possessive.len() {
            return Some(cut(possessive.len()));
        }
    }
    let last = text.chars().next_back()?;
    let before = text[..text.len() - last.len_utf8()].chars();
    let (previous, earlier) = (before.clone().next_back(), before.rev().nth(1));
    if last == '.' {
        let capital = |c: Option<char>| c.is_some_and(char::is_uppercase);
        let small = |c: char| c.is_lowercase() || c.is_ascii_digit() || "%²-+)]}\"'`”’".contains(c);
        let ends = previous.is_some_and(small) || (capital(previous) && capital(earlier)) || previous == Some('.');
        return ends.then(|| cut(1));
    }
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = &text[digits.len()..];
    if !digits.is_empty()
        && (UNITS.contains(&unit.to_lowercase().as_str()) || matches!(unit, "$" | "£" | "€" | "¥" | "+"))
    {
        return Some(cut(unit.len()));
    }
    (CLOSING.contains(last) || OPENING.contains(last)).then(|| cut(last.len_utf8()))
}

/// Splits at hyphens and the like between letters.
fn infixes(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = vec![String::new()];
    for (i, &c) in chars.iter().enumerate() {
        let (left, right) = (i.checked_sub(1).and_then(|j| chars.get(j)), chars.get(i + 1));
        let is = |c: Option<&char>, f: fn(char) -> bool| c.is_some_and(|c| f(*c));
        let letters = is(left, char::is_alphabetic) && is(right, char::is_alphabetic);
        let splits = match c {
            '.' => is(left, char::is_lowercase) && is(right, char::is_uppercase),
            ',' => letters,
            ':' | '<' | '>' | '=' | '/' => is(left, char::is_alphanumeric) && is(right, char::is_alphabetic),
            '+' | '*' | '^' => is(left, |c| c.is_ascii_digit()) && is(right, |c| c.is_ascii_digit() || c == '-'),
            '-' if is(left, |c| c.is_ascii_digit()) => is(right, |c| c.is_ascii_digit() || c == '-'),
            '…' => true,
            _ => HYPHENS.contains(c) && letters,
        };
        if splits {
            tokens.extend([c.to_string(), String::new()]);
        } else if let Some(last) = tokens.last_mut() {
            last.push(c);
        }
    }
    tokens.retain(|t| !t.is_empty());
    tokens
}
