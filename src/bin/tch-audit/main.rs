//! The command line: arguments in, exit code out.

mod check;
mod input;
mod sites;

use clap::{Parser, Subcommand, ValueEnum};
use std::io::IsTerminal;
use std::process::ExitCode;

/// No policy of level `deny` is violated.
pub const EXIT_CLEAN: u8 = 0;
/// A policy of level `deny` is violated.
pub const EXIT_DENIED: u8 = 1;
/// The input or the run is wrong: nothing was judged.
pub const EXIT_FAILED: u8 = 2;

/// A linter for what a neural network has learned.
///
/// Shows a TorchScript model your images, finds what each neuron responds to, says so in words, and holds the words
/// against policies.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Exit codes:
  0  clean: no policy of level `deny` is violated
  1  denied: one is
  2  the input or the run is wrong; nothing was judged

Examples:
  tch-audit sites model.pt --input 3x32x32
  tch-audit check model.pt --probe photos/ --input 3x224x224 --out report/
  tch-audit check model.pt --probe test/ --policies policies/ --sites 'layer4*' --out report/"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// When to use colours.
    #[arg(long, value_enum, default_value_t = Color::Auto, global = true)]
    color: Color,
    /// How many processor cores to use; all by default. The results do not depend on it.
    #[arg(long, value_name = "N", global = true)]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Arguments),
    Sites(sites::Arguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
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
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Faults in policies say `error[code]` themselves, one by one.
            match error.downcast_ref() {
                Some(tch_audit::Error::Policy { rendered }) => eprintln!("{}", rendered.trim_end()),
                _ => eprintln!("error: {error:#}"),
            }
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(threads) = arguments.threads {
        anyhow::ensure!(threads > 0, "--threads: received 0, allowed 1 or more");
        tch::set_num_threads(i32::from(threads));
        rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build_global()?;
    }
    match &arguments.command {
        Command::Check(check) => check::run(check, arguments.color),
        Command::Sites(sites) => sites::run(sites),
    }
}
