//! What the dimensions of every value count: channels of layers, and places of the image. Found in one walk over the graph.

use super::places::{self, Lie, Places};
use super::{Graph, ValueId, channels, movement::Movement, ops};

/// What is known of the values of a graph.
#[derive(Debug)]
pub(super) struct Labels {
    channels: Vec<Vec<usize>>,
    places: Vec<Option<Places>>,
}

impl Graph {
    fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| follow(self))
    }

    /// The dimensions along which the channels of the layer before a value are counted: one for a feature map, two where
    /// they are split into heads; none where no layer made it, or where it comes from a product over channels, like the
    /// scores of an attention.
    pub(crate) fn channel_dimensions(&self, v: ValueId) -> &[usize] {
        self.labels().channels.get(v).map_or(&[], Vec::as_slice)
    }

    /// Of the last two dimensions of a value the one that counts channels.
    pub(crate) fn matrix_dimension(&self, v: ValueId) -> Option<usize> {
        let matrix = self.values[v].shape.len().saturating_sub(2);
        self.channel_dimensions(v).iter().copied().find(|d| *d >= matrix)
    }

    /// How dimensions of a value lie on the image.
    pub(super) fn lie(&self, v: ValueId, dims: &[usize]) -> Lie {
        let places = self.labels().places.get(v).and_then(Option::as_ref);
        places.map_or(Lie::Unknown, |p| p.lie(&self.values[v].shape, dims))
    }
}

fn follow(graph: &Graph) -> Labels {
    let mut channels: Vec<_> = (0..graph.values.len()).map(|_| None).collect();
    let mut places: Vec<_> = (0..graph.values.len()).map(|v| places::of_input(graph, v)).collect();
    for (index, op) in graph.ops.iter().enumerate() {
        let known = |v: ValueId| channels[v].is_some() || places[v].is_some();
        let moves = ops::MOVEMENTS.contains(&op.name.as_str());
        let movement = (moves && op.reads().any(known)).then(|| Movement::of(graph, op)).flatten();
        if moves && movement.is_none() {
            continue;
        }
        for (v, made) in channels::made(graph, index, &channels, movement.as_ref()) {
            channels[v] = Some(made);
        }
        for (v, made) in places::made(graph, index, &places, movement.as_ref()) {
            places[v] = Some(made);
        }
    }
    let varying = |c: &Option<_>| c.as_ref().map(channels::varying).unwrap_or_default();
    Labels { channels: channels.iter().map(varying).collect(), places }
}
