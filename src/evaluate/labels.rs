//! Whether the classes of images can be held against a model's outputs: no accuracy is better than a wrong one.

use crate::probe::Images;
use crate::{Error, Result, Traced};

/// Parts of a data set, in lower case: folders that are often taken for classes.
const PARTS: [&str; 9] = ["train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"];

/// Whether the accuracy of a model on these images can be measured, as far as is known without showing them.
///
/// # Errors
/// [`Error::NotMeasured`] for images without classes, for an output that is not one number per class, and where the classes
/// are not as many as the outputs: which output a class is about is not known then.
pub fn check_classes(traced: &Traced<'_>, images: &dyn Images) -> Result<()> {
    let output = traced.output.and_then(|value| traced.values.get(value));
    // Of an output that is not a tensor the forward pass says what it is.
    output.map_or(Ok(()), |output| comparable(images, &output.shape))
}

/// How many outputs a model has; `None` where its output is not one number per class.
pub fn outputs(traced: &Traced<'_>) -> Option<usize> {
    let output = traced.output.and_then(|value| traced.values.get(value))?;
    if let [_, outputs] = output.shape.as_slice() { usize::try_from(*outputs).ok() } else { None }
}

/// As [`check_classes`], for an output of this shape.
pub(super) fn comparable(images: &dyn Images, output: &[i64]) -> Result<()> {
    reason(images, output).map_or(Ok(()), |reason| Err(Error::NotMeasured { what: "accuracy", reason }))
}

/// What keeps the accuracy from being measured.
fn reason(images: &dyn Images, output: &[i64]) -> Option<String> {
    let classes = images.classes();
    if classes.is_empty() || (!images.is_empty() && images.label(0).is_none()) {
        return Some(
            "the images have no classes (in a folder, those of each class lie in a sub-folder of their own)"
                .to_string(),
        );
    }
    let outputs = match output {
        [_, outputs] => usize::try_from(*outputs).unwrap_or_default(),
        _ => return Some(format!("the model's output is {output:?}, not one number per class")),
    };
    let folders = images.classes_are_folders();
    if folders && classes.iter().all(|class| PARTS.contains(&class.to_lowercase().as_str())) {
        let names = classes.iter().map(|class| format!("`{class}`")).collect::<Vec<_>>().join(", ");
        return Some(format!("the folders {names} are parts of a data set, not classes: give one of them"));
    }
    let list = "list the classes of all outputs, one per line, with --classes FILE (`ImageFolder::classes`)";
    if classes.len() != outputs {
        let received = match (classes.len(), folders) {
            (1, true) => "1 class folder".to_string(),
            (1, false) => "1 class".to_string(),
            (n, true) => format!("{n} class folders"),
            (n, false) => format!("{n} classes"),
        };
        let has = if outputs == 1 { "1 output".to_string() } else { format!("{outputs} outputs") };
        return Some(format!("{received}, the model has {has}: which output each class is about is not known; {list}"));
    }
    let numbers: Option<Vec<u64>> = classes.iter().map(|class| class.parse().ok()).collect();
    match numbers.and_then(|numbers| numbers.windows(2).position(|two| two[0] > two[1])) {
        Some(i) if folders => Some(format!(
            "the class folders are numbers that are sorted as text, `{}` before `{}`, and the model's outputs may be \
             sorted as numbers; {list}",
            classes[i],
            classes[i + 1]
        )),
        _ => None,
    }
}
