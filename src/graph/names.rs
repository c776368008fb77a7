//! What the names of parameters say: the module and the layer that they belong to.

/// The module that a parameter belongs to: its name without the last component.
pub(super) fn module_of(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or("", |(module, _)| module)
}

/// The module that a parameter belongs to. What a parametrisation computes belongs to the module that it does so for.
pub(super) fn module(parameter: &str) -> String {
    module_of(&written(parameter)).to_string()
}

/// The name that a parameter had before it was parametrised: `conv.weight` for `conv.parametrizations.weight.original0`.
pub(super) fn written(parameter: &str) -> String {
    let Some((module, rest)) = parameter.split_once("parametrizations.") else { return parameter.to_string() };
    let own = rest.split('.').next().unwrap_or(rest);
    format!("{module}{own}")
}

/// `a.conv1` for `a.conv1.weight`; the whole name for anything that is not called `weight`, or is one of its makings.
pub(super) fn layer_name(parameter: &str) -> &str {
    let makings = [".weight", ".weight_v", ".weight_g", ".weight_orig"];
    makings.into_iter().find_map(|end| parameter.strip_suffix(end)).unwrap_or(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parametrised_weights_belong_to_the_module_that_they_are_for() {
        assert_eq!(written("a.conv.parametrizations.weight.original0"), "a.conv.weight");
        assert_eq!(module("a.conv.parametrizations.weight.0._u"), "a.conv");
        assert_eq!(module("parametrizations.w.original"), "");
        assert_eq!(layer_name("a.weight_v"), "a");
        assert_eq!(layer_name("a.in_proj_weight"), "a.in_proj_weight");
    }
}
