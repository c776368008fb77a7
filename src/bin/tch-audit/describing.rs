//! `--describer milan --checkpoint FILE`: whose words describe units.

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use std::time::Duration;
use tch_audit::describe::milan::{self, Checkpoint, Strategy};
use tch_audit::describe::{Words, command};
use tch_audit::exemplars::Compat;

#[derive(Debug, Args)]
#[command(next_help_heading = "Words")]
pub struct Describing {
    /// Whose words describe units [default: milan with --checkpoint, command with --command, else concepts].
    #[arg(long, value_enum, value_name = "NAME")]
    pub describer: Option<Name>,
    /// MILAN's weights: an official milan-*.pth, or what `tch-audit milan convert` made of it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub checkpoint: Option<PathBuf>,
    /// How MILAN searches for a caption.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Strategies::Rerank)]
    pub strategy: Strategies,
    /// Captions that MILAN follows at once [default: the checkpoint's, usually 50].
    #[arg(long, value_name = "N")]
    pub beam: Option<usize>,
    /// Longest caption, in tokens [default: the checkpoint's, usually 15].
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// How much MILAN's language model counts against what is likely anyway [default: the checkpoint's, usually 0.2].
    #[arg(long, value_name = "X")]
    pub lambda: Option<f64>,
    /// Follow MILAN's own code where it has defects.
    #[arg(long)]
    pub official: bool,
    /// Ask this program, one JSON object per line for each unit; see `docs/milan.md`.
    #[arg(long, value_name = "COMMAND LINE")]
    pub command: Option<String>,
    /// Seconds that the program may take for an answer.
    #[arg(long, value_name = "S", default_value_t = 120.0)]
    pub timeout: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Concepts,
    Milan,
    Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategies {
    Greedy,
    /// The likeliest of a beam search: the paper's baseline.
    Beam,
    MiGreedy,
    MiBeam,
    /// A beam search, reranked with the language model: the paper's own.
    Rerank,
}

impl Describing {
    /// Who it is.
    pub fn words(&self) -> anyhow::Result<Words> {
        let name = self.describer.unwrap_or(match (&self.checkpoint, &self.command) {
            (Some(_), _) => Name::Milan,
            (None, Some(_)) => Name::Command,
            (None, None) => Name::Concepts,
        });
        ensure!(name == Name::Milan || self.checkpoint.is_none(), "--checkpoint: only --describer milan has one");
        ensure!(name == Name::Command || self.command.is_none(), "--command: only --describer command has one");
        Ok(match name {
            Name::Concepts => Words::Concepts,
            Name::Milan => {
                let missing =
                    "--describer milan: give MILAN's weights with --checkpoint FILE; docs/milan.md says where they are";
                Words::Milan { checkpoint: self.checkpoint.clone().context(missing)?, options: self.milan()? }
            }
            Name::Command => {
                let command = self.command.clone().context("--describer command: give the program with --command")?;
                let allowed = self.timeout.is_finite() && self.timeout > 0.0 && self.timeout < 1e6;
                ensure!(allowed, "--timeout: received {}, allowed more than 0 seconds", self.timeout);
                let mut options = command::Options::new(command);
                options.timeout = Duration::from_secs_f64(self.timeout);
                Words::Command(options)
            }
        })
    }

    fn milan(&self) -> anyhow::Result<milan::Options> {
        let compat = if self.official { Compat::Official } else { Compat::Fixed };
        let mut options = milan::Options::default();
        options.compat = compat;
        let own = self.strategy == Strategies::Rerank
            && self.beam.is_none()
            && self.length.is_none()
            && self.lambda.is_none();
        if own {
            return Ok(options);
        }
        // What is not said is the checkpoint's.
        let checkpoint = Checkpoint::load(self.checkpoint.as_deref().context("no --checkpoint")?)?;
        let mut search = checkpoint.search(compat);
        (search.strategy, search.mutual_information) = match self.strategy {
            Strategies::Greedy => (Strategy::Greedy, false),
            Strategies::MiGreedy => (Strategy::Greedy, true),
            Strategies::Beam => (Strategy::Beam, false),
            Strategies::MiBeam => (Strategy::Beam, true),
            Strategies::Rerank => (Strategy::Rerank, false),
        };
        search.beam = self.beam.unwrap_or(search.beam);
        search.length = self.length.unwrap_or(search.length);
        search.temperature = self.lambda.unwrap_or(search.temperature);
        options.search = Some(search);
        Ok(options)
    }

    /// What differs from the defaults, as a command line has it.
    pub fn flags(&self, quoted: impl Fn(&str) -> String) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(checkpoint) = &self.checkpoint {
            words.extend(["--checkpoint".to_string(), quoted(&checkpoint.to_string_lossy())]);
        }
        if let Some(command) = &self.command {
            words.extend(["--command".to_string(), quoted(command)]);
        }
        if self.strategy != Strategies::Rerank {
            let name = self.strategy.to_possible_value().map_or_else(String::new, |v| v.get_name().to_string());
            words.extend(["--strategy".to_string(), name]);
        }
        for (flag, value) in [
            ("--beam", self.beam.map(|n| n.to_string())),
            ("--length", self.length.map(|n| n.to_string())),
            ("--lambda", self.lambda.map(|x| x.to_string())),
        ] {
            words.extend(value.into_iter().flat_map(|v| [flag.to_string(), v]));
        }
        words.extend(self.official.then(|| "--official".to_string()));
        words
    }
}
