//! `--describer milan --checkpoint FILE`: whose words describe units.

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use std::time::Duration;
use tch_audit::describe::milan::{self, SearchOptions, Strategy};
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
    /// How MILAN searches for a caption [default: rerank, or beam where the checkpoint has no language model].
    #[arg(long, value_enum, value_name = "NAME")]
    pub strategy: Option<Strategies>,
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
                Words::Milan { checkpoint: self.checkpoint.clone().context(missing)?, options: self.milan() }
            }
            Name::Command => {
                let command = self.command.clone().context("--describer command: give the program with --command")?;
                let allowed = self.timeout.is_finite() && self.timeout > 0.0 && self.timeout < 1e6;
                ensure!(allowed, "--timeout: received {}, allowed more than 0 seconds", self.timeout);
                Words::Command(command::Options { command, timeout: Duration::from_secs_f64(self.timeout) })
            }
        })
    }

    fn milan(&self) -> milan::Options {
        let strategy = self.strategy.map(|name| match name {
            Strategies::Greedy => (Strategy::Greedy, false),
            Strategies::MiGreedy => (Strategy::Greedy, true),
            Strategies::Beam => (Strategy::Beam, false),
            Strategies::MiBeam => (Strategy::Beam, true),
            Strategies::Rerank => (Strategy::Rerank, false),
        });
        let search = SearchOptions {
            strategy: strategy.map(|(strategy, _)| strategy),
            mutual_information: strategy.map(|(_, mutual)| mutual),
            beam: self.beam,
            length: self.length,
            temperature: self.lambda,
        };
        let compat = if self.official { Compat::Official } else { Compat::Fixed };
        milan::Options { search, compat, ..milan::Options::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        describing: Describing,
    }

    fn search(flags: &[&str]) -> SearchOptions {
        // There is no such file: it is read when the describer is made, not before.
        let line = [&["x", "--checkpoint", "/no/such/milan.pth"], flags].concat();
        match Line::try_parse_from(line).map(|line| line.describing.words()) {
            Ok(Ok(Words::Milan { options, .. })) => options.search,
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn what_is_not_said_of_a_search_is_left_to_the_checkpoint() {
        assert_eq!(search(&[]), SearchOptions::default());
        assert_eq!(search(&["--official"]), SearchOptions::default());
        let said = search(&["--beam", "7", "--lambda", "0.5"]);
        assert_eq!(said, SearchOptions { beam: Some(7), temperature: Some(0.5), ..SearchOptions::default() });
        let said = search(&["--strategy", "mi-greedy", "--length", "4"]);
        let greedy = (Some(Strategy::Greedy), Some(true), Some(4));
        assert_eq!((said.strategy, said.mutual_information, said.length), greedy);
        assert_eq!((said.beam, said.temperature), (None, None));
    }
}
