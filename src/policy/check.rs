//! Holds described units against policies. Pure: it reads nothing and changes nothing.

use super::codes::Code;
use super::finding::{Because, Finding, Outcome, PolicySummary, RuleCount, Verdict, Warning};
use super::words::Words;
use super::{Concept, Glob, Level, Policies, Policy, Rule};
use crate::describe::{ConceptEvidence, DescribedUnit, Status};
use std::collections::BTreeSet;

/// A unit with its description cut into words.
struct Subject<'a> {
    unit: &'a DescribedUnit,
    /// `None` unless the unit is described: what an abstention says is not about the unit.
    words: Option<Words>,
}

/// Holds every unit against every policy.
///
/// A unit matches a policy if it is in scope, at least one entry of `any` or `concepts` matches (or both lists are
/// empty), every entry of `all` matches and no entry of `none` does. Words match only the text of units that are
/// [`Status::Described`] with at least `min-score`; abstained and dead units can match by the evidence for a concept
/// alone. See [the module](super) for concepts and limits.
///
/// The result depends on the units and the policies only, not on the order of the units.
pub fn check(policies: &Policies, units: &[DescribedUnit]) -> Outcome {
    let mut subjects: Vec<Subject<'_>> = units
        .iter()
        .map(|unit| {
            let described = unit.description.status == Status::Described;
            Subject { unit, words: described.then(|| Words::new(&unit.description.text)) }
        })
        .collect();
    subjects.sort_by(|a, b| a.unit.id.cmp(&b.unit.id));
    let sites: BTreeSet<&str> = subjects.iter().map(|s| s.unit.id.site.as_str()).collect();
    let mut outcome = Outcome::default();
    for policy in policies.iter() {
        check_one(policy, &subjects, &sites, &mut outcome);
    }
    outcome
}

fn check_one(policy: &Policy, subjects: &[Subject<'_>], sites: &BTreeSet<&str>, outcome: &mut Outcome) {
    let in_scope: BTreeSet<&str> = sites.iter().copied().filter(|site| policy.scope.covers(site)).collect();
    let subjects: Vec<&Subject<'_>> = subjects.iter().filter(|s| in_scope.contains(s.unit.id.site.as_str())).collect();
    let mut counts = Counts::new(policy);
    let before = outcome.findings.len();
    for subject in &subjects {
        if let Some((because, location)) = judge(policy, subject, &mut counts) {
            outcome.findings.push(Finding {
                code: match policy.level {
                    Level::Deny => Code::DeniedConcept,
                    Level::Warn => Code::WarnedConcept,
                    Level::Allow => Code::AllowedConcept,
                },
                policy: policy.name.clone(),
                level: policy.level,
                action: policy.action,
                unit: subject.unit.id.clone(),
                description: subject.unit.description.clone(),
                because,
                reason: policy.reason.clone(),
                location: location.clone(),
            });
        }
    }
    let findings = outcome.findings.len() - before;
    let tolerated = policy.limits.tolerated(subjects.len());
    let verdict = match (findings, policy.level) {
        (0, _) => Verdict::Clean,
        (_, Level::Allow) => Verdict::Tolerated,
        (n, _) if n <= tolerated => Verdict::Tolerated,
        _ => Verdict::Violated,
    };
    let mut warnings = warnings(policy, &subjects, sites, &counts, findings);
    warnings.sort_by(|a, b| a.location.cmp(&b.location).then_with(|| a.code.cmp(&b.code)));
    outcome.warnings.extend(warnings);
    outcome.policies.push(PolicySummary {
        policy: policy.name.clone(),
        level: policy.level,
        action: policy.action,
        reason: policy.reason.clone(),
        units: subjects.len(),
        described: subjects.iter().filter(|s| s.words.is_some()).count(),
        findings,
        tolerated,
        verdict,
        rules: counts.into_rules(policy),
        location: policy.location.clone(),
    });
}

/// How many units each entry matched, in the order of its list.
struct Counts {
    any: Vec<usize>,
    all: Vec<usize>,
    none: Vec<usize>,
    concepts: Vec<usize>,
    /// Like `none`, counting only units that would have matched without it.
    held_back: Vec<usize>,
}

impl Counts {
    fn new(policy: &Policy) -> Self {
        let m = &policy.matching;
        Self {
            any: vec![0; m.any.len()],
            all: vec![0; m.all.len()],
            none: vec![0; m.none.len()],
            concepts: vec![0; m.concepts.len()],
            held_back: vec![0; m.none.len()],
        }
    }

    fn into_rules(self, policy: &Policy) -> Vec<RuleCount> {
        let m = &policy.matching;
        let words = |list: &'static str, rules: &[Rule], counts: Vec<usize>| -> Vec<RuleCount> {
            let one = |(rule, units): (&Rule, usize)| RuleCount {
                list: list.to_string(),
                entry: rule.entry.clone(),
                units,
                location: rule.location.clone(),
            };
            rules.iter().zip(counts).map(one).collect()
        };
        let mut rules = words("any", &m.any, self.any);
        rules.extend(words("all", &m.all, self.all));
        rules.extend(words("none", &m.none, self.none));
        rules.extend(m.concepts.iter().zip(self.concepts).map(|(concept, units)| RuleCount {
            list: "concepts".to_string(),
            entry: concept.name.clone(),
            units,
            location: concept.location.clone(),
        }));
        rules
    }
}

/// Why the unit matches, and the entry that caused it; `None` if it does not.
fn judge<'p>(
    policy: &'p Policy,
    subject: &Subject<'_>,
    counts: &mut Counts,
) -> Option<(Vec<Because>, &'p super::Location)> {
    let m = &policy.matching;
    let description = &subject.unit.description;
    // NaN reaches no minimum.
    let reliable = m.min_score.is_none_or(|min| description.score >= min);
    let words = subject.words.as_ref().filter(|_| reliable);
    let mut because = Vec::new();
    let mut location = None;
    let mut search = |rules: &'p [Rule], counts: &mut [usize], keep: bool| -> Vec<bool> {
        let mut hits = Vec::with_capacity(rules.len());
        for (rule, count) in rules.iter().zip(counts) {
            let places = words.map_or_else(Vec::new, |words| rule.pattern.find(&description.text, words));
            hits.push(!places.is_empty());
            *count += usize::from(!places.is_empty());
            if keep && !places.is_empty() {
                location.get_or_insert(&rule.location);
                because.extend(places.into_iter().map(|at| Because::Word {
                    entry: rule.entry.clone(),
                    matched: description.text.get(at.clone()).unwrap_or_default().to_string(),
                    start: at.start,
                    end: at.end,
                }));
            }
        }
        hits
    };
    let any = search(&m.any, &mut counts.any, true);
    let all = search(&m.all, &mut counts.all, true);
    let none = search(&m.none, &mut counts.none, false);
    let mut concept_matched = false;
    for (concept, count) in m.concepts.iter().zip(&mut counts.concepts) {
        if let Some(reason) = concept_matches(policy, concept, subject, words) {
            location.get_or_insert(&concept.location);
            because.push(reason);
            *count += 1;
            concept_matched = true;
        }
    }
    let something = any.contains(&true) || concept_matched || (any.is_empty() && m.concepts.is_empty());
    if !something || all.contains(&false) {
        return None;
    }
    if none.contains(&true) {
        for (held, hit) in counts.held_back.iter_mut().zip(none) {
            *held += usize::from(hit);
        }
        return None;
    }
    Some((because, location?))
}

fn concept_matches(
    policy: &Policy,
    concept: &Concept,
    subject: &Subject<'_>,
    words: Option<&Words>,
) -> Option<Because> {
    let m = &policy.matching;
    let evidence = evidence_for(concept, subject);
    if words.is_some_and(|words| !words.find(&concept.phrase).is_empty()) {
        return Some(Because::Described { concept: concept.name.clone(), evidence: evidence.cloned() });
    }
    if m.min_effect.is_none() && m.min_auc.is_none() && m.min_share.is_none() {
        return None;
    }
    let evidence = evidence?;
    let strong = m.min_effect.is_none_or(|min| evidence.effect >= min)
        && m.min_auc.is_none_or(|min| evidence.auc >= min)
        && m.min_share.is_none_or(|min| evidence.share >= min);
    strong.then(|| Because::Evidence {
        evidence: evidence.clone(),
        min_effect: m.min_effect,
        min_auc: m.min_auc,
        min_share: m.min_share,
    })
}

fn evidence_for<'a>(concept: &Concept, subject: &Subject<'a>) -> Option<&'a ConceptEvidence> {
    subject.unit.description.evidence.iter().find(|e| e.concept == concept.name)
}

fn warnings(
    policy: &Policy,
    subjects: &[&Subject<'_>],
    sites: &BTreeSet<&str>,
    counts: &Counts,
    findings: usize,
) -> Vec<Warning> {
    let mut out = Vec::new();
    let mut warn = |code, message, location: &super::Location| {
        out.push(Warning { code, policy: policy.name.clone(), message, location: location.clone() });
    };
    let unmatched = |glob: &&Glob| !sites.iter().any(|site| glob.matcher.is_match(site));
    for glob in policy.scope.sites.iter().chain(&policy.scope.exclude).filter(unmatched) {
        warn(
            Code::UnmatchedGlob,
            format!("`{}` in `{}` matches no audited site", glob.entry, glob.list),
            &glob.location,
        );
    }
    if subjects.is_empty() {
        warn(Code::EmptyScope, "there was no unit to judge".to_string(), &policy.location);
        return out;
    }
    for (rule, held) in policy.matching.none.iter().zip(&counts.held_back) {
        if *held == 0 {
            warn(Code::UnmatchedRule, format!("`{}` in `none` held back no unit", rule.entry), &rule.location);
        }
    }
    if policy.level == Level::Allow && findings == 0 {
        warn(Code::UnmatchedRule, "it allows what no unit responds to".to_string(), &policy.location);
    }
    let m = &policy.matching;
    if m.min_effect.is_some() || m.min_auc.is_some() || m.min_share.is_some() {
        for concept in &policy.matching.concepts {
            if !subjects.iter().any(|s| evidence_for(concept, s).is_some()) {
                let message = format!("no unit has evidence for the concept `{}`", concept.name);
                warn(Code::UnmeasuredConcept, message, &concept.location);
            }
        }
    }
    out
}
