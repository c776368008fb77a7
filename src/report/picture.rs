//! Contact sheets: what one unit responds to, in one picture.

use crate::exemplars::{Exemplar, UnitExemplars};
use crate::{Region, Result, UnitId};
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};
use std::borrow::Borrow;
use std::io::{self, Write};
use std::path::Path;

/// Sides of a tile, in pixels: small images are enlarged by a whole number to at least `TILE`, large ones reduced to
/// `LARGEST`.
const TILE: u32 = 64;
const LARGEST: u32 = 160;
/// Tiles per row.
const COLUMNS: usize = 8;
const GAP: u32 = 3;
const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);
const OUTLINE: Rgb<u8> = Rgb([255, 214, 0]);
const OUTLINE_SHADOW: Rgb<u8> = Rgb([20, 20, 20]);
/// How much brightness and colour is left outside of the region, of 256.
const DIM: u32 = 116;

/// How much of an image is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// All of it.
    #[default]
    Whole,
    /// A square around the region, a quarter wider than it, and at least a quarter of the image wide. All of it where
    /// the region is empty.
    Crop,
}

/// The exemplars of a unit, strongest first, in rows of eight: the region that the unit responds to as it is, outlined;
/// the rest dimmed and greyed.
///
/// `image` gives the probe images by number, as they were before normalisation; regions are scaled to them when the
/// sizes differ. Images that it does not know are left out. None when nothing is left, as for dead units.
pub fn contact_sheet<I: Borrow<RgbImage>>(
    unit: &UnitExemplars,
    framing: Framing,
    image: impl Fn(usize) -> Option<I>,
) -> Option<RgbImage> {
    let shown = |exemplar: &Exemplar| {
        let image = image(exemplar.image)?;
        match framing {
            Framing::Whole => tile(&exemplar.region, image.borrow()),
            Framing::Crop => {
                let (region, image) = cropped(&exemplar.region, image.borrow());
                tile(&region, &image)
            }
        }
    };
    let tiles: Vec<RgbImage> = unit.top.iter().filter_map(shown).collect();
    let (width, height) = tiles.iter().fold((0, 0), |(w, h), t| (t.width().max(w), t.height().max(h)));
    if tiles.is_empty() {
        return None;
    }
    // Fifteen tiles are better in rows of eight and seven than in one row or three.
    let columns = tiles.len().min(COLUMNS);
    let rows = tiles.len().div_ceil(columns);
    let extent = |n: usize, side: u32| n as u32 * (side + GAP) - GAP;
    let mut sheet = RgbImage::from_pixel(extent(columns, width), extent(rows, height), BACKGROUND);
    for (i, tile) in tiles.iter().enumerate() {
        let (x, y) = ((i % columns) as u32 * (width + GAP), (i / columns) as u32 * (height + GAP));
        image::imageops::replace(&mut sheet, tile, i64::from(x), i64::from(y));
    }
    Some(sheet)
}

/// The part of an image around a region, and the region in it; scaled to the image where their sizes differ.
fn cropped(region: &Region, image: &RgbImage) -> (Region, RgbImage) {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let Some((rows, columns)) = region.bounds().filter(|_| width > 0 && height > 0) else {
        return (region.clone(), image.clone());
    };
    let scaled = |r: &std::ops::Range<usize>, of: usize, to: usize| (r.start * to / of, (r.end * to).div_ceil(of));
    let ((top, bottom), (left, right)) =
        (scaled(&rows, region.height(), height), scaled(&columns, region.width(), width));
    let least = width.min(height).div_ceil(4);
    let side = (((bottom - top).max(right - left) * 5).div_ceil(4)).max(least).min(width.min(height));
    let begin = |from: usize, to: usize, size: usize| ((from + to) / 2).saturating_sub(side / 2).min(size - side);
    let (y0, x0) = (begin(top, bottom, height), begin(left, right, width));
    let inside =
        |y: usize, x: usize| region.contains((y0 + y) * region.height() / height, (x0 + x) * region.width() / width);
    let part = image::imageops::crop_imm(image, x0 as u32, y0 as u32, side as u32, side as u32).to_image();
    (Region::from_fn(side, side, inside), part)
}

/// One image at its size on the sheet, None for an image without pixels.
fn tile(region: &Region, image: &RgbImage) -> Option<RgbImage> {
    let (w, h) = image.dimensions();
    if w == 0 || h == 0 {
        return None;
    }
    let (width, height) = tile_size(w, h);
    let scaled = if width >= w {
        image::imageops::resize(image, width, height, image::imageops::FilterType::Nearest)
    } else {
        image::imageops::resize(image, width, height, image::imageops::FilterType::Triangle)
    };
    let inside_of = |position: i64, size: u32, pixels: usize| {
        (position >= 0 && position < i64::from(size)).then(|| position as usize * pixels / size as usize)
    };
    let inside = |x: i64, y: i64| match (inside_of(x, width, region.width()), inside_of(y, height, region.height())) {
        (Some(x), Some(y)) => region.contains(y, x),
        _ => false,
    };
    let edge_within = |x: i64, y: i64, distance: i64| {
        (-distance..=distance).any(|dy| (-distance..=distance).any(|dx| !inside(x + dx, y + dy)))
    };
    Some(RgbImage::from_fn(width, height, |x, y| {
        let pixel = *scaled.get_pixel(x, y);
        let (x, y) = (i64::from(x), i64::from(y));
        if !inside(x, y) {
            let near = [(-1, 0), (1, 0), (0, -1), (0, 1)].iter().any(|(dx, dy)| inside(x + dx, y + dy));
            return if near { OUTLINE_SHADOW } else { dimmed(pixel) };
        }
        if edge_within(x, y, 1) { OUTLINE } else { pixel }
    }))
}

fn tile_size(w: u32, h: u32) -> (u32, u32) {
    let (short, long) = (w.min(h), w.max(h));
    if long > LARGEST {
        let scale = |side: u32| ((u64::from(side) * u64::from(LARGEST)).div_ceil(u64::from(long)) as u32).max(1);
        return (scale(w), scale(h));
    }
    let factor = TILE.div_ceil(short).min(LARGEST.div_ceil(long)).max(1);
    (w * factor, h * factor)
}

/// Darker and greyer, so that the region stands out in any picture.
fn dimmed(Rgb([r, g, b]): Rgb<u8>) -> Rgb<u8> {
    let luma = (u32::from(r) * 54 + u32::from(g) * 183 + u32::from(b) * 19) / 256;
    Rgb([r, g, b].map(|c| ((u32::from(c) + 2 * luma) / 3 * DIM / 256 + 10) as u8))
}

/// Writes a picture as PNG; the same picture gives the same bytes.
///
/// # Errors
/// What `out` returns.
pub fn write_png(picture: &RgbImage, out: &mut dyn Write) -> io::Result<()> {
    image::codecs::png::PngEncoder::new(out)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|e| match e {
            image::ImageError::IoError(e) => e,
            other => io::Error::other(other),
        })
}

/// Writes a picture as PNG to a file, whole or not at all.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) with the path.
pub fn save_png(picture: &RgbImage, path: impl AsRef<Path>) -> Result<()> {
    crate::files::save(path.as_ref(), |out| write_png(picture, out))
}

/// Where the picture of a unit stands, relative to the report: `pictures/layer3.1.conv2-17.png`.
///
/// Safe on every file system and in links whatever the site is called: names that hold anything but lower-case ASCII
/// letters, digits, `.`, `_` and `-`, or that are long, are rewritten and told apart by a hash.
pub fn path(id: &UnitId) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let slug: String = id.site.chars().map(kept).take(80).collect();
    let slug = slug.trim_matches(['.', '-']);
    if slug == id.site && !slug.is_empty() && !slug.contains(|c: char| c.is_ascii_uppercase()) {
        return format!("pictures/{slug}-{}.png", id.unit);
    }
    let slug = if slug.is_empty() { "site" } else { slug };
    // FNV-1a: stable across versions of the compiler, unlike the standard library's hashes.
    let hash = id.site.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("pictures/{slug}-{:08x}-{}.png", (hash >> 32) as u32 ^ hash as u32, id.unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(image: usize, region: Region) -> UnitExemplars {
        let exemplar = Exemplar { image, activation: 1.0, map: vec![1.0], region };
        UnitExemplars {
            id: UnitId::new("conv", 0),
            level: 0.5,
            minimum: 0.0,
            maximum: 1.0,
            dead: false,
            top: vec![exemplar],
            weakest: Vec::new(),
            random: Vec::new(),
            sketch: crate::exemplars::Sketch::default(),
        }
    }

    #[test]
    fn the_region_keeps_its_colour_and_the_rest_is_dimmed() {
        let picture = RgbImage::from_pixel(32, 32, Rgb([200, 40, 40]));
        let unit = unit(3, Region::from_fn(32, 32, |y, x| y < 16 && x < 16));
        let sheet = contact_sheet(&unit, Framing::Whole, |i| (i == 3).then(|| picture.clone())).unwrap();
        assert_eq!(sheet.dimensions(), (64, 64));
        assert_eq!(*sheet.get_pixel(10, 10), Rgb([200, 40, 40]));
        assert_eq!(*sheet.get_pixel(31, 10), OUTLINE);
        assert_eq!(*sheet.get_pixel(32, 10), OUTLINE_SHADOW);
        assert!(sheet.get_pixel(50, 50).0.iter().all(|&c| c < 80));
    }

    #[test]
    fn a_crop_is_a_square_around_the_region() {
        let region = Region::from_fn(32, 32, |y, x| (4..12).contains(&y) && (20..28).contains(&x));
        let picture = RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, 0]));
        let (inner, part) = cropped(&region, &picture);
        assert_eq!(part.dimensions(), (20, 20));
        assert_eq!(*part.get_pixel(0, 0), Rgb([38, 6, 0]));
        assert_eq!(inner.area(), 16 * 16);
        assert!(inner.contains(2, 2) && !inner.contains(1, 1));
        let (_, whole) = cropped(&Region::empty(32, 32), &picture);
        assert_eq!(whole.dimensions(), (64, 64));
        let (_, all) = cropped(&Region::from_fn(4, 4, |_, _| true), &picture);
        assert_eq!(all.dimensions(), (64, 64));
    }

    #[test]
    fn unknown_images_and_dead_units_give_no_picture() {
        assert_eq!(contact_sheet(&unit(3, Region::empty(4, 4)), Framing::Whole, |_| None::<RgbImage>), None);
        assert_eq!(contact_sheet(&unit(3, Region::empty(4, 4)), Framing::Whole, |_| Some(RgbImage::new(0, 0))), None);
    }

    #[test]
    fn tiles_are_neither_tiny_nor_huge() {
        assert_eq!(tile_size(32, 32), (64, 64));
        assert_eq!(tile_size(28, 28), (84, 84));
        assert_eq!(tile_size(224, 112), (160, 80));
        assert_eq!(tile_size(1, 5000), (1, 160));
        assert_eq!(tile_size(1, 1), (64, 64));
    }

    #[test]
    fn picture_names_are_safe_and_different() {
        assert_eq!(path(&UnitId::new("layer3.1.conv2", 17)), "pictures/layer3.1.conv2-17.png");
        let sites = ["a@raw", "a#raw", "A", "a", "../../etc/passwd", "", "..", "con\u{0}", "a/b", "a\\b", "ü", "ö"];
        let mut names: Vec<String> = sites.iter().map(|s| path(&UnitId::new(*s, 1)).to_lowercase()).collect();
        for name in &names {
            let file = name.strip_prefix("pictures/").unwrap();
            assert!(file.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c)), "{file}");
            assert!(!file.starts_with(['.', '-']), "{file}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), sites.len());
        assert!(path(&UnitId::new("x".repeat(900), 1)).len() < 120);
    }
}
