//! `--config audit.toml`: what the flags of `check` can say, from a file.
//!
//! There is no second list of keys: a key is the name of a flag, and its value is given to the flag's own parser. The file
//! is turned into flags, which are put behind `check`; those that the command line has are left out, as is what was to be
//! judged when the command line names something else.

use crate::output::Target;
use anyhow::Context;
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use std::ffi::OsString;
use std::path::Path;
use tch_audit::diagnostic::{Code, Fault, Source};
use toml::de::{DeTable, DeValue};

/// The command that takes a configuration.
const COMMAND: &str = "check";
/// Flags that make no sense in a file.
const NOT_IN_A_FILE: [&str; 3] = ["config", "help", "version"];
/// How large the file may be, in bytes.
const LIMIT: u64 = 1 << 24;

/// The command line with what the file of `--config` adds; `None` if there is no such file.
pub fn extend(program: &Command, given: &[OsString], matches: &ArgMatches) -> anyhow::Result<Option<Vec<OsString>>> {
    let Some((COMMAND, of_check)) = matches.subcommand() else { return Ok(None) };
    let Some(file) = of_check.get_one::<std::path::PathBuf>("config") else { return Ok(None) };
    let mut program = program.clone();
    program.build();
    let command = program.find_subcommand(COMMAND).context("no such command")?;
    let source = Source::read(file, LIMIT)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let added = Reader { command, matches: of_check, source: &source, folder, faults: Vec::new() }.flags()?;
    let at = given.iter().position(|word| word == COMMAND).map_or(given.len(), |i| i + 1);
    let (before, after) = given.split_at(at);
    Ok(Some(before.iter().cloned().chain(added).chain(after.iter().cloned()).collect()))
}

struct Reader<'a> {
    command: &'a Command,
    matches: &'a ArgMatches,
    source: &'a Source,
    folder: &'a Path,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn flags(mut self) -> anyhow::Result<Vec<OsString>> {
        let table = DeTable::parse(&self.source.text).map_err(|e| {
            let message = e.message().lines().next().unwrap_or("not understood").to_string();
            self.source.refuse(&[Fault::new(Code::TomlSyntax, e.span().unwrap_or(0..1), message)])
        })?;
        let args: Vec<&Arg> =
            self.command.get_arguments().filter(|a| !NOT_IN_A_FILE.contains(&a.get_id().as_str())).collect();
        let names: Vec<String> = args.iter().map(|arg| key(arg)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut flags = Vec::new();
        for (name, value) in table.get_ref().iter() {
            let text: &str = name.get_ref();
            let Some(arg) = args.iter().find(|arg| key(arg) == text) else {
                let message = format!("`{text}` is not a key of the configuration");
                self.faults.push(Fault::new(Code::UnknownKey, name.span(), message).one_of(text, &names));
                continue;
            };
            let words = self.words(arg, value.span(), value.get_ref());
            if !self.on_the_command_line(arg) {
                flags.extend(words);
            }
        }
        self.contradictions(table.get_ref());
        self.faults.sort_by_key(|f| f.span.start);
        if self.faults.is_empty() { Ok(flags) } else { Err(self.source.refuse(&self.faults).into()) }
    }

    /// Whether the command line has the flag, or says that something else is to be judged.
    fn on_the_command_line(&self, arg: &Arg) -> bool {
        let given = |id: &str| self.matches.value_source(id) == Some(ValueSource::CommandLine);
        let id = arg.get_id().as_str();
        let otherwise = match id {
            "model" => given("descriptions"),
            "probe" => given("descriptions"),
            "descriptions" => given("model"),
            _ => false,
        };
        given(id) || otherwise
    }

    /// Keys of the file that contradict each other.
    fn contradictions(&mut self, table: &DeTable<'_>) {
        let spans: Vec<(&str, std::ops::Range<usize>)> =
            table.keys().map(|k| (k.get_ref().as_ref(), k.span())).collect();
        for (i, (one, _)) in spans.iter().enumerate() {
            for (two, span) in spans.iter().skip(i + 1) {
                let arg = |name: &str| self.command.get_arguments().find(|a| key(a) == name);
                let (Some(a), Some(b)) = (arg(one), arg(two)) else { continue };
                let against =
                    |a: &Arg, b: &Arg| self.command.get_arg_conflicts_with(a).iter().any(|c| c.get_id() == b.get_id());
                if against(a, b) || against(b, a) {
                    let message = format!("`{one}` and `{two}` contradict each other");
                    self.faults.push(Fault::new(Code::IdleKey, span.clone(), message).expected("one of the two"));
                }
            }
        }
    }

    /// The flag with its value, or with each of its values.
    fn words(&mut self, arg: &Arg, span: std::ops::Range<usize>, value: &DeValue<'_>) -> Vec<OsString> {
        let name = key(arg);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            return match value {
                DeValue::Boolean(true) => vec![format!("--{name}").into()],
                DeValue::Boolean(false) => Vec::new(),
                other => self.wrong_type(&name, span, other, "true or false"),
            };
        }
        let several = matches!(arg.get_action(), ArgAction::Append);
        let delimiter = arg.get_value_delimiter();
        let items: Vec<(std::ops::Range<usize>, &DeValue<'_>)> = match value {
            DeValue::Array(items) if several || delimiter.is_some() => {
                items.iter().map(|item| (item.span(), item.get_ref())).collect()
            }
            other => vec![(span.clone(), other)],
        };
        let mut texts = Vec::new();
        for (span, item) in items {
            let Some(text) = scalar(item) else {
                let allowed = if several { "a string, or a list of strings" } else { "a string or a number" };
                return self.wrong_type(&name, span, item, allowed);
            };
            let text = self.at_home(arg, &text);
            if let Err(fault) = self.parses(arg, &text, span) {
                self.faults.push(fault);
                continue;
            }
            // What the command line says of a policy's level wins over what the file says of it.
            let level = matches!(name.as_str(), "allow" | "warn" | "deny");
            if !(level && self.level_is_given(&text.to_string_lossy())) {
                texts.push(text);
            }
        }
        if arg.is_positional() {
            return texts;
        }
        // A list such as `mean` is one value with commas; each of several values is a flag of its own.
        if let (Some(delimiter), false) = (delimiter, several) {
            let joined = texts.iter().map(|t| t.to_string_lossy().into_owned()).collect::<Vec<_>>();
            return vec![flag(&name, joined.join(&delimiter.to_string()).as_ref())];
        }
        texts.iter().map(|text| flag(&name, text)).collect()
    }

    fn level_is_given(&self, policy: &str) -> bool {
        ["allow", "warn", "deny"].into_iter().any(|id| {
            self.matches.value_source(id) == Some(ValueSource::CommandLine)
                && self.matches.get_many::<String>(id).is_some_and(|mut names| names.any(|n| n == policy))
        })
    }

    fn wrong_type(
        &mut self,
        name: &str,
        span: std::ops::Range<usize>,
        value: &DeValue<'_>,
        allowed: &str,
    ) -> Vec<OsString> {
        let message = format!("`{name}` is {}", article(value.type_str()));
        self.faults.push(Fault::new(Code::WrongType, span, message).expected(allowed));
        Vec::new()
    }

    /// Paths of the file are relative to its folder.
    fn at_home(&self, arg: &Arg, text: &str) -> OsString {
        let path = |text: &str| self.folder.join(text).into_os_string();
        match arg.get_value_hint() {
            ValueHint::FilePath | ValueHint::DirPath | ValueHint::AnyPath => path(text),
            _ => match text.parse::<Target>() {
                Ok(Target { format, file: Some(file) }) if key(arg) == "format" => {
                    let mut target = OsString::from(format!("{format}="));
                    target.push(path(&file.to_string_lossy()));
                    target
                }
                _ => text.into(),
            },
        }
    }

    /// Gives the value to the flag's own parser.
    fn parses(&self, arg: &Arg, text: &OsString, span: std::ops::Range<usize>) -> Result<(), Fault> {
        let parser: &ValueParser = arg.get_value_parser();
        let alone = Arg::new("value").long("value").num_args(1).value_parser(parser.clone());
        let parsed = Command::new("config").no_binary_name(true).arg(alone).try_get_matches_from([flag("value", text)]);
        let Err(error) = parsed else { return Ok(()) };
        let message = format!("`{}` is not a value of `{}`", text.to_string_lossy(), key(arg));
        let fault = Fault::new(Code::UnknownValue, span, message);
        let allowed = match (error.kind(), error.get(ContextKind::ValidValue)) {
            (ErrorKind::InvalidValue, Some(ContextValue::Strings(valid))) => {
                let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
                return Err(fault.one_of(&text.to_string_lossy(), &valid));
            }
            _ => std::error::Error::source(&error).map_or_else(String::new, |e| allowed(&e.to_string())),
        };
        let names: Vec<&str> = allowed.split(", ").collect();
        if names.len() > 1 && names.iter().all(|name| !name.contains(' ')) {
            return Err(fault.one_of(&text.to_string_lossy(), &names));
        }
        Err(fault.expected(allowed))
    }
}

/// What a parser's message says is allowed.
fn allowed(message: &str) -> String {
    if message.contains("invalid digit") || message.contains("number too") {
        return "a whole number of at least 0".to_string();
    }
    let said = ["allowed: ", "allowed ", "expected "].iter().find_map(|word| Some(message.rsplit_once(word)?.1));
    said.unwrap_or(message).to_string()
}

/// The name of an argument in the file.
fn key(arg: &Arg) -> String {
    arg.get_long().unwrap_or(arg.get_id().as_str()).to_string()
}

fn flag(name: &str, value: &std::ffi::OsStr) -> OsString {
    let mut word = OsString::from(format!("--{name}="));
    word.push(value);
    word
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) => Some(n.to_string()),
        DeValue::Float(x) => Some(x.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        _ => None,
    }
}

/// `a string`, `an array`.
fn article(kind: &str) -> String {
    format!("{} {kind}", if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" })
}
