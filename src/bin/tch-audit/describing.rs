//! `--describer milan --checkpoint FILE --evidence painted`: whose words describe units, and who measures.

use anyhow::{Context, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tch_audit::describe::Describer;
use tch_audit::describe::command::{self, Command};
use tch_audit::describe::concepts::Concepts;
use tch_audit::describe::milan::{self, Checkpoint, Milan, SearchOptions, Strategy};
use tch_audit::evidence::{EvidenceSource, Painted};
use tch_audit::exemplars::Compat;

#[derive(Debug, Args)]
#[command(next_help_heading = "Words")]
pub struct Describing {
    /// Whose words describe units [default: milan with --checkpoint, command with --command, else concepts].
    #[arg(long, value_name = "NAME", value_parser = names(&DESCRIBERS, &[]))]
    pub describer: Option<String>,
    /// Who measures how units respond to concepts, separated by commas; `none` for nobody. A source that neither the
    /// describer nor a policy asks for is not run.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "painted", value_parser = names(&SOURCES, &[NONE]))]
    pub evidence: Vec<String>,
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

/// The describers by name. To add one: its file in the library, and a line here.
const DESCRIBERS: [(&str, MakeDescriber); 3] = [
    ("concepts", |_, painted| Ok(Arc::new(Concepts::of(painted)))),
    ("milan", |flags, _| Ok(Arc::new(flags.milan()?))),
    ("command", |flags, _| Ok(Arc::new(flags.program()?))),
];

/// The sources of evidence by name. To add one: its file in the library, and a line here.
const SOURCES: [(&str, MakeSource); 1] = [("painted", |painted| Arc::new(painted.clone()))];

type MakeDescriber = fn(&Describing, &Painted) -> anyhow::Result<Arc<dyn Describer>>;
type MakeSource = fn(&Painted) -> Arc<dyn EvidenceSource>;

/// No source at all.
const NONE: &str = "none";

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
    /// Its name among [`DESCRIBERS`].
    pub fn name(&self) -> &str {
        let given = match (&self.checkpoint, &self.command) {
            (Some(_), _) => "milan",
            (None, Some(_)) => "command",
            (None, None) => "concepts",
        };
        self.describer.as_deref().unwrap_or(given)
    }

    /// Who puts units into words.
    pub fn describer(&self, painted: &Painted) -> anyhow::Result<Arc<dyn Describer>> {
        let name = self.name();
        ensure!(name == "milan" || self.checkpoint.is_none(), "--checkpoint: only --describer milan has one");
        ensure!(name == "command" || self.command.is_none(), "--command: only --describer command has one");
        let (_, make) = DESCRIBERS.iter().find(|(n, _)| *n == name).context("no such describer")?;
        make(self, painted)
    }

    /// Who measures evidence.
    pub fn sources(&self, painted: &Painted) -> anyhow::Result<Vec<Arc<dyn EvidenceSource>>> {
        let none = self.evidence.iter().any(|name| name == NONE);
        ensure!(!none || self.evidence.len() == 1, "--evidence: received `none` and others, allowed one of the two");
        let chosen = SOURCES.iter().filter(|(name, _)| self.evidence.iter().any(|n| n == name));
        Ok(chosen.map(|(_, make)| make(painted)).collect())
    }

    fn program(&self) -> anyhow::Result<Command> {
        let command = self.command.clone().context("--describer command: give the program with --command")?;
        let allowed = self.timeout.is_finite() && self.timeout > 0.0 && self.timeout < 1e6;
        ensure!(allowed, "--timeout: received {}, allowed more than 0 seconds", self.timeout);
        let mut options = command::Options::new(command);
        options.timeout = Duration::from_secs_f64(self.timeout);
        Ok(Command::new(options)?)
    }

    fn milan(&self) -> anyhow::Result<Milan> {
        let missing =
            "--describer milan: give MILAN's weights with --checkpoint FILE; docs/milan.md says where they are";
        let checkpoint = Checkpoint::load(self.checkpoint.as_ref().context(missing)?)?;
        let mut options = milan::Options::default();
        options.search = self.search();
        options.compat = if self.official { Compat::Official } else { Compat::Fixed };
        Ok(Milan::new(&checkpoint, options)?)
    }

    /// How MILAN is to search, as far as it was said.
    fn search(&self) -> SearchOptions {
        let strategy = self.strategy.map(|name| match name {
            Strategies::Greedy => (Strategy::Greedy, false),
            Strategies::MiGreedy => (Strategy::Greedy, true),
            Strategies::Beam => (Strategy::Beam, false),
            Strategies::MiBeam => (Strategy::Beam, true),
            Strategies::Rerank => (Strategy::Rerank, false),
        });
        SearchOptions {
            strategy: strategy.map(|(strategy, _)| strategy),
            mutual_information: strategy.map(|(_, mutual)| mutual),
            beam: self.beam,
            length: self.length,
            temperature: self.lambda,
        }
    }
}

/// The names of a table, and others.
fn names<T>(table: &'static [(&'static str, T)], others: &[&'static str]) -> PossibleValuesParser {
    PossibleValuesParser::new(table.iter().map(|(name, _)| *name).chain(others.iter().copied()))
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
        let line = [&["x", "--checkpoint", "/no/such/milan.pth"], flags].concat();
        Line::try_parse_from(line).map_or_else(|error| panic!("{error}"), |line| line.describing.search())
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
