//! Sites: names, layouts, and how to find each again in the next forward pass.

use super::{Graph, ValueId};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// A value whose channels are neurons.
#[derive(Debug, Clone)]
pub struct Site {
    /// Its name, see [`crate::graph`].
    pub name: String,
    /// How the name was formed.
    pub kind: SiteKind,
    /// How many units (channels) it has.
    pub units: usize,
    /// Where in a tensor the units are.
    pub layout: Layout,
    /// Height and width of the activation maps, for the traced input; `(1, 1)` for vectors.
    pub size: (usize, usize),
    /// Where the positions do not lie in row order (the windows of an attention): for each place of the map the position that
    /// lies there.
    pub(crate) order: Option<Arc<[i64]>>,
    pub(crate) value: ValueId,
    pub(crate) route: Route,
}

/// How a site's name was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// A layer after its own normalisation and non-linearity.
    Layer,
    /// A layer directly after its operator.
    Raw,
    /// What leaves a scope.
    Scope,
    /// The heads of an attention, before they are joined.
    Heads,
}

impl SiteKind {
    /// Its name in lists: `layer`, `raw`, `scope`, `heads`.
    pub fn name(self) -> &'static str {
        match self {
            SiteKind::Layer => "layer",
            SiteKind::Raw => "raw",
            SiteKind::Scope => "scope",
            SiteKind::Heads => "heads",
        }
    }
}

/// Where in a tensor the units and the positions are. `N` is the batch, `C` the units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `[N, C, H, W]`, or `[N, C, L]`.
    FeatureMap,
    /// `[N, C]`.
    Vector,
    /// `[N, T, C]`: `prefix` tokens (class, registers) that have no place in the image, then the patch grid in row order.
    Tokens {
        /// Tokens to drop.
        prefix: usize,
        /// Rows of the patch grid.
        height: usize,
        /// Columns of the patch grid.
        width: usize,
    },
    /// `[T, N, C]`: as [`Tokens`](Self::Tokens), with the tokens before the batch.
    TokensFirst {
        /// Tokens to drop.
        prefix: usize,
        /// Rows of the patch grid.
        height: usize,
        /// Columns of the patch grid.
        width: usize,
    },
    /// `[N, H, W, C]`, or `[N, W, P, C]`: windows of positions.
    ChannelsLast,
    /// `[N, C, T, D]`: a unit is an attention head, its activation at a token the length of the D numbers that it
    /// returns there. Tokens as in [`Tokens`](Self::Tokens).
    Heads {
        /// Tokens to drop.
        prefix: usize,
        /// Rows of the patch grid.
        height: usize,
        /// Columns of the patch grid.
        width: usize,
    },
}

/// How to find a site again in another pass: by the parameter its path starts at and by structure, never by the
/// operators' numbers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    /// Index into [`Graph::parameters`].
    pub parameter: usize,
    /// Which operator that reads this parameter, or what was computed of it: 0 for the first.
    pub use_number: usize,
    /// Canonical name of that operator.
    pub operator: String,
    /// Which of its results: 0 for the first.
    pub output: usize,
    /// From there on: the canonical names of the operators to follow.
    pub steps: Vec<Step>,
}

impl Route {
    /// Which result of its last operator the route ends at.
    pub fn last_output(&self) -> usize {
        self.steps.last().map_or(self.output, |step| step.output)
    }
}

/// One operator of a [`Route`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub operator: String,
    /// How many operators of this name read the value before this one.
    pub skip: usize,
    /// Which of its results: 0 for the first, more for the second half of a `chunk`.
    pub output: usize,
}

impl Site {
    /// The site's activation as maps `[N, C, H, W]`, on the same device, in the same kind; a view where possible.
    ///
    /// # Errors
    /// [`Error::Shape`] when `activation` is not laid out like this site.
    pub fn maps(&self, activation: &Tensor) -> Result<Tensor> {
        let size = activation.size();
        let channels = self.units as i64;
        let maps = match (self.layout, size.as_slice()) {
            (Layout::FeatureMap, [_, c, _, _]) if *c == channels => activation.f_alias(),
            (Layout::FeatureMap, [n, c, _]) if *c == channels => {
                let (height, width) = (self.size.0 as i64, self.size.1 as i64);
                match (&self.order, height) {
                    // In order, and no row: tokens with their channels first.
                    (None, 2..) => activation.f_reshape([*n, *c, height, width]),
                    _ => activation.f_unsqueeze(2),
                }
            }
            (Layout::Vector, [n, c]) if *c == channels => activation.f_view([*n, *c, 1, 1]),
            (Layout::ChannelsLast, [_, _, _, c]) if *c == channels => activation.f_permute([0, 3, 1, 2]),
            (Layout::Heads { prefix, height, width }, [n, c, t, _])
                if *c == channels && *t == (prefix + height * width) as i64 =>
            {
                activation
                    .f_narrow(2, prefix as i64, (height * width) as i64)
                    .and_then(|x| x.f_square()?.f_sum_dim_intlist(-1, false, None::<Kind>)?.f_sqrt())
                    .and_then(|x| x.f_reshape([*n, *c, height as i64, width as i64]))
            }
            (Layout::Tokens { prefix, height, width }, [n, t, c])
                if *c == channels && *t == (prefix + height * width) as i64 =>
            {
                activation
                    .f_narrow(1, prefix as i64, (height * width) as i64)
                    .and_then(|x| x.f_permute([0, 2, 1]))
                    .and_then(|x| x.f_reshape([*n, *c, height as i64, width as i64]))
            }
            (Layout::TokensFirst { prefix, height, width }, [t, n, c])
                if *c == channels && *t == (prefix + height * width) as i64 =>
            {
                activation
                    .f_narrow(0, prefix as i64, (height * width) as i64)
                    .and_then(|x| x.f_permute([1, 2, 0]))
                    .and_then(|x| x.f_reshape([*n, *c, height as i64, width as i64]))
            }
            _ => {
                return Err(Error::Shape {
                    what: format!("the activation of site `{}`", self.name),
                    received: size,
                    expected: format!("{} units as {:?}", self.units, self.layout),
                });
            }
        };
        let (height, width) = (self.size.0 as i64, self.size.1 as i64);
        let placed = maps.and_then(|maps| match &self.order {
            None => Ok(maps),
            Some(order) => {
                let order = Tensor::from_slice(order).f_to_device(maps.device())?;
                let n = maps.size().first().copied().unwrap_or(0);
                let in_order = maps.f_reshape([n, channels, -1])?.f_index_select(2, &order)?;
                in_order.f_reshape([n, channels, height, width])
            }
        });
        placed.map_err(Error::torch(format!("laying out site `{}`", self.name)))
    }

    /// The dimension of the raw activation that counts images.
    pub(crate) fn batch_dimension(&self) -> usize {
        usize::from(matches!(self.layout, Layout::TokensFirst { .. }))
    }

    /// The dimension of the raw activation that counts units.
    pub(crate) fn unit_dimension(&self) -> i64 {
        match self.layout {
            Layout::FeatureMap | Layout::Vector | Layout::Heads { .. } => 1,
            Layout::Tokens { .. } | Layout::TokensFirst { .. } => 2,
            Layout::ChannelsLast => 3,
        }
    }
}

impl Graph {
    /// The sites that `patterns` name: exact names, globs, or `auto`. In order of the graph, each once.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the nearest names for a name or glob that matches nothing; [`Error::Invalid`] for a glob
    /// that cannot be read, and for a layer that is used more than once and so has several sites.
    pub fn select<S: AsRef<str>>(&self, patterns: &[S]) -> Result<Vec<Site>> {
        let mut chosen = vec![false; self.sites.len()];
        for pattern in patterns {
            let found = self.matching(pattern.as_ref())?;
            found.into_iter().for_each(|i| chosen[i] = true);
        }
        Ok(self.sites.iter().zip(chosen).filter(|(_, c)| *c).map(|(s, _)| s.clone()).collect())
    }

    /// The site called `name`.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    pub fn site(&self, name: &str) -> Result<&Site> {
        self.sites.iter().find(|s| s.name == name).ok_or_else(|| self.unknown_site(name))
    }

    fn unknown_site(&self, name: &str) -> Error {
        let uses: Vec<&str> = self.sites.iter().map(|s| s.name.as_str()).filter(|n| is_use_of(n, name)).collect();
        if let Some(layer) = self.unread.iter().find(|l| l.layer == name || is_use_of(&l.layer, name)) {
            let sites = "a site (`tch-audit sites` lists them)";
            return Error::invalid("site", format!("`{name}`, a layer that cannot be read: {}", layer.reason), sites);
        }
        if uses.is_empty() {
            Error::unknown("site", name, self.sites.iter().map(|s| s.name.as_str()))
        } else {
            Error::invalid("site", format!("`{name}`, a layer that is used {} times", uses.len()), uses.join(", "))
        }
    }

    /// The error of a model without any layer that can be read.
    fn unreadable(&self) -> Error {
        let reasons: Vec<String> = self.unread.iter().take(3).map(|l| format!("{} ({})", l.layer, l.reason)).collect();
        let received = match self.unread.len() {
            0 => "a model without a layer that has weights".to_string(),
            n => format!("a model of {n} layers that cannot be read: {}", reasons.join(", ")),
        };
        Error::invalid("sites", received, "a model with a convolution or linear layer whose units can be read")
    }

    fn matching(&self, pattern: &str) -> Result<Vec<usize>> {
        let indices = |keep: &dyn Fn(&Site) -> bool| {
            self.sites.iter().enumerate().filter(|(_, s)| keep(s)).map(|(i, _)| i).collect::<Vec<_>>()
        };
        if pattern == "auto" {
            // Where the last layer cannot be read there is no classifier to leave out.
            let classifier = self.layers.last().map(|l| &l.name);
            let layers = indices(&|s| s.kind == SiteKind::Layer && Some(&s.name) != classifier);
            // A model of one layer has nothing else to offer.
            let all = if layers.is_empty() { indices(&|s| s.kind == SiteKind::Layer) } else { layers };
            return if all.is_empty() { Err(self.unreadable()) } else { Ok(all) };
        }
        let exact = indices(&|s| s.name == pattern);
        if !exact.is_empty() {
            return Ok(exact);
        }
        if !pattern.contains(['*', '?', '[', '{']) {
            return Err(self.unknown_site(pattern));
        }
        let glob = crate::glob::compile(pattern)
            .map_err(|why| Error::invalid("site", format!("`{pattern}`"), format!("a glob ({why})")))?;
        // `layer*` means layers and scopes; their other sites are asked for by name.
        let special = pattern.contains('@');
        let found = indices(&|s| glob.is_match(&s.name) && s.name.contains('@') == special);
        if found.is_empty() { Err(self.unknown_site(pattern)) } else { Ok(found) }
    }
}

pub(super) fn is_use_of(site: &str, layer: &str) -> bool {
    site.strip_prefix(layer).is_some_and(|rest| rest.strip_prefix('#').is_some_and(|n| !n.contains('@')))
}

#[cfg(test)]
mod tests {
    use crate::{Model, Result, Traced};
    use tch::{Device, Kind, Tensor, nn};

    #[test]
    fn a_name_with_wildcards_in_it_means_itself_first() -> Result<()> {
        let vs = nn::VarStore::new(Device::Cpu);
        let mut net = nn::seq_t();
        for name in ["layer[4]", "layer4", "layer5", "{a,b}*", "what?"] {
            net = net.add(nn::linear(&vs.root() / name, 3, 3, Default::default()));
        }
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)))?;
        let names =
            |pattern: &str| graph.select(&[pattern]).map(|sites| sites.into_iter().map(|s| s.name).collect::<Vec<_>>());
        for name in ["layer[4]", "{a,b}*", "what?"] {
            assert_eq!(names(name)?, [name]);
        }
        assert_eq!(names("layer[45]")?, ["layer4", "layer5"]);
        assert_eq!(names(r"*\[4\]")?, ["layer[4]"]);
        Ok(())
    }
}
