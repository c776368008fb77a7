//! The tables beside `[match]`: groups, lints, labels, waivers, tests.

use super::super::config::{LabelsConfig, TestConfig, UnitsConfig, WaiveConfig};
use super::super::lints::{self, Lints};
use super::super::rules::Case;
use super::super::waive::Waiver;
use super::super::words::is_one_word;
use super::super::{Date, Labels};
use super::{Fault, Validator};
use crate::diagnostic::Code;
use std::collections::BTreeMap;
use toml::Spanned;

impl Validator<'_> {
    /// Comes first: patterns name groups.
    pub(super) fn groups(&mut self, written: BTreeMap<Spanned<String>, Vec<Spanned<String>>>) {
        for (name, words) in written {
            let (span, name) = (name.span(), name.into_inner());
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ')) {
                let message = format!("`{name}` cannot be named in a phrase");
                self.push(Fault::new(Code::UnknownValue, span, message).expected("letters, digits, `-` and `_`"));
                continue;
            }
            if words.is_empty() {
                let message = format!("the group `{name}` has no word");
                self.push(Fault::new(Code::EmptyValue, span, message).expected("a list of words"));
            }
            for word in words.iter().filter(|word| !is_one_word(word.get_ref())) {
                let message = format!("`{}` is not one word", word.get_ref());
                let expected = "one word; phrases belong in `any`, where `{group}` stands for one word";
                self.push(Fault::new(Code::UnknownValue, word.span(), message).expected(expected));
            }
            let words: Vec<String> = words.into_iter().map(Spanned::into_inner).collect();
            self.groups.insert(name, &words);
        }
    }

    pub(super) fn lints(&mut self, written: BTreeMap<Spanned<String>, Spanned<String>>) -> Lints {
        let mut all = Lints::default();
        for (name, level) in written {
            let code = lints::code(name.get_ref());
            if code.is_none() {
                let message = format!("`{}` is not a lint", name.get_ref());
                let codes: Vec<&str> = lints::CODES.iter().map(|c| c.as_str()).collect();
                self.push(Fault::new(Code::UnknownKey, name.span(), message).one_of(name.get_ref(), &codes));
            }
            if let (Some(level), Some(code)) = (self.level_of(name.get_ref(), level), code) {
                all.set(code, level);
            }
        }
        all
    }

    pub(super) fn labels(&mut self, written: LabelsConfig) -> Labels {
        for name in written.positive.iter().chain(&written.leave_out).filter(|n| n.get_ref().trim().is_empty()) {
            self.push(
                Fault::new(Code::EmptyValue, name.span(), "a column has no name").expected("the name of a column"),
            );
        }
        if let (true, Some(first)) = (written.positive.is_empty(), written.leave_out.first()) {
            let message = "`leave-out` has no effect without `positive`";
            self.push(Fault::new(Code::IdleKey, first.span(), message).expected("positive = [\"...\"]"));
        }
        let names = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Labels { positive: names(written.positive), leave_out: names(written.leave_out) }
    }

    pub(super) fn waiver(&mut self, written: Spanned<WaiveConfig>) -> Option<Waiver> {
        let span = written.span();
        let location = self.source.location(&span);
        let WaiveConfig { site, unit, description, reason, expires } = written.into_inner();
        let before = self.faults.len();
        let mut parts = Vec::new();
        if site.is_none() && unit.is_none() && description.is_none() {
            self.push(
                Fault::new(Code::NoRule, span.clone(), "the waiver would excuse every finding")
                    .expected("site, unit or description; to excuse all, set the policy's level"),
            );
        }
        if let (None, Some(unit)) = (&site, &unit) {
            let message = "the waiver has `unit` and no `site`";
            self.push(
                Fault::new(Code::MissingKey, unit.span(), message).expected("site = \"...\", whose unit is meant"),
            );
        }
        let glob = site.as_ref().and_then(|site| {
            parts.push(format!("site `{}`", site.get_ref()));
            self.glob(site)
        });
        let units = unit.map(|unit| {
            let (span, unit) = (unit.span(), unit.into_inner());
            let numbers = match unit {
                UnitsConfig::One(n) => vec![n],
                UnitsConfig::Several(all) => all,
            };
            if numbers.is_empty() {
                let message = "`unit` is an empty list";
                self.push(
                    Fault::new(Code::EmptyValue, span.clone(), message).expected("a unit's number, or a list of them"),
                );
            }
            let listed: Vec<String> = numbers.iter().map(i64::to_string).collect();
            parts.push(format!("unit {}", listed.join(", ")));
            let mut units = Vec::new();
            for number in numbers {
                match usize::try_from(number) {
                    Ok(unit) => units.push(unit),
                    Err(_) => {
                        let message = format!("`unit` is {number}");
                        self.push(
                            Fault::new(Code::OutOfRange, span.clone(), message)
                                .expected("a whole number of at least 0"),
                        );
                    }
                }
            }
            units
        });
        let pattern = description.as_ref().and_then(|entry| {
            parts.push(format!("description `{}`", entry.get_ref()));
            self.pattern(entry)
        });
        let reason = match reason {
            Some(reason) if !reason.get_ref().trim().is_empty() => reason.into_inner(),
            Some(reason) => {
                self.push(
                    Fault::new(Code::EmptyValue, reason.span(), "the waiver's reason is empty")
                        .expected("why the finding is excused"),
                );
                String::new()
            }
            None => {
                self.push(
                    Fault::new(Code::MissingKey, span, "the waiver has no `reason`")
                        .expected("reason = \"why the finding is excused\""),
                );
                String::new()
            }
        };
        let expires = expires.and_then(|date| self.date(&date));
        (self.faults.len() == before).then(|| Waiver {
            text: parts.join(", "),
            site: glob,
            units,
            description: pattern,
            reason,
            expires,
            location,
        })
    }

    fn date(&mut self, written: &Spanned<toml::Value>) -> Option<Date> {
        let (text, value) = match written.get_ref() {
            toml::Value::String(text) => (text.clone(), text.parse().ok()),
            toml::Value::Datetime(date) => (date.to_string(), date.to_string().parse().ok()),
            other => (other.to_string(), None),
        };
        if value.is_none() {
            let message = format!("`{text}` is not a date");
            self.push(
                Fault::new(Code::BadDate, written.span(), message)
                    .expected("the last day on which the waiver holds, such as 2027-03-31"),
            );
        }
        value
    }

    pub(super) fn case(&mut self, written: Spanned<TestConfig>) -> Option<Case> {
        let span = written.span();
        let location = self.source.location(&span);
        let TestConfig { description, matches } = written.into_inner();
        for (key, absent, expected) in [
            ("description", description.is_none(), "description = \"what a neuron may be described as\""),
            ("matches", matches.is_none(), "matches = true or false"),
        ] {
            if absent {
                self.push(
                    Fault::new(Code::MissingKey, span.clone(), format!("the test has no `{key}`")).expected(expected),
                );
            }
        }
        Some(Case { description: description?.into_inner(), matches: matches?.into_inner(), location })
    }
}
