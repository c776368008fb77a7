//! Which elements of a tensor leave.

use std::collections::BTreeSet;
use tch::{Device, Kind, Tensor};

/// The elements of one value that leave: whole slabs along its dimensions, and, where they are no slabs, single ones.
#[derive(Debug)]
pub(crate) struct Cut {
    shape: Vec<i64>,
    /// Per dimension the indices at which everything leaves.
    pub axes: Vec<BTreeSet<i64>>,
    /// Elements outside the slabs, as truth values of the value's shape.
    scattered: Option<Tensor>,
}

impl Cut {
    pub fn new(shape: &[i64]) -> Self {
        Self { shape: shape.to_vec(), axes: vec![BTreeSet::new(); shape.len()], scattered: None }
    }

    /// Adds the slabs at `indices` of dimension `d`; whether anything changed.
    pub fn add(&mut self, d: usize, indices: &BTreeSet<i64>) -> bool {
        let before = self.axes[d].len();
        self.axes[d].extend(indices);
        let changed = self.axes[d].len() > before;
        if changed && self.scattered.is_some() {
            self.absorb(&self.full());
        }
        changed
    }

    /// Adds elements, given as truth values of the value's shape; whether anything changed.
    pub fn add_elements(&mut self, elements: &Tensor) -> bool {
        let before = self.full();
        let after = before.logical_or(elements);
        let changed = after.ne_tensor(&before).any().int64_value(&[]) != 0;
        if changed {
            self.absorb(&after);
        }
        changed
    }

    /// All elements that leave, as truth values of the value's shape.
    pub fn full(&self) -> Tensor {
        let mut full = match &self.scattered {
            Some(elements) => elements.copy(),
            None => Tensor::zeros(&self.shape, (Kind::Bool, Device::Cpu)),
        };
        for (d, indices) in self.axes.iter().enumerate().filter(|(_, i)| !i.is_empty()) {
            let indices: Vec<i64> = indices.iter().copied().collect();
            let _ = full.index_fill_(d as i64, &Tensor::from_slice(&indices), 1);
        }
        full
    }

    /// Takes `full` apart into slabs and what is left over.
    fn absorb(&mut self, full: &Tensor) {
        for d in 0..self.shape.len() {
            if self.shape[d] > 1 {
                self.axes[d] = indices(&all_but(full, d));
            }
        }
        self.scattered = None;
        let left = full.logical_and(&self.full().logical_not());
        if left.any().int64_value(&[]) != 0 {
            self.scattered = Some(left);
        } else if full.all().int64_value(&[]) != 0 {
            // A value of one element per dimension.
            if let Some(axis) = self.axes.first_mut().filter(|a| a.is_empty()) {
                axis.insert(0);
            }
        }
    }

    /// The indices of dimension `d` at which everything leaves, once the dimensions `over` are looked at as one: at which
    /// anything along them leaves.
    pub fn touched(&self, d: usize, over: &[usize]) -> BTreeSet<i64> {
        if over.iter().any(|o| *o != d && !self.axes[*o].is_empty()) {
            return (0..self.shape[d]).collect();
        }
        if self.scattered.is_none() || over.is_empty() {
            return self.axes[d].clone();
        }
        let over: Vec<i64> = over.iter().filter(|o| **o != d).map(|o| *o as i64).collect();
        indices(&all_but(&self.full().any_dims(over, true), d))
    }

    pub fn is_scattered(&self) -> bool {
        self.scattered.is_some()
    }

    /// Whether nothing of the value stays.
    pub fn is_everything(&self) -> bool {
        self.axes.iter().zip(&self.shape).any(|(a, n)| *n > 0 && a.len() as i64 == *n)
    }

    /// The shape of what stays.
    pub fn kept_shape(&self) -> Vec<i64> {
        self.shape.iter().zip(&self.axes).map(|(n, a)| n - a.len() as i64).collect()
    }

    /// The indices of dimension `d` that stay.
    pub fn kept(&self, d: usize) -> Vec<i64> {
        (0..self.shape[d]).filter(|i| !self.axes[d].contains(i)).collect()
    }
}

/// Along dimension `d`: whether all elements at each index are true.
fn all_but(full: &Tensor, d: usize) -> Tensor {
    let others: Vec<i64> = (0..full.dim() as i64).filter(|o| *o != d as i64).collect();
    if others.is_empty() { full.shallow_clone() } else { full.all_dims(others, false) }
}

fn indices(truths: &Tensor) -> BTreeSet<i64> {
    let found = truths.nonzero().view(-1);
    Vec::<i64>::try_from(found).unwrap_or_default().into_iter().collect()
}
