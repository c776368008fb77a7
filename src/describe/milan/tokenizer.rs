//! Words and punctuation of English descriptions, as spaCy's English tokenizer splits them.
//!
//! **Source:** `spacy/tokenizer.pyx` of spaCy 3.8 (explosion.ai) as MILAN (Hernandez et al. 2022, arXiv 2201.11114) uses it:
//! lower case, punctuation and stop words kept, no lemmas, white space dropped. Differs: see [`affixes`].

mod affixes;
mod exceptions;

/// The tokens of a text.
pub(super) fn tokenize(text: &str, lowercase: bool) -> Vec<String> {
    let cased = |t: String| if lowercase { t.to_lowercase() } else { t };
    text.split_whitespace().flat_map(|chunk| joined(split(chunk, true))).map(cased).collect()
}

/// Whether a token is punctuation and nothing else.
pub(super) fn is_punctuation(token: &str) -> bool {
    !token.is_empty() && token.chars().all(|c| !c.is_alphanumeric() && !c.is_whitespace() && !SYMBOLS.contains(c))
}

/// Neither letters nor punctuation.
const SYMBOLS: &str = "$£€¥+<=>^`|~";

/// The tokens of a text without white space; with or without the exceptions.
fn split(text: &str, exceptions: bool) -> Vec<String> {
    let exception = |t: &str| exceptions.then(|| exceptions::parts(t)).flatten();
    let (mut rest, mut front, mut back) = (text, Vec::new(), Vec::new());
    while !rest.is_empty() && exception(rest).is_none() {
        let first = affixes::prefix(rest);
        let (prefix, inner) = rest.split_at(first);
        if first > 0 && exception(inner).is_some() {
            front.push(prefix.to_string());
            rest = inner;
            break;
        }
        let last = affixes::suffix(inner);
        let (before, suffix) = rest.split_at(rest.len() - last);
        if last > 0 && exception(before).is_some() {
            back.push(suffix.to_string());
            rest = before;
            break;
        }
        if first + last == 0 {
            break;
        }
        front.extend((first > 0).then(|| prefix.to_string()));
        back.extend((last > 0).then(|| suffix.to_string()));
        rest = &before[first..];
    }
    match exception(rest) {
        Some(parts) => front.extend_from_slice(parts),
        None if affixes::is_address(rest) => front.push(rest.to_string()),
        None => front.extend(between(rest)),
    }
    front.extend(back.into_iter().rev());
    front
}

/// A text split at its infixes. One at its very beginning does not split.
fn between(text: &str) -> Vec<String> {
    let (mut tokens, mut start) = (Vec::new(), 0);
    for infix in affixes::infixes(text).into_iter().filter(|i| i.start > 0) {
        tokens.extend([&text[start..infix.start], &text[infix.clone()]]);
        start = infix.end;
    }
    tokens.push(&text[start..]);
    tokens.into_iter().filter(|t| !t.is_empty()).map(str::to_string).collect()
}

/// Tokens that side by side are an exception become its parts, the longest first: `:` and `)` behind a word.
fn joined(tokens: Vec<String>) -> Vec<String> {
    let found = |start: usize, count: usize| {
        let text = tokens[start..start + count].concat();
        let parts = exceptions::parts(&text)?;
        (split(&text, false) == tokens[start..start + count]).then_some(parts)
    };
    let most = tokens.len().min(*exceptions::LONGEST);
    let mut replaced: Vec<Option<(usize, &[String])>> = vec![None; tokens.len()];
    let mut seen = vec![false; tokens.len()];
    for count in (2..=most).rev() {
        for start in 0..=tokens.len() - count {
            if let Some(parts) = found(start, count) {
                if !seen[start] && !seen[start + count - 1] {
                    replaced[start] = Some((count, parts));
                }
                seen[start..start + count].fill(true);
            }
        }
    }
    let (mut out, mut at) = (Vec::with_capacity(tokens.len()), 0);
    while at < tokens.len() {
        match replaced[at] {
            Some((count, parts)) => {
                out.extend_from_slice(parts);
                at += count;
            }
            None => {
                out.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    out
}
