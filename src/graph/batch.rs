//! Which dimension of a value counts images.
//!
//! Mostly the first. Where a layer's output begins otherwise (tokens first, tiles or flipped copies in the batch), a second
//! pass with one more image tells: the dimension that grows from `N` to `N + 1` counts images, any other growth does not.

use super::trace::write_down;
use super::{Graph, layer};
use crate::{Model, Result};
use tch::Tensor;

/// Fills in [`Value::batch`](super::Value::batch).
pub(super) fn find(graph: &mut Graph, model: &Model<'_>, input: &Tensor) -> Result<()> {
    let n = graph.batch;
    for value in &mut graph.values {
        value.batch = (!value.fixed && value.shape.first() == Some(&n)).then_some(0);
    }
    let unclear = |op: usize| {
        let mut reads = graph.flowing(op);
        let output = graph.ops[op].outputs.first();
        reads.next().is_some() && output.is_some_and(|&v| graph.values[v].batch.is_none())
    };
    if !layer::operators(graph).into_iter().any(unclear) {
        return Ok(());
    }
    let Ok(more) = input.f_narrow(0, 0, 1).and_then(|one| Tensor::f_cat(&[input, &one], 0)) else { return Ok(()) };
    // Models that take one number of images only, and those that run other operators then, tell nothing.
    let Ok(second) = write_down(model, &more) else { return Ok(()) };
    let same = second.ops.len() == graph.ops.len()
        && second.values.len() == graph.values.len()
        && second.ops.iter().zip(&graph.ops).all(|(a, b)| a.name == b.name);
    if same {
        for (value, other) in graph.values.iter_mut().zip(&second.values).filter(|(v, _)| !v.fixed) {
            value.batch = grown(&value.shape, &other.shape, n);
        }
    }
    Ok(())
}

/// The one dimension that differs, if it counts the images.
fn grown(one: &[i64], two: &[i64], n: i64) -> Option<usize> {
    let differ: Vec<usize> = (0..one.len().min(two.len())).filter(|&d| one[d] != two[d]).collect();
    match differ.as_slice() {
        &[d] if one.len() == two.len() && (one[d], two[d]) == (n, n + 1) => Some(d),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::grown;

    #[test]
    fn only_a_dimension_that_grows_by_one_image_counts_images() {
        assert_eq!(grown(&[1, 8, 4], &[2, 8, 4], 1), Some(0));
        assert_eq!(grown(&[49, 2, 8], &[49, 3, 8], 2), Some(1));
        assert_eq!(grown(&[4, 8], &[8, 8], 1), None, "four tiles of an image");
        assert_eq!(grown(&[1, 16, 8], &[1, 32, 8], 1), None, "more tokens");
        assert_eq!(grown(&[3, 8], &[3, 8], 3), None, "the number of images happens to be the same");
    }
}
