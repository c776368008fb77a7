//! Whether an edited model computes what its plan promises.

use crate::Model;
use crate::Reason;
use crate::error::first_line;
use tch::{Kind, Tensor};

/// How far outputs may differ, as a share of the largest expected one.
const TOLERANCE: f64 = 1e-4;

/// Runs the model on `example` and compares its first outputs with `expected`. Returns the largest difference, or why they
/// do not agree.
pub(super) fn outputs(model: &Model<'_>, example: &Tensor, expected: &[Tensor]) -> Result<f64, (Reason, String)> {
    let run = || model.run_all(&model.prepare(example)?);
    let outputs = run().map_err(|e| (Reason::Code, e.to_string()))?;
    if outputs.len() < expected.len() {
        return Err((
            Reason::Code,
            format!("the model returns {} tensors, it returned {}", outputs.len(), expected.len()),
        ));
    }
    let mut largest = 0.0_f64;
    for (output, expected) in outputs.iter().zip(expected) {
        largest = largest.max(difference(output, expected)?);
    }
    Ok(largest)
}

fn difference(output: &Tensor, expected: &Tensor) -> Result<f64, (Reason, String)> {
    if output.size() != expected.size() {
        let text = format!("the output's shape is {:?}, it was {:?}", output.size(), expected.size());
        return Err((Reason::Code, text));
    }
    if output.numel() == 0 {
        return Ok(0.0);
    }
    let numbers = || -> Result<(f64, f64), tch::TchError> {
        let (a, b) = (output.f_to_kind(Kind::Double)?, expected.f_to_kind(Kind::Double)?);
        let difference = a.f_sub(&b)?.f_abs()?.f_max()?.f_double_value(&[])?;
        Ok((difference, b.f_abs()?.f_max()?.f_double_value(&[])?))
    };
    let (difference, scale) = numbers().map_err(|e| (Reason::Code, first_line(&e.to_string())))?;
    if !difference.is_finite() {
        return Err((Reason::NotFinite, "the output is not finite".to_string()));
    }
    if difference > TOLERANCE * scale.max(1e-3) {
        let text = format!(
            "the output differs from that of the model with the units at 0 by {difference:.3e} (largest {scale:.3e})"
        );
        return Err((Reason::Silent, text));
    }
    Ok(difference)
}
