//! The command that finds a finding again, from the arguments as they were understood.

use crate::output::quoted;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};
use tch_audit::UnitId;

/// What does not decide about findings. The site of the unit stands for `sites`.
const LEFT_OUT: [&str; 10] =
    ["sites", "fresh", "format", "out", "config", "baseline", "write_baseline", "color", "quiet", "threads"];

/// How to see a finding again.
#[derive(Debug, Clone)]
pub struct Reproduce {
    words: String,
}

impl Reproduce {
    /// From the definition of `check`, completely built, and what was given to it; what a file of `--config` says was
    /// turned into arguments before.
    pub fn new(check: &clap::Command, matches: &ArgMatches) -> Self {
        let given = |arg: &&Arg| {
            let id = arg.get_id().as_str();
            // The flags for help are no part of what was understood.
            matches.try_contains_id(id).unwrap_or(false)
                && matches.value_source(id) == Some(ValueSource::CommandLine)
                && !LEFT_OUT.contains(&id)
        };
        let words = check.get_arguments().filter(given).flat_map(|arg| words(arg, matches));
        let command = ["tch-audit".to_string(), "check".to_string()].into_iter().chain(words);
        Self { words: command.collect::<Vec<_>>().join(" ") }
    }

    /// The command line that finds what was found. A model is looked at where the unit is, and nowhere else.
    pub fn of(&self, unit: &UnitId, is_model: bool) -> String {
        if is_model { format!("{} {}", self.words, flag("sites", &unit.site)) } else { self.words.clone() }
    }
}

/// An argument with its values, as a command line has them.
fn words(arg: &Arg, matches: &ArgMatches) -> Vec<String> {
    let id = arg.get_id().as_str();
    let name = arg.get_long().unwrap_or(id);
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return vec![format!("--{name}")];
    }
    let raw = matches.get_raw(id).unwrap_or_default();
    let values: Vec<String> = raw.map(|value| value.to_string_lossy().into_owned()).collect();
    if arg.is_positional() {
        // It is a path; one that begins with a hyphen would be taken for a flag.
        let hyphen = |value: &String| value.starts_with('-');
        return values.iter().map(|v| quoted(&if hyphen(v) { format!("./{v}") } else { v.clone() })).collect();
    }
    match arg.get_value_delimiter() {
        Some(delimiter) => vec![flag(name, &values.join(&delimiter.to_string()))],
        None => values.iter().map(|value| flag(name, value)).collect(),
    }
}

/// `--name value`; a value that begins with a hyphen is tied to its flag.
fn flag(name: &str, value: &str) -> String {
    if value.starts_with('-') { quoted(&format!("--{name}={value}")) } else { format!("--{name} {}", quoted(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Arguments, config};
    use clap::CommandFactory;
    use std::ffi::OsString;

    /// What is understood of a command line, with the file of its `--config`.
    fn understood<S: Into<OsString> + Clone>(line: &[S]) -> ArgMatches {
        let given: Vec<OsString> = line.iter().cloned().map(Into::into).collect();
        let matches = Arguments::command().try_get_matches_from(&given).unwrap();
        match config::extend(&Arguments::command(), &given, &matches).unwrap() {
            Some(all) => Arguments::command().try_get_matches_from(all).unwrap(),
            None => matches,
        }
    }

    fn reproduced(matches: &ArgMatches) -> String {
        let reproduce = Reproduce::new(&Arguments::of("check"), matches.subcommand_matches("check").unwrap());
        reproduce.of(&UnitId::new("conv[1]", 0), true)
    }

    /// The command for a line, which a shell must read as what was given, but for what is left out.
    fn command(line: &[&str]) -> String {
        let line = [&["tch-audit", "check"], line].concat();
        let matches = understood(&line);
        let command = reproduced(&matches);
        let read =
            std::process::Command::new("sh").args(["-c", &format!("printf '%s\\0' {command}")]).output().unwrap();
        let read = String::from_utf8(read.stdout).unwrap();
        let again = understood(&read.trim_end_matches('\0').split('\0').collect::<Vec<_>>());
        let values = |matches: &ArgMatches, id: &str| {
            let of_check = matches.subcommand_matches("check").unwrap();
            of_check.get_raw(id).map(|all| all.map(ToOwned::to_owned).collect::<Vec<OsString>>())
        };
        let mut compared = 0;
        for arg in Arguments::of("check").get_arguments() {
            let id = arg.get_id().as_str();
            if !LEFT_OUT.contains(&id) && !["help", "version"].contains(&id) {
                assert_eq!(values(&again, id), values(&matches, id), "{id}: {command}");
                compared += 1;
            }
        }
        assert!(compared > 20, "only {compared} arguments were compared");
        assert_eq!(values(&again, "sites"), Some(vec!["conv[1]".into()]), "{command}");
        command
    }

    #[test]
    fn what_decides_about_findings_is_in_the_command() {
        let short = command(&["model.pt", "--probe", "photos"]);
        assert_eq!(short, "tch-audit check model.pt --probe photos --sites 'conv[1]'");
        let long = command(&[
            "--mean=-0.5,0.25",
            "--std",
            "1",
            "--std",
            "2,3",
            "--timeout",
            "7.5",
            "--command",
            "python 'ask it'.py",
            "--probe",
            "my photos",
            "--policies",
            "it's",
            "-D",
            "text,faces",
            "--policies",
            "b",
            "-A",
            "quality",
            "it is.pt",
            "--skip-corrupt",
            "--limit-per-class",
            "3",
            "--today",
            "2026-11-25",
            "--seed",
            "9",
            "--k",
            "5",
            "--batch-size",
            "64",
            "--input",
            "1x28x28",
            "-D",
            "frames",
            "--describer",
            "command",
        ]);
        let parts = [
            "tch-audit check 'it is.pt' --probe 'my photos' --policies 'it'\\''s' --policies b --allow quality",
            " --deny text,faces,frames --today 2026-11-25",
            " --input 1x28x28 --mean=-0.5,0.25 --std 1,2,3 --k 5 --batch-size 64 --seed 9 --skip-corrupt",
            " --limit-per-class 3 --describer command --command 'python '\\''ask it'\\''.py' --timeout 7.5",
            " --sites 'conv[1]'",
        ];
        assert_eq!(long, parts.concat());
        let milan = command(&[
            "model.pt",
            "--probe",
            "p",
            "--checkpoint",
            "m.pth",
            "--lambda",
            "0.30",
            "--beam",
            "7",
            "--length",
            "4",
            "--strategy",
            "mi-beam",
            "--official",
        ]);
        let words = "--checkpoint m.pth --strategy mi-beam --beam 7 --length 4 --lambda 0.30 --official";
        assert!(milan.contains(words), "{milan}");
        let hyphen = reproduced(&understood(&["tch-audit", "check", "--probe", "p", "--", "-m.pt"]));
        assert!(hyphen.starts_with("tch-audit check ./-m.pt --probe p "), "{hyphen}");
    }

    #[test]
    fn what_does_not_decide_is_left_out() {
        let line = [
            "--quiet",
            "--color",
            "never",
            "--threads",
            "2",
            "model.pt",
            "--probe",
            "p",
            "--sites",
            "a,b",
            "--format",
            "json=x",
            "--out",
            "o",
            "--baseline",
            "b.json",
            "--write-baseline",
        ];
        assert_eq!(command(&line), "tch-audit check model.pt --probe p --sites 'conv[1]'");
        let read = Reproduce::new(
            &Arguments::of("check"),
            understood(&["tch-audit", "check", "report.json", "-W", "text"]).subcommand_matches("check").unwrap(),
        );
        assert_eq!(read.of(&UnitId::new("conv", 0), false), "tch-audit check report.json --warn text");
    }

    #[test]
    fn what_a_configuration_says_is_in_the_command() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("audit.toml");
        let text = "model = 'net.pt'\nprobe = 'pho tos'\npolicies = ['a', 'b']\nmean = [0.5, 0.25, 0.125]\n\
                    skip-corrupt = true\nofficial = false\ntimeout = 3\ntoday = 2026-11-25\nseed = 4\nquiet = true\n";
        std::fs::write(&file, text).unwrap();
        let line = ["tch-audit", "check", "--seed", "5", "--config", file.to_str().unwrap()];
        let place = |name: &str| quoted(folder.path().join(name).to_str().unwrap());
        let expected = format!(
            "tch-audit check {} --probe {} --policies {} --policies {} --today 2026-11-25 --mean 0.5,0.25,0.125 \
             --seed 5 --skip-corrupt --timeout 3 --sites 'conv[1]'",
            place("net.pt"),
            place("pho tos"),
            place("a"),
            place("b")
        );
        assert_eq!(reproduced(&understood(&line)), expected);
    }
}
