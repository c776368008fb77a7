//! `--evaluate DIR`: accuracy and robustness before and after, next to random units.

use crate::input::{Input, positive};
use crate::{Common, output, photos};
use anyhow::Context;
use clap::{Args, ValueHint};
use std::path::PathBuf;
use tch::Tensor;
use tch_audit::Model;
use tch_audit::Traced;
use tch_audit::edit::{Edit, Method, NoOptimizer};
use tch_audit::evaluate::compare::draw_like;
use tch_audit::evaluate::robustness::compare::compare;
use tch_audit::evaluate::robustness::corrupt::Severity;
use tch_audit::evaluate::robustness::{Options, Robustness, table};
use tch_audit::evaluate::{Methods, check_classes};
use tch_audit::graph::Mask;
use tch_audit::probe::{ImageFolder, ImageStream, Images, example};

/// So many images are enough unless something else is said.
const LIMIT: usize = 200;

#[derive(Debug, Args)]
#[command(next_help_heading = "Evaluation")]
pub struct Evaluate {
    /// Labelled images, one sub-folder per class in the order of the model's outputs: measures accuracy and robustness
    /// before and after, clean, with painted text, under seven corruptions and two attacks.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    evaluate: Option<PathBuf>,
    /// The model's classes: a text file with a line for each output, in their order, that holds the name of the class's
    /// sub-folder. It is needed where the sub-folders are only some of the classes, or are not sorted as the outputs are.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "evaluate")]
    classes: Option<PathBuf>,
    /// Use only the first N images of each class, by name [default: 200 images in all, spread over the classes].
    #[arg(long, value_name = "N", value_parser = positive, requires = "evaluate")]
    limit_per_class: Option<usize>,
    /// At most so many images in all, spread over the classes.
    #[arg(long, value_name = "N", value_parser = positive, requires = "evaluate", hide = true, conflicts_with = "limit_per_class")]
    limit: Option<usize>,
    /// Severities of the corruptions, 1 to 5.
    #[arg(long, value_name = "N,..", value_delimiter = ',', default_value = "1,2,3,4,5", requires = "evaluate")]
    severities: Vec<u8>,
    /// Leave out the attacks (FGSM, PGD).
    #[arg(long, requires = "evaluate")]
    no_attacks: bool,
    /// How many times as many random units of the same sites are edited in the same way and measured too.
    #[arg(long, value_name = "N", default_value_t = 2, requires = "evaluate")]
    controls: usize,
    /// Where random choices start.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "evaluate")]
    seed: u64,
}

/// Loads the model that is edited once more.
type Load<'a> = &'a dyn Fn() -> anyhow::Result<Model<'static>>;

/// What was measured before the edit.
pub struct Before {
    measured: Robustness,
    controls: Vec<Robustness>,
}

impl Evaluate {
    /// The labelled images, if there are to be any.
    pub fn images(&self, input: &Input) -> anyhow::Result<Option<ImageStream>> {
        let Some(folder) = &self.evaluate else { return Ok(None) };
        self.options()?;
        let mut open = ImageFolder::open(folder).preprocess(input.preprocess()?);
        if let Some(n) = self.limit_per_class {
            open = open.limit_per_class(n);
        }
        let images = photos::with_classes(open, self.classes.as_deref())?.stream().context("--evaluate")?;
        anyhow::ensure!(
            !images.classes().is_empty(),
            "--evaluate: received images without classes in {}, allowed one sub-folder per class",
            folder.display()
        );
        Ok(Some(images))
    }

    /// At most so many images in all.
    fn limit(&self) -> Option<usize> {
        self.limit.or(if self.limit_per_class.is_none() { Some(LIMIT) } else { None })
    }

    /// Refuses images whose classes cannot be held against the model's outputs.
    pub fn check(&self, traced: &Traced<'_>, images: &dyn Images) -> anyhow::Result<()> {
        photos::check_list(self.classes.as_deref(), traced, images)?;
        check_classes(traced, images).context("--evaluate")
    }

    /// Says how many images were used, and what was left out.
    pub fn say_used(&self, images: &dyn Images, common: &Common) {
        if !common.quiet {
            let (all, used) = (images.len(), self.limit().map_or(images.len(), |limit| limit.min(images.len())));
            let of = if used < all { format!(" of {all}, spread over the classes") } else { String::new() };
            output::note(&format!("evaluated on {used} images{of}{}", photos::sentence(images.left_out())));
        }
    }

    fn options(&self) -> anyhow::Result<Options> {
        let severities = self.severities.iter().map(|s| Severity::new(*s)).collect::<Result<_, _>>();
        let mut options = Options::default();
        options.seed = self.seed;
        options.severities = severities.context("--severities")?;
        options.adversarial = !self.no_attacks;
        options.limit = self.limit();
        Ok(options)
    }

    /// The untouched model, and random units edited in its copies.
    pub fn before(
        &self,
        load: Load<'_>,
        graph: &Traced<'_>,
        edit: &Edit,
        images: &dyn Images,
    ) -> anyhow::Result<Before> {
        let options = self.options()?;
        let measured = self.measure(graph.model(), load, images, &options)?;
        let prune = if edit.method() == Method::Prune { edit.units().to_vec() } else { Vec::new() };
        let methods = Methods::new(prune);
        let mut controls = Vec::new();
        for draw in 0..self.controls {
            let seed = self.seed.wrapping_add(draw as u64);
            // The sites may have no other units.
            let Some((units, _)) = draw_like(graph, (edit.units(), &methods), images, seed)? else { break };
            let example = example(images, graph.model().at_most(2))?;
            let edited = || -> anyhow::Result<Model<'static>> {
                let copy = load()?;
                let again = Traced::new(&copy, &example)?;
                let graph = if graph.allows_unseen_code() { again.allowing_unseen_code() } else { again };
                let _ = Edit::new(edit.method(), &graph, &units)?.apply(&graph, &example, NoOptimizer)?;
                Ok(copy)
            };
            controls.push(self.measure(&edited()?, edited, images, &options)?);
        }
        Ok(Before { measured, controls })
    }

    /// The edited model against what was measured before, as a table.
    pub fn after(
        &self,
        load: Load<'_>,
        model: &Model<'_>,
        edit: &Edit,
        example: &Tensor,
        images: &dyn Images,
        before: Before,
    ) -> anyhow::Result<String> {
        let copy = || -> anyhow::Result<Model<'static>> {
            let copy = load()?;
            let graph = Traced::new(&copy, example)?;
            let _ = edit.apply(&graph, example, NoOptimizer)?;
            Ok(copy)
        };
        let after = self.measure(model, copy, images, &self.options()?)?;
        let controls = Some(before.controls.as_slice()).filter(|c| !c.is_empty());
        Ok(table::render(&compare(&before.measured, &after, controls)?))
    }

    /// A masked model against the plain one. Masks and gradients do not go together: nothing is attacked.
    pub fn masked(&self, graph: &Traced<'_>, masks: &[Mask], images: &dyn Images) -> anyhow::Result<String> {
        let mut options = self.options()?;
        options.adversarial = false;
        let before = Robustness::measure(graph.model(), None, images, &options)?;
        let after = Robustness::measure(&graph.masked(masks), None, images, &options)?;
        Ok(table::render(&compare(&before, &after, None)?))
    }

    /// Attacks run on a second copy: a TorchScript module that has run with gradients is rewritten.
    fn measure(
        &self,
        model: &Model<'_>,
        copy: impl FnOnce() -> anyhow::Result<Model<'static>>,
        images: &dyn Images,
        options: &Options,
    ) -> anyhow::Result<Robustness> {
        let copy = if options.adversarial { Some(copy()?) } else { None };
        Ok(Robustness::measure(model, copy.as_ref(), images, options)?)
    }
}
