//! What is known about operators, by name.

/// The name that operators with one meaning share: `aten::relu_` and `aten::relu` are both `relu`.
pub(crate) fn canonical(name: &str) -> &str {
    let name = name.strip_prefix("aten::").unwrap_or(name);
    let base = name.trim_matches('_');
    match base {
        "conv1d" | "conv2d" | "conv3d" | "convolution" | "conv_transpose1d" | "conv_transpose2d"
        | "conv_transpose3d" | "mkldnn_convolution" | "thnn_conv2d" | "convolution_mode" => "conv",
        "native_batch_norm" | "cudnn_batch_norm" | "batch_norm_impl_index" | "native_batch_norm_legit_no_training" => {
            "batch_norm"
        }
        "native_layer_norm" => "layer_norm",
        "native_group_norm" => "group_norm",
        "addmm" | "mm" | "matmul" => "linear",
        "swish" => "silu",
        "concat" | "concatenate" => "cat",
        base => base,
    }
}

/// The name given to what made a value that no operator was seen to make: a view of another value.
pub(crate) const UNSEEN: &str = "unseen view";

/// Operators that only move elements: each element of the output is one of the input, or padding.
#[rustfmt::skip]
pub(crate) const MOVEMENTS: &[&str] = &[
    "view", "reshape", "unsafe_view", "reshape_alias", "flatten", "unflatten", "squeeze", "unsqueeze", "permute",
    "transpose", "t", "numpy_T", "mT", "swapaxes", "swapdims", "movedim", "select", "slice", "narrow", "chunk",
    "unsafe_chunk", "split", "unsafe_split", "split_with_sizes", "unsafe_split_with_sizes", "tensor_split", "unbind",
    "cat", "stack", "hstack", "vstack", "expand", "expand_as", "broadcast_to", "repeat", "tile", "view_as",
    "reshape_as", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "flip", "roll",
    "rot90", "pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "replication_pad1d",
    "replication_pad2d", "unfold", "im2col", "diagonal", "ravel", UNSEEN,
];

/// Whether an operator picks or places elements by numbers that it is given or works out: where they come from is not known.
pub(crate) fn picks(canonical: &str) -> bool {
    let beginnings =
        ["index", "gather", "take", "sort", "msort", "argsort", "topk", "scatter", "masked_s", "grid_sampler"];
    canonical.starts_with("embedding") || beginnings.into_iter().any(|begin| canonical.starts_with(begin))
}

/// Whether an operator writes to its first argument and returns it.
pub(crate) fn is_in_place(name: &str, overload: &str) -> bool {
    let name = name.strip_prefix("aten::").unwrap_or(name);
    (name.ends_with('_') && !name.ends_with("__")) || overload.ends_with("out")
}

/// Layers: their output channels are neurons.
pub(crate) fn is_layer(canonical: &str) -> bool {
    matches!(canonical, "conv" | "linear")
}

/// Operators that multiply with a weight if they are given one.
pub(crate) fn is_product(canonical: &str) -> bool {
    is_layer(canonical) || matches!(canonical, "bmm" | "baddbmm" | "einsum" | "bilinear")
}

/// Whether an operator adds its first operand to a product of the others.
pub(crate) fn adds_its_first(name: &str) -> bool {
    let name = name.strip_prefix("aten::").unwrap_or(name).trim_matches('_');
    matches!(name, "addmm" | "baddbmm" | "addbmm" | "addmv")
}

/// Normalisations with a scale and a shift per channel.
pub(crate) fn is_normalisation(canonical: &str) -> bool {
    matches!(canonical, "batch_norm" | "layer_norm" | "group_norm" | "instance_norm")
}

/// Element-wise non-linearities of one tensor.
pub(crate) fn is_activation(canonical: &str) -> bool {
    maps_zero_to_zero(canonical) == Some(true) || maps_zero_to_zero(canonical) == Some(false)
}

/// Whether a non-linearity takes 0 to 0; `None` for what is not a known element-wise non-linearity.
///
/// `hardtanh` and `clamp` depend on their bounds: see [`zero_within`].
pub(crate) fn maps_zero_to_zero(canonical: &str) -> Option<bool> {
    match canonical {
        "relu" | "relu6" | "gelu" | "silu" | "tanh" | "hardswish" | "leaky_relu" | "elu" | "celu" | "selu" | "mish"
        | "prelu" | "clamp_min" | "clamp_max" | "clamp" | "hardtanh" | "softsign" | "hardshrink" | "softshrink"
        | "tanhshrink" | "rrelu" | "threshold" | "square" | "abs" => Some(true),
        "sigmoid" | "softplus" | "hardsigmoid" | "log_sigmoid" | "exp" => Some(false),
        _ => None,
    }
}

/// For non-linearities with bounds: whether they leave 0 where it is, given their numeric arguments.
pub(crate) fn zero_within(canonical: &str, numbers: &[f64]) -> bool {
    match (canonical, numbers) {
        ("clamp" | "hardtanh", [low, high, ..]) => *low <= 0.0 && *high >= 0.0,
        ("clamp_min", [low, ..]) => *low <= 0.0,
        ("clamp_max", [high, ..]) => *high >= 0.0,
        // threshold(x, t, value): x where x > t, value elsewhere.
        ("threshold", [t, value, ..]) => *t < 0.0 || *value == 0.0,
        ("clamp" | "hardtanh" | "clamp_min" | "clamp_max" | "threshold", _) => false,
        _ => true,
    }
}

/// Operators that leave every channel in its place and belong to the scope they follow.
pub(crate) fn is_elementwise(canonical: &str) -> bool {
    is_activation(canonical)
        || is_normalisation(canonical)
        || matches!(
            canonical,
            "add" | "sub" | "mul" | "div" | "cat" | "dropout" | "feature_dropout" | "alias" | "clone"
        )
}

/// Views and copies of a parameter that are still that parameter: `(is one, transposes)`.
pub(crate) fn parameter_view(canonical: &str) -> Option<bool> {
    match canonical {
        "detach" | "alias" | "contiguous" | "to" | "clone" | "view_as" | "type_as" => Some(false),
        "t" | "numpy_T" | "transpose" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_and_underscored_names_are_recognised() {
        assert_eq!(canonical("aten::relu_"), "relu");
        assert_eq!(canonical("aten::_convolution"), "conv");
        assert!(is_in_place("aten::add_", "Tensor") && !is_in_place("aten::add", "Tensor"));
        assert!(!is_in_place("aten::__and__", "Tensor"));
    }

    #[test]
    fn a_clamp_that_lifts_zero_does_not_keep_it() {
        assert!(zero_within("hardtanh", &[0.0, 6.0]));
        assert!(!zero_within("clamp_min", &[0.1]));
    }
}
