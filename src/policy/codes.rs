//! The stable names of everything a policy run can say, and what they mean.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($variant:ident, $name:literal, $explanation:literal;)*) => {
        /// What is wrong, as a stable kebab-case name that reports, scripts and documentation share.
        ///
        /// Findings and warnings carry one, and so does every fault of a policy file.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $explanation] #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// All codes, in the order of the enum.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The stable name, for example `denied-concept`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }

            /// One paragraph: what it means and what to do.
            pub fn explanation(self) -> &'static str {
                match self { $(Code::$variant => $explanation),* }
            }
        }
    };
}

codes! {
    // Findings.
    DeniedConcept, "denied-concept",
        "A unit responds to something that a policy of level `deny` forbids. More findings than the policy's `[limits]` \
         tolerate fail the run. Remove the cause from the training data, or zero the unit with `action = \"zero\"`.";
    WarnedConcept, "warned-concept",
        "A unit responds to something that a policy of level `warn` watches. It is shown and never fails the run. Look \
         at the unit's exemplars and raise the level to `deny` once the shortcut is confirmed.";
    AllowedConcept, "allowed-concept",
        "A unit responds to something that a policy of level `allow` lists. It is recorded so that a reader can see it \
         was considered; nothing else follows, and other policies judge the unit as if this one did not exist.";
    // Warnings.
    UnmatchedGlob, "unmatched-glob",
        "A glob in `[scope]` matched none of the audited sites, so it selects or leaves out nothing. It is misspelt, or \
         the model's layers were renamed: correct or remove it.";
    UnmatchedRule, "unmatched-rule",
        "An exception matched nothing: an entry of `none` held back no unit, or a policy of level `allow` allowed none. \
         It may be out of date; remove it before it hides something that it was not written for.";
    EmptyScope, "empty-scope",
        "A policy had no unit to judge, because its `[scope]` left none or because none was described. A run that \
         judges nothing is not a clean run.";
    UnmeasuredConcept, "unmeasured-concept",
        "A policy sets a minimum for the evidence of a concept, and no unit in its scope has evidence for it: the \
         describer did not measure that concept. The minimum can never be met.";
    // Faults of a policy file.
    TomlSyntax, "toml-syntax",
        "The file is not valid TOML. The caret stands where the parser gave up, which may be just behind the fault.";
    UnknownKey, "unknown-key",
        "The file has a key that policies do not know. Unknown keys are errors, because a misspelt limit or exception \
         that is silently ignored would make the audit say something else than its author meant.";
    WrongType, "wrong-type",
        "A value has the wrong type, for example a number where a list of strings belongs.";
    MissingKey, "missing-key",
        "A required key is absent. `level` and `reason` have no default: a policy says how grave it is, and why.";
    UnknownValue, "unknown-value",
        "A key that takes one of a few words has another value.";
    EmptyValue, "empty-value",
        "A string that must say something is empty, or an entry of `[match]` has no letter or digit, or a regular \
         expression matches the empty text and so would match every description.";
    BadRegex, "bad-regex",
        "An entry written `/.../` is not a valid regular expression, lacks its closing slash, or is too large when \
         compiled.";
    BadGlob, "bad-glob",
        "An entry of `[scope]` is not a valid glob, so it cannot be told which sites are meant. `*` stands for any \
         characters, `?` for one, `[abc]` for one of several.";
    UnknownConcept, "unknown-concept",
        "An entry of `concepts` is not a concept that the describer can measure.";
    OutOfRange, "out-of-range",
        "A number is outside the range that makes sense for its key.";
    NoRule, "no-rule",
        "A policy has nothing to look for: `any`, `all` and `concepts` are all empty, so no unit could ever match.";
    IdleKey, "idle-key",
        "A key has no effect in this policy, so its author probably expects something that will not happen: a minimum \
         of evidence without `concepts`, or an action in a policy of level `allow`.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_kebab_case_and_explained() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let name = code.as_str();
            assert!(name.split('-').all(|w| !w.is_empty() && w.chars().all(|c| c.is_ascii_lowercase())), "{name}");
            let explanation = code.explanation();
            assert!(explanation.len() > 50 && explanation.ends_with('.') && !explanation.contains('\n'), "{name}");
            assert_eq!(serde_json::to_value(code).ok(), Some(serde_json::Value::from(name)));
        }
    }
}
