//! `tch-audit policies`: start, list, test and evaluate policies.

mod evaluate;
mod init;
mod test;

use crate::{Common, output};
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;
use tch_audit::policy::{Loader, Policies};
use tch_audit::{Result, exit};

/// Start, list, test and evaluate policies.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    /// List policies with level, action and reason.
    List(Which),
    /// Run the tests inside policies; exit code 1 when one fails.
    ///
    /// A `[[test]]` has a description and says whether it must match. Only words are tested: scope, limits, waivers and
    /// minima are left out.
    Test(Which),
    Evaluate(evaluate::Arguments),
}

/// Which policies.
#[derive(Debug, Args)]
pub struct Which {
    /// The same without the flag, as it was spelt once.
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath, hide = true)]
    paths: Vec<PathBuf>,
    /// A policy file or a folder of them; may be given several times [default: the policies that come with tch-audit].
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    policies: Vec<PathBuf>,
}

impl Which {
    pub fn load(&self) -> Result<Policies> {
        // Also files that ask for concepts of somebody's own bank can be listed and tested.
        let loader = Loader::new();
        let all: Vec<&PathBuf> = self.paths.iter().chain(&self.policies).collect();
        if all.is_empty() { loader.shipped() } else { loader.load_all(&all) }
    }
}

pub fn run(arguments: &Arguments, common: &Common) -> anyhow::Result<u8> {
    match &arguments.command {
        Command::Init(init) => init::run(init, common),
        Command::List(which) => list(which),
        Command::Test(which) => test::run(which, common),
        Command::Evaluate(evaluate) => evaluate::run(evaluate),
    }
}

fn list(which: &Which) -> anyhow::Result<u8> {
    let policies = which.load()?;
    let width = policies.iter().map(|p| p.name().chars().count()).max().unwrap_or(0);
    output::print(|out| {
        for policy in &policies {
            let line =
                format!("{:width$}  {:5}  {:4}  {}", policy.name(), policy.level(), policy.action(), policy.reason());
            writeln!(out, "{}", output::line(&line))?;
        }
        Ok(())
    })?;
    Ok(exit::CLEAN)
}
