//! Malformed input of every kind: exit code 2, a message with the place, what was received and what is allowed, and
//! nothing written.

use assert_cmd::Command;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// One run in a folder of its own.
struct Case<'a> {
    name: &'a str,
    /// What the folder holds; a name that ends in `/` is a folder.
    files: &'a [(&'a str, &'a [u8])],
    args: &'a [&'a str],
    /// What the message must say.
    parts: &'a [&'a str],
}

/// A row of a table for one kind of file: name, contents, parts of the message.
type Row<'a> = (&'a str, &'a [u8], &'a [&'a str]);

/// Descriptions that are well formed, and that no shipped policy of level `deny` minds.
const OK: (&str, &[u8]) = ("ok.csv", b"layer,unit,description\nconv1,0,dogs\nconv1,1,tall trees\n");

impl Case<'_> {
    /// Everything that is not as it must be; empty if all is well.
    fn complaints(&self) -> Vec<String> {
        let folder = TempDir::new().unwrap();
        for (name, contents) in self.files {
            let path = folder.path().join(name);
            if name.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, contents).unwrap();
            }
        }
        let before = listing(folder.path());
        let mut command = Command::cargo_bin("tch-audit").unwrap();
        let output = command.args(self.args).env("NO_COLOR", "1").current_dir(folder.path()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let mut complaints = Vec::new();
        if output.status.code() != Some(2) {
            complaints.push(format!("exit code {:?}", output.status.code()));
        }
        complaints.extend(self.parts.iter().filter(|part| !err.contains(**part)).map(|part| format!("no `{part}`")));
        let surprises =
            ["panicked", "frame #", ".cpp", "libtorch", "RUST_BACKTRACE", "expected: expected", "\u{1b}", "\0"];
        let here = folder.path().to_string_lossy();
        let surprises = surprises.into_iter().chain([&*here]).filter(|surprise| err.contains(surprise));
        complaints.extend(surprises.map(|surprise| format!("{surprise:?} in the message")));
        if !out.is_empty() {
            complaints.push(format!("on standard output: {out}"));
        }
        if listing(folder.path()) != before {
            complaints.push("files were written".to_string());
        }
        if !complaints.is_empty() {
            complaints = vec![format!("== {}: {}\n{err}", self.name, complaints.join("; "))];
        }
        complaints
    }
}

/// Every file and folder below `folder`, with its contents.
fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push((path.to_string_lossy().into_owned(), fs::read(&path).unwrap_or_default()));
        if path.is_dir() {
            all.extend(listing(&path));
        }
    }
    all.sort();
    all
}

fn complaints_of(cases: &[Case]) -> Vec<String> {
    cases.iter().flat_map(Case::complaints).collect()
}

/// Every row as the contents of `file`, behind `head` and next to [`OK`].
fn complaints_of_rows(rows: &[Row], file: &str, head: &[u8], args: &[&str]) -> Vec<String> {
    let complaints = |(name, contents, parts): &Row| {
        let contents = [head, contents].concat();
        Case { name, files: &[OK, (file, &contents)], args, parts }.complaints()
    };
    rows.iter().flat_map(complaints).collect()
}

#[track_caller]
fn all_refused(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

const JUDGE: &[&str] = &["check", "--descriptions", "ok.csv", "--policies", "bad.toml"];

#[test]
fn whole_policies() {
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("empty", b"",
            &["missing-key", "bad.toml:1:1", "no `level`", "\"allow\", \"warn\" or \"deny\"", "no `reason`"]),
        ("no value", b"level =\n", &["toml-syntax", "bad.toml:1:8", "expected"]),
        ("no equals sign", b"level 'deny'\n", &["toml-syntax", "bad.toml:1:7", "expected `=`"]),
        ("open string", b"level = \"deny\nreason = 'r'\n", &["toml-syntax", "bad.toml:1:14", "expected `\"`"]),
        ("open list", b"match.any = ['a',\n", &["toml-syntax", "bad.toml:1:18", "expected `]`"]),
        ("open heading", b"level = 'deny'\n[match\n", &["toml-syntax", "bad.toml:2:7", "expected", "`]`"]),
        ("same key twice", b"level = 'deny'\nlevel = 'warn'\n", &["bad.toml:2:1", "duplicate key"]),
        ("same table twice", b"[scope]\n[match]\n[scope]\n", &["bad.toml:3:2", "duplicate key"]),
        ("misspelt key", b"levle = 'deny'\n", &["unknown-key", "bad.toml:1:1", "`levle`", "`level`?", "reason, match"]),
        ("misspelt table", b"level = 'deny'\n[mtach]\n", &["unknown-key", "bad.toml:2:2", "`mtach`", "`match`?"]),
        ("unknown level", b"level = 'denny'\n", &["bad.toml:1:9", "`denny`", "`deny`?", "expected: allow, warn, deny"]),
        ("wrong case", b"level = 'DENY'\n", &["bad.toml:1:9", "`DENY`", "`deny`?", "expected: allow, warn, deny"]),
        ("level of wrong type", b"level = 3\n", &["wrong-type", "bad.toml:1:9", "integer `3`", "a string"]),
        ("reason of wrong type", b"level = 'deny'\nreason = ['r']\n", &["wrong-type", "bad.toml:2:10", "a string"]),
        ("match of wrong type", b"match = 3\n", &["wrong-type", "bad.toml:1:9", "integer `3`", "[match]"]),
        ("array of tables", b"level = 'deny'\nreason = 'r'\n[[match]]\nany = ['x']\n", &["bad.toml:3:", "[match]"]),
        ("missing level", b"reason = 'r'\nmatch.any = ['x']\n", &["missing-key", "bad.toml:1:1", "no `level`"]),
        ("missing reason", b"level = 'deny'\nmatch.any = ['x']\n", &["missing-key", "no `reason`", "why this policy"]),
        ("empty reason", b"level = 'deny'\nreason = ' '\n", &["empty-value", "bad.toml:2:10", "the reason is empty"]),
        ("NUL", b"level = 'de\0ny'\n", &["toml-syntax", "bad.toml:1:12"]),
        ("not UTF-8", b"level = 'deny'\nreason = 'caf\xe9'\n", &["bad-encoding", "bad.toml:2:14", "0xe9", "UTF-8"]),
        ("half of UTF-16", b"\xff\xfel\0e\0v", &["bad-encoding", "bad.toml:1:", "expected: text in UTF-8 or UTF-16"]),
        ("binary", b"PK\x03\x04\x14\0\0\0", &["error[", "bad.toml:1:"]),
        ("unicode quotes", "level = “deny”\n".as_bytes(), &["toml-syntax", "bad.toml:1:9"]),
        ("control sequences", b"level = '\x1b[2Jdeny'\n", &["bad.toml:1:10"]),
    ];
    all_refused(&complaints_of_rows(rows, "bad.toml", b"", JUDGE));
}

#[test]
fn tables_of_policies() {
    // Two lines stand in front of each.
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("nothing to look for", b"", &["no-rule", "bad.toml:1:1", "nothing to look for", "any, all or concepts"]),
        ("empty match", b"[match]\nnone = ['a']\n", &["no-rule", "bad.toml:3:1", "any, all or concepts"]),
        ("unknown in match", b"[match]\nanny = ['a']\n",
            &["unknown-key", "bad.toml:4:1", "`anny`", "`any`?", "concepts"]),
        ("in the wrong table", b"[match]\nmax-units = 1\n", &["bad.toml:4:1", "`max-units` belongs in `[limits]`"]),
        ("at the wrong place", b"[match]\nlevel = 'deny'\n", &["bad.toml:4:1", "belongs at the top of the file"]),
        ("string for a list", b"[match]\nany = 'text'\n",
            &["wrong-type", "bad.toml:4:7", "string \"text\"", "`any`", "list of strings"]),
        ("number in a list", b"[match]\nany = ['a', 3]\n", &["wrong-type", "bad.toml:4:13", "integer `3`", "a string"]),
        ("entry without letters", b"match.any = ['...']\n",
            &["empty-value", "bad.toml:3:14", "`...`", "a word, a phrase"]),
        ("empty entry", b"match.any = ['']\n", &["empty-value", "bad.toml:3:14", "a word, a phrase"]),
        ("open group in regex", b"match.any = ['/a(/']\n", &["bad-regex", "bad.toml:3:17", "`/a(/`", "unclosed group"]),
        ("regex without end", b"match.all = ['/abc']\n", &["bad-regex", "bad.toml:3:19", "does not end with one"]),
        ("regex for nothing", b"match.none = ['/x*/']\n", &["empty-value", "bad.toml:3:15", "matches the empty text"]),
        ("regex too large", b"match.any = ['/(\\w{100}){100}/']\n", &["bad-regex", "bad.toml:3:14", "larger than"]),
        ("unknown group", b"match.any = ['{anmal} face']\ngroups.animal = ['dog']\n",
            &["unknown-group", "bad.toml:3:15", "`animal`?"]),
        ("no groups", b"match.any = ['{animal} face']\n", &["unknown-group", "bad.toml:3:15", "[groups]"]),
        ("open brace", b"match.any = ['{animal face']\ngroups.animal = ['dog']\n",
            &["unknown-group", "bad.toml:3:15", "}"]),
        ("unknown concept", b"match.concepts = ['tekst']\n",
            &["unknown-concept", "bad.toml:3:19", "`tekst`", "`text`?", "stripes"]),
        ("empty concept", b"match.concepts = ['']\n", &["empty-value", "bad.toml:3:19", "a name such as `text`"]),
        ("AUC over 1", b"[match]\nconcepts = ['text']\nmin-auc = 1.5\n",
            &["out-of-range", "bad.toml:5:11", "1.5", "from 0 to 1"]),
        ("NaN", b"[match]\nconcepts = ['text']\nmin-effect = nan\n",
            &["out-of-range", "bad.toml:5:14", "NaN", "at least 0"]),
        ("infinite", b"[match]\nany = ['x']\nmin-score = inf\n",
            &["out-of-range", "bad.toml:5:13", "inf", "a finite number"]),
        ("negative share", b"[match]\nconcepts = ['text']\nmin-share = -0.1\n",
            &["bad.toml:5:13", "-0.1", "from 0 to 1"]),
        ("string for a number", b"[match]\nany = ['x']\nmin-score = 'high'\n",
            &["wrong-type", "bad.toml:5:13", "\"high\"", "number"]),
        ("idle minimum", b"[match]\nany = ['x']\nmin-auc = 0.9\n",
            &["idle-key", "bad.toml:5:11", "`min-auc`", "concepts = ["]),
        ("unknown in scope", b"match.any = ['x']\n[scope]\nsite = ['a']\n",
            &["unknown-key", "bad.toml:5:1", "`sites`?", "exclude"]),
        ("string for globs", b"match.any = ['x']\nscope.sites = 'a'\n", &["wrong-type", "bad.toml:4:15", "list"]),
        ("bad glob", b"match.any = ['x']\nscope.sites = ['layer[3']\n",
            &["bad-glob", "bad.toml:4:16", "`layer[3`", "`layer3*`"]),
        ("empty glob", b"match.any = ['x']\nscope.exclude = ['']\n",
            &["empty-value", "bad.toml:4:18", "glob", "`layer3*`"]),
        ("unknown in limits", b"match.any = ['x']\nlimits.max-unit = 3\n",
            &["unknown-key", "bad.toml:4:8", "`max-units`?", "max-share"]),
        ("negative limit", b"match.any = ['x']\nlimits.max-units = -1\n",
            &["out-of-range", "bad.toml:4:20", "-1", "at least 0"]),
        ("half a unit", b"match.any = ['x']\nlimits.max-units = 1.5\n",
            &["wrong-type", "bad.toml:4:20", "1.5", "whole number"]),
        ("limit too large", b"match.any = ['x']\nlimits.max-units = 99999999999999999999\n",
            &["bad.toml:4:20", "number"]),
        ("share over 1", b"match.any = ['x']\nlimits.max-share = 2\n",
            &["out-of-range", "bad.toml:4:20", "2", "from 0 to 1"]),
        ("unknown lint", b"match.any = ['x']\nlints.expired-waver = 'deny'\n",
            &["bad.toml:4:7", "`expired-waiver`?", "empty-scope"]),
        ("level of a lint", b"match.any = ['x']\nlints.empty-scope = 'error'\n",
            &["bad.toml:4:21", "`error`", "allow, warn, deny"]),
        ("type of a lint", b"match.any = ['x']\nlints.empty-scope = true\n",
            &["wrong-type", "bad.toml:4:21", "boolean", "a string"]),
        ("unknown in labels", b"match.any = ['x']\nlabels.positives = ['a']\n",
            &["unknown-key", "bad.toml:4:8", "`positive`?"]),
        ("idle label", b"match.any = ['x']\nlabels.leave-out = ['a']\n",
            &["idle-key", "bad.toml:4:21", "positive = ["]),
        ("empty label", b"match.any = ['x']\nlabels.positive = ['']\n",
            &["empty-value", "bad.toml:4:20", "the name of a column"]),
        ("empty group", b"match.any = ['x']\ngroups.animal = []\n",
            &["empty-value", "bad.toml:4:8", "`animal`", "a list of words"]),
        ("phrase in a group", b"match.any = ['x']\ngroups.animal = ['big dog']\n",
            &["bad.toml:4:18", "`big dog`", "one word"]),
        ("name of a group", b"match.any = ['x']\ngroups.'a{b' = ['dog']\n",
            &["unknown-value", "bad.toml:4:8", "`a{b`", "letters, digits"]),
        ("type of a group", b"match.any = ['x']\ngroups.animal = 'dog'\n", &["wrong-type", "bad.toml:4:17", "list"]),
    ];
    all_refused(&complaints_of_rows(rows, "bad.toml", b"level = 'deny'\nreason = 'r'\n", JUDGE));
}

#[test]
fn waivers_and_tests_of_policies() {
    // Four lines stand in front of each.
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("unknown in waiver", b"[[waive]]\nsites = 'a'\n", &["unknown-key", "bad.toml:6:1", "`site`?", "expires"]),
        ("single waiver", b"[waive]\nsite = 'a'\nreason = 'r'\n", &["wrong-type", "bad.toml:5:", "[[waive]]"]),
        ("waives everything", b"[[waive]]\nreason = 'r'\n", &["no-rule", "bad.toml:5:1", "site, unit or description"]),
        ("unit without site", b"[[waive]]\nunit = 3\nreason = 'r'\n",
            &["missing-key", "bad.toml:6:8", "no `site`", "site = "]),
        ("no reason", b"[[waive]]\nsite = 'a'\n", &["missing-key", "bad.toml:5:1", "no `reason`", "why the finding"]),
        ("empty reason", b"[[waive]]\nsite = 'a'\nreason = ''\n", &["empty-value", "bad.toml:7:10", "why the finding"]),
        ("negative unit", b"[[waive]]\nsite = 'a'\nunit = -1\nreason = 'r'\n",
            &["out-of-range", "bad.toml:7:8", "-1", "at least 0"]),
        ("unit of wrong type", b"[[waive]]\nsite = 'a'\nunit = '3'\nreason = 'r'\n",
            &["wrong-type", "bad.toml:7:8", "a unit's number"]),
        ("no units", b"[[waive]]\nsite = 'a'\nunit = []\nreason = 'r'\n",
            &["empty-value", "bad.toml:7:8", "a unit's number"]),
        ("no such day", b"[[waive]]\nsite = 'a'\nreason = 'r'\nexpires = '2027-02-30'\n",
            &["bad-date", "bad.toml:8:11", "`2027-02-30`", "2027-03-31"]),
        ("not a date", b"[[waive]]\nsite = 'a'\nreason = 'r'\nexpires = 'soon'\n",
            &["bad-date", "bad.toml:8:11", "`soon`", "2027-03-31"]),
        ("date and time", b"[[waive]]\nsite = 'a'\nreason = 'r'\nexpires = 2027-03-31T12:00:00\n",
            &["bad-date", "bad.toml:8:11", "2027-03-31"]),
        ("year as a number", b"[[waive]]\nsite = 'a'\nreason = 'r'\nexpires = 2027\n",
            &["wrong-type", "bad.toml:8:11", "`2027`", "2027-03-31"]),
        ("glob of a waiver", b"[[waive]]\nsite = 'a{'\nreason = 'r'\n",
            &["bad-glob", "bad.toml:6:8", "`a{`", "`layer3*`"]),
        ("regex of a waiver", b"[[waive]]\ndescription = '/[/'\nreason = 'r'\n",
            &["bad-regex", "bad.toml:6:", "unclosed character class"]),
        ("unknown in test", b"[[test]]\ndescription = 'a'\nmatch = true\n",
            &["unknown-key", "bad.toml:7:1", "`matches`?"]),
        ("test without verdict", b"[[test]]\ndescription = 'a'\n",
            &["missing-key", "bad.toml:5:1", "no `matches`", "true or false"]),
        ("test without text", b"[[test]]\nmatches = true\n", &["missing-key", "bad.toml:5:1", "no `description`"]),
        ("test of wrong type", b"[[test]]\ndescription = 'a'\nmatches = 'yes'\n",
            &["wrong-type", "bad.toml:7:11", "\"yes\"", "true or false"]),
        ("several faults", b"[[test]]\n[[waive]]\nsite = ''\n",
            &["bad.toml:5:1", "bad.toml:6:1", "bad.toml:7:8", "no `reason`"]),
    ];
    all_refused(&complaints_of_rows(rows, "bad.toml", b"level = 'deny'\nreason = 'r'\n[match]\nany = ['x']\n", JUDGE));
}

#[test]
fn policies_as_files() {
    let good: &[u8] = b"level = 'deny'\nreason = 'r'\nmatch.any = ['x']\n";
    let huge = vec![b'#'; (1 << 24) + 1];
    let list: &[&str] = &["policies", "list", "p"];
    all_refused(&complaints_of(&[
        Case { name: "missing file", files: &[OK], args: JUDGE, parts: &["bad.toml", "No such file"] },
        Case { name: "missing folder", files: &[], args: list, parts: &["cannot read p", "No such file"] },
        Case {
            name: "folder called .toml",
            files: &[OK, ("bad.toml/", b"")],
            args: JUDGE,
            parts: &["bad.toml", ".toml"],
        },
        Case {
            name: "empty folder",
            files: &[("p/", b"")],
            args: list,
            parts: &["received p", "at least one", ".toml"],
        },
        Case {
            name: "no policy in the folder",
            files: &[("p/notes.txt", b"a"), ("p/.hidden.toml", good), ("p/sub/a.toml", good)],
            args: list,
            parts: &["received p", "at least one", ".toml"],
        },
        Case {
            name: "larger than 16 MB",
            files: &[OK, ("bad.toml", &huge)],
            args: JUDGE,
            parts: &["the size of bad.toml", "more than", "at most 16"],
        },
        Case {
            name: "one name twice",
            files: &[("p/a.toml", good), ("q/a.toml", good)],
            args: &["policies", "test", "p", "q"],
            parts: &["`a`", "p/a.toml", "q/a.toml"],
        },
        Case {
            name: "one file twice",
            files: &[("p/a.toml", good)],
            args: &["policies", "test", "p", "p/a.toml"],
            parts: &["`a`", "p/a.toml"],
        },
        Case {
            name: "faults of two files",
            files: &[("p/b.toml", b"levl = 1\n"), ("p/a.toml", b"x = 1\n"), ("p/c.toml", good)],
            args: list,
            parts: &["p/a.toml:1:1", "p/b.toml:1:1", "`levl`"],
        },
        Case {
            name: "a table",
            files: &[OK],
            args: &["policies", "list", "ok.csv"],
            parts: &["toml-syntax", "ok.csv:1:6"],
        },
        Case {
            name: "a file in the place of a folder",
            files: &[("p/a.toml", b"x = 1\n")],
            args: &["policies", "init", "p/a.toml/b"],
            parts: &["p/a.toml/b", "cannot create"],
        },
        Case {
            name: "a file that is there already",
            files: &[("policies/text.toml", good)],
            args: &["policies", "init"],
            parts: &["nothing was written", "policies/text.toml"],
        },
        Case {
            name: "a policy that does not come with the program",
            files: &[],
            args: &["policies", "init", "--only", "face"],
            parts: &["`face`", "`faces`"],
        },
    ]));
}

#[test]
fn configurations() {
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("empty", b"", &["nothing to judge", "--descriptions"]),
        ("syntax", b"format = \n", &["toml-syntax", "audit.toml:1:10", "expected"]),
        ("same key twice", b"out = 'a'\nout = 'b'\n", &["audit.toml:2:1", "duplicate key"]),
        ("misspelt key", b"descriptions = 'ok.csv'\npolicy = ['p']\n",
            &["unknown-key", "audit.toml:2:1", "`policy`", "`policies`?"]),
        ("underscore", b"descriptions = 'ok.csv'\nwrite_baseline = true\n", &["audit.toml:2:1", "`write-baseline`?"]),
        ("a table", b"descriptions = 'ok.csv'\n[match]\nany = ['x']\n", &["unknown-key", "audit.toml:2:2", "`match`"]),
        ("not in a file", b"config = 'other.toml'\n", &["unknown-key", "audit.toml:1:1", "`config`"]),
        ("word for yes", b"write-baseline = 'yes'\n", &["wrong-type", "audit.toml:1:18", "a string", "true or false"]),
        ("list for one", b"descriptions = ['ok.csv', 'b.csv']\n",
            &["wrong-type", "audit.toml:1:16", "an array", "a string"]),
        ("list of lists", b"policies = [['a']]\n", &["wrong-type", "audit.toml:1:13", "an array", "a list of strings"]),
        ("truth for a name", b"allow = true\n", &["wrong-type", "audit.toml:1:9", "a boolean", "a list of strings"]),
        ("unknown format", b"descriptions = 'ok.csv'\nformat = ['sariff']\n",
            &["unknown-value", "audit.toml:2:11", "`sariff`", "`sarif`", "junit"]),
        ("unknown colour", b"color = 'sometimes'\n",
            &["unknown-value", "audit.toml:1:9", "`sometimes`", "auto, always, never"]),
        ("no such day", b"today = 2027-02-30\n", &["audit.toml:1:", "2027-02-30"]),
        ("not a date", b"today = 'tomorrow'\n", &["unknown-value", "audit.toml:1:9", "`tomorrow`", "2027-03-31"]),
        ("not a number", b"k = 'many'\n", &["unknown-value", "audit.toml:1:5", "`many`", "`k`", "number"]),
        ("negative", b"seed = -1\n", &["unknown-value", "audit.toml:1:8", "`-1`", "`seed`", "0"]),
        ("half", b"batch-size = 1.5\n", &["unknown-value", "audit.toml:1:14", "`1.5`", "`batch-size`", "number"]),
        ("wrong shape", b"input = '3x32'\n", &["unknown-value", "audit.toml:1:9", "`3x32`", "channels x height x width"]),
        ("subject twice", b"descriptions = 'ok.csv'\nmodel = 'model.pt'\n",
            &["audit.toml:2:1", "`model`", "`descriptions`", "contradict each other"]),
        ("missing table", b"descriptions = 'none.csv'\n", &["none.csv", "No such file"]),
        ("unknown policy", b"descriptions = 'ok.csv'\ndeny = ['txt']\n", &["`txt`", "`text`?"]),
        ("two levels", b"descriptions = 'ok.csv'\nallow = ['text']\ndeny = ['text']\n", &["`text`", "allowed one"]),
        ("two on standard output", b"descriptions = 'ok.csv'\nformat = ['json', 'csv']\n",
            &["json and csv", "allowed one"]),
        ("baseline to write where?", b"descriptions = 'ok.csv'\nwrite-baseline = true\n", &["--baseline"]),
        ("not UTF-8", b"out = '\xff'\n", &["bad-encoding", "audit.toml:1:8", "0xff", "UTF-8"]),
    ];
    let mut complaints = complaints_of_rows(rows, "audit.toml", b"", &["check", "--config", "audit.toml"]);
    complaints.extend(complaints_of(&[
        Case {
            name: "missing",
            files: &[],
            args: &["check", "--config", "audit.toml"],
            parts: &["audit.toml", "No such"],
        },
        Case {
            name: "a folder",
            files: &[("audit.toml/", b"")],
            args: &["check", "--config", "audit.toml"],
            parts: &["audit.toml", "directory"],
        },
    ]));
    all_refused(&complaints);
}

#[test]
fn tables_of_descriptions() {
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("empty", b"", &["csv-syntax", "bad.csv:1:1", "empty", "names of the columns"]),
        ("blank lines", b"\n\n\n", &["csv-syntax", "bad.csv:", "empty", "names of the columns"]),
        ("header only", b"layer,unit,description\n", &["csv-syntax", "bad.csv:1:", "no row", "a row per unit"]),
        ("no header", b"conv1,0,dogs\nconv1,1,cats\n", &["missing-column", "bad.csv:1:1", "layer or site"]),
        ("missing column", b"layer,description\nconv1,dogs\n",
            &["missing-column", "bad.csv:1:1", "`unit`", "unit or neuron"]),
        ("misspelt column", b"layer,unit,desciption\nc,0,a\n",
            &["missing-column", "bad.csv:1:1", "is it `desciption`?", "description or summary"]),
        ("column twice", b"layer,unit,description,unit\nc,0,a,0\n", &["bad.csv:1:1", "`unit`", "one column"]),
        ("column by two names", b"layer,unit,site,description\nc,0,c,a\n",
            &["bad.csv:1:1", "`layer` and `site`", "one column"]),
        ("short row", b"layer,unit,description\nc,0,a\nc,1\n",
            &["csv-syntax", "bad.csv:3:1", "2 cells", "expected: 3"]),
        ("long row", b"layer,unit,description\nc,0,cats, dogs\n",
            &["csv-syntax", "bad.csv:2:1", "4 cells", "expected: 3"]),
        ("open quote", b"layer,unit,description\nc,0,\"a\nc,1,b\n",
            &["csv-syntax", "bad.csv:2:5", "never closed", "\"\""]),
        ("negative unit", b"layer,unit,description\nc,-1,a\n", &["unknown-value", "bad.csv:2:3", "`-1`", "at least 0"]),
        ("half a unit", b"layer,unit,description\nc,1.0,a\n",
            &["unknown-value", "bad.csv:2:3", "`1.0`", "a whole number"]),
        ("huge unit", b"layer,unit,description\nc,99999999999999999999,a\n",
            &["bad.csv:2:3", "`99999999999999999999`"]),
        ("empty unit", b"layer,unit,description\nc,,a\n", &["unknown-value", "bad.csv:2:", "``", "a whole number"]),
        ("word for a unit", b"layer,unit,description\nc,one,a\n",
            &["unknown-value", "bad.csv:2:3", "`one`", "a whole number"]),
        ("unit twice", b"layer,unit,description\nc,0,a\nd,0,a\nc,0,b\n",
            &["duplicate-row", "bad.csv:4:1", "c/0", "line 2", "one row per"]),
        ("empty layer", b"layer,unit,description\n ,0,a\n", &["empty-value", "bad.csv:2:1", "no layer", "layer4"]),
        ("not UTF-8", b"layer,unit,description\nc,0,caf\xe9\n", &["bad-encoding", "bad.csv:2:8", "0xe9", "UTF-8"]),
        ("half of UTF-16", b"\xff\xfel\0a\0y", &["bad-encoding", "bad.csv:1:4", "UTF-16"]),
        ("UTF-16 without its mark", b"l\0a\0y\0e\0r\0,\0\n\0", &["bad-encoding", "bad.csv:1:1", "UTF-16"]),
        ("bad score", b"layer,unit,description,score\nc,0,a,good\n",
            &["unknown-value", "bad.csv:2:7", "`good`", "a finite number"]),
        ("score that stands in the description too", b"layer,unit,description,score\nfc,0,a dog,a\n",
            &["unknown-value", "bad.csv:2:12", "2 | fc,0,a dog,a\n  |            ^\n", "a finite number"]),
        ("score behind a description of two lines", b"layer,unit,description,score\nfc,0,\"a\n\"\"b\"\", c\",b\n",
            &["unknown-value", "bad.csv:3:11", "a finite number"]),
        ("empty score", b"layer,unit,description,score\nfc,0,a dog,\n",
            &["unknown-value", "bad.csv:2:12", "``", "a finite number"]),
        ("infinite score", b"layer,unit,description,score\nc,0,a,inf\n",
            &["unknown-value", "bad.csv:2:7", "`inf`", "a finite number"]),
        ("bad status", b"layer,unit,description,status\nc,0,a,ded\n",
            &["bad.csv:2:7", "`ded`", "`dead`?", "described, abstained, dead"]),
        ("semicolons", b"layer;unit;description\nc;0\n", &["csv-syntax", "bad.csv:2:1", "has 2 cells"]),
        ("no layer", b"unit;description\n0;a\n", &["missing-column", "bad.csv:1:1", "`layer`", "--layer"]),
        ("binary", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0", &["bad-encoding", "bad.csv:1:1", "0x89", "UTF-8"]),
        ("NUL", b"layer,unit,description\nc,0\0,a\n", &["unknown-value", "bad.csv:2:3", "a whole number"]),
        ("JSON", b"{\"layer\": \"c\", \"unit\": 0}\n", &["bad.csv:1:", "names of the columns"]),
        ("two faults", b"layer,unit,description\n,0,a\nc,x,b\n", &["bad.csv:2:", "bad.csv:3:3", "`x`"]),
    ];
    let mut complaints = complaints_of_rows(rows, "bad.csv", b"", &["check", "--descriptions", "bad.csv"]);
    let many = [b"layer,unit,description\n".to_vec(), b"c,x,a\n".repeat(1000)].concat();
    let args: &[&str] = &["check", "--descriptions", "bad.csv"];
    complaints.extend(complaints_of(&[
        Case { name: "a thousand faults", files: &[("bad.csv", &many)], args, parts: &["bad.csv:2:3", "980 more"] },
        Case { name: "missing", files: &[OK], args, parts: &["bad.csv", "No such file"] },
        Case { name: "a folder", files: &[("bad.csv/", b"")], args, parts: &["bad.csv", "directory"] },
    ]));
    all_refused(&complaints);
}

#[test]
fn tables_of_labels() {
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("no label column", b"description,has_words\na,1\n", &["labels.csv", "no column", "text", "has_words"]),
        ("no description", b"text,borderline\n1,0\n", &["missing-column", "labels.csv:1:1", "`description`"]),
        ("label of words", b"description,text\na,perhaps\n",
            &["unknown-value", "labels.csv:2:3", "`perhaps`", "0 or 1"]),
        ("empty label", b"description,text\na,\n", &["unknown-value", "labels.csv:2:", "0 or 1"]),
        ("label of 2", b"description,text,borderline\na,1,2\n", &["unknown-value", "labels.csv:2:5", "`2`", "0 or 1"]),
        ("empty", b"", &["csv-syntax", "labels.csv:1:1", "empty"]),
        ("ragged", b"description,text\na\n", &["csv-syntax", "labels.csv:2:1", "expected: 2"]),
    ];
    let mut complaints =
        complaints_of_rows(rows, "labels.csv", b"", &["policies", "evaluate", "--labels", "labels.csv"]);
    let labels: (&str, &[u8]) = ("labels.csv", b"description,text\na,1\n");
    complaints.extend(complaints_of(&[
        Case {
            name: "unknown policy",
            files: &[labels],
            args: &["policies", "evaluate", "--labels", "labels.csv", "--policy", "txt"],
            parts: &["`txt`", "`text`?"],
        },
        Case {
            name: "unknown column",
            files: &[labels],
            args: &["policies", "evaluate", "--labels", "labels.csv", "--policy", "text", "--positive", "txt"],
            parts: &["labels.csv", "no column", "txt", "text"],
        },
        Case {
            name: "unknown column to leave out",
            files: &[labels],
            args: &[
                "policies",
                "evaluate",
                "--labels",
                "labels.csv",
                "--policy",
                "text",
                "--positive",
                "text",
                "--leave-out",
                "unsure",
            ],
            parts: &["labels.csv", "unsure"],
        },
    ]));
    all_refused(&complaints);
}

#[test]
fn reports() {
    let open = [b"{\"schema_version\": 1, \"tool\": ".to_vec(), b"[".repeat(100_000)].concat();
    let deep = [open.clone(), b"]".repeat(100_000), b"}".to_vec()].concat();
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("empty", b"", &["json-syntax", "bad.json:1:1"]),
        ("syntax", b"{\n  \"schema_version\" 1\n}\n", &["json-syntax", "bad.json:2:20", "expected `:`"]),
        ("comma at the end", b"{\"schema_version\": 1,}\n", &["json-syntax", "bad.json:1:22"]),
        ("truncated", b"{\"schema_version\": 1, \"tool\": {", &["json-syntax", "bad.json:1:", "EOF"]),
        ("more behind it", b"{\"schema_version\": 1} {}", &["json-syntax", "bad.json:1:23", "trailing"]),
        ("list", b"[]\n", &["bad.json:1:", "a list", "an object"]),
        ("other JSON", b"{\"name\": \"x\"}\n", &["bad.json:1:", "`schema_version`"]),
        ("missing field", b"{\"schema_version\": 1}\n", &["bad.json:1:", "missing field `tool`"]),
        ("wrong type", b"{\"schema_version\": 1, \"tool\": 3}\n", &["bad.json:1:", "integer `3`"]),
        ("version of words", b"{\"schema_version\": \"1\"}\n", &["bad.json:1:", "string \"1\""]),
        ("other version", b"{\n\"schema_version\": 99}\n",
            &["unknown-value", "bad.json:2:1", "version 99", "expected: 1"]),
        ("negative version", b"{\"schema_version\": -1}\n", &["bad.json:1:", "integer `-1`"]),
        ("open lists", &open, &["json-syntax", "bad.json:1:", "EOF"]),
        ("deep", &deep, &["json-syntax", "bad.json:1:"]),
        ("out of range", b"{\"schema_version\": 1e999}\n", &["json-syntax", "bad.json:1:", "number out of range"]),
        ("NaN", b"{\"schema_version\": NaN}\n", &["json-syntax", "bad.json:1:20"]),
        ("not UTF-8", b"{\"schema_version\": 1, \"\xff\": 1}\n", &["bad-encoding", "bad.json:1:24", "0xff", "UTF-8"]),
        ("half a surrogate", b"{\"schema_version\": 1, \"\\ud800\": 1}\n", &["json-syntax", "bad.json:1:"]),
        ("binary", b"PK\x03\x04\x14\0\0\0", &["json-syntax", "bad.json:1:1"]),
        ("key twice", b"{\"schema_version\": 1, \"schema_version\": 1}\n",
            &["bad.json:1:", "duplicate field `schema_version`"]),
    ];
    let mut complaints = complaints_of_rows(rows, "bad.json", b"", &["check", "bad.json"]);
    let args: &[&str] = &["check", "bad.json"];
    complaints.extend(complaints_of(&[
        Case { name: "missing", files: &[], args, parts: &["bad.json", "No such file"] },
        Case { name: "a folder", files: &[("bad.json/", b"")], args, parts: &["bad.json", "directory"] },
        Case {
            name: "JSON by its first character",
            files: &[("report", b"\n {\"schema_version\": }")],
            args: &["check", "report"],
            parts: &["json-syntax", "report:2:21"],
        },
    ]));
    all_refused(&complaints);
}

#[test]
fn baselines() {
    let file = |entries: &[String]| format!("{{\"baseline\": 1, \"findings\": [\n{}]}}\n", entries.join(",\n"));
    let entry = |unit: &str, more: &str| {
        format!(r#"{{"policy": "text", "site": "l1", "unit": {unit}, "description": ""{more}}}"#)
    };
    // That of l1/0 under the policy `text`.
    let fingerprint = r#", "fingerprint": "17b7c6404ef09f176b4ca47b312aedce""#;
    let (negative, bare) = (file(&[entry("-1", fingerprint)]), file(&[entry("0", "")]));
    let (empty, wrong) = (file(&[entry("0", ", \"fingerprint\": \"\"")]), file(&[entry("1", fingerprint)]));
    let twice = file(&[entry("0", fingerprint), entry("0", fingerprint)]);
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("empty", b"", &["json-syntax", "known.json:1:1"]),
        ("syntax", b"{\"baseline\": 1,\n \"findings\": [,]}\n", &["json-syntax", "known.json:2:15"]),
        ("other version", b"{\"baseline\": 2, \"findings\": []}\n",
            &["unknown-value", "known.json:1:2", "version 2", "expected: 1"]),
        ("missing field", b"{\"baseline\": 1}\n", &["known.json:1:", "missing field `findings`"]),
        ("unknown field", b"{\"baseline\": 1, \"findigs\": []}\n",
            &["known.json:1:", "unknown field `findigs`", "`findings`"]),
        ("a report", b"{\"schema_version\": 1, \"findings\": []}\n",
            &["known.json:1:", "`schema_version`", "`baseline`"]),
        ("list", b"[]\n", &["known.json:1:", "a list", "an object"]),
        ("wrong type", b"{\"baseline\": 1, \"findings\": {}}\n", &["known.json:1:", "map"]),
        ("negative unit", negative.as_bytes(), &["known.json:2:", "`-1`"]),
        ("no fingerprint", bare.as_bytes(), &["known.json:2:", "missing field `fingerprint`"]),
        ("empty fingerprint", empty.as_bytes(),
            &["wrong-fingerprint", "known.json:2:", "l1/0", "`text`", "--write-baseline"]),
        ("wrong fingerprint", wrong.as_bytes(),
            &["wrong-fingerprint", "known.json:2:80", "l1/1", "`text`", "--write-baseline"]),
        ("twice", twice.as_bytes(), &["duplicate-row", "known.json:3:80", "l1/0", "twice", "`text`"]),
        ("merge conflict", b"{\n<<<<<<< HEAD\n\"baseline\": 1\n", &["json-syntax", "known.json:2:1"]),
        ("not UTF-8", b"\xff", &["bad-encoding", "known.json:1:1", "0xff"]),
    ];
    let args: &[&str] = &["check", "--descriptions", "ok.csv", "--baseline", "known.json"];
    let mut complaints = complaints_of_rows(rows, "known.json", b"", args);
    complaints.extend(complaints_of(&[
        Case { name: "missing", files: &[OK], args, parts: &["known.json", "No such file", "--write-baseline"] },
        Case { name: "a folder", files: &[OK, ("known.json/", b"")], args, parts: &["known.json", "directory"] },
    ]));
    all_refused(&complaints);
}

#[test]
fn flags() {
    #[rustfmt::skip]
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("unknown policy", &["-A", "txt"], &["`txt`", "`text`?"]),
        ("unknown policy, unlike all others", &["-D", "zzzz"], &["`zzzz`", "faces", "text"]),
        ("unknown lint", &["-D", "expired-waver"], &["`expired-waver`", "`expired-waiver`?"]),
        ("empty name", &["-A", ""], &["policy or lint: received ``", "faces", "expired-waiver"]),
        ("two levels", &["-A", "text", "-D", "text"], &["`text`", "-A", "-D", "allowed one"]),
        ("two levels in a list", &["-A", "faces,text", "-W", "text"], &["`text`", "-A", "-W", "allowed one"]),
        ("two on standard output", &["--format", "json", "--format", "csv"],
            &["--format", "json and csv", "allowed one", "csv=FILE"]),
        ("unknown format", &["--format", "sariff"], &["sariff", "--format", "`sarif`", "junit"]),
        ("wrong case", &["--format", "JSON"], &["JSON", "--format", "`json`"]),
        ("empty format", &["--format", ""], &["--format", "sarif", "junit"]),
        ("no name of a file", &["--format", "json="], &["json=", "--format", "no name"]),
        ("missing folder", &["--format", "json=none/x.json"], &["--format", "none/x.json", "no folder none"]),
        ("folder for a file", &["--format", "json=folder"], &["--format", "folder", "it is a folder"]),
        ("one file for two", &["--format", "json=x", "--format", "csv=x"], &["--format", "x", "json", "csv"]),
        ("file for a folder", &["--out", "ok.csv"], &["--out", "ok.csv", "folder"]),
        ("file in the way", &["--out", "ok.csv/report"], &["--out", "ok.csv"]),
        ("no such day", &["--today", "2027-02-30"], &["2027-02-30", "--today", "2027-03-31"]),
        ("not a date", &["--today", "tomorrow"], &["tomorrow", "--today", "2027-03-31"]),
        ("baseline to write where?", &["--write-baseline"], &["--write-baseline", "allowed with --baseline FILE"]),
        ("baseline in a missing folder", &["--baseline", "none/b.json", "--write-baseline"],
            &["--baseline", "no folder none"]),
        ("baseline over a folder", &["--baseline", "folder", "--write-baseline"],
            &["--baseline", "folder", "it is a folder"]),
        ("images for words", &["--probe", "folder"], &["--descriptions", "--probe", "cannot be used"]),
        ("model as well", &["model.pt"], &["--descriptions", "MODEL", "cannot be used"]),
        ("unknown flag", &["--polices", "p"], &["--polices", "--policies"]),
        ("no value", &["--policies"], &["--policies", "value"]),
        ("unknown colour", &["--color", "red"], &["red", "--color", "auto, always, never"]),
        ("no cores", &["--threads", "0"], &["--threads", "received 0", "allowed"]),
        ("too many cores", &["--threads", "99999"], &["--threads", "99999"]),
        ("not a number", &["--k", "many"], &["many", "--k"]),
    ];
    let refused = |(name, args, parts): (&str, &[&str], &[&str])| {
        Case { name, files: &[OK, ("folder/", b"")], args, parts }.complaints()
    };
    let judge = rows.iter().flat_map(|(name, more, parts)| {
        refused((name, &[&["check", "--descriptions", "ok.csv"], *more].concat(), parts))
    });
    #[rustfmt::skip]
    let whole: &[(&str, &[&str], &[&str])] = &[
        ("nothing to judge", &["check", "--policies", "folder"],
            &["nothing to judge", "--descriptions", "report.json"]),
        ("unknown command", &["chekc"], &["chekc", "check"]),
        ("unknown code", &["explain", "expired-waver"], &["`expired-waver`", "`expired-waiver`?"]),
        ("unknown shell", &["completions", "bsh"], &["bsh", "bash", "zsh"]),
        ("unknown schema", &["schema", "baselines"], &["baselines", "baseline", "report"]),
        ("manual into a file", &["man", "--out", "ok.csv"], &["ok.csv"]),
        ("folder as a model", &["check", "folder"], &["folder is a folder", "report.json"]),
        ("table for a model", &["check", "ok.csv"], &["ok.csv is a table", "--descriptions ok.csv"]),
        ("labels without a file", &["policies", "evaluate"], &["--labels <FILE>"]),
        ("columns of which policy?", &["policies", "evaluate", "--labels", "ok.csv", "--positive", "a"],
            &["--policy <NAME>"]),
        ("several policies into one file", &["policies", "init", "x.toml", "--only", "text,faces"],
            &["--only", "x.toml", "allowed one"]),
    ];
    all_refused(&judge.chain(whole.iter().copied().flat_map(refused)).collect::<Vec<_>>());
}
