//! What every command does with a folder of images: which output each class is about, and what was left out.

use crate::{Common, output};
use anyhow::{Context, ensure};
use std::path::Path;
use tch_audit::Traced;
use tch_audit::evaluate::{check_classes, outputs};
use tch_audit::probe::{ImageFolder, Images, LeftOutFiles, Why, left_out_sentence, read_classes};

/// The folder, with the classes that the file of `--classes` names, if there is one.
pub fn with_classes(folder: ImageFolder, file: Option<&Path>) -> anyhow::Result<ImageFolder> {
    let Some(file) = file else { return Ok(folder) };
    Ok(folder.classes(read_classes(file).context("--classes")?))
}

/// Refuses classes of a file that are not as many as the model's outputs.
pub fn check_list(file: Option<&Path>, traced: &Traced<'_>, images: &dyn Images) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    if let Some(outputs) = outputs(traced) {
        let lines = images.classes().len();
        ensure!(
            lines == outputs,
            "--classes: received {lines} lines in {}, allowed {outputs}: one for each output of the model",
            file.display()
        );
    }
    check_classes(traced, images).context("--classes")
}

/// Says which files beside the images were left out, if there are any.
pub fn say_left_out(what: &str, images: &dyn Images, common: &Common) {
    let left_out = sentence(images.left_out());
    if !left_out.is_empty() && !common.quiet {
        output::note(&format!("{what}: {} images{left_out}", images.len()));
    }
}

/// What is left out, as a part of a line; files that are no images are not worth it.
pub fn sentence(left_out: &[LeftOutFiles]) -> String {
    let images: Vec<LeftOutFiles> = left_out.iter().filter(|l| l.why != Why::NoImage).cloned().collect();
    left_out_sentence(&images)
}
