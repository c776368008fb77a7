//! What is made from the definition of the command line and of the files: completions, manual pages, schemas.

use crate::output;
use anyhow::Context;
use clap::{Args, Command, ValueEnum, ValueHint};
use clap_complete::Shell;
use std::path::PathBuf;
use tch_audit::{exit, policy, report};

/// Print a completion script for a shell.
///
/// For bash: tch-audit completions bash > ~/.local/share/bash-completion/completions/tch-audit
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

pub fn completions(arguments: &Completions, command: &mut Command) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "tch-audit", &mut script);
    output::print(|out| out.write_all(&script))?;
    Ok(exit::CLEAN)
}

/// Print the manual page, or write one page per command into a folder.
#[derive(Debug, Args)]
pub struct Man {
    /// The folder for tch-audit.1, tch-audit-check.1, ...
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

pub fn man(arguments: &Man, command: Command) -> anyhow::Result<u8> {
    match &arguments.out {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            clap_mangen::generate_to(command, folder)
                .with_context(|| format!("cannot write to {}", folder.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            output::print(|out| out.write_all(&page))?;
        }
    }
    Ok(exit::CLEAN)
}

/// Print the JSON schema of a file that tch-audit writes.
#[derive(Debug, Args)]
pub struct Schema {
    /// Which file.
    #[arg(value_enum, default_value_t = SchemaOf::Report)]
    file: SchemaOf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// report.json
    Report,
    /// What --write-baseline writes.
    Baseline,
}

pub fn schema(arguments: &Schema) -> anyhow::Result<u8> {
    let schema = match arguments.file {
        SchemaOf::Report => report::json::schema(),
        SchemaOf::Baseline => policy::baseline::schema(),
    };
    output::print(|out| {
        serde_json::to_writer_pretty(&mut *out, &schema)?;
        out.write_all(b"\n")
    })?;
    Ok(exit::CLEAN)
}
