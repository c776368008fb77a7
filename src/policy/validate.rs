//! From a policy as written to a [`Policy`]: every fault of meaning, all at once.

mod tables;

use super::config::{Config, LimitsConfig, MatchConfig, ScopeConfig};
use super::minima::{MINIMA, Minima};
use super::pattern::{Pattern, PatternError};
use super::words::Groups;
use super::{Action, Concept, Glob, Level, Limits, Matching, Policy, Rule, Scope, Vocabulary};
use crate::diagnostic::{Code, Fault, Source};
use crate::glob::Matcher;
use std::ops::Range;
use toml::Spanned;

/// The faults found so far, and the file they are in.
struct Validator<'a> {
    source: &'a Source,
    vocabulary: &'a Vocabulary,
    groups: Groups,
    faults: Vec<Fault>,
}

/// Joins a config with its file.
pub(super) fn validate(
    name: &str,
    source: &Source,
    config: Config,
    vocabulary: &Vocabulary,
) -> Result<Policy, Vec<Fault>> {
    let mut v = Validator { source, vocabulary, groups: Groups::default(), faults: Vec::new() };
    v.groups(config.groups);
    let level_span = config.level.as_ref().map_or(0..0, Spanned::span);
    let level = v.level(config.level);
    let action = v.action(config.action, level);
    let reason = v.reason(config.reason);
    let match_span = config.matching.as_ref().map_or(0..0, Spanned::span);
    let matching = v.matching(match_span, config.matching.map(Spanned::into_inner).unwrap_or_default());
    let scope = v.scope(config.scope);
    let limits = v.limits(config.limits);
    let lints = v.lints(config.lints);
    let labels = v.labels(config.labels);
    let waivers = config.waive.into_iter().filter_map(|waiver| v.waiver(waiver)).collect();
    let cases = config.test.into_iter().filter_map(|case| v.case(case)).collect();
    v.faults.sort_by_key(|f| f.span.start);
    match (level, v.faults.is_empty()) {
        (Some(level), true) => Ok(Policy {
            name: name.to_string(),
            level,
            action,
            reason,
            matching,
            scope,
            limits,
            lints,
            labels,
            waivers,
            cases,
            location: source.location(&level_span),
        }),
        _ => Err(v.faults),
    }
}

impl Validator<'_> {
    fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn missing(&mut self, key: &str, expected: &str) {
        self.push(Fault::new(Code::MissingKey, 0..0, format!("the policy has no `{key}`")).expected(expected));
    }

    fn level(&mut self, written: Option<Spanned<String>>) -> Option<Level> {
        let Some(written) = written else {
            self.missing("level", "level = \"allow\", \"warn\" or \"deny\"");
            return None;
        };
        self.level_of("level", written)
    }

    /// The level that `key` is set to.
    fn level_of(&mut self, key: &str, written: Spanned<String>) -> Option<Level> {
        let level = Level::ALL.into_iter().find(|l| l.as_str() == written.get_ref());
        if level.is_none() {
            self.unknown_value(key, &written, &Level::ALL.map(Level::as_str));
        }
        level
    }

    fn action(&mut self, written: Option<Spanned<String>>, level: Option<Level>) -> Action {
        let Some(written) = written else { return Action::None };
        let Some(action) = Action::ALL.into_iter().find(|a| a.as_str() == written.get_ref()) else {
            self.unknown_value("action", &written, &Action::ALL.map(Action::as_str));
            return Action::None;
        };
        if level == Some(Level::Allow) && action != Action::None {
            let message = format!("a policy of level `allow` does not `{action}` units");
            self.push(Fault::new(Code::IdleKey, written.span(), message).expected("none; or level `warn` or `deny`"));
        }
        action
    }

    fn unknown_value(&mut self, key: &str, written: &Spanned<String>, valid: &[&str]) {
        let value = written.get_ref();
        self.push(
            Fault::new(Code::UnknownValue, written.span(), format!("`{value}` is not a value of `{key}`"))
                .one_of(value, valid),
        );
    }

    fn reason(&mut self, written: Option<Spanned<String>>) -> String {
        let Some(written) = written else {
            self.missing("reason", "reason = \"why this policy exists\"");
            return String::new();
        };
        if written.get_ref().trim().is_empty() {
            self.push(
                Fault::new(Code::EmptyValue, written.span(), "the reason is empty")
                    .expected("why this policy exists, for whoever reads the finding"),
            );
        }
        written.into_inner()
    }

    fn matching(&mut self, span: Range<usize>, written: MatchConfig) -> Matching {
        if written.any.is_empty() && written.all.is_empty() && written.concepts.is_empty() {
            self.push(
                Fault::new(Code::NoRule, span, "the policy has nothing to look for")
                    .expected("a `[match]` with at least one entry in any, all or concepts"),
            );
        }
        let mut minima = Minima::default();
        for (minimum, value) in MINIMA.iter().zip(written.minima()) {
            if let (true, Some(value)) = (written.concepts.is_empty(), &value) {
                let message = format!("`{}` has no effect without `concepts`", minimum.key);
                self.push(Fault::new(Code::IdleKey, value.span(), message).expected("concepts = [\"...\"]"));
            }
            let (low, high) = minimum.range;
            *(minimum.slot)(&mut minima) = self.number(minimum.key, value, low, high, minimum.unit);
        }
        Matching {
            any: self.rules(written.any),
            all: self.rules(written.all),
            none: self.rules(written.none),
            except: self.rules(written.except),
            concepts: self.concepts(written.concepts),
            min_score: self.number("min-score", written.min_score, f64::NEG_INFINITY, f64::INFINITY, "nats"),
            minima,
        }
    }

    fn rules(&mut self, entries: Vec<Spanned<String>>) -> Vec<Rule> {
        entries.into_iter().filter_map(|entry| self.rule(&entry)).collect()
    }

    fn rule(&mut self, entry: &Spanned<String>) -> Option<Rule> {
        let pattern = self.pattern(entry)?;
        Some(Rule { entry: entry.get_ref().clone(), pattern, location: self.source.location(&entry.span()) })
    }

    fn pattern(&mut self, entry: &Spanned<String>) -> Option<Pattern> {
        let (span, text) = (entry.span(), entry.get_ref());
        let fault = match Pattern::new(text, &self.groups) {
            Ok(pattern) => return Some(pattern),
            Err(PatternError::Empty(why)) => {
                Fault::new(Code::EmptyValue, span, format!("`{text}` cannot be looked for: {why}"))
                    .expected("a word, a phrase, or a regular expression between slashes")
            }
            Err(PatternError::Group(name, at)) => {
                let groups = self.groups.names();
                let place = self.inside(&span, text, Some(at));
                let fault = Fault::new(Code::UnknownGroup, place, format!("`{text}` names a group that there is not"));
                match groups.as_slice() {
                    [] => fault.expected("a table [groups] with a list of words of that name"),
                    _ => fault.one_of(&name, &groups),
                }
            }
            Err(PatternError::Brace(at)) => {
                let place = self.inside(&span, text, Some(at..at + 1));
                Fault::new(Code::UnknownGroup, place, format!("`{text}` has a brace without the other one"))
                    .expected("`{name}` for any word of the group of that name")
            }
            Err(PatternError::Regex(why, at)) => {
                let place = self.inside(&span, text, at);
                Fault::new(Code::BadRegex, place, format!("`{text}` is not a usable regular expression"))
                    .label(why)
                    .expected("a regular expression between slashes, such as /colou?r/")
            }
        };
        self.push(fault);
        None
    }

    /// The bytes of the file that are `at` in the string `text`, whose TOML stands at `span`.
    fn inside(&self, span: &Range<usize>, text: &str, at: Option<Range<usize>>) -> Range<usize> {
        let raw = self.source.text.get(span.clone()).unwrap_or_default();
        at.and_then(|at| {
            Some(span.start + raw_offset(raw, text, at.start)?..span.start + raw_offset(raw, text, at.end)?)
        })
        .unwrap_or_else(|| span.clone())
    }

    fn concepts(&mut self, entries: Vec<Spanned<String>>) -> Vec<Concept> {
        let mut concepts = Vec::new();
        for entry in entries {
            let (span, name) = (entry.span(), entry.into_inner());
            match self.vocabulary.resolve(&name) {
                Some(resolved) => concepts.push(Concept {
                    name,
                    members: resolved.members,
                    phrases: resolved.phrases,
                    location: self.source.location(&span),
                }),
                None if !name.chars().any(char::is_alphanumeric) => {
                    let message = format!("`{name}` is not the name of a concept");
                    self.push(Fault::new(Code::EmptyValue, span, message).expected("a name such as `text`"));
                }
                None => {
                    let message = format!("`{name}` is not a known concept or family");
                    let valid = self.vocabulary.names();
                    self.push(Fault::new(Code::UnknownConcept, span, message).one_of(&name, &valid));
                }
            }
        }
        concepts
    }

    /// A finite number between two ends, both allowed.
    fn number(&mut self, key: &str, value: Option<Spanned<f64>>, low: f64, high: f64, unit: &str) -> Option<f64> {
        let value = value?;
        let number = *value.get_ref();
        if number.is_finite() && number >= low && number <= high {
            return Some(number);
        }
        let range = match (low.is_finite(), high.is_finite()) {
            (true, true) => format!("a number from {low} to {high} ({unit})"),
            (true, false) => format!("a finite number of at least {low} ({unit})"),
            _ => format!("a finite number ({unit})"),
        };
        self.push(Fault::new(Code::OutOfRange, value.span(), format!("`{key}` is {number}")).expected(range));
        None
    }

    fn scope(&mut self, written: ScopeConfig) -> Scope {
        Scope { sites: self.globs("sites", written.sites), exclude: self.globs("exclude", written.exclude) }
    }

    fn globs(&mut self, list: &'static str, entries: Vec<Spanned<String>>) -> Vec<Glob> {
        let mut globs = Vec::new();
        for entry in entries {
            if let Some(matcher) = self.glob(&entry) {
                let location = self.source.location(&entry.span());
                globs.push(Glob { list, matcher, entry: entry.into_inner(), location });
            }
        }
        globs
    }

    fn glob(&mut self, entry: &Spanned<String>) -> Option<Matcher> {
        let (span, text) = (entry.span(), entry.get_ref());
        let fault = if text.is_empty() {
            Fault::new(Code::EmptyValue, span, "an empty glob matches no site")
        } else {
            match crate::glob::compile(text) {
                Ok(glob) => return Some(glob),
                Err(why) => Fault::new(Code::BadGlob, span, format!("`{text}` is not a glob")).label(why),
            }
        };
        self.push(fault.expected("the name of a site, where `*` stands for any characters: `layer3*`"));
        None
    }

    fn limits(&mut self, written: LimitsConfig) -> Limits {
        let max_units = written.max_units.and_then(|value| match usize::try_from(*value.get_ref()) {
            Ok(n) => Some(n),
            Err(_) => {
                let message = format!("`max-units` is {}", value.get_ref());
                self.push(Fault::new(Code::OutOfRange, value.span(), message).expected("a whole number of at least 0"));
                None
            }
        });
        Limits {
            max_units,
            max_share: self.number("max-share", written.max_share, 0.0, 1.0, "share of units in scope"),
        }
    }
}

/// The byte of the TOML string `raw` (quotes included) that became byte `offset` of `value`; `None` where the two
/// cannot be lined up (line continuations, normalised line ends).
fn raw_offset(raw: &str, value: &str, offset: usize) -> Option<usize> {
    let quote = raw.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let mut at = if raw.len() >= 6 && raw.starts_with(&triple) { 3 } else { 1 };
    if at == 3 {
        let inner = raw.get(3..)?;
        at +=
            inner.strip_prefix("\r\n").or_else(|| inner.strip_prefix('\n')).map_or(0, |rest| inner.len() - rest.len());
    }
    for (i, decoded) in value.char_indices() {
        if i >= offset {
            break;
        }
        let rest = raw.get(at..)?;
        let next = rest.chars().next()?;
        at += if next == '\\' && quote == '"' {
            match rest.chars().nth(1)? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                c if c.is_ascii_alphabetic() || matches!(c, '"' | '\\') => 2,
                _ => return None,
            }
        } else if next == decoded {
            next.len_utf8()
        } else {
            return None;
        };
    }
    raw.get(at..)?;
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::raw_offset;

    #[test]
    fn offsets_survive_quotes_and_escapes() {
        assert_eq!(raw_offset("'/a(/'", "/a(/", 2), Some(3));
        assert_eq!(raw_offset(r#""/\\b(/""#, r"/\b(/", 3), Some(5));
        assert_eq!(raw_offset("\"\\u0041(\"", "A(", 1), Some(7));
        assert_eq!(raw_offset("'''\n/é(/'''", "/é(/", 3), Some(7));
        assert_eq!(raw_offset("\"\"\"a\\\n  b\"\"\"", "ab", 2), None);
    }
}
