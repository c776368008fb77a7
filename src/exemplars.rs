//! Per unit: the images that excite it most, its level, and the regions it responds to.

use crate::{Region, UnitId};

/// What one unit responds to, over all probe images.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitExemplars {
    /// Which unit.
    pub id: UnitId,
    /// The activation at the quantile (0.99) over all positions of all images.
    pub level: f32,
    /// The smallest activation anywhere.
    pub minimum: f32,
    /// The largest activation anywhere.
    pub maximum: f32,
    /// Whether the activation never changes: nothing can be said about such a unit.
    pub dead: bool,
    /// The images with the largest spatial maximum, strongest first, ties by smaller image number; empty when dead.
    pub top: Vec<Exemplar>,
}

/// One image that excites a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The image's number in the probe set, from 0.
    pub image: usize,
    /// The largest activation on this image.
    pub activation: f32,
    /// The activation map, `height x width` of the site, in row order.
    pub map: Vec<f32>,
    /// The pixels of the image where the upsampled map exceeds the unit's level.
    pub region: Region,
}
