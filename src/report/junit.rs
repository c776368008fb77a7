//! JUnit XML, for the test tab of a CI system: a suite per site, a case per policy in whose scope the site is.
//!
//! A case fails when its policy is of level `deny`, is violated, and has a finding in the site that counts and is new.
//! Everything else passes and is listed too; what was found all the same stands in the case's output. A last suite,
//! `policies`, has a case per policy for what is to be known about the policy itself.

use super::Report;
use super::escape::line;
use crate::policy::{Finding, Level, PolicySummary, Standing, Verdict};
use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The name of the suite about the policies themselves.
const POLICIES: &str = "policies";

/// Writes the report; characters that XML cannot hold, or that show nothing, are written as escapes.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut junit = Junit::new("tch-audit");
    let mut findings = BTreeMap::<(&str, &str), Vec<&Finding>>::new();
    for finding in &report.findings {
        findings.entry((&finding.unit.site, &finding.policy)).or_default().push(finding);
    }
    let mut sites: Vec<&str> = report.policies.iter().flat_map(|p| p.sites.iter().map(String::as_str)).collect();
    sites.sort_unstable();
    sites.dedup();
    for site in sites {
        let mut suite = TestSuite::new(line(site));
        for policy in report.policies.iter().filter(|p| p.sites.iter().any(|s| s == site)) {
            let found = findings.get(&(site, policy.name.as_str())).map_or(&[][..], Vec::as_slice);
            suite.add_test_case(case(site, policy, found));
        }
        junit.add_test_suite(suite);
    }
    let mut suite = TestSuite::new(POLICIES);
    for policy in &report.policies {
        suite.add_test_case(about(report, POLICIES, &policy.name, Some(&policy.name)));
    }
    if report.policies.is_empty() || report.notices.iter().any(|n| n.policy.is_none()) {
        suite.add_test_case(about(report, POLICIES, "audit", None));
    }
    junit.add_test_suite(suite);
    junit.serialize(&mut *out).map_err(io::Error::other)
}

fn case(site: &str, policy: &PolicySummary, found: &[&Finding]) -> TestCase {
    let tell = |finding: &&Finding| {
        let words = &finding.description;
        let standing = match &finding.standing {
            Standing::New => String::new(),
            Standing::Known => "known: ".to_string(),
            Standing::Waived { reason, .. } => format!("waived ({reason}): "),
        };
        let because = finding.because.join("; ");
        line(&format!("{standing}{} ({words}): {because} [{}]", finding.unit, finding.location))
    };
    let text = found.iter().map(tell).collect::<Vec<_>>().join("\n");
    let new = found.iter().filter(|f| f.standing == Standing::New).count();
    let failed = policy.level == Level::Deny && policy.verdict == Verdict::Violated && new > 0;
    let mut case = if failed {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        let units = super::plural(new, "unit", "units");
        status.set_type("denied-concept").set_message(line(&format!("{units}: {}", policy.reason)));
        status.set_description(text.clone());
        TestCase::new(line(&policy.name), status)
    } else if policy.verdict == Verdict::Unjudged {
        let mut status = TestCaseStatus::skipped();
        status.set_message("no unit could match: none is in scope, or the describer has no words for it");
        TestCase::new(line(&policy.name), status)
    } else {
        TestCase::new(line(&policy.name), TestCaseStatus::success())
    };
    case.set_classname(line(site));
    if !failed && !text.is_empty() {
        case.set_system_out(text);
    }
    case
}

/// The case of the notices about one policy, or about none.
fn about(report: &Report, class: &str, name: &str, policy: Option<&str>) -> TestCase {
    let notices: Vec<_> = report.notices.iter().filter(|n| n.policy.as_deref() == policy).collect();
    let text: Vec<String> = notices.iter().map(|n| line(&n.to_string())).collect();
    let status = match notices.iter().find(|n| n.level == Level::Deny) {
        Some(worst) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(worst.code.as_str()).set_message(line(&worst.message)).set_description(text.join("\n"));
            status
        }
        None => TestCaseStatus::success(),
    };
    let passed = matches!(status, TestCaseStatus::Success { .. });
    let mut case = TestCase::new(line(name), status);
    case.set_classname(class);
    if passed && !text.is_empty() {
        case.set_system_out(text.join("\n"));
    }
    case
}
