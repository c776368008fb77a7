//! Feature maps under masks: what is in the region of an exemplar.

use crate::exemplars::Compat;
use crate::{Error, Result};
use tch::{Kind, TchError, Tensor};

/// The maps of one image, averaged under each of some masks.
///
/// A mask is resized to each map bilinearly (half-pixel centres, not antialiased), divided by its sum, and the map's
/// positions are added up with these weights. A mask that is empty gives zeros. One that is so small that nothing of it is
/// left at the size of a map does so too with [`Compat::Official`]; by default it is then resized by area, so that it keeps
/// its place.
///
/// **Source:** `PyramidConvEncoder.forward` of MILAN (Hernandez et al. 2022, arXiv 2201.11114).
///
/// **Shapes:** `maps` each `[channels, h, w]`; `masks` `[n, H, W]`, in 0 to 1, `f32`; the result `[n, channels of all maps]`.
/// **Errors:** [`Error::Torch`] for other shapes.
pub fn pool(maps: &[Tensor], masks: &Tensor, compat: Compat) -> Result<Tensor> {
    pooled(maps, masks, compat).map_err(Error::torch("pooling feature maps"))
}

/// Weights below this are none.
const NOTHING: f64 = 1e-8;

fn pooled(maps: &[Tensor], masks: &Tensor, compat: Compat) -> Result<Tensor, TchError> {
    let masks = masks.f_to_kind(Kind::Float)?.f_unsqueeze(1)?;
    let mut levels = Vec::with_capacity(maps.len());
    for map in maps {
        let (c, h, w) = map.size3()?;
        let resized = masks.f_upsample_bilinear2d([h, w], false, None, None)?;
        let resized = match compat {
            Compat::Official => resized,
            Compat::Fixed => {
                let gone = vanished(&resized)?;
                let by_area = masks.f_adaptive_avg_pool2d([h, w])?;
                by_area.f_where_self(&gone, &resized)?
            }
        };
        let weights = resized.f_masked_fill(&vanished(&resized)?, 0.0)?.f_flatten(1, -1)?;
        let sums = weights.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        let weights = weights.f_div(&sums.f_masked_fill(&sums.f_eq(0.0)?, 1.0)?)?;
        levels.push(weights.f_matmul(&map.f_reshape([c, h * w])?.f_transpose(0, 1)?)?);
    }
    Tensor::f_cat(&levels, 1)
}

/// Which masks, `[n, 1, h, w]`, are 0 everywhere: `[n, 1, 1, 1]`.
fn vanished(masks: &Tensor) -> Result<Tensor, TchError> {
    masks.f_abs()?.f_amax([1i64, 2, 3].as_slice(), true)?.f_le(NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_small_mask_keeps_its_place_unless_as_in_the_official_code() {
        let map = Tensor::arange(4, (Kind::Float, Device::Cpu)).view([1, 2, 2]) + 1.0;
        let mask = Tensor::zeros([2, 64, 64], (Kind::Float, Device::Cpu));
        // In the last quarter, between the samples that bilinear resizing looks at.
        let _ = mask.get(0).narrow(0, 60, 2).narrow(1, 60, 2).fill_(1.0);
        let of = |compat| {
            Vec::<f32>::try_from(&pool(&[map.shallow_clone()], &mask, compat).unwrap().flatten(0, -1)).unwrap()
        };
        assert_eq!(of(Compat::Official), [0.0, 0.0]);
        assert_eq!(of(Compat::Fixed), [4.0, 0.0]);
    }
}
