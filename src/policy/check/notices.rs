//! What is to be said about a policy itself: what matched nothing, what has expired, what could not be judged.

use super::super::rules::Glob;
use super::super::{Code, Date, Level, Location, Notice, Policy};
use super::{Counts, Subject, evidence_for, judgeable};
use std::collections::BTreeSet;

pub(super) fn notices(
    policy: &Policy,
    subjects: &[&Subject<'_>],
    sites: &BTreeSet<&str>,
    today: Date,
    counts: &Counts,
) -> Vec<Notice> {
    let mut out = Vec::new();
    let mut say = |code, message, location: &Location| {
        let level = policy.lints.level(code);
        if level != Level::Allow {
            let policy = Some(policy.name.clone());
            out.push(Notice { code, level, policy, message, location: location.clone() });
        }
    };
    let unmatched = |glob: &&Glob| !sites.iter().any(|site| glob.matcher.is_match(site));
    for glob in policy.scope.sites.iter().chain(&policy.scope.exclude).filter(unmatched) {
        let message = format!("`{}` in `{}` matches no audited site", glob.entry, glob.list);
        say(Code::UnmatchedGlob, message, &glob.location);
    }
    for (waiver, &used) in policy.waivers.iter().zip(&counts.waived) {
        let findings = if used == 1 { "1 finding counts".to_string() } else { format!("{used} findings count") };
        match waiver.expires.filter(|_| waiver.expired(today)) {
            Some(day) if used > 0 => {
                let message = format!("the waiver of {} expired on {day}: {findings} again", waiver.text);
                say(Code::ExpiredWaiver, message, &waiver.location);
            }
            Some(day) => {
                let message = format!("the waiver of {} expired on {day}, and excused nothing", waiver.text);
                say(Code::ExpiredWaiver, message, &waiver.location);
            }
            None if used == 0 => {
                let message = format!("the waiver of {} excuses no finding", waiver.text);
                say(Code::UnmatchedWaiver, message, &waiver.location);
            }
            None => {}
        }
    }
    if !judgeable(policy, subjects) {
        let message = match subjects.len() {
            0 => "there was no unit to judge".to_string(),
            n => format!("there was no unit to judge: none of the {n} in scope is described"),
        };
        say(Code::EmptyScope, message, &policy.location);
        return out;
    }
    let m = &policy.matching;
    for (rule, _) in m.none.iter().zip(&counts.held_back).filter(|(_, held)| **held == 0) {
        say(Code::UnmatchedException, format!("`{}` in `none` held back no unit", rule.entry), &rule.location);
    }
    for ((list, rule), _) in policy.rules().zip(&counts.rules).filter(|(_, used)| **used == 0) {
        match list {
            "any" | "all" => {
                say(Code::UnmatchedRule, format!("`{}` in `{list}` matched no unit", rule.entry), &rule.location);
            }
            "except" => {
                let message = format!("`{}` in `except` took nothing away", rule.entry);
                say(Code::UnmatchedRule, message, &rule.location);
            }
            _ => {}
        }
    }
    for (concept, used) in m.concepts.iter().zip(&counts.concepts) {
        if *used == 0 {
            let message = format!("`{}` in `concepts` matched no unit", concept.name);
            say(Code::UnmatchedRule, message, &concept.location);
        }
    }
    // A table of descriptions has no evidence at all, and nobody expects any.
    let measures = subjects.iter().any(|s| !s.unit.evidence.is_empty());
    if measures && m.by_evidence() {
        for concept in &m.concepts {
            if !subjects.iter().any(|s| evidence_for(concept, s).next().is_some()) {
                let message = format!("no unit has evidence for the concept `{}`", concept.name);
                say(Code::UnmeasuredConcept, message, &concept.location);
            }
        }
    }
    let described = |s: &&&Subject<'_>| s.hits.is_some();
    let scored = |s: &&Subject<'_>| {
        let d = &s.unit.description;
        [d.score, d.log_likelihood, d.log_prior] != [0.0; 3]
    };
    if m.min_score.is_some_and(|min| min > 0.0)
        && subjects.iter().any(|s| described(&s))
        && !subjects.iter().filter(described).any(scored)
    {
        say(Code::UnmeasuredScore, "it sets `min-score`, and no description has a score".to_string(), &policy.location);
    }
    out
}
