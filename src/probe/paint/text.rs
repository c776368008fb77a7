//! The concept `text`: random words, fonts, sizes, colours and places.

use super::{
    Concept, Painted,
    canvas::side,
    color, figure,
    stamp::{self, Face},
};
use crate::probe::seed::uniform;
use image::RgbImage;

const WORDS: [&str; 64] = [
    "the", "and", "you", "with", "have", "this", "will", "from", "they", "your", "about", "which", "when", "make",
    "like", "time", "just", "know", "take", "people", "year", "good", "some", "could", "them", "other", "than", "then",
    "look", "only", "come", "over", "think", "also", "back", "after", "use", "two", "how", "work", "first", "well",
    "way", "even", "new", "want", "because", "any", "these", "give", "day", "most", "sale", "open", "stop", "exit",
    "free", "news", "city", "number", "market", "school", "street", "question",
];

pub(super) fn concept() -> Concept {
    Concept::built_in("text", paint)
}

/// One to three lines; the region is the box around each line, or the plate when there is one.
fn paint(image: &RgbImage, rng: &mut fastrand::Rng) -> Painted {
    let (width, height) = (image.width() as i32, image.height() as i32);
    let face = face(image, rng);
    let columns = (width / face.width()).max(1) as usize;
    let rows = (height / face.height()).clamp(1, 3);
    let count = if rng.f32() < 0.65 { 1 } else { rng.i32(1..=rows) };
    let lines: Vec<String> = (0..count).map(|_| line(columns, rng)).collect();
    let wide = lines.iter().map(|l| l.len() as i32).max().unwrap_or(0) * face.width();
    let high = count * face.height();
    let at = (rng.i32(0..=(width - wide).max(0)), rng.i32(0..=(height - high).max(0)));
    let plate = rng.bool().then(|| (color::any(rng), rng.i32(0..=1)));
    let below = plate.map_or_else(|| under(image, at, (wide, high)), |(color, _)| color);
    let ink = color::against(below, 100.0, rng);
    stamp::write(image, &lines, face, at, ink, plate)
}

/// A face between 18 % and 36 % of the shorter side high, with room for three letters where there can be.
fn face(image: &RgbImage, rng: &mut fastrand::Rng) -> Face {
    let target = (side(image) * uniform(rng, 0.18, 0.36)) as i32;
    let fits: Vec<Face> = Face::up_to(target).into_iter().filter(|f| f.width() * 3 <= image.width() as i32).collect();
    // Many fonts have nearly the same height: any of those will do.
    let highest = fits.last().map_or(0, |f| f.height());
    let near: Vec<Face> = fits.into_iter().filter(|f| f.height() * 5 >= highest * 4).collect();
    near.get(rng.usize(0..near.len().max(1))).copied().unwrap_or(Face::SMALLEST)
}

/// A word or a number, in small or capital letters, of at most `columns` letters.
fn line(columns: usize, rng: &mut fastrand::Rng) -> String {
    if rng.f32() < 0.15 {
        return (0..rng.usize(2..=5).min(columns)).map(|_| rng.digit(10)).collect();
    }
    let fitting: Vec<&str> = WORDS.into_iter().filter(|w| w.len() <= columns).collect();
    let word: String = match fitting.get(rng.usize(0..fitting.len().max(1))) {
        Some(word) => word.to_string(),
        None => (0..columns).map(|_| rng.lowercase()).collect(),
    };
    match rng.u8(0..3) {
        0 => word.to_uppercase(),
        1 => word.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c }).collect(),
        _ => word,
    }
}

/// The mean colour under a box.
fn under(image: &RgbImage, (left, top): (i32, i32), (wide, high): (i32, i32)) -> [f32; 3] {
    let (cx, cy) = (left as f32 + wide as f32 / 2.0, top as f32 + high as f32 / 2.0);
    figure::mean(image, cx, cy, wide.max(high) as f32 / 2.0)
}
