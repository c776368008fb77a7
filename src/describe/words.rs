//! Whose words describe a unit. The evidence about concepts comes from painting whoever it is.

use super::{Describer, command, milan};
use crate::Result;
use crate::probe::Images;
use std::path::PathBuf;

/// Who puts units into words.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Words {
    /// The concepts that are painted, see [`concepts`](super::concepts).
    #[default]
    Concepts,
    /// MILAN, see [`milan`].
    Milan {
        /// An official `milan-*.pth`, or a converted one.
        checkpoint: PathBuf,
        /// How units are described.
        options: milan::Options,
    },
    /// Another program, see [`command`].
    Command(command::Options),
}

impl Words {
    /// Its name in settings: `concepts`, `milan`, `command`.
    pub fn name(&self) -> &'static str {
        match self {
            Words::Concepts => "concepts",
            Words::Milan { .. } => "milan",
            Words::Command(_) => "command",
        }
    }

    /// The describer, for exemplars whose images `source` has; `None` for concepts, which need the model.
    ///
    /// # Errors
    /// What reading the checkpoint returns; [`Error::Invalid`](crate::Error::Invalid) for a command that is none.
    pub fn describer<'a>(&self, source: &'a dyn Images) -> Result<Option<Box<dyn Describer + 'a>>> {
        Ok(match self {
            Words::Concepts => None,
            Words::Milan { checkpoint, options } => {
                let checkpoint = milan::Checkpoint::load(checkpoint)?;
                Some(Box::new(milan::Milan::new(&checkpoint, source, options.clone())?))
            }
            Words::Command(options) => Some(Box::new(command::Command::new(options.clone(), source)?)),
        })
    }

    /// MILAN with the weights of this file and default options.
    pub fn milan(checkpoint: impl Into<PathBuf>) -> Self {
        Words::Milan { checkpoint: checkpoint.into(), options: milan::Options::default() }
    }
}
