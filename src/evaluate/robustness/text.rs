//! A word painted on every image.

use crate::probe::paint::{Place, TextSize, TextStyle, text_stamp};
use crate::probe::{Changed, Images, seed};
use crate::{Error, Result};
use image::RgbImage;

/// Short everyday words, the name of hardly any class.
const WORDS: [&str; 24] = [
    "about", "again", "also", "because", "even", "ever", "every", "first", "from", "have", "just", "more", "most",
    "much", "often", "only", "other", "some", "still", "then", "very", "which", "with", "yes",
];

/// The same images with a random word painted on every image, at a random place, a fifth to a third of the image high
/// where there is room; names, labels and preprocessing stay.
///
/// Half of the words are black on a white plate or white on a black one; the others have no plate and are black on
/// bright images, white on dark ones.
///
/// Words that stand in the name of a class are not used. Image `i` has random numbers of its own.
/// **Errors:** [`Error::Invalid`] if there is no image, or if the classes' names leave no word.
pub fn painted_text<I: Images>(
    images: I,
    seed: u64,
) -> Result<Changed<I, impl Fn(usize, &RgbImage) -> RgbImage + Send + Sync>> {
    if images.is_empty() {
        return Err(Error::invalid("images to paint text on", "no image", "at least 1"));
    }
    let names = |word: &str| {
        let words = |class: &String| class.split(|c: char| !c.is_alphanumeric()).any(|w| w.eq_ignore_ascii_case(word));
        images.classes().iter().any(words)
    };
    let words: Vec<&str> = WORDS.into_iter().filter(|word| !names(word)).collect();
    if words.is_empty() {
        let allowed = format!("names that do not have all of {} in them", WORDS.join(", "));
        return Err(Error::invalid("class names", "names that leave no word to paint", allowed));
    }
    let label = format!("painted text from {seed}");
    let seed = seed::mix(seed, seed::salt("painted text"));
    Ok(Changed::new(images, label, move |i, image: &RgbImage| {
        let mut rng = fastrand::Rng::with_seed(seed::mix(seed, i as u64));
        let word = words[rng.usize(..words.len())];
        let word = if rng.bool() { word.to_uppercase() } else { word.to_string() };
        let (plate, dark) = (rng.bool(), rng.bool());
        let dark = if plate { dark } else { bright(image) };
        let (color, below) = if dark { ([0; 3], [255; 3]) } else { ([255; 3], [0; 3]) };
        let share = seed::uniform(&mut rng, 0.2, 0.34);
        // Where a word of the largest size just fits; a smaller font is taken where it does not.
        let y = rng.i32(0..=(image.height() as f32 * (1.0 - share)) as i32);
        let style = TextStyle {
            size: TextSize::Fraction(share),
            color,
            plate: plate.then_some(below),
            place: Place::At { x: rng.i32(0..=image.width() as i32 / 8), y },
        };
        text_stamp(image, &word, &style).image
    }))
}

/// Whether the mean value is in the upper half.
fn bright(image: &RgbImage) -> bool {
    let sum: u64 = image.as_raw().iter().map(|v| u64::from(*v)).sum();
    sum > 127 * image.as_raw().len() as u64
}
