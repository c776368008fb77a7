//! Policies: what loads, what is refused and how, and what is found.

use std::fs;
use tch_audit::describe::{DescribedUnit, Description, Status};
use tch_audit::diagnostic::Source;
use tch_audit::evidence::ConceptEvidence;
use tch_audit::policy::{
    self, Baseline, Because, Code, Date, Level, Loader, Minima, Outcome, Policies, Standing, TEMPLATE, Verdict,
};
use tch_audit::{ConceptName, Error, UnitId};

/// A day on which the waivers of these tests hold.
fn today() -> Date {
    "2026-11-25".parse().unwrap()
}

fn check(policies: &Policies, units: &[DescribedUnit]) -> Outcome {
    policy::check(policies, units, today())
}

fn unit(site: &str, unit: usize, text: &str) -> DescribedUnit {
    let description = Description {
        text: text.into(),
        status: Status::Described,
        score: 2.0,
        log_likelihood: -1.0,
        log_prior: -3.0,
        alternatives: Vec::new(),
    };
    DescribedUnit::new(UnitId::new(site, unit), description)
}

fn with_evidence(mut unit: DescribedUnit, concept: &str, effect: f64, auc: f64) -> DescribedUnit {
    unit.evidence.push(ConceptEvidence {
        concept: concept.into(),
        source: "painted".into(),
        iou: Some(0.1),
        effect: Some(effect),
        auc: Some(auc),
        auc_low: Some(auc - 0.05),
        auc_high: Some(auc + 0.05),
        share: Some(0.5),
        r: None,
    });
    unit
}

fn with_status(mut unit: DescribedUnit, status: Status) -> DescribedUnit {
    unit.description.status = status;
    unit.description.score = 0.0;
    unit
}

fn policy(body: &str) -> Policies {
    let text = format!("level = \"deny\"\nreason = \"r\"\n{body}");
    Policies::parse("p", &text).unwrap_or_else(|e| panic!("{e}"))
}

fn fault(text: &str) -> String {
    match Policies::parse("text", text) {
        Err(error @ Error::Faults { .. }) => error.to_string(),
        other => panic!("expected a fault, got {other:?}"),
    }
}

fn units_found(outcome: &Outcome) -> Vec<String> {
    outcome.findings.iter().map(|f| f.unit.to_string()).collect()
}

// ---- what is refused ----

#[test]
fn unknown_key_suggests_nearest() {
    let expected = "\
error[unknown-key]: `levle` is not a policy key
  --> text.toml:1:1
1 | levle = \"deny\"
  | ^^^^^ did you mean `level`?
  = expected: level, action, reason, match, scope, limits, lints, labels, groups, waive, test";
    assert_eq!(fault("levle = \"deny\"\n"), expected);
}

#[test]
fn all_unknown_keys_are_shown_at_once_with_their_table() {
    let shown = fault(
        "levle = 'deny'\n[match]\nanny = ['x']\nmax-units = 1\n[limits]\nreason = 'r'\n[waivers]\n[[waive]]\nexpire = 2027-01-01\n",
    );
    for part in [
        "`levle` is not a policy key",
        "text.toml:3:1\n3 | anny = ['x']\n  | ^^^^ did you mean `any`?",
        "`max-units` is not a key of `[match]`",
        "^^^^^^^^^ `max-units` belongs in `[limits]`",
        "^^^^^^ `reason` belongs at the top of the file, before the first table",
        "`waivers` is not a policy key",
        "^^^^^^^ did you mean `waive`?",
        "^^^^^^ did you mean `expires`?",
        "= expected: any, all, none, except, concepts, min-score, min-effect, min-auc, min-share",
    ] {
        assert!(shown.contains(part), "{part} not in:\n{shown}");
    }
}

#[test]
fn wrong_types_and_broken_toml_are_placed() {
    let shown = fault("level = 'deny'\nreason = 'r'\n[match]\nany = 'text'\n");
    assert!(shown.starts_with("error[wrong-type]: ") && shown.contains("text.toml:4:7"), "{shown}");
    let shown = fault("level = 'deny'\nreason = ");
    assert!(shown.starts_with("error[toml-syntax]: ") && shown.contains("text.toml:2:"), "{shown}");
    let shown = fault("level = 'deny'\nlevel = 'warn'\n");
    assert!(shown.starts_with("error[toml-syntax]: ") && shown.contains("text.toml:2:1"), "{shown}");
    let shown = fault("match = 3\n");
    assert!(shown.starts_with("error[wrong-type]: ") && shown.contains("text.toml:1:9"), "{shown}");
}

#[test]
fn every_fault_of_meaning_is_shown_at_once() {
    let text = r#"level = "denny"
action = "erase"
reason = "  "
[match]
any = ["...", "/a(/", "text"]
concepts = ["tekst"]
min-auc = 1.5
min-effect = nan
[scope]
sites = ["layer[3"]
[limits]
max-units = -1
max-share = 2
"#;
    let error = Loader::new().concepts(&ConceptName::built_in()).parse("text", text).unwrap_err();
    let rendered = error.to_string();
    for part in [
        "error[unknown-value]: `denny` is not a value of `level`",
        "^^^^^^^ did you mean `deny`?\n  = expected: allow, warn, deny",
        "error[unknown-value]: `erase` is not a value of `action`",
        "error[empty-value]: the reason is empty",
        "error[empty-value]: `...` cannot be looked for",
        "error[bad-regex]: `/a(/`",
        "5 | any = [\"...\", \"/a(/\", \"text\"]\n  |                  ^ unclosed group",
        "error[unknown-concept]: `tekst` is not a known concept or family",
        "did you mean `text`?",
        "error[out-of-range]: `min-auc` is 1.5",
        "error[out-of-range]: `min-effect` is NaN",
        "error[bad-glob]: `layer[3`",
        "error[out-of-range]: `max-units` is -1",
        "error[out-of-range]: `max-share` is 2",
    ] {
        assert!(rendered.contains(part), "{part} not in:\n{rendered}");
    }
    assert_eq!(rendered.matches("error[").count(), 11, "{rendered}");
    let placed: Vec<_> = error.faults().map(|f| (f.code, f.location.line, f.location.column)).collect();
    assert_eq!(placed.len(), 11);
    assert_eq!(placed[..2], [(Code::UnknownValue, 1, 9), (Code::UnknownValue, 2, 10)]);
    let first = error.faults().next().unwrap();
    assert_eq!(first.message, "`denny` is not a value of `level`");
    assert_eq!((first.location.file.as_str(), first.label.as_str()), ("text.toml", "did you mean `deny`?"));
    assert_eq!(first.expected, "allow, warn, deny");
    assert!(error.faults().all(|f| rendered.contains(&format!("error[{}]: {}", f.code, f.message))));
}

#[test]
fn level_reason_and_something_to_look_for_are_required() {
    let shown = fault("");
    for part in ["the policy has no `level`", "the policy has no `reason`", "error[no-rule]"] {
        assert!(shown.contains(part), "{part} not in:\n{shown}");
    }
    let shown = fault("level = 'allow'\naction = 'zero'\nreason = 'r'\n[match]\nnone = ['x']\nmin-auc = 0.9\n");
    assert!(
        shown.contains("error[no-rule]") && shown.contains("error[idle-key]: a policy of level `allow`"),
        "{shown}"
    );
    assert!(shown.contains("`min-auc` has no effect without `concepts`"), "{shown}");
}

#[test]
fn faults_of_all_files_come_in_the_order_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.toml"), "levl = 'deny'\n").unwrap();
    fs::write(dir.path().join("a.toml"), "level = 'x'\r\nreason = 'r'\r\n[match]\r\nany = ['t']\r\n").unwrap();
    fs::write(dir.path().join("c.toml"), "level = 'deny'\nreason = 'r'\n[match]\nany = ['t']\n").unwrap();
    fs::write(dir.path().join("notes.txt"), "not a policy").unwrap();
    let error = Policies::load_dir(dir.path()).unwrap_err();
    let Error::Faults { files } = &error else { panic!("{error}") };
    assert_eq!(files.iter().map(|f| f.faults().len()).collect::<Vec<_>>(), [1, 1], "{error}");
    assert!(files[0].file().ends_with("a.toml") && files[1].file().ends_with("b.toml"));
    assert_eq!(error.to_string(), format!("{}\n\n{}", files[0], files[1]));
    let rendered = error.to_string();
    let (a, b) = (rendered.find("a.toml:1:9"), rendered.find("b.toml:1:1"));
    assert!(a.is_some() && a < b && !rendered.contains("c.toml") && !rendered.contains('\r'), "{rendered}");
}

#[test]
fn missing_files_and_empty_folders_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Policies::load_dir(dir.path()), Err(Error::Invalid { .. })));
    assert!(matches!(Policies::load_dir(dir.path().join("none")), Err(Error::Io { action: "list", .. })));
    assert!(matches!(Policies::load(dir.path().join("none.toml")), Err(Error::Io { action: "read", .. })));
    fs::write(dir.path().join("latin1.toml"), b"# caf\xe9\n").unwrap();
    let rendered = Policies::load_dir(dir.path()).unwrap_err().to_string();
    assert!(rendered.contains("error[bad-encoding]: byte 0xe9") && rendered.contains("latin1.toml:1:6"), "{rendered}");
}

proptest::proptest! {
    #[test]
    fn any_text_loads_or_is_refused(text in r#"([a-z-]{1,6}|level|reason|match|any|concepts|scope|sites|[=\[\]{}"'/\\#(*, .\n\r\t0-9é文]){0,40}"#) {
        let start = "level = 'deny'\nreason = 'r'\n";
        for text in [text.clone(), format!("{start}match.any = [{text}"), format!("{start}match.any = [\"/{text}/\"]")] {
            if let Err(e) = Policies::parse("p", &text) {
                assert!(e.to_string().starts_with("error["), "{e}");
            }
        }
    }
}

// ---- what matches ----

#[test]
fn a_word_is_found_with_its_place_and_the_policy_line() {
    let policies = policy("[match]\nany = [\n  \"word\",\n  \"letter\",\n]\n");
    let outcome = check(&policies, &[unit("b", 0, "Numbers and Letters"), unit("a", 1, "texture of a sword")]);
    let [finding] = outcome.findings.as_slice() else { panic!("{outcome:?}") };
    let expected = Because::Word { entry: "letter".into(), matched: "Letters".into(), start: 12, end: 19 };
    assert_eq!(finding.because, [expected.to_string()]);
    assert_eq!(finding.evidence, [expected]);
    assert_eq!(finding.location.to_string(), "p.toml:6:3");
    assert_eq!((finding.code, finding.unit.to_string()), (Code::DeniedConcept, "b/0".into()));
    assert!(finding.to_string().contains("its word `Letters` matches `letter`"), "{finding}");
    assert!(outcome.denied());
}

#[test]
fn any_all_and_none_combine() {
    let policies = policy("[match]\nany = ['text', 'word']\nall = ['red']\nnone = ['sign', '/traffic light/']\n");
    let texts = ["red text", "blue text", "red words on signs", "red word", "red", "a red text, Traffic Lights"];
    let units: Vec<_> = texts.iter().enumerate().map(|(i, t)| unit("s", i, t)).collect();
    assert_eq!(units_found(&check(&policies, &units)), ["s/0", "s/3"]);
}

#[test]
fn abstained_and_dead_units_match_by_evidence_only() {
    let policies = policy("[match]\nany = ['description']\nconcepts = ['text']\nmin-effect = 1.0\nmin-auc = 0.8\n");
    let quiet = |i| with_status(unit("s", i, "no reliable description"), Status::Abstained);
    let units = [
        quiet(0),
        with_evidence(quiet(1), "text", 2.0, 0.9),
        with_evidence(quiet(2), "text", 2.0, 0.7),
        with_evidence(quiet(3), "text", 0.5, 0.9),
        with_evidence(quiet(4), "red", 2.0, 0.9),
        with_evidence(quiet(5), "text", f64::NAN, 0.9),
        with_status(unit("s", 6, "no text, dead"), Status::Dead),
    ];
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["s/1"]);
    assert!(matches!(
        outcome.findings[0].evidence.as_slice(),
        [Because::Evidence { minima: Minima { min_auc: Some(0.8), .. }, .. }]
    ));
}

#[test]
fn evidence_is_held_to_what_it_measures_and_to_one_minimum_at_least() {
    let policies = policy("[match]\nconcepts = ['text']\nmin-effect = 1.0\nmin-auc = 0.8\n");
    let imported = |number: usize, auc: Option<f64>, iou: Option<f64>| {
        let mut unit = with_status(unit("s", number, "-"), Status::Abstained);
        let (concept, source) = ("text".to_string(), "labels".to_string());
        unit.evidence.push(ConceptEvidence { concept, source, auc, iou, ..ConceptEvidence::default() });
        unit
    };
    let units = [
        imported(0, Some(0.9), None),
        imported(1, Some(0.7), None),
        imported(2, Some(f64::NAN), None),
        // It measures nothing that is asked for.
        imported(3, None, Some(1.0)),
    ];
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["s/0"]);
    assert_eq!(
        outcome.findings[0].because[0],
        "labels: `text` goes with what excites it (AUC 0.90; AUC of at least 0.8 asked)"
    );
    let painted = check(&policies, &[with_evidence(unit("s", 0, "grass"), "text", 2.0, 0.9)]);
    assert_eq!(
        painted.findings[0].because[0],
        "painting `text` excites it like little else (share 0.50, effect +2.00 sd, AUC 0.90 [0.85, 0.95], IoU 0.100; \
         effect of at least 1 asked; AUC of at least 0.8 asked)"
    );
}

#[test]
fn a_correlation_may_be_asked_for() {
    let policies = policy("[match]\nconcepts = ['text']\nmin-r = 0.5\n");
    let correlated = |number: usize, r: f64| {
        let mut unit = with_status(unit("s", number, "-"), Status::Abstained);
        let (concept, source) = ("text".to_string(), "labels".to_string());
        unit.evidence.push(ConceptEvidence { concept, source, r: Some(r), ..ConceptEvidence::default() });
        unit
    };
    let outcome = check(&policies, &[correlated(0, 0.625), correlated(1, 0.25), correlated(2, -0.75)]);
    assert_eq!(units_found(&outcome), ["s/0"]);
    let sentence = "labels: `text` goes with what excites it (r +0.62; r of at least 0.5 asked)";
    assert_eq!(outcome.findings[0].because, [sentence]);
    let json = serde_json::to_value(&outcome.findings[0].evidence[0]).unwrap();
    assert_eq!((&json["min_r"], json.get("min_auc")), (&0.5.into(), Some(&serde_json::Value::Null)));
    assert_eq!(serde_json::from_value::<Because>(json).unwrap(), outcome.findings[0].evidence[0]);
    let shown = fault("level = 'deny'\nreason = 'r'\n[match]\nany = ['x']\nmin-r = -1\n");
    assert!(shown.contains("`min-r` has no effect without `concepts`"), "{shown}");
    assert!(shown.contains("`min-r` is -1") && shown.contains("a number from 0 to 1 (a correlation)"), "{shown}");
    assert!(fault("level = 'deny'\nreason = 'r'\n[match]\nmin-rr = 1\n").contains("did you mean `min-r`?"));
}

#[test]
fn a_described_concept_matches_without_minimums_and_mere_evidence_does_not() {
    let policies = policy("[match]\nconcepts = ['horizontal-stripes']\n");
    let units = [
        with_evidence(unit("s", 0, "horizontal stripes"), "horizontal-stripes", 0.1, 0.6),
        with_evidence(unit("s", 1, "dots"), "horizontal-stripes", 9.0, 1.0),
    ];
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["s/0"]);
    assert!(matches!(outcome.findings[0].evidence.as_slice(), [Because::Described { evidence: Some(_), .. }]));
}

#[test]
fn min_score_holds_for_descriptions() {
    let policies = policy("[match]\nany = ['text']\nconcepts = ['text']\nmin-score = 2.5\nmin-effect = 1\n");
    let units = [unit("s", 0, "text"), with_evidence(unit("s", 1, "text"), "text", 1.0, 0.5)];
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["s/1"]);
    assert!(matches!(outcome.findings[0].evidence.as_slice(), [Because::Evidence { .. }]));
}

#[test]
fn scope_selects_sites_and_reports_globs_that_match_none() {
    let policies =
        policy("[match]\nany = ['text']\n[scope]\nsites = ['layer3*', 'layer9*']\nexclude = ['*@raw', 'stem']\n");
    let units = [unit("layer3.1", 0, "text"), unit("layer3.1@raw", 0, "text"), unit("layer2", 0, "text")];
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["layer3.1/0"]);
    let warned: Vec<_> = outcome.notices.iter().map(|w| (w.code, w.location.column)).collect();
    assert_eq!(warned, [(Code::UnmatchedGlob, 21), (Code::UnmatchedGlob, 21)]);
    assert_eq!(outcome.policies[0].units, 1);
}

#[test]
fn what_is_wanted_is_what_violated_policies_ask_for_and_pruning_wins() {
    let of = |name: &str, action: &str, word: &str, more: &str| {
        let text = format!(
            "level = 'deny'\nreason = 'r'\naction = '{action}'\n[match]\nany = ['{word}']\n{more}\n[[waive]]\nsite = 's'\n\
             unit = 9\nreason = 'r'\n"
        );
        Policies::parse(name, &text).unwrap_or_else(|e| panic!("{e}"))
    };
    let policies = [
        of("letters", "zero", "text", ""),
        of("marks", "prune", "stamp", ""),
        of("colors", "none", "red", ""),
        of("shapes", "zero", "disc", "[limits]\nmax-units = 5"),
    ];
    let policies = policies.into_iter().fold(Policies::default(), |all, p| all.join(p).unwrap());
    let texts = ["text", "a text stamp", "stamp", "red", "disc"];
    let mut units: Vec<_> = texts.iter().enumerate().map(|(i, t)| unit("s", i, t)).collect();
    units.push(unit("s", 9, "text"));
    let outcome = check(&policies, &units);
    let ids = |units: &[usize]| units.iter().map(|u| UnitId::new("s", *u)).collect::<Vec<_>>();
    let wanted = outcome.wanted();
    assert_eq!((&wanted.zero, &wanted.prune, wanted.units()), (&ids(&[0]), &ids(&[1, 2]), ids(&[0, 1, 2])));
    assert!(outcome.findings.iter().all(|f| policies.get(&f.policy).map(|p| p.action()) == Some(f.action)));
    assert_eq!(outcome.findings.iter().filter(|f| f.counts()).count(), 6);
}

#[test]
fn limits_tolerate_up_to_their_number() {
    let units: Vec<_> = (0..100).map(|i| unit("s", i, if i < 29 { "text" } else { "grass" })).collect();
    let verdict = |limits: &str| {
        let outcome = check(&policy(&format!("action = 'zero'\n[match]\nany = ['text']\n[limits]\n{limits}")), &units);
        (outcome.policies[0].verdict, outcome.policies[0].limit, outcome.wanted().zero.len())
    };
    assert_eq!(verdict(""), (Verdict::Violated, 0, 29));
    assert_eq!(verdict("max-units = 29"), (Verdict::Tolerated, 29, 0));
    assert_eq!(verdict("max-units = 28"), (Verdict::Violated, 28, 29));
    assert_eq!(verdict("max-share = 0.29"), (Verdict::Tolerated, 29, 0));
    assert_eq!(verdict("max-share = 0.289"), (Verdict::Violated, 28, 29));
    assert_eq!(verdict("max-units = 3\nmax-share = 1.0"), (Verdict::Violated, 3, 29));
}

#[test]
fn only_deny_denies_and_exceptions_that_hold_nothing_back_are_reported() {
    let run = |level: &str| {
        let text = format!("level = '{level}'\nreason = 'r'\n[match]\nany = ['text']\nnone = ['sign']\n");
        let policies = Policies::parse("p", &text).unwrap_or_else(|e| panic!("{e}"));
        check(&policies, &[unit("s", 0, "text"), unit("s", 1, "signs")])
    };
    let outcomes = ["deny", "warn", "allow"].map(run);
    assert_eq!(outcomes.each_ref().map(|o| o.denied()), [true, false, false]);
    let codes = outcomes.each_ref().map(|o| o.findings[0].code);
    assert_eq!(codes, [Code::DeniedConcept, Code::WarnedConcept, Code::AllowedConcept]);
    // `sign` matched a unit that would not have matched anyway.
    assert_eq!(outcomes[0].policies[0].rules[1].units, 1);
    assert_eq!(outcomes[0].notices[0].code, Code::UnmatchedException);
}

#[test]
fn judging_nothing_is_reported() {
    let outcome = check(&policy("[match]\nany = ['text']\n"), &[]);
    assert_eq!(outcome.notices[0].code, Code::EmptyScope);
    let unmeasured = policy("[match]\nconcepts = ['text']\nmin-auc = 0.9\n");
    assert_eq!(
        check(&unmeasured, &[with_evidence(unit("s", 0, "grass"), "red", 1.0, 0.9)]).notices[0].code,
        Code::UnmeasuredConcept
    );
}

#[test]
fn the_order_of_units_changes_nothing() {
    let policies = policy("[match]\nany = ['text']\n");
    let mut units: Vec<_> = (0..20).map(|i| unit(["b", "a"][i % 2], 20 - i, "text")).collect();
    let first = check(&policies, &units);
    units.reverse();
    assert_eq!(first, check(&policies, &units));
    assert!(first.findings.windows(2).all(|w| w[0].unit < w[1].unit));
    let json = serde_json::to_string(&first).unwrap();
    assert_eq!(serde_json::from_str::<Outcome>(&json).unwrap(), first);
}

// ---- exceptions, groups, families ----

#[test]
fn except_takes_away_what_lies_inside_and_nothing_else() {
    let policies = policy(
        "[match]\nany = ['face', 'eye']\nconcepts = ['border']\nexcept = ['clock face', '{animal} * eye', '/needle.?s eye/', \
         'border terrier']\n[groups]\nanimal = ['dog', 'cat']\n",
    );
    let texts = [
        "a clock face",
        "a clock face and the face of a man",
        "the dog's brown eyes",
        "the dog's eyes",
        "a needle's eye",
        "clock faces, cat's green eyes",
        "a border terrier",
        "the border of a terrier",
    ];
    let units: Vec<_> = texts.iter().enumerate().map(|(i, t)| unit("s", i, t)).collect();
    let outcome = check(&policies, &units);
    assert_eq!(units_found(&outcome), ["s/1", "s/3", "s/7"]);
    assert!(
        matches!(outcome.findings[0].evidence.as_slice(), [Because::Word { start: 21, end: 25, .. }]),
        "the clock's face is no reason: {:?}",
        outcome.findings[0].evidence
    );
    let counts: Vec<_> = outcome.policies[0].rules.iter().map(|r| (r.list.as_str(), r.units)).collect();
    let except = ("except", 1);
    assert_eq!(counts, [("any", 1), ("any", 1), ("except", 3), ("except", 2), except, except, ("concepts", 1)]);
}

#[test]
fn groups_must_be_there_and_hold_words() {
    let shown = fault(
        "level = 'deny'\nreason = 'r'\n[match]\nany = ['{anmal} face', 'x {open']\n[groups]\nanimal = ['dog', 'polar bear', \
         '']\nempty = []\n'bad{name' = ['x']\n",
    );
    for part in [
        "error[unknown-group]: `{anmal} face` names a group",
        "text.toml:4:9",
        "^^^^^^^ did you mean `animal`?",
        "error[unknown-group]: `x {open`",
        "`polar bear` is not one word",
        "`` is not one word",
        "error[empty-value]: the group `empty` has no word",
        "`bad{name` cannot be named in a phrase",
    ] {
        assert!(shown.contains(part), "{part} not in:\n{shown}");
    }
}

#[test]
fn families_and_synonyms_name_concepts() {
    let texts = ["horizontal stripes", "striped", "scarlet dots", "a circle", "magenta color"];
    let units: Vec<_> = texts.iter().enumerate().map(|(i, t)| unit("s", i, t)).collect();
    let found = |concept: &str| units_found(&check(&policy(&format!("[match]\nconcepts = ['{concept}']\n")), &units));
    assert_eq!(found("stripes"), ["s/0", "s/1"]);
    assert_eq!(found("horizontal-stripes"), ["s/0"]);
    assert_eq!(found("color"), ["s/2", "s/4"]);
    assert_eq!(found("red"), ["s/2"]);
    assert_eq!(found("disc"), ["s/3"]);
    // A family's evidence is that of its members.
    let measured = [with_evidence(with_status(unit("s", 0, "-"), Status::Abstained), "green", 2.0, 0.9)];
    let outcome = check(&policy("[match]\nconcepts = ['color']\nmin-auc = 0.8\n"), &measured);
    assert!(matches!(outcome.findings[0].evidence.as_slice(), [Because::Evidence { .. }]));
}

#[test]
fn a_description_may_be_a_megabyte_long() {
    let long = "text texture clock face ".repeat(50_000);
    let policies = policy("[match]\nany = ['text', '* face']\nexcept = ['clock face']\n");
    let outcome = check(&policies, &[unit("s", 0, &long)]);
    assert_eq!(outcome.findings[0].evidence.len(), 5, "places are told up to a number");
}

// ---- waivers, lints, levels, baseline ----

const WAIVED: &str = "[match]
any = ['text']
[[waive]]
site = 'layer4*'
unit = [3, 4]
reason = 'book covers are a class'
expires = 2027-03-31
[[waive]]
description = 'street sign'
reason = 'signs are what it is for'
expires = '2026-11-25'
[[waive]]
site = 'layer9'
reason = 'gone'
";

fn waived_units() -> [DescribedUnit; 4] {
    [
        unit("layer4.0", 3, "text"),
        unit("layer4.0", 5, "text"),
        unit("layer1", 3, "text on street signs"),
        unit("layer1", 4, "grass"),
    ]
}

#[test]
fn waivers_excuse_until_their_last_day() {
    let policies = policy(WAIVED);
    let standings = |day: &str| {
        let outcome = policy::check(&policies, &waived_units(), day.parse().unwrap());
        let all: Vec<String> = outcome.findings.iter().map(|f| f.standing.to_string()).collect();
        let summary = &outcome.policies[0];
        let codes: Vec<Code> = outcome.notices.iter().map(|n| n.code).collect();
        (all, (summary.findings, summary.waived), codes)
    };
    let (new, waived) = ("new".to_string(), "waived".to_string());
    let gone = Code::UnmatchedWaiver;
    assert_eq!(standings("2026-11-25"), (vec![waived.clone(), waived.clone(), new.clone()], (1, 2), vec![gone]));
    let late = standings("2026-11-26");
    assert_eq!(late, (vec![new.clone(), waived, new.clone()], (2, 1), vec![Code::ExpiredWaiver, gone]));
    let later = standings("2027-04-01");
    assert_eq!(later.1, (3, 0));
    let outcome = check(&policies, &waived_units());
    let Standing::Waived { reason, expires, location } = &outcome.findings[1].standing else { panic!("waived") };
    assert_eq!((reason.as_str(), location.to_string().as_str()), ("book covers are a class", "p.toml:5:1"));
    assert_eq!(expires.map(|d| d.to_string()).as_deref(), Some("2027-03-31"));
    assert_eq!(outcome.wanted().zero, []);
}

#[test]
fn all_waived_is_tolerated_and_nothing_is_zeroed() {
    let policies = policy("action = 'zero'\n[match]\nany = ['text']\n[[waive]]\nsite = '*'\nreason = 'r'\n");
    let outcome = check(&policies, &[unit("s", 0, "text")]);
    assert_eq!((outcome.policies[0].verdict, outcome.denied()), (Verdict::Tolerated, false));
    assert!(outcome.wanted().zero.is_empty());
}

#[test]
fn faulty_waivers_and_tests_are_refused() {
    let shown = fault(
        "level = 'deny'\nreason = 'r'\n[match]\nany = ['x']\n[[waive]]\nreason = 'all'\n[[waive]]\nunit = -1\n[[waive]]\n\
         site = 'l[4'\nreason = ' '\nexpires = 'soon'\n[[waive]]\nsite = 'a'\nreason = 'r'\nexpires = 2027-02-28T10:00:00\n\
         [[test]]\ndescription = 'x'\n[[test]]\nmatches = true\n[lints]\nunmatched-wavier = 'warn'\nempty-scope = 'fatal'\n",
    );
    for part in [
        "error[no-rule]: the waiver would excuse every finding",
        "error[missing-key]: the waiver has `unit` and no `site`",
        "error[out-of-range]: `unit` is -1",
        "error[missing-key]: the waiver has no `reason`",
        "error[bad-glob]: `l[4`",
        "error[empty-value]: the waiver's reason is empty",
        "error[bad-date]: `soon` is not a date",
        "error[bad-date]: `2027-02-28T10:00:00`",
        "the test has no `matches`",
        "the test has no `description`",
        "error[unknown-key]: `unmatched-wavier` is not a lint",
        "did you mean `unmatched-waiver`?",
        "error[unknown-value]: `fatal` is not a value of `empty-scope`",
    ] {
        assert!(shown.contains(part), "{part} not in:\n{shown}");
    }
}

#[test]
fn lints_have_the_level_that_the_policy_gives_them() {
    let run = |lints: &str| {
        let policies = policy(&format!("[match]\nany = ['text', 'walrus']\nnone = ['sign']\n[lints]\n{lints}"));
        check(&policies, &[unit("s", 0, "texts")])
    };
    let codes = |outcome: &Outcome| outcome.notices.iter().map(|n| (n.code, n.level)).collect::<Vec<_>>();
    assert_eq!(codes(&run("")), [(Code::UnmatchedException, Level::Warn)]);
    assert_eq!(codes(&run("unmatched-exception = 'allow'")), []);
    let strict = run("unmatched-rule = 'deny'\nunmatched-exception = 'allow'");
    assert_eq!(codes(&strict), [(Code::UnmatchedRule, Level::Deny)]);
    assert_eq!(strict.notices[0].location.to_string(), "p.toml:4:16");
}

#[test]
fn a_notice_of_level_deny_denies() {
    let policies = policy(
        "[match]\nany = ['text']\n[lints]\nexpired-waiver = 'deny'\n[[waive]]\nsite = 's'\nreason = 'r'\nexpires = 2020-01-01\n",
    );
    let outcome = check(&policies, &[unit("s", 0, "grass")]);
    assert!(outcome.denied() && outcome.findings.is_empty(), "{outcome:?}");
    assert!(
        outcome.notices[0]
            .to_string()
            .contains("deny[expired-waiver]: p: the waiver of site `s` expired on 2020-01-01")
    );
}

#[test]
fn levels_can_be_set_from_outside() {
    let mut policies = policy("[match]\nany = ['text']\nnone = ['sign']\n");
    let units = [unit("s", 0, "text")];
    assert!(check(&policies, &units).denied());
    policies.set_levels([("p", Level::Warn), ("unmatched-exception", Level::Deny)]).unwrap();
    let outcome = check(&policies, &units);
    assert_eq!((outcome.findings[0].level, outcome.notices[0].level), (Level::Warn, Level::Deny));
    assert_eq!(policies.lint_level(Code::UnmatchedException).unwrap(), Level::Deny);
    let error = policies.set_levels([("expired-wavier", Level::Allow)]).unwrap_err().to_string();
    assert!(error.contains("did you mean `expired-waiver`"), "{error}");
}

#[test]
fn a_score_that_is_not_there_is_reported() {
    let policies = policy("[match]\nany = ['text']\nmin-score = 0.5\n");
    let mut plain = unit("s", 0, "text");
    (plain.description.score, plain.description.log_likelihood, plain.description.log_prior) = (0.0, 0.0, 0.0);
    assert_eq!(check(&policies, &[plain]).notices[0].code, Code::UnmeasuredScore);
    assert!(check(&policies, &[unit("s", 0, "text")]).notices.is_empty());
}

#[test]
fn only_new_findings_fail_against_a_baseline() {
    let policies = policy("[match]\nany = ['text']\n[limits]\nmax-units = 1\n");
    let before = [unit("s", 0, "text"), unit("s", 1, "letters and text"), unit("s", 2, "text")];
    let mut outcome = check(&policies, &before);
    assert!(outcome.denied());
    let baseline = Baseline::of(&outcome, "known.json");
    baseline.apply(&mut outcome, Level::Warn);
    assert!(!outcome.denied() && outcome.notices.is_empty());
    assert_eq!((outcome.policies[0].findings, outcome.policies[0].known), (3, 3));

    // Words may change, and one is gone; one is new, and the known ones use up the limit.
    let after = [unit("s", 0, "a text"), unit("s", 1, "texts"), unit("s", 2, "grass"), unit("t", 2, "text")];
    let mut outcome = check(&policies, &after);
    baseline.apply(&mut outcome, Level::Warn);
    assert!(outcome.denied());
    let standings: Vec<_> = outcome.findings.iter().map(|f| f.standing.to_string()).collect();
    assert_eq!(standings, ["known", "known", "new"]);
    assert_eq!(
        (outcome.notices[0].code, outcome.notices[0].location.file.as_str()),
        (Code::StaleBaseline, "known.json")
    );
    assert!(outcome.notices[0].message.contains("s/2"));
}

#[test]
fn baselines_read_back_and_are_checked() {
    let policies = policy("[match]\nany = ['text']\n");
    let outcome = check(&policies, &[unit("a,\"b\"\n", 0, "text"), unit("s", 1, "text")]);
    let baseline = Baseline::of(&outcome, "b.json");
    let mut out = Vec::new();
    baseline.write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let parse = |text: &str| Baseline::parse(Source::new("b.json", text));
    assert_eq!(parse(&text).unwrap(), baseline);
    let refused = |text: &str| parse(text).unwrap_err().to_string();
    assert!(refused(&text.replace("\"unit\": 1", "\"unit\": 2")).contains("error[wrong-fingerprint]"));
    assert!(refused(&text.replace("\"baseline\": 1", "\"baseline\": 2")).contains("b.json:2:3"));
    assert!(refused("{\"baseline\": 1, \"findings\": [], \"x\": 0}").contains("unknown field `x`"));
    assert!(refused("{").contains("error[json-syntax]"));
}

#[test]
fn fingerprints_are_those_of_the_first_release() {
    let outcome = check(&policy("[match]\nany = ['text']\n"), &[unit("layer3.1.conv2", 17, "text")]);
    // Whoever keeps a baseline keeps these: they must never change.
    assert_eq!(outcome.findings[0].fingerprint, "711c2085ac3ea9b63fd3695073df7569");
}

// ---- what is shipped ----

fn shipped() -> Policies {
    Loader::new().concepts(&ConceptName::built_in()).shipped().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn shipped_policies_load_and_know_only_concepts_of_the_bank() {
    let names: Vec<_> = shipped().iter().map(|p| (p.name().to_string(), p.level())).collect();
    let of = |name: &str, level| (name.to_string(), level);
    let expected = [
        of("colors", Level::Warn),
        of("faces", Level::Deny),
        of("frames", Level::Warn),
        of("people", Level::Warn),
        of("quality", Level::Warn),
        of("text", Level::Deny),
        of("watermarks", Level::Deny),
    ];
    assert_eq!(names, expected);
    // The folder has these and the template.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
    let all = Loader::new().concepts(&ConceptName::built_in()).load_dir(folder).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(all.len(), expected.len() + 1);
    assert_eq!(all.get("template").map(|p| p.level()), Some(Level::Allow));
}

#[test]
fn shipped_policies_pass_their_own_tests_and_have_some() {
    let policies = shipped();
    let tested = policy::test(&policies);
    for policy in &policies {
        let of: Vec<_> = tested.iter().filter(|t| t.policy == policy.name()).collect();
        assert!(of.iter().filter(|t| t.expected).count() > 3 && of.iter().filter(|t| !t.expected).count() > 3);
    }
    for test in tested {
        assert!(test.passed(), "{}: `{}`: {:?}", test.location, test.description, test.because);
    }
}

#[test]
fn the_template_has_every_key_with_its_default() {
    let keys = |text: &str| -> Vec<String> {
        let uncommented = |l: &str| l.trim_start_matches("# ").split_once('=').map(|(k, _)| k.trim().to_string());
        text.lines().filter_map(uncommented).collect()
    };
    let has = keys(TEMPLATE);
    for key in [
        "level",
        "action",
        "reason",
        "any",
        "all",
        "none",
        "except",
        "concepts",
        "min-score",
        "min-effect",
        "min-auc",
        "min-share",
        "min-r",
        "sites",
        "exclude",
        "max-units",
        "max-share",
        "positive",
        "leave-out",
        "site",
        "unit",
        "expires",
        "description",
        "matches",
    ] {
        assert!(has.iter().any(|k| k == key), "no `{key}` in the template");
    }
    for table in ["[match]", "[groups]", "[scope]", "[limits]", "[lints]", "[labels]", "[[waive]]", "[[test]]"] {
        assert!(TEMPLATE.contains(&format!("\n{table}\n")) || TEMPLATE.contains(&format!("\n# {table}\n")), "{table}");
    }
    // A policy that says only what it must means the same.
    let entry = "example of what no unit should respond to";
    let short = format!(
        "level = 'deny'\nreason = 'r'\n[match]\nany = ['{entry}']\nnone = ['nowhere']\n[scope]\nexclude = ['x']\n"
    );
    let long = TEMPLATE
        .replace("\"allow\"\n# What", "\"deny\"\n# What")
        .replace("none     = []", "none     = ['nowhere']")
        .replace("exclude = []", "exclude = ['x']");
    let [short, long] = [short, long].map(|text| {
        let policies = Policies::parse("p", &text).unwrap_or_else(|e| panic!("{e}"));
        let outcome = check(&policies, &[unit("s", 0, entry)]);
        let notices: Vec<_> = outcome.notices.iter().map(|n| (n.code, n.level)).collect();
        (outcome.policies[0].limit, outcome.policies[0].action, notices, outcome.denied())
    });
    assert_eq!(short, long);
    assert!(short.3, "the level was changed");
}

#[test]
fn the_text_policy_denies_painted_text_and_leaves_textures_alone() {
    let texts = ["text", "texture", "textile", "vertical stripes", "Words and grids", "the contextual surface"];
    let units: Vec<_> = texts.iter().enumerate().map(|(i, t)| unit("s", i, t)).collect();
    let outcome = check(&shipped(), &units);
    assert_eq!(units_found(&outcome), ["s/0", "s/4"]);
    assert!(outcome.denied() && outcome.wanted().zero.len() == 2);
}

/// F1 and errors of a shipped policy on labelled descriptions; None, with a word, where there are none.
fn agreement(policy: &str, file: &str) -> Option<(f64, usize)> {
    let folder = std::env::var("TCH_AUDIT_DATA").unwrap_or_else(|_| "../shared/data".into());
    let path = std::path::Path::new(&folder).join("descriptions").join(file);
    if !path.is_file() {
        println!("skipped: {} is not there (set TCH_AUDIT_DATA)", path.display());
        return None;
    }
    let policies = shipped();
    let labels = policies.get(policy).unwrap().labels().clone();
    let agreement = policy::evaluate(&policies, policy, &labels, &path).unwrap().expect("a labelled column");
    for mistake in &agreement.mistakes {
        println!("{}: expected {}: {}", mistake.location, mistake.expected, mistake.description);
    }
    assert!(agreement.rows() > 300 && agreement.true_positives > 10, "{file}: too few rows to judge");
    Some((agreement.f1()?, agreement.mistakes.len()))
}

#[test]
fn shipped_policies_agree_with_labels_of_machine_descriptions() {
    for (policy, file, errors) in
        [("text", "labels_text.csv", 1), ("faces", "labels_faces.csv", 2), ("people", "labels_people.csv", 5)]
    {
        if let Some((f1, wrong)) = agreement(policy, file) {
            assert!(wrong <= errors, "{policy}: {wrong} errors, F1 {f1}");
        }
    }
}

#[test]
fn shipped_policies_agree_with_labels_of_human_phrases() {
    for (policy, least, errors) in [("text", 0.97, usize::MAX), ("faces", 0.0, 2), ("people", 0.95, usize::MAX)] {
        if let Some((f1, wrong)) = agreement(policy, "labels_human_phrases.csv") {
            assert!(f1 >= least && wrong <= errors, "{policy}: {wrong} errors, F1 {f1}");
        }
    }
}
