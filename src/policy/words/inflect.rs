//! From an inflected English word to the words it may come from.
//!
//! A stemmer cuts `texture` and `text` to the same stump; here only endings that grammar puts on are taken off, and
//! what comes out is compared whole. English only: other words match as they are.

/// Folds case so that two spellings of a word that differ in case alone are equal (`Straße` and `STRASSE` as well).
pub(super) fn fold(word: &str) -> String {
    word.to_uppercase().to_lowercase()
}

/// Plurals and verb forms that follow no rule. The first word is the base of the others.
const IRREGULAR: &[(&str, &[&str])] = &[
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
];

/// All words that `word` (folded) may be a form of, itself first: number, tense and participle.
pub(super) fn bases(word: &str) -> Vec<String> {
    let mut all = numbers(word);
    for singular in all.clone() {
        verbs(&singular, &mut all);
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
    for (base, forms) in IRREGULAR {
        if forms.contains(&word) {
            out.push((*base).to_string());
        }
    }
    if let Some(stem) = word.strip_suffix("men") {
        out.push(format!("{stem}man"));
    }
    for compound in ["children", "feet", "teeth"] {
        let singular = IRREGULAR.iter().find(|(_, forms)| forms.contains(&compound)).map(|(base, _)| *base);
        if let (Some(stem), Some(singular)) = (word.strip_suffix(compound), singular)
            && !stem.is_empty()
        {
            out.push(format!("{stem}{singular}"));
        }
    }
    let Some(stem) = word.strip_suffix('s') else { return out };
    if stem.len() < 2 || ["s", "u", "i"].iter().any(|end| stem.ends_with(end)) {
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
        && ["s", "x", "z", "ch", "sh", "o"].iter().any(|end| stem.ends_with(end))
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
    if let Some(stem) = stem.strip_suffix('i') {
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
