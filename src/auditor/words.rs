//! What units were described as, audit by audit.

use super::moment::Moment;
use crate::UnitId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What an audit said of units, where the audit before said something else.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Words {
    pub at: Moment,
    /// Whether what was said before is void: there are other units now.
    anew: bool,
    /// The units by what is said of them.
    said: BTreeMap<String, Vec<UnitId>>,
}

impl Words {
    /// From here on nothing that was said holds.
    pub fn none(at: Moment) -> Self {
        Self { at, anew: true, said: BTreeMap::new() }
    }

    /// What `now` says that is new after `before`, and of how many units it says something else.
    pub fn since(before: &[Words], now: BTreeMap<&UnitId, &str>, at: Moment) -> (Self, usize) {
        let last = last(before);
        let changed = now.iter().filter(|(id, text)| last.get(*id).is_some_and(|before| before != *text)).count();
        let anew = !last.keys().eq(now.keys());
        let mut said = BTreeMap::<String, Vec<UnitId>>::new();
        for (id, text) in now {
            if anew || last.get(id) != Some(&text) {
                said.entry(text.to_string()).or_default().push(id.clone());
            }
        }
        (Self { at, anew, said }, changed)
    }
}

/// What was said last of each unit.
fn last(words: &[Words]) -> BTreeMap<&UnitId, &str> {
    let mut last = BTreeMap::new();
    for words in words {
        if words.anew {
            last.clear();
        }
        last.extend(words.said.iter().flat_map(|(text, units)| units.iter().map(move |id| (id, text.as_str()))));
    }
    last
}
