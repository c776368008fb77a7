//! From an inflected English word to the words it may come from.
//!
//! A stemmer cuts `texture` and `text` to the same stump; here only endings that grammar puts on are taken off, and
//! what comes out is compared whole. English only: other words match as they are.

use unicode_normalization::UnicodeNormalization;

/// Folds case and form so that two spellings of a word that differ in these alone are equal: `Straße` and `STRASSE`, full
/// width and usual letters, a letter with its accent and the two of them.
pub(super) fn fold(word: &str) -> String {
    word.nfkc().collect::<String>().to_uppercase().to_lowercase()
}

/// Plurals that follow no rule. The first word is the base of the others.
const PLURALS: &[(&str, &[&str])] = &[
    ("person", &["people"]),
    ("child", &["children"]),
    ("foot", &["feet"]),
    ("tooth", &["teeth"]),
    ("goose", &["geese"]),
    ("mouse", &["mice"]),
    ("ox", &["oxen"]),
    ("axis", &["axes"]),
    ("index", &["indices"]),
    ("vertex", &["vertices"]),
    ("matrix", &["matrices"]),
];

/// Verb forms that follow no rule, likewise.
const VERBS: &[(&str, &[&str])] = &[
    ("write", &["wrote", "written"]),
    ("draw", &["drew", "drawn"]),
    ("wear", &["wore", "worn"]),
    ("hold", &["held"]),
    ("stand", &["stood"]),
    ("sit", &["sat"]),
    ("show", &["shown"]),
    ("see", &["seen"]),
    ("eat", &["ate", "eaten"]),
    ("lie", &["lay", "lain", "lying"]),
    ("tie", &["tying"]),
];

/// Words that look like a form of another and are not, or mean something else: (word, not its base).
const UNRELATED: &[(&str, &str)] = &[
    ("news", "new"),
    ("lens", "len"),
    ("being", "be"),
    ("bearing", "bear"),
    ("ceiling", "ceil"),
    ("evening", "even"),
    ("facing", "face"),
    ("faced", "face"),
    ("footing", "foot"),
    ("handed", "hand"),
    ("handing", "hand"),
    ("heading", "head"),
    ("headed", "head"),
    ("mouthed", "mouth"),
    ("nosing", "nose"),
    ("backing", "back"),
    ("manned", "man"),
    ("manning", "man"),
    ("earring", "ear"),
    ("herring", "her"),
    ("skied", "sky"),
    // Adjectives of what has the part: a long-legged bird, a blue-eyed doll.
    ("armed", "arm"),
    ("bodied", "body"),
    ("cheeked", "cheek"),
    ("chested", "chest"),
    ("eyed", "eye"),
    ("fingered", "finger"),
    ("footed", "foot"),
    ("haired", "hair"),
    ("legged", "leg"),
    ("lipped", "lip"),
    ("necked", "neck"),
    ("nosed", "nose"),
    ("shouldered", "shoulder"),
    ("skinned", "skin"),
    ("throated", "throat"),
    ("toed", "toe"),
];

/// Words that end in `s` and have no singular without it.
const SINGULAR: &[&str] = &["bus", "gas", "his", "its", "plus", "this", "thus", "us", "yes"];

/// All words that `word` (folded) may be a form of, itself first: number, tense and participle.
pub(super) fn bases(word: &str) -> Vec<String> {
    let mut all = numbers(word);
    for singular in all.clone() {
        let mut found = Vec::new();
        verbs(&singular, &mut found);
        found.extend(
            VERBS.iter().filter(|(_, forms)| forms.contains(&singular.as_str())).map(|(base, _)| base.to_string()),
        );
        // `headings` are no more heads than `heading` is.
        found.retain(|base| !UNRELATED.contains(&(singular.as_str(), base.as_str())));
        all.extend(found);
    }
    all.retain(|base| base == word || !UNRELATED.contains(&(word, base.as_str())));
    let mut seen = Vec::with_capacity(all.len());
    for base in all {
        if !seen.contains(&base) {
            seen.push(base);
        }
    }
    seen
}

/// `word` (folded) and the singulars it may be a plural of.
pub(super) fn numbers(word: &str) -> Vec<String> {
    let mut out = vec![word.to_string()];
    if !word.is_ascii() {
        return out;
    }
    out.extend(PLURALS.iter().filter(|(_, forms)| forms.contains(&word)).map(|(base, _)| base.to_string()));
    // `mens` is what is left of `men's` where somebody left out the apostrophe.
    let plural = if word.ends_with("mens") { word.trim_end_matches('s') } else { word };
    if let Some(stem) = plural.strip_suffix("men") {
        out.push(format!("{stem}man"));
    }
    for (singular, compound) in [("child", "children"), ("foot", "feet"), ("tooth", "teeth")] {
        if let Some(stem) = word.strip_suffix(compound).filter(|stem| !stem.is_empty()) {
            out.push(format!("{stem}{singular}"));
        }
    }
    let Some(stem) = word.strip_suffix('s').filter(|_| !SINGULAR.contains(&word)) else { return out };
    // `glass`, `bus`, `iris`; of longer words in -us and -is only few are plurals (`menus`, `skis`).
    if stem.len() < 2 || stem.ends_with('s') || stem.ends_with("iou") || stem.ends_with("eou") {
        return out;
    }
    out.push(stem.to_string());
    if let Some(stem) = word.strip_suffix("ies")
        && stem.len() > 1
    {
        out.push(format!("{stem}y"));
    }
    if let Some(stem) = word.strip_suffix("ves") {
        out.push(format!("{stem}f"));
        out.push(format!("{stem}fe"));
    }
    if let Some(stem) = word.strip_suffix("es")
        && (["s", "x", "z", "ch", "sh"].iter().any(|end| stem.ends_with(end))
            || (stem.ends_with('o') && stem.len() > 3))
    {
        out.push(stem.to_string());
    }
    out
}

/// Adds the verbs that `word` may be the -ing or -ed form of.
fn verbs(word: &str, out: &mut Vec<String>) {
    if !word.is_ascii() {
        return;
    }
    let stem = match word.strip_suffix("ing") {
        Some(stem) => stem,
        // `seed` is no form of `see`.
        None => match word.strip_suffix("ed") {
            Some(stem) if !stem.ends_with('e') => stem,
            _ => return,
        },
    };
    let letters: Vec<char> = stem.chars().collect();
    if letters.len() < 2 || !letters.iter().any(|c| is_vowel(*c)) {
        return;
    }
    // `carried`, but not `skiing`.
    if let Some(stem) = stem.strip_suffix('i').filter(|_| word.ends_with("ed")) {
        out.push(format!("{stem}y"));
    }
    // A short word that ends consonant, vowel, consonant doubles its end (`stopping`): what has not doubled has lost
    // an `e` (`caring` is from `care`, never from `car`).
    if is_short(&letters) {
        out.push(format!("{stem}e"));
        return;
    }
    out.push(stem.to_string());
    out.push(format!("{stem}e"));
    if let [.., a, b] = letters.as_slice()
        && a == b
        && !is_vowel(*a)
    {
        out.push(letters.iter().take(letters.len() - 1).collect());
    }
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y')
}

/// One vowel, then one consonant other than w, x, y, at the end.
fn is_short(letters: &[char]) -> bool {
    let [front @ .., vowel, last] = letters else { return false };
    is_vowel(*vowel)
        && !is_vowel(*last)
        && !matches!(last, 'w' | 'x')
        && match front {
            // `quit`: the u belongs to the q.
            [.., 'q'] => false,
            front => !front.iter().any(|c| is_vowel(*c)),
        }
}
