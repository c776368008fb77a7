//! `tch-audit explain`: what a code means.

use crate::output;
use clap::Args;
use tch_audit::diagnostic::Code;
use tch_audit::{Error, exit};

/// Say what a code of a finding, a notice or an error means, and what to do.
///
/// Codes stand in square brackets: `warn[expired-waiver]`, `error[unknown-key]`. Without a code, all are listed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The code, for example expired-waiver.
    code: Option<String>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    match &arguments.code {
        Some(name) => {
            // As it was shown: `warn[expired-waiver]`.
            let name = name.rsplit_once('[').map_or(name.as_str(), |(_, code)| code.trim_end_matches(']'));
            let found = Code::ALL.iter().find(|c| c.as_str() == name);
            let code = found.ok_or_else(|| Error::Unknown {
                kind: "code",
                name: name.to_string(),
                nearest: tch_audit::diagnostic::nearest(name, Code::ALL.iter().map(|c| c.as_str())),
            })?;
            output::print(|out| {
                writeln!(out, "{code}\n")?;
                wrapped(code.explanation(), "", out)
            })?;
        }
        None => output::print(|out| {
            for code in Code::ALL {
                writeln!(out, "{code}")?;
                wrapped(code.explanation(), "    ", out)?;
            }
            Ok(())
        })?,
    }
    Ok(exit::CLEAN)
}

/// The text in lines of at most 90 characters.
fn wrapped(text: &str, indent: &str, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent.len() + line.len() + 1 + word.len() > 90 {
            writeln!(out, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{indent}{line}")
}
