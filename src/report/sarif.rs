//! SARIF 2.1.0, as GitHub code scanning accepts it.
//!
//! A rule per policy (`policy/text`) and per code of a notice (`lint/expired-waiver`); a result per finding and notice. The
//! physical location is the line of the policy that caused it, since a result without one is refused; the logical location
//! is the unit. Waived findings are suppressed results, known ones have the baseline state `unchanged`.
//!
//! GitHub takes at most 25,000 results and 10 MB compressed; the file stays below both, whatever it compresses to, and
//! says when it leaves results out: the least grave ones.
//!
//! **Source:** OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0, 2020.

use super::Report;
use super::escape::{line, uri};
use crate::policy::{Code, Finding, Level, Location, Notice, PolicySummary, Standing};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The address of the schema.
const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// The most results of one run.
pub const MAX_RESULTS: usize = 25_000;
/// The most bytes of results, uncompressed.
pub const MAX_BYTES: usize = 9_500_000;
/// The most characters of one message.
const MAX_TEXT: usize = 1_000;
/// The most characters of a name.
const MAX_NAME: usize = 255;

/// Writes one run, gravest results first.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut codes: Vec<Code> = report.notices.iter().map(|n| n.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let policies: BTreeMap<&str, usize> =
        report.policies.iter().enumerate().map(|(i, p)| (p.name.as_str(), i)).collect();
    let lint = |code: Code| codes.binary_search(&code).map(|i| policies.len() + i);
    let rules: Vec<Value> =
        report.policies.iter().map(policy_rule).chain(codes.iter().map(|c| lint_rule(*c))).collect();

    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|f| (std::cmp::Reverse(report.gravity(f)), std::cmp::Reverse(f.level), order(&f.standing)));
    let with_baseline = report.findings.iter().any(|f| f.standing == Standing::Known);
    let notices = report.notices.iter().map(|n| notice_result(n, lint(n.code).ok()));
    let findings = findings
        .into_iter()
        .map(|f| finding_result(report, f, policies.get(f.policy.as_str()).copied(), with_baseline));
    let total = report.notices.len() + report.findings.len();
    // As text from here on: what is measured is what is written.
    let (mut results, mut shown) = (Vec::new(), 0);
    for result in notices.chain(findings) {
        let before = results.len();
        results.extend_from_slice(if shown == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut results, &result)?;
        if shown == MAX_RESULTS || results.len() > MAX_BYTES {
            results.truncate(before);
            break;
        }
        shown += 1;
    }
    let mut notifications = Vec::new();
    if shown < total {
        let message = format!(
            "{shown} of {total} results are shown, the gravest ones: GitHub takes {MAX_RESULTS} results and 10 MB. All are \
             in report.json."
        );
        notifications.push(json!({ "level": "warning", "message": { "text": message } }));
    }
    let name = if report.model.name.is_empty() { "descriptions" } else { &report.model.name };
    let run = json!({
        "tool": { "driver": {
            "name": report.tool.name,
            "version": report.tool.version,
            "semanticVersion": report.tool.version,
            "rules": rules,
        } },
        "automationDetails": { "id": format!("tch-audit/{}/", short(name, MAX_NAME).replace('/', "-")) },
        "invocations": [{
            "executionSuccessful": true,
            "exitCode": i32::from(report.denied),
            "toolExecutionNotifications": notifications,
        }],
        "columnKind": "unicodeCodePoints",
        "properties": { "verdict": short(&report.verdict, MAX_TEXT) },
    });
    let run = run.to_string();
    // The results go before the closing brace of the run.
    let run = run.strip_suffix('}').unwrap_or(&run);
    write!(out, "{{\"$schema\":\"{SCHEMA}\",\"version\":\"2.1.0\",\"runs\":[{run},\"results\":[")?;
    out.write_all(&results)?;
    writeln!(out, "]}}]}}")
}

fn policy_rule(policy: &PolicySummary) -> Value {
    let reason = short(&policy.reason, MAX_TEXT);
    let verdict = format!(
        "Policy `{}` is {}: {} of {} units, {} tolerated, {} known, {} waived. {reason}",
        policy.name, policy.verdict, policy.findings, policy.units, policy.limit, policy.known, policy.waived
    );
    rule(&format!("policy/{}", policy.name), &policy.name, &reason, &verdict, policy.level)
}

fn lint_rule(code: Code) -> Value {
    let explanation = code.explanation();
    let first = explanation.split_inclusive(". ").next().unwrap_or(explanation);
    rule(&format!("lint/{code}"), code.as_str(), first.trim(), explanation, Level::Warn)
}

fn rule(id: &str, name: &str, title: &str, help: &str, level: Level) -> Value {
    json!({
        "id": short(id, MAX_NAME),
        "name": short(name, MAX_NAME),
        "shortDescription": { "text": short(title, MAX_TEXT) },
        "fullDescription": { "text": short(title, MAX_TEXT) },
        "help": { "text": short(help, MAX_TEXT) },
        "defaultConfiguration": { "level": sarif_level(level) },
        "properties": { "tags": ["neural-network"], "problem.severity": match level {
            Level::Deny => "error",
            Level::Warn => "warning",
            Level::Allow => "recommendation",
        } },
    })
}

fn finding_result(report: &Report, finding: &Finding, rule: Option<usize>, with_baseline: bool) -> Value {
    let words = finding.description.as_str();
    let message = format!("{} ({}): {}", finding.unit, short(words, 200), finding.because.join("; "));
    let suppressions = match &finding.standing {
        Standing::Waived { reason, .. } => {
            json!([{ "kind": "external", "status": "accepted", "justification": short(reason, MAX_TEXT) }])
        }
        _ => json!([]),
    };
    let mut result = json!({
        "ruleId": short(&format!("policy/{}", finding.policy), MAX_NAME),
        // What a policy tolerates is a note; what is known or waived is told as such beside it.
        "level": sarif_level(match finding.standing {
            Standing::New => report.gravity(finding),
            _ => finding.level,
        }),
        "message": { "text": short(&message, MAX_TEXT) },
        "locations": [location(&finding.location, Some(finding))],
        "partialFingerprints": { "tchAuditFinding/v1": finding.fingerprint },
        "suppressions": suppressions,
        "properties": {
            "description": short(words, MAX_TEXT),
            "score": report.unit(&finding.unit).map(|u| u.description.score),
            "reproduce": finding.reproduce.as_ref().map(|r| short(r, MAX_TEXT)),
        },
    });
    set(&mut result, "ruleIndex", rule.map(Value::from));
    let state = if finding.standing == Standing::Known { "unchanged" } else { "new" };
    set(&mut result, "baselineState", with_baseline.then(|| Value::from(state)));
    result
}

fn notice_result(notice: &Notice, rule: Option<usize>) -> Value {
    let about = notice.policy.as_ref().map_or(String::new(), |p| format!("{p}: "));
    let message = short(&format!("{about}{}", notice.message), MAX_TEXT);
    let key = blake3::hash(format!("{}\0{about}\0{}", notice.code, notice.message).as_bytes());
    let fingerprint: String = key.to_hex().chars().take(32).collect();
    let mut result = json!({
        "ruleId": format!("lint/{}", notice.code),
        "level": sarif_level(notice.level),
        "message": { "text": message },
        "locations": [location(&notice.location, None)],
        "partialFingerprints": { "tchAuditFinding/v1": fingerprint },
        "suppressions": [],
    });
    set(&mut result, "ruleIndex", rule.map(Value::from));
    result
}

/// The line of the policy and, for a finding, the unit.
fn location(place: &Location, finding: Option<&Finding>) -> Value {
    let mut location = json!({
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&place.file) },
            "region": { "startLine": place.line.max(1), "startColumn": place.column.max(1) },
        },
    });
    let logical = finding.map(|f| {
        json!([{
            "name": short(&f.unit.unit.to_string(), MAX_NAME),
            "fullyQualifiedName": short(&f.unit.to_string(), MAX_TEXT),
            "kind": "member",
        }])
    });
    set(&mut location, "logicalLocations", logical);
    location
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let (Value::Object(map), Some(value)) = (object, value) {
        map.insert(key.to_string(), value);
    }
}

/// What counts first.
fn order(standing: &Standing) -> u8 {
    match standing {
        Standing::New => 0,
        Standing::Known => 1,
        Standing::Waived { .. } => 2,
    }
}

fn sarif_level(level: Level) -> &'static str {
    match level {
        Level::Deny => "error",
        Level::Warn => "warning",
        Level::Allow => "note",
    }
}

/// One line of at most `most` characters, hidden characters shown as escapes. Never empty: SARIF asks for text.
fn short(text: &str, most: usize) -> String {
    let head: String = text.chars().take(most).collect();
    let cut = head.len() < text.len();
    let mut out = line(&head);
    if cut || out.chars().count() > most {
        out = out.chars().take(most.saturating_sub(1)).collect::<String>() + "…";
    }
    if out.is_empty() { "-".to_string() } else { out }
}
