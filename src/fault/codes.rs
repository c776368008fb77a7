//! The stable names of everything that can be said about a unit, a policy or a file, and what they mean.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($variant:ident, $name:literal, $explanation:literal;)*) => {
        /// What is wrong, as a stable kebab-case name that reports, scripts and documentation share.
        ///
        /// Findings and warnings carry one, and so does every fault of a policy file.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
        )]
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

            /// Whether it is said of a model, not of a policy.
            pub fn is_about_the_model(self) -> bool {
                matches!(self, Code::UnauditedLayers | Code::TrainingMode)
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
    // Notices about policies; their levels are set in `[lints]`.
    UnmatchedRule, "unmatched-rule",
        "An entry of `any`, `all` or `concepts` matched no unit, or one of `except` took nothing away. On a list of what is \
         forbidden that is what you hope for, so the level is `allow` unless you set it: the count of every entry is in \
         report.json. Raise it where an entry \
         must match, for example in a policy of level `allow` that records what is known.";
    UnmatchedException, "unmatched-exception",
        "An entry of `none` held back no unit. It may be out of date; remove it before it hides something that it was not \
         written for.";
    UnmatchedWaiver, "unmatched-waiver",
        "A `[[waive]]` excused no finding. The unit has learned something else, or the waiver is misspelt: correct or \
         remove it before it excuses something that it was not written for.";
    ExpiredWaiver, "expired-waiver",
        "The date in `expires` of a `[[waive]]` has passed, so it excuses nothing any more. Fix what it excused, or look \
         at it again and set a new date.";
    UnmatchedGlob, "unmatched-glob",
        "A glob in `[scope]` matched none of the audited sites, so it selects or leaves out nothing. It is misspelt, or \
         the model's layers were renamed: correct or remove it.";
    EmptyScope, "empty-scope",
        "A policy had no unit to judge, because its `[scope]` left none or because none was described. A run that \
         judges nothing is not a clean run.";
    UnreachablePolicy, "unreachable-policy",
        "The describer has no words for what a policy looks for, so no unit could match, whatever the network has learned: \
         the bank of painted concepts has no faces, for example. The policy is `unjudged`, not clean. Use a describer that \
         has the words, judge descriptions of another tool (`--descriptions`), or leave the policy out.";
    UnmeasuredConcept, "unmeasured-concept",
        "A policy sets a minimum for the evidence of a concept, and no unit in its scope has evidence for it, though there \
         is evidence for others: the describer did not measure that concept. The minimum can never be met.";
    UnmeasuredScore, "unmeasured-score",
        "A policy sets `min-score`, and no description in its scope has a score: the table of descriptions has no column \
         `score`. By its words alone no unit can match.";
    StaleBaseline, "stale-baseline",
        "The baseline lists findings that do not occur any more. Write it anew with `--write-baseline`, so that they are \
         new findings should they come back.";
    UnauditedLayers, "unaudited-layers",
        "Layers with parameters could not be audited, so nothing is known of what they have learned: their units cannot be \
         read, or they did not run. `tch-audit sites` lists them with the reasons, and report.json has them under \
         `coverage`. Layers that were left out by choice (`--sites`, the classifier) are not among them. Deny it \
         (`-D unaudited-layers`) where a model must be audited as a whole.";
    // Notices about the model; their levels are set in `[lints]` too.
    TrainingMode, "training-mode",
        "The model computes as in training, or draws random numbers: it was traced before `model.eval()`, so that dropout, \
         statistics of the batch or stochastic depth are part of its code for ever. What is measured holds for these random \
         numbers and these batches only, and edits may not verify. Call `model.eval()`, then export it again.";
    // Faults of a file.
    BadEncoding, "bad-encoding",
        "The file is not text in UTF-8. The caret stands at the first byte that is not.";
    TomlSyntax, "toml-syntax",
        "The file is not valid TOML. The caret stands where the parser gave up, which may be just behind the fault.";
    JsonSyntax, "json-syntax",
        "The file is not valid JSON, or a value in it is not what belongs there. The caret stands where the parser gave \
         up, which may be just behind the fault.";
    CsvSyntax, "csv-syntax",
        "The table is not valid CSV: a row has more or fewer cells than the first row has names, or a quote is not closed.";
    UnknownKey, "unknown-key",
        "The file has a key that is not known. Unknown keys are errors, because a misspelt limit or exception that is \
         silently ignored would make the audit say something else than its author meant.";
    WrongType, "wrong-type",
        "A value has the wrong type, for example a number where a list of strings belongs.";
    MissingKey, "missing-key",
        "A required key is absent. `level` and `reason` have no default: a policy says how grave it is, and why.";
    UnknownValue, "unknown-value",
        "A key that takes one of a few words has another value, or a value cannot be understood.";
    EmptyValue, "empty-value",
        "A string that must say something is empty, or an entry of `[match]` has no letter or digit, or a regular \
         expression matches the empty text and so would match every description.";
    BadRegex, "bad-regex",
        "An entry written `/.../` is not a valid regular expression, lacks its closing slash, or is too large when \
         compiled.";
    BadGlob, "bad-glob",
        "An entry that names sites is not a valid glob, so it cannot be told which sites are meant. `*` stands for any \
         characters, `?` for one, `[abc]` for one of several; a backslash takes the meaning from the character after it.";
    BadDate, "bad-date",
        "`expires` is not a date of the calendar. Dates are written `2027-03-31`; a waiver holds to the end of that day.";
    UnknownConcept, "unknown-concept",
        "An entry of `concepts` is neither a concept that the describer can measure nor a family of them.";
    UnknownGroup, "unknown-group",
        "An entry names a `{group}` of words that `[groups]` does not have, or a brace is not closed.";
    OutOfRange, "out-of-range",
        "A number is outside the range that makes sense for its key.";
    NoRule, "no-rule",
        "A policy has nothing to look for (`any`, `all` and `concepts` are all empty), so no unit could ever match; or a \
         waiver says of no unit that it is meant, and would excuse everything.";
    IdleKey, "idle-key",
        "A key has no effect in this policy, so its author probably expects something that will not happen: a minimum \
         of evidence without `concepts`, or an action in a policy of level `allow`.";
    MissingColumn, "missing-column",
        "The table lacks a column that must be there. The first row has the names of the columns.";
    DuplicateRow, "duplicate-row",
        "Two rows of a table, or two entries of a baseline, are about the same unit, and it cannot be told which is meant.";
    WrongFingerprint, "wrong-fingerprint",
        "A fingerprint of the baseline is not that of the policy, site and unit beside it: the file was changed by hand or \
         by a merge. Write it anew with `--write-baseline`.";
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
