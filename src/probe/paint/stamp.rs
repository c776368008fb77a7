//! Writing a given text onto an image.

use super::{Painted, canvas::Canvas};
use embedded_graphics::{
    mono_font::{MonoFont, MonoTextStyle, ascii},
    pixelcolor::BinaryColor,
    prelude::*,
    text::{Baseline, Text},
};
use image::RgbImage;

/// The fonts, smallest first: cells of 4 x 6 to 10 x 20 pixels, each usable at whole multiples.
pub(super) const FONTS: [&MonoFont<'static>; 11] = [
    &ascii::FONT_4X6,
    &ascii::FONT_5X7,
    &ascii::FONT_5X8,
    &ascii::FONT_6X9,
    &ascii::FONT_6X12,
    &ascii::FONT_6X13_BOLD,
    &ascii::FONT_7X13_ITALIC,
    &ascii::FONT_7X14,
    &ascii::FONT_8X13_BOLD,
    &ascii::FONT_9X15,
    &ascii::FONT_10X20,
];

/// Further from the image than any text reaches.
const FAR: i32 = 1 << 28;

/// How [`text_stamp`] writes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TextStyle {
    /// How high a line is.
    pub size: TextSize,
    /// The colour of the letters.
    pub color: [u8; 3],
    /// The colour of a plate behind the text, which is one pixel larger on each side; `None` for no plate.
    pub plate: Option<[u8; 3]>,
    /// Where the text stands.
    pub place: Place,
}

impl Default for TextStyle {
    /// White on a black plate, the lines a fifth of the image high, at the bottom.
    fn default() -> Self {
        Self { size: TextSize::Fraction(0.2), color: [255; 3], plate: Some([0; 3]), place: Place::Bottom }
    }
}

/// How high a line of text is; the largest font that is not higher is taken, at the least 4 x 6 pixels per letter.
///
/// A smaller font is taken if the longest word would not fit in the image's width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TextSize {
    /// The smallest font.
    Smallest,
    /// A share of the image's height, 0 to 1.
    Fraction(f32),
    /// So many pixels.
    Pixels(u32),
}

/// Where a text stands in an image; at the sides it is centred along them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Place {
    TopLeft,
    Top,
    TopRight,
    Left,
    Center,
    Right,
    BottomLeft,
    Bottom,
    BottomRight,
    /// The text's upper left corner, in pixels from the image's.
    At {
        x: i32,
        y: i32,
    },
}

/// A font at a whole multiple of its size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Face {
    font: &'static MonoFont<'static>,
    scale: i32,
}

impl Face {
    pub(super) const SMALLEST: Face = Face { font: &ascii::FONT_4X6, scale: 1 };

    /// Every face whose lines are at most `height` pixels high, lowest first; never empty.
    pub(super) fn up_to(height: i32) -> Vec<Face> {
        let mut faces: Vec<Face> = FONTS
            .into_iter()
            .flat_map(|font| (1..=height / font.character_size.height as i32).map(move |scale| Face { font, scale }))
            .collect();
        faces.sort_by_key(|f| (f.height(), f.width()));
        if faces.is_empty() { vec![Face::SMALLEST] } else { faces }
    }

    pub(super) fn width(self) -> i32 {
        self.font.character_size.width as i32 * self.scale
    }

    pub(super) fn height(self) -> i32 {
        self.font.character_size.height as i32 * self.scale
    }
}

/// Writes a text onto a copy of an image.
///
/// Letters outside ASCII become question marks. Lines that do not fit are wrapped at spaces, words that do not fit
/// within; what still does not fit is cut off at the image's rim. The region is the box around each written line (of
/// the plate, if there is one); it is empty if the text is blank or wholly outside the image.
pub fn text_stamp(image: &RgbImage, text: &str, style: &TextStyle) -> Painted {
    let (width, height) = (image.width() as i32, image.height() as i32);
    let limit = match style.size {
        TextSize::Smallest => 0,
        TextSize::Fraction(f) => (height as f32 * f) as i32,
        TextSize::Pixels(p) => i32::try_from(p).unwrap_or(i32::MAX),
    };
    let margin = i32::from(style.plate.is_some());
    let room = match style.place {
        Place::At { x, .. } if (0..width).contains(&x) => width - x,
        _ => width,
    };
    let longest = text.split_whitespace().map(|w| w.chars().count()).max().unwrap_or(0) as i32;
    let faces = Face::up_to(limit.min(height));
    let fits = |f: &&Face| longest.saturating_mul(f.width()) <= room - 2 * margin;
    let face = faces.iter().rev().find(fits).copied().unwrap_or(Face::SMALLEST);
    // Without room for its margin, a plate ends at the image's rim.
    let margin = if longest * face.width() + 2 * margin <= room { margin } else { 0 };
    let lines = wrap(text, ((room - 2 * margin) / face.width()).max(1) as usize);
    let wide = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0) as i32 * face.width();
    let high = lines.len() as i32 * face.height();
    let (left, top) = corner(style.place, width - wide, height - high, margin);
    let plate = style.plate.map(|c| c.map(f32::from));
    write(image, &lines, face, (left, top), style.color.map(f32::from), plate.map(|c| (c, margin)))
}

/// Writes lines at a place; the plate is a colour and a margin around the block of lines.
pub(super) fn write(
    image: &RgbImage,
    lines: &[String],
    face: Face,
    (left, top): (i32, i32),
    ink: [f32; 3],
    plate: Option<([f32; 3], i32)>,
) -> Painted {
    let mut canvas = Canvas::new(image);
    let length = |line: &String| line.chars().count() as i32 * face.width();
    if let Some((color, margin)) = plate.filter(|_| !lines.is_empty()) {
        let wide = lines.iter().map(length).max().unwrap_or(0);
        let columns = (left - margin).max(0)..(left + wide + margin).min(image.width() as i32);
        for y in (top - margin).max(0)..(top + lines.len() as i32 * face.height() + margin).min(image.height() as i32) {
            columns.clone().for_each(|x| canvas.blend(x, y, color, 1.0));
        }
    }
    for (row, line) in lines.iter().enumerate() {
        let top = top.saturating_add(row as i32 * face.height());
        if top >= image.height() as i32 {
            break;
        }
        for y in top.max(0)..(top + face.height()).min(image.height() as i32) {
            (left.max(0)..(left + length(line)).min(image.width() as i32)).for_each(|x| canvas.mark(x, y));
        }
        let Ok(()) =
            Text::with_baseline(line, Point::zero(), MonoTextStyle::new(face.font, BinaryColor::On), Baseline::Top)
                .draw(&mut Ink { canvas: &mut canvas, left, top, scale: face.scale, color: ink })
                .map(|_| ());
    }
    canvas.finish()
}

/// Where letters go: each of their pixels becomes a square of the canvas.
struct Ink<'a> {
    canvas: &'a mut Canvas,
    left: i32,
    top: i32,
    scale: i32,
    color: [f32; 3],
}

impl OriginDimensions for Ink<'_> {
    fn size(&self) -> Size {
        Size::new(u32::MAX, u32::MAX)
    }
}

impl DrawTarget for Ink<'_> {
    type Color = BinaryColor;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, _) in pixels.into_iter().filter(|p| p.1.is_on()) {
            for (dx, dy) in (0..self.scale).flat_map(|dy| (0..self.scale).map(move |dx| (dx, dy))) {
                let (x, y) = (self.left + at.x * self.scale + dx, self.top + at.y * self.scale + dy);
                self.canvas.blend(x, y, self.color, 1.0);
            }
        }
        Ok(())
    }
}

/// Lines of at most `columns` letters: broken at white space, longer words broken within.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        let fits = |line: &&mut String| line.len() + 1 + letters.len() <= columns;
        if let Some(line) = lines.last_mut().filter(fits) {
            line.push(' ');
            line.extend(&letters);
        } else {
            lines.extend(letters.chunks(columns).map(|c| c.iter().collect::<String>()));
        }
    }
    lines
}

/// The upper left corner of a block that leaves `dx` columns and `dy` rows free.
fn corner(place: Place, dx: i32, dy: i32, margin: i32) -> (i32, i32) {
    let (near, mid_x, mid_y, far_x, far_y) = (margin, dx / 2, dy / 2, dx - margin, dy - margin);
    let (x, y) = match place {
        Place::TopLeft => (near, near),
        Place::Top => (mid_x, near),
        Place::TopRight => (far_x, near),
        Place::Left => (near, mid_y),
        Place::Center => (mid_x, mid_y),
        Place::Right => (far_x, mid_y),
        Place::BottomLeft => (near, far_y),
        Place::Bottom => (mid_x, far_y),
        Place::BottomRight => (far_x, far_y),
        // As far outside as further away, without overflow.
        Place::At { x, y } => return (x.clamp(-FAR, FAR), y.clamp(-FAR, FAR)),
    };
    // A block that does not fit begins at the rim, so that its beginning can be read.
    (x.max(0), y.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_within() {
        assert_eq!(wrap("a red automobile", 8), ["a red", "automobi", "le"]);
        assert_eq!(wrap(" \n", 8), Vec::<String>::new());
        assert_eq!(wrap("né", 2), ["n?"]);
    }

    #[test]
    fn the_largest_face_that_fits_is_last() {
        assert_eq!(Face::up_to(6).last().map(|f| (f.width(), f.height())), Some((4, 6)));
        assert_eq!(Face::up_to(0).len(), 1);
        assert_eq!(Face::up_to(45).last().map(|f| f.height()), Some(45));
    }
}
