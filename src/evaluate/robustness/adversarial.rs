//! Small changes of an image that raise the model's loss: attacks that know the model.
//!
//! An attack follows the gradients of the model that it is given. A model before and after an edit is each attacked by
//! its own gradients (white box): what is compared is how much each can be harmed, not how well one attack carries over.
//! A model whose gradients are hidden (by a saturated or a coarse operator) looks more robust than it is; where the
//! gradient of an image is zero, a warning is logged.

use crate::probe::{Preprocess, seed};
use crate::{Error, Model, Result};
use tch::{Device, Kind, Tensor};

/// How [`pgd`] searches.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Pgd {
    /// The largest change of a value, in units of 0-1 pixels; above 0, at most 1.
    pub epsilon: f64,
    /// How many steps, each of `2 epsilon / steps`, so that every place within reach can be got to from every other.
    pub steps: usize,
    /// Where the random starts come from.
    pub seed: u64,
}

impl Default for Pgd {
    /// Within 2/255, 8 steps of a quarter of that.
    fn default() -> Self {
        Self { epsilon: 2.0 / 255.0, steps: 8, seed: 0 }
    }
}

/// The largest number of steps.
const MOST_STEPS: usize = 1000;

impl Pgd {
    /// **Errors:** [`Error::Invalid`] naming the first field that is not in its range.
    pub fn validate(&self) -> Result<()> {
        check_epsilon(self.epsilon)?;
        match self.steps {
            1..=MOST_STEPS => Ok(()),
            other => Err(Error::invalid("steps of an attack", other, format!("1 to {MOST_STEPS}"))),
        }
    }
}

/// One step of `epsilon` against every value, in the direction that raises the loss.
///
/// **Shapes:** `input` is `[N, C, H, W]` as [`Batch::input`](crate::probe::Batch::input) is, `labels` `[N]`;
/// the result is like `input`, on the model's device and in its kind.
/// **Units and range:** `epsilon` in units of 0-1 pixels, above 0 and at most 1; input and result are normalised by
/// `preprocess`, and no pixel leaves 0 to 1. Values are not rounded to 8 bits.
/// **Errors:** those of [`Model::input_gradient`]; [`Error::Invalid`] for an `epsilon` out of range, and when a gradient
/// is not finite.
/// **Source:** the fast gradient sign method, Goodfellow, Shlens and Szegedy, "Explaining and Harnessing Adversarial
/// Examples", 2014, arXiv 1412.6572.
pub fn fgsm(
    model: &Model<'_>,
    input: &Tensor,
    labels: &Tensor,
    preprocess: &Preprocess,
    epsilon: f64,
) -> Result<Tensor> {
    check_epsilon(epsilon)?;
    let clean = model.prepare(input)?;
    let (gradient, _) = gradient(model, &clean, labels)?;
    warn_if_blind(&gradient)?;
    Ball::around(&clean, preprocess, epsilon)?.climb(&clean, &gradient, epsilon)
}

/// Many smaller steps against every value from a random start, all within `epsilon` of the image.
///
/// `numbers` are those of the images in their set: an image of one number always starts from the same random numbers,
/// however the set is cut into batches.
///
/// **Shapes, units, range, errors:** as [`fgsm`]; [`Error::Invalid`] when `options` are out of range; [`Error::Shape`]
/// unless there is a number for each image.
/// **Source:** projected gradient descent, Madry et al., "Towards Deep Learning Models Resistant to Adversarial
/// Attacks", 2017, arXiv 1706.06083, in the maximum norm. Differs: of all places on the way the one with the highest
/// loss is kept, for every image of its own, not the last.
pub fn pgd(
    model: &Model<'_>,
    input: &Tensor,
    labels: &Tensor,
    preprocess: &Preprocess,
    options: &Pgd,
    numbers: &[usize],
) -> Result<Tensor> {
    options.validate()?;
    let clean = model.prepare(input)?;
    if clean.size().first() != Some(&(numbers.len() as i64)) {
        let expected = format!("[{}, C, H, W], an image per number", numbers.len());
        return Err(Error::Shape { what: "images to attack".into(), received: clean.size(), expected });
    }
    let ball = Ball::around(&clean, preprocess, options.epsilon)?;
    let mut at = ball.random(&clean, options.epsilon, options.seed, numbers)?;
    let mut best: Option<(Tensor, Tensor)> = None;
    for step in 0..options.steps {
        let (gradient, logits) = gradient(model, &at, labels)?;
        if step == 0 {
            warn_if_blind(&gradient)?;
        }
        best = Some(better(best, &at, losses(&logits, labels)?)?);
        at = ball.climb(&at, &gradient, 2.0 * options.epsilon / options.steps as f64)?;
    }
    let last = losses(&model.run(&at)?, labels)?;
    Ok(better(best, &at, last)?.0)
}

const DURING: &str = "attacking the model";

fn check_epsilon(epsilon: f64) -> Result<()> {
    if epsilon > 0.0 && epsilon <= 1.0 {
        return Ok(());
    }
    Err(Error::invalid("epsilon of an attack", epsilon, "above 0 and at most 1, in units of 0-1 pixels"))
}

/// The inputs within reach of some images.
struct Ball {
    low: Tensor,
    high: Tensor,
    /// One per channel, `[1, C, 1, 1]`.
    std: Tensor,
}

impl Ball {
    /// **Errors:** [`Error::Shape`] unless the images have the shape of `preprocess`, [`Error::Invalid`] unless that is
    /// valid.
    fn around(images: &Tensor, preprocess: &Preprocess, epsilon: f64) -> Result<Self> {
        preprocess.validate()?;
        let size = images.size();
        let [_, c, h, w] = preprocess.shape(0);
        if size.len() != 4 || size[1..] != [c, h, w] {
            let expected = format!("[N, {c}, {h}, {w}]");
            return Err(Error::Shape { what: "images to attack".into(), received: size, expected });
        }
        let channels = |value: &dyn Fn(f32, f32) -> f32| {
            let values: Vec<f32> = preprocess.mean.iter().zip(&preprocess.std).map(|(m, s)| value(*m, *s)).collect();
            Tensor::try_from(&values)
                .and_then(|t| t.f_view([1, c, 1, 1]))
                .and_then(|t| t.f_to_device(images.device()))
                .and_then(|t| t.f_to_kind(images.kind()))
        };
        let bounds = || {
            let std = channels(&|_, s| s)?;
            let reach = std.f_reciprocal()?.f_mul_scalar(epsilon)?;
            let low = images.f_sub(&reach)?.f_maximum(&channels(&|m, s| (0.0 - m) / s)?)?;
            let high = images.f_add(&reach)?.f_minimum(&channels(&|m, s| (1.0 - m) / s)?)?;
            Ok(Self { low, high, std })
        };
        bounds().map_err(Error::torch(DURING))
    }

    fn clamp(&self, at: &Tensor) -> Result<Tensor, tch::TchError> {
        at.f_maximum(&self.low)?.f_minimum(&self.high)
    }

    /// A step of `length`, in units of 0-1 pixels, in the direction of the gradient's signs.
    fn climb(&self, at: &Tensor, gradient: &Tensor, length: f64) -> Result<Tensor> {
        let step = || self.clamp(&at.f_add(&gradient.f_sign()?.f_mul_scalar(length)?.f_div(&self.std)?)?);
        step().map_err(Error::torch(DURING))
    }

    /// A random place within reach of each image.
    fn random(&self, images: &Tensor, epsilon: f64, seed: u64, numbers: &[usize]) -> Result<Tensor> {
        let size = images.size();
        let values = size[1..].iter().product::<i64>() as usize;
        let seed = seed::mix(seed, seed::salt("pgd"));
        let mut moves = Vec::with_capacity(numbers.len() * values);
        for number in numbers {
            let mut rng = fastrand::Rng::with_seed(seed::mix(seed, *number as u64));
            moves.extend((0..values).map(|_| seed::uniform(&mut rng, -epsilon as f32, epsilon as f32)));
        }
        let place = || {
            let moves = Tensor::try_from(&moves)?.f_view(size.as_slice())?;
            let moves = moves.f_to_device(images.device())?.f_to_kind(images.kind())?;
            self.clamp(&images.f_add(&moves.f_div(&self.std)?)?)
        };
        place().map_err(Error::torch(DURING))
    }
}

/// [`Model::input_gradient`], which must be finite.
fn gradient(model: &Model<'_>, at: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
    let (gradient, logits) = model.input_gradient(at, labels)?;
    let finite = gradient.f_isfinite().and_then(|f| f.f_all()).and_then(|f| f.f_int64_value(&[]));
    if finite.map_err(Error::torch(DURING))? == 0 {
        return Err(Error::invalid("gradient of the loss with respect to the input", "NaN or inf", "finite numbers"));
    }
    Ok((gradient, logits))
}

fn warn_if_blind(gradient: &Tensor) -> Result<()> {
    let count = || {
        let none = gradient.f_flatten(1, -1)?.f_ne(0.0)?.f_any_dim(1, false)?.f_logical_not()?;
        none.f_sum(Kind::Int64)?.f_int64_value(&[])
    };
    match count().map_err(Error::torch(DURING))? {
        0 => Ok(()),
        images => {
            tracing::warn!(images, "the gradient of the loss is zero: an attack cannot see where to go");
            Ok(())
        }
    }
}

/// The loss of every image, `[N]`.
fn losses(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let losses = || {
        let labels = labels.f_to_kind(Kind::Int64)?.f_to_device(logits.device())?;
        let logits = logits.f_to_kind(Kind::Double)?;
        logits.f_cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::None, -100, 0.0)
    };
    losses().map_err(Error::torch(DURING))
}

/// Per image the place with the higher loss; what was there before wins ties.
fn better(best: Option<(Tensor, Tensor)>, at: &Tensor, loss: Tensor) -> Result<(Tensor, Tensor)> {
    let Some((place, highest)) = best else { return Ok((at.shallow_clone(), loss)) };
    let choose = || {
        let higher = loss.f_gt_tensor(&highest)?;
        let place = at.f_where_self(&higher.f_view([-1, 1, 1, 1])?, &place)?;
        Ok((place, loss.f_maximum(&highest)?))
    };
    choose().map_err(Error::torch(DURING))
}

/// The largest difference of the two models' outputs on `input`.
pub(super) fn difference(model: &Model<'_>, copy: &Model<'_>, input: &Tensor) -> Result<(f64, f64)> {
    let (ours, theirs) = (model.forward(input)?, copy.forward(input)?);
    if ours.size() != theirs.size() {
        let expected = format!("{:?}, as that of the model", ours.size());
        return Err(Error::Shape { what: "the attack copy's output".into(), received: theirs.size(), expected });
    }
    let differ = || {
        let cpu = |t: &Tensor| t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double);
        let (ours, theirs) = (cpu(&ours)?, cpu(&theirs)?);
        let largest = |t: Tensor| t.f_abs()?.f_max()?.f_double_value(&[]);
        Ok((largest(ours.f_sub(&theirs)?)?, largest(ours)?))
    };
    differ().map_err(Error::torch(DURING))
}
