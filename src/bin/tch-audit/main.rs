//! The command line: arguments in, exit code out.

mod check;
mod config;
mod describe;
mod describing;
mod edit;
mod exemplars;
mod explain;
mod generate;
mod input;
mod milan;
mod output;
mod photos;
mod policies;
mod progress;
mod sites;

use anyhow::Context;
use check::Reproduce;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use progress::Progress;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use tch_audit::exit;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// A linter for what a neural network has learned.
///
/// Shows a TorchScript model your images, finds what each neuron responds to, says so in words, and holds the words
/// against policies.
#[derive(Debug, Parser)]
#[command(
    version,
    name = "tch-audit",
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  clean: no policy of level `deny` is violated
  1  denied: one is
  2  the input or the run is wrong; nothing was judged

Examples:
  tch-audit sites model.pt --input 3x32x32
  tch-audit check model.pt --probe photos/ --input 3x224x224 --out report/
  tch-audit check --descriptions milan.csv --policies policies/ --format sarif=audit.sarif
  tch-audit edit prune model.pt --findings tch-audit-report/report.json --out pruned.pt
  tch-audit policies init"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: Common,
}

impl Arguments {
    /// The definition of a subcommand, with the flags that all commands take.
    fn of(name: &str) -> clap::Command {
        let mut program = Arguments::command();
        program.build();
        program.find_subcommand(name).cloned().unwrap_or(program)
    }
}

/// What every command takes.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// When to use colours.
    #[arg(long, value_enum, default_value_t = Color::Auto, global = true)]
    pub color: Color,
    /// Say nothing but errors: no summary, no progress, no notes. What --format sends to standard output is written all
    /// the same.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// How many processor cores to use; all by default. The results do not depend on it.
    #[arg(long, value_name = "N", global = true)]
    pub threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Box<check::Arguments>),
    Sites(sites::Arguments),
    Edit(Box<edit::Arguments>),
    Exemplars(Box<exemplars::Arguments>),
    Describe(Box<describe::Arguments>),
    Milan(milan::Arguments),
    Policies(policies::Arguments),
    Explain(explain::Arguments),
    Completions(generate::Completions),
    Man(generate::Man),
    Schema(generate::Schema),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour what goes to standard error.
    fn wanted_in_logs(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Whether to colour what goes to standard output.
    pub fn wanted(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

fn main() -> ExitCode {
    // Help, version and mistakes in flags end the program here.
    let given = std::env::args_os().collect::<Vec<_>>();
    let matches = Arguments::command().get_matches_from(&given);
    match guarded(|| run(given, matches)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Faults in files say `error[code]` themselves, one by one.
            match error.downcast_ref() {
                Some(faults @ tch_audit::Error::Faults { .. }) => output::note(faults.to_string().trim_end()),
                _ => output::note(&format!("error: {error:#}")),
            }
            ExitCode::from(exit::FAILED)
        }
    }
}

/// Runs `work`. Should libtorch fail where nothing expects it to, that is an error with its first line, not a backtrace.
fn guarded(work: impl FnOnce() -> anyhow::Result<u8>) -> anyhow::Result<u8> {
    let place = Arc::new(Mutex::new(String::new()));
    let noted = Arc::clone(&place);
    std::panic::set_hook(Box::new(move |info| {
        if let (Ok(mut place), Some(location)) = (noted.lock(), info.location()) {
            *place = location.to_string();
        }
    }));
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a message").replace("\\n", "\n");
        let line = text.lines().next().unwrap_or_default().to_string();
        let place = place.lock().map(|place| place.clone()).unwrap_or_default();
        Err(anyhow::anyhow!("this is a fault of tch-audit, please report it with the model: {line} ({place})"))
    })
}

/// From here on, what the library has to say is written to standard error: logs as RUST_LOG wants them, or warnings unless
/// it is to be quiet; and progress.
fn listen(common: &Common) {
    let unless_said = if common.quiet { "error" } else { "warn" };
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| unless_said.into());
    let wanted = wanted.and(filter_fn(|event| event.target() != progress::TARGET));
    let logs = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(common.color.wanted_in_logs())
        .without_time()
        .with_filter(wanted);
    let progress = (!common.quiet)
        .then(|| Progress::new().with_filter(Targets::new().with_target(progress::TARGET, LevelFilter::DEBUG)));
    tracing_subscriber::registry().with(logs).with(progress).init();
}

fn run(given: Vec<OsString>, matches: ArgMatches) -> anyhow::Result<u8> {
    let matches = match config::extend(&Arguments::command(), &given, &matches)? {
        Some(all) => Arguments::command().get_matches_from(all),
        None => matches,
    };
    let Arguments { command, common } = Arguments::from_arg_matches(&matches)?;
    listen(&common);
    if let Some(threads) = common.threads {
        anyhow::ensure!(threads > 0, "--threads: received 0, allowed 1 or more");
        tch::set_num_threads(i32::from(threads));
        rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global()?;
    }
    match &command {
        Command::Check(check) => {
            let given = matches.subcommand_matches("check").context("no arguments of check")?;
            check::run(check, &Reproduce::new(&Arguments::of("check"), given), &common)
        }
        Command::Sites(sites) => sites::run(sites, &common),
        Command::Edit(edit) => edit::run(edit, &common),
        Command::Exemplars(exemplars) => exemplars::run(exemplars, &common),
        Command::Describe(describe) => describe::run(describe, &common),
        Command::Milan(milan) => milan::run(milan, &common),
        Command::Policies(policies) => policies::run(policies, &common),
        Command::Explain(explain) => explain::run(explain),
        Command::Completions(completions) => generate::completions(completions, &mut Arguments::command()),
        Command::Man(man) => generate::man(man, Arguments::command()),
        Command::Schema(schema) => generate::schema(schema),
    }
}
