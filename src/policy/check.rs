//! Holds described units against policies. Pure: it reads nothing and changes nothing.

mod notices;

use super::finding::fingerprint;
use super::search::{Cover, Hits, Numbers, Search};
use super::{
    Because, Code, Concept, Date, Finding, Level, Location, Outcome, Policies, Policy, PolicySummary, Rule, RuleCount,
    Standing,
};
use crate::describe::{DescribedUnit, Status};
use crate::evidence::ConceptEvidence;
use std::collections::BTreeSet;
use std::ops::Range;

/// How many places of one entry in one description are told.
const PLACES: usize = 5;

/// A unit with what was found in its description.
struct Subject<'a> {
    unit: &'a DescribedUnit,
    /// `None` unless the unit is described: what an abstention says is not about the unit.
    hits: Option<&'a Hits>,
}

/// Holds every unit against every policy.
///
/// A unit matches a policy if it is in scope, at least one entry of `any` or `concepts` matches (or both lists are
/// empty), every entry of `all` matches and no entry of `none` does; what lies inside a match of `except` does not count.
/// Words match only the text of units that are [`Status::Described`] with at least `min-score`; abstained and dead units
/// can match by the evidence for a concept alone. See [the module](super) for concepts, waivers and limits.
///
/// The result depends on the units, the policies and the day only, not on the order of the units. `today` decides which
/// waivers have expired.
pub fn check(policies: &Policies, units: &[DescribedUnit], today: Date) -> Outcome {
    let (search, numbers) = Search::new(policies);
    let mut sorted: Vec<&DescribedUnit> = units.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let described = |unit: &&DescribedUnit| unit.description.status == Status::Described;
    let texts = sorted.iter().filter(|u| described(u)).map(|u| u.description.text.as_str());
    let (hits, which) = search.find_all(texts);
    let mut which = which.into_iter();
    let subjects: Vec<Subject<'_>> = sorted
        .iter()
        .map(|unit| Subject { unit, hits: if described(unit) { which.next().and_then(|i| hits.get(i)) } else { None } })
        .collect();
    let sites: BTreeSet<&str> = sorted.iter().map(|u| u.id.site.as_str()).collect();
    let mut outcome = Outcome::default();
    for (policy, numbers) in policies.iter().zip(&numbers) {
        check_one(policy, numbers, &subjects, &sites, today, &mut outcome);
    }
    outcome.settle();
    outcome
}

fn check_one(
    policy: &Policy,
    numbers: &Numbers,
    subjects: &[Subject<'_>],
    sites: &BTreeSet<&str>,
    today: Date,
    outcome: &mut Outcome,
) {
    let in_scope: BTreeSet<&str> = sites.iter().copied().filter(|site| policy.scope.covers(site)).collect();
    let subjects: Vec<&Subject<'_>> = if in_scope.len() == sites.len() {
        subjects.iter().collect()
    } else {
        subjects.iter().filter(|s| in_scope.contains(s.unit.id.site.as_str())).collect()
    };
    let mut counts = Counts::new(policy);
    for subject in &subjects {
        let Some((evidence, location)) = judge(policy, numbers, subject, &mut counts) else { continue };
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
            description: subject.unit.description.text.clone(),
            standing: waived(policy, numbers, subject, today, &mut counts),
            because: evidence.iter().map(ToString::to_string).collect(),
            evidence,
            location: location.clone(),
            fingerprint: fingerprint(&policy.name, &subject.unit.id),
            reproduce: None,
        });
    }
    let mut notices = notices::notices(policy, &subjects, sites, today, &counts);
    notices.sort_by(|a, b| a.location.cmp(&b.location).then_with(|| a.code.cmp(&b.code)));
    outcome.notices.extend(notices);
    outcome.policies.push(PolicySummary {
        name: policy.name.clone(),
        level: policy.level,
        action: policy.action,
        reason: policy.reason.clone(),
        location: policy.location.clone(),
        sites: in_scope.into_iter().map(str::to_string).collect(),
        units: subjects.len(),
        described: subjects.iter().filter(|s| s.hits.is_some()).count(),
        limit: policy.limits.tolerated(subjects.len()),
        rules: counts.into_rules(policy),
        reachable: judgeable(policy, &subjects),
        // Counted by `settle`.
        findings: 0,
        known: 0,
        waived: 0,
        verdict: super::Verdict::Clean,
    });
}

/// Whether there is a unit that could match: one with a description or, where evidence counts, with evidence.
fn judgeable(policy: &Policy, subjects: &[&Subject<'_>]) -> bool {
    let by_evidence = policy.matching.by_evidence();
    subjects.iter().any(|s| s.hits.is_some() || (by_evidence && !s.unit.evidence.is_empty()))
}

/// How often each entry mattered, in the order of its list.
struct Counts {
    /// Units that an entry of `any`, `all`, `none`, `except` matched by itself, one list after the other.
    rules: Vec<usize>,
    concepts: Vec<usize>,
    /// Units that would have matched without this entry of `none`.
    held_back: Vec<usize>,
    /// Findings that a waiver excused, or would have if it had not expired.
    waived: Vec<usize>,
}

impl Counts {
    fn new(policy: &Policy) -> Self {
        Self {
            rules: vec![0; policy.rules().count()],
            concepts: vec![0; policy.matching.concepts.len()],
            held_back: vec![0; policy.matching.none.len()],
            waived: vec![0; policy.waivers.len()],
        }
    }

    fn into_rules(self, policy: &Policy) -> Vec<RuleCount> {
        let concepts = policy.matching.concepts.iter().map(|c| ("concepts", &c.name, &c.location));
        let rules = policy.rules().map(|(list, rule)| (list, &rule.entry, &rule.location));
        rules
            .chain(concepts)
            .zip(self.rules.iter().chain(&self.concepts))
            .map(|((list, entry, location), &units)| RuleCount {
                list: list.to_string(),
                entry: entry.clone(),
                units,
                location: location.clone(),
            })
            .collect()
    }
}

/// Adds one at an index that is there.
fn count(counts: &mut [usize], at: usize) {
    if let Some(n) = counts.get_mut(at) {
        *n += 1;
    }
}

/// Why the unit matches, and the entry that caused it; `None` if it does not.
fn judge<'p>(
    policy: &'p Policy,
    numbers: &Numbers,
    subject: &Subject<'_>,
    counts: &mut Counts,
) -> Option<(Vec<Because>, &'p Location)> {
    let m = &policy.matching;
    let description = &subject.unit.description;
    // NaN reaches no minimum.
    let reliable = m.min_score.is_none_or(|min| description.score >= min);
    let hits = subject.hits.filter(|_| reliable);
    let by_evidence = m.by_evidence();
    let of = |numbers: &Range<usize>| hits.map_or(&[] as &[_], |hits| hits.of(numbers.clone()));
    // Most units match no pattern of a policy.
    if !by_evidence && of(&(numbers.any.start..numbers.concepts.end)).is_empty() {
        return None;
    }
    let cover = Cover::new(of(&numbers.except));
    let mut covering = BTreeSet::new();
    let mut because = Vec::new();
    let mut location: Option<&Location> = None;
    let text = |at: &Range<usize>| description.text.get(at.clone()).unwrap_or_default().to_string();

    let first = numbers.any.start;
    let mut matched = |list: &Range<usize>, rules: &'p [Rule], keep: bool, counts: &mut Counts| -> usize {
        let mut hit = 0;
        for places in of(list).chunk_by(|a, b| a.0 == b.0) {
            let number = places.first().map_or(0, |p| p.0);
            let mut left = Vec::new();
            for (_, at) in places {
                match cover.over(at).filter(|_| keep) {
                    Some(exception) => drop(covering.insert(exception)),
                    None => left.push(at),
                }
            }
            let (Some(rule), false) = (rules.get(number - list.start), left.is_empty()) else { continue };
            hit += 1;
            count(&mut counts.rules, number - first);
            if keep {
                location.get_or_insert(&rule.location);
                because.extend(left.into_iter().take(PLACES).map(|at| Because::Word {
                    entry: rule.entry.clone(),
                    matched: text(at),
                    start: at.start,
                    end: at.end,
                }));
            }
        }
        hit
    };
    let any = matched(&numbers.any, &m.any, true, counts);
    let all = matched(&numbers.all, &m.all, true, counts);
    let none = matched(&numbers.none, &m.none, false, counts);
    let mut concept_matched = false;
    for (i, concept) in m.concepts.iter().enumerate() {
        let number = numbers.concepts.start + i;
        let named = of(&(number..number + 1)).iter().find(|(_, at)| match cover.over(at) {
            Some(exception) => {
                covering.insert(exception);
                false
            }
            None => true,
        });
        let reasons = match named {
            Some((_, at)) => vec![Because::Described {
                concept: concept.name.clone(),
                matched: text(at),
                start: at.start,
                end: at.end,
                evidence: evidence_for(concept, subject).next().cloned(),
            }],
            None if by_evidence => strong_evidence(policy, concept, subject),
            None => Vec::new(),
        };
        if !reasons.is_empty() {
            location.get_or_insert(&concept.location);
            because.extend(reasons);
            count(&mut counts.concepts, i);
            concept_matched = true;
        }
    }
    for exception in covering {
        count(&mut counts.rules, exception - first);
    }
    let something = any > 0 || concept_matched || (m.any.is_empty() && m.concepts.is_empty());
    if !something || all < m.all.len() {
        return None;
    }
    if none > 0 {
        for places in of(&numbers.none).chunk_by(|a, b| a.0 == b.0) {
            count(&mut counts.held_back, places.first().map_or(0, |p| p.0) - numbers.none.start);
        }
        return None;
    }
    Some((because, location?))
}

/// The evidence that is strong enough for the policy.
fn strong_evidence(policy: &Policy, concept: &Concept, subject: &Subject<'_>) -> Vec<Because> {
    let minima = policy.matching.minima;
    let strong = evidence_for(concept, subject).filter(|e| minima.reached_by(e));
    strong.map(|e| Because::Evidence { evidence: e.clone(), minima }).collect()
}

/// What was measured about the concept, or the concepts of the family, strongest first.
fn evidence_for<'a>(concept: &'a Concept, subject: &Subject<'a>) -> impl Iterator<Item = &'a ConceptEvidence> {
    subject.unit.evidence.iter().filter(|e| concept.members.contains(&e.concept))
}

/// Whether a waiver excuses the finding.
fn waived(policy: &Policy, numbers: &Numbers, subject: &Subject<'_>, today: Date, counts: &mut Counts) -> Standing {
    let mut standing = Standing::New;
    for (i, (waiver, number)) in policy.waivers.iter().zip(&numbers.waivers).enumerate() {
        let described = |_: &_| number.is_some_and(|n| subject.hits.is_some_and(|hits| hits.has(n)));
        if !waiver.means(&subject.unit.id, described) {
            continue;
        }
        count(&mut counts.waived, i);
        if standing == Standing::New && !waiver.expired(today) {
            standing = Standing::Waived {
                reason: waiver.reason.clone(),
                expires: waiver.expires,
                location: waiver.location.clone(),
            };
        }
    }
    standing
}
