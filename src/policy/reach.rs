//! Policies that a describer cannot answer: it has no words for what they look for.

use super::testing::words_only;
use super::{Code, Level, Notice, Outcome, Policies};

impl Outcome {
    /// Says which policies could not match, whatever the network has learned, because the describer has no words for what
    /// they look for: `sayings` are all descriptions that it can give. Their verdict is [`Unjudged`](super::Verdict), and
    /// a notice of [`Code::UnreachablePolicy`] says so.
    pub fn hold_to(&mut self, sayings: &[String], policies: &Policies) {
        let sayings: Vec<&str> = sayings.iter().map(String::as_str).collect();
        for summary in self.policies.iter_mut().filter(|p| p.reachable && p.findings + p.waived == 0) {
            let Some(policy) = policies.get(&summary.name) else { continue };
            let measured = !policy.matching.concepts.is_empty() && policy.matching.by_evidence();
            if measured || words_only(policies, &policy.name, &sayings).iter().any(|because| !because.is_empty()) {
                continue;
            }
            summary.reachable = false;
            let (code, level) = (Code::UnreachablePolicy, policy.lints.level(Code::UnreachablePolicy));
            if level != Level::Allow && policy.level != Level::Allow {
                self.notices.push(Notice {
                    code,
                    level,
                    policy: Some(policy.name.clone()),
                    message: "the describer has no words for what it looks for, so no unit could match".to_string(),
                    location: policy.location.clone(),
                });
            }
        }
        self.notices.sort_by(|a, b| (&a.policy, &a.location, a.code).cmp(&(&b.policy, &b.location, b.code)));
        self.settle();
    }
}
