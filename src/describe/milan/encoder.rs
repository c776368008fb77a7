//! What exemplars look like to a network that knows many images: a pyramid of its feature maps.

use super::weights::Weights;
use crate::{Error, Result};
use std::collections::BTreeMap;
use tch::{Kind, TchError, Tensor};

/// A convolutional network of torchvision whose feature maps are looked at, at five depths.
///
/// A ResNet's are its first convolution before normalisation and the outputs of its four layers; AlexNet's those of its five
/// convolutions after their ReLU, as the official code reads them (its ReLU works in place on what was to be kept).
///
/// **Source:** `src/milan/encoders.py`, `PyramidConvEncoder`, of MILAN (Hernandez et al. 2022, arXiv 2201.11114).
#[derive(Debug)]
pub struct Encoder {
    network: Network,
    /// Channels of the five maps.
    channels: Vec<i64>,
    mean: Tensor,
    std: Tensor,
}

#[derive(Debug)]
enum Network {
    AlexNet(Vec<Convolution>),
    ResNet { stem: Convolution, norm: Norm, layers: Vec<Vec<Block>> },
}

#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

#[derive(Debug)]
struct Norm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
}

#[derive(Debug)]
struct Block {
    /// Two of them, or three in a bottleneck.
    steps: Vec<(Convolution, Norm)>,
    shortcut: Option<(Convolution, Norm)>,
}

impl Encoder {
    /// A network of torchvision from its weights: `alexnet`, or any ResNet of basic blocks or bottlenecks (18, 34, 50, 101,
    /// 152, and others of that form). Which one it is, is read from the weights' names and shapes. Weights are normalised
    /// for ImageNet's mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::Unknown`] and [`Error::Shape`] for a weight that is missing or of another shape.
    pub fn new(tensors: &BTreeMap<String, Tensor>, prefix: &str) -> Result<Self> {
        let w = Weights { tensors, prefix };
        let (network, channels) = if w.has("features.0.weight") { alexnet(&w)? } else { resnet(&w)? };
        let constant = |values: [f32; 3]| Tensor::from_slice(&values).view([1, 3, 1, 1]);
        let (mean, std) = (constant([0.485, 0.456, 0.406]), constant([0.229, 0.224, 0.225]));
        Ok(Self { network, channels, mean, std })
    }

    /// The same for images of another mean and standard deviation, `[1, 3, 1, 1]` each.
    #[must_use]
    pub(super) fn normalizing(self, mean: Tensor, std: Tensor) -> Self {
        Self { mean, std, ..self }
    }

    /// Numbers per exemplar: the channels of all maps together.
    pub fn features(&self) -> i64 {
        self.channels.iter().sum()
    }

    /// The feature maps of some images, shallow ones first.
    ///
    /// **Shapes:** `images` `[n, 3, H, W]`, in 0 to 1; the maps `[n, channels, height, width]`.
    /// **Errors:** [`Error::Torch`] for images that are too small or of another shape.
    pub fn maps(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        tch::no_grad(|| self.forward(images)).map_err(Error::torch("encoding images"))
    }

    fn forward(&self, images: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let x = images.f_to_kind(Kind::Float)?.f_sub(&self.mean)?.f_div(&self.std)?;
        let mut maps = Vec::new();
        match &self.network {
            Network::AlexNet(convolutions) => {
                let mut x = x;
                for (i, convolution) in convolutions.iter().enumerate() {
                    // Pooled before the second and the third.
                    if matches!(i, 1 | 2) {
                        x = x.f_max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)?;
                    }
                    x = convolution.apply(&x)?.f_relu()?;
                    maps.push(x.shallow_clone());
                }
            }
            Network::ResNet { stem, norm, layers } => {
                let first = stem.apply(&x)?;
                let mut x = norm.apply(&first)?.f_relu()?.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
                maps.push(first);
                for layer in layers {
                    for block in layer {
                        x = block.apply(&x)?;
                    }
                    maps.push(x.shallow_clone());
                }
            }
        }
        Ok(maps)
    }
}

impl Convolution {
    fn new(w: &Weights<'_>, name: &str, stride: i64, padding: i64, bias: bool) -> Result<Self> {
        let size = w.shape(&format!("{name}.weight"), 4)?;
        let weight = w.get(&format!("{name}.weight"), &size)?;
        let bias = if bias { Some(w.get(&format!("{name}.bias"), &size[..1])?) } else { None };
        Ok(Self { weight, bias, stride, padding })
    }

    fn outputs(&self) -> i64 {
        self.weight.size().first().copied().unwrap_or(0)
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (s, p) = (self.stride, self.padding);
        x.f_conv2d(&self.weight, self.bias.as_ref(), [s, s], [p, p], [1, 1], 1)
    }
}

impl Norm {
    fn new(w: &Weights<'_>, name: &str, channels: i64) -> Result<Self> {
        let get = |what: &str| w.get(&format!("{name}.{what}"), &[channels]);
        Ok(Self { weight: get("weight")?, bias: get("bias")?, mean: get("running_mean")?, var: get("running_var")? })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let some = |t| Some(t);
        x.f_batch_norm(some(&self.weight), some(&self.bias), some(&self.mean), some(&self.var), false, 0.1, 1e-5, false)
    }
}

impl Block {
    fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let shortcut = match &self.shortcut {
            Some((convolution, norm)) => norm.apply(&convolution.apply(x)?)?,
            None => x.shallow_clone(),
        };
        let mut y = x.shallow_clone();
        for (i, (convolution, norm)) in self.steps.iter().enumerate() {
            y = norm.apply(&convolution.apply(&y)?)?;
            if i + 1 < self.steps.len() {
                y = y.f_relu()?;
            }
        }
        y.f_add(&shortcut)?.f_relu()
    }
}

fn alexnet(w: &Weights<'_>) -> Result<(Network, Vec<i64>)> {
    let convolutions = [(0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)]
        .into_iter()
        .map(|(i, stride, padding)| Convolution::new(w, &format!("features.{i}"), stride, padding, true))
        .collect::<Result<Vec<_>>>()?;
    let channels = convolutions.iter().map(Convolution::outputs).collect();
    Ok((Network::AlexNet(convolutions), channels))
}

fn resnet(w: &Weights<'_>) -> Result<(Network, Vec<i64>)> {
    let stem = Convolution::new(w, "conv1", 2, 3, false)?;
    let norm = Norm::new(w, "bn1", stem.outputs())?;
    let mut channels = vec![stem.outputs()];
    let mut layers = Vec::new();
    for layer in 1..=4 {
        let mut blocks = Vec::new();
        while blocks.is_empty() || w.has(&format!("layer{layer}.{}.conv1.weight", blocks.len())) {
            let name = format!("layer{layer}.{}", blocks.len());
            let stride = if layer > 1 && blocks.is_empty() { 2 } else { 1 };
            blocks.push(block(w, &name, stride)?);
        }
        let last = blocks.last().and_then(|b: &Block| b.steps.last()).map_or(0, |(c, _)| c.outputs());
        channels.push(last);
        layers.push(blocks);
    }
    Ok((Network::ResNet { stem, norm, layers }, channels))
}

fn block(w: &Weights<'_>, name: &str, stride: i64) -> Result<Block> {
    // Stride and padding of each convolution.
    let plan: &[(i64, i64)] =
        if w.has(&format!("{name}.conv3.weight")) { &[(1, 0), (stride, 1), (1, 0)] } else { &[(stride, 1), (1, 1)] };
    let mut steps = Vec::new();
    for (i, (stride, padding)) in plan.iter().enumerate() {
        let convolution = Convolution::new(w, &format!("{name}.conv{}", i + 1), *stride, *padding, false)?;
        let norm = Norm::new(w, &format!("{name}.bn{}", i + 1), convolution.outputs())?;
        steps.push((convolution, norm));
    }
    let shortcut = if w.has(&format!("{name}.downsample.0.weight")) {
        let convolution = Convolution::new(w, &format!("{name}.downsample.0"), stride, 0, false)?;
        let norm = Norm::new(w, &format!("{name}.downsample.1"), convolution.outputs())?;
        Some((convolution, norm))
    } else {
        None
    };
    Ok(Block { steps, shortcut })
}
