//! One image file to RGB, with distrust.

use super::kind::{READ, format_of, unread};
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
    metadata::Orientation,
};
use std::{fs::File, io::Cursor, io::Read, path::Path};

/// Files above this many bytes are refused.
const MAX_FILE: u64 = 1 << 28;
/// A buffer for files keeps at most this many bytes.
const KEPT: usize = 1 << 22;
/// Images wider or higher than this are refused.
const MAX_SIDE: u32 = 1 << 15;
/// Images of more pixels than this are not decoded, and cannot be read: more than the sensor of any small-format camera
/// has.
///
/// A file of some kilobytes can hold as many pixels as it likes, and every thread that reads images decodes one at a time:
/// within the limit that takes up to 0.5 GB each. The header tells, before anything is decoded.
pub const MAX_PIXELS: u64 = 1 << 26;
/// Images that need more than this many bytes once decoded are refused: those with deep colours reach it before
/// [`MAX_PIXELS`].
const MAX_DECODED: u64 = 1 << 28;
/// So many bytes a decoder may take beside the decoded image.
const MAX_BESIDE: u64 = 1 << 28;

/// Puts the bytes of an image file into `bytes`, which is left empty on failure. The error is the reason alone.
pub(super) fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(), String> {
    bytes.clear();
    // The buffer is used again; one large file must not cost its size until the end.
    bytes.shrink_to(KEPT);
    let result = read_into(path, bytes);
    if result.is_err() {
        bytes.clear();
    }
    result
}

fn read_into(path: &Path, bytes: &mut Vec<u8>) -> Result<(), String> {
    // Opening a pipe would wait for a writer.
    let about = path.metadata().map_err(|e| e.to_string())?;
    if !about.is_file() {
        return Err("it is not a regular file".to_string());
    }
    let too_large = || format!("the file has more than {MAX_FILE} bytes");
    if about.len() > MAX_FILE {
        return Err(too_large());
    }
    let file = File::open(path).map_err(|e| e.to_string())?;
    bytes.reserve(about.len() as usize + 1);
    file.take(MAX_FILE + 1).read_to_end(bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE { Err(too_large()) } else { Ok(()) }
}

/// Decodes an image of any size and colour type as 8-bit RGB, turned upright as its EXIF data say.
///
/// Grey becomes RGB, 16 bits are rounded to 8, transparent pixels are laid over white. Colour profiles are ignored.
/// The error is the reason alone.
pub(super) fn decode(bytes: &[u8]) -> Result<RgbImage, String> {
    let format = format_of(bytes).ok_or_else(|| match bytes.len() {
        0 => "the file is empty".to_string(),
        _ => match unread(bytes) {
            Some(kind) => format!("its content is {kind}, which is not read; what is read is {READ}"),
            None => format!("its content is not {READ}"),
        },
    })?;
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err("the JPEG data end too early".to_string());
    }
    // Width and height are looked at below, where there are words for them.
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED + MAX_BESIDE);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let failed = |error: ImageError| match error {
        ImageError::Unsupported(_) => format!("it is a {format:?} of a kind that is not read: {error}"),
        _ => error.to_string(),
    };
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    within_limits((width, height), decoder.total_bytes())?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err("its pixels are floating-point numbers, of which nobody knows what is white".to_string());
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);
    Ok(if image.color().has_alpha() { over_white(image) } else { image.into_rgb8() })
}

/// An error for an image that is too large, which names the limit.
fn within_limits((width, height): (u32, u32), bytes: u64) -> Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    let size = format!("it has {width} x {height} = {pixels} pixels");
    let remedy = "scale it down, or leave it out";
    if pixels > MAX_PIXELS {
        Err(format!("{size}; the limit of pixels per image (MAX_PIXELS) is {MAX_PIXELS}: {remedy}"))
    } else if width.max(height) > MAX_SIDE {
        Err(format!("{size}; the limit of width and height (MAX_SIDE) is {MAX_SIDE}: {remedy}"))
    } else if bytes > MAX_DECODED {
        Err(format!("{size}, {bytes} bytes; the limit of decoded bytes (MAX_DECODED) is {MAX_DECODED}: {remedy}"))
    } else {
        Ok(())
    }
}

fn over_white(image: DynamicImage) -> RgbImage {
    let rgba = image.into_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0.map(u32::from);
        image::Rgb([r, g, b].map(|v| ((v * a + 255 * (255 - a) + 127) / 255) as u8))
    })
}

/// Whether a JPEG file has its end marker: decoders fill in what is missing, which would go unnoticed.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Between segments stands 0xff; within the scan's data, anything else up to the next marker.
        let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|&b| b == 0xff)) else { return false };
        at += found + 1;
        match bytes.get(at) {
            None => return false,
            Some(0xd9) => return true,
            // A stuffed zero, a fill byte, or a marker without a length.
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(_) => {
                let (Some(&high), Some(&low)) = (bytes.get(at + 1), bytes.get(at + 2)) else { return false };
                at += 1 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_marker_inside_a_thumbnail_does_not_count() {
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0x00, 0x02, 0x11];
        assert!(!jpeg_ends(&jpeg));
        jpeg.extend([0xff, 0x00, 0xff, 0xd3, 0x22, 0xff, 0xd9]);
        assert!(jpeg_ends(&jpeg));
    }

    const FORMATS: [ImageFormat; 5] =
        [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif];

    /// A picture of two colours, so that a palette holds it.
    fn picture() -> RgbImage {
        RgbImage::from_fn(19, 23, |x, y| image::Rgb(if (x * y) % 3 == 0 { [200, 60, 40] } else { [20, 90, 220] }))
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_never_another_picture() {
        for format in FORMATS {
            let whole = encoded(format);
            assert_eq!(decode(&whole).unwrap(), picture(), "{format:?}");
            for end in 0..whole.len() {
                if let Ok(image) = decode(&whole[..end]) {
                    assert!(image == picture(), "{format:?} with {end} of {} bytes is another picture", whole.len());
                }
            }
        }
    }

    #[test]
    fn damaged_bytes_are_errors_or_pictures_and_never_panics() {
        for format in FORMATS {
            let whole = encoded(format);
            let mut rng = fastrand::Rng::with_seed(7);
            for _ in 0..4000 {
                let mut bytes = whole.clone();
                for _ in 0..rng.usize(1..4) {
                    let at = rng.usize(..bytes.len());
                    bytes[at] = if rng.bool() { rng.u8(..) } else { [0, 1, 127, 128, 255][rng.usize(..5)] };
                }
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn the_header_decides_about_size_before_anything_is_decoded() {
        let patched = |format, place: usize, size: &[u8]| {
            let mut bytes = encoded(format);
            bytes[place..place + size.len()].copy_from_slice(size);
            bytes
        };
        let (side, both) = (20_000_u32.to_le_bytes(), [20_000_u16.to_le_bytes(); 2].concat());
        for (name, bytes) in [
            ("bmp", patched(ImageFormat::Bmp, 18, &[side, side].concat())),
            ("gif", patched(ImageFormat::Gif, 6, &both)),
        ] {
            let reason = decode(&bytes).unwrap_err();
            assert!(reason.contains("20000 x 20000 = 400000000 pixels"), "{name}: {reason}");
            assert!(reason.contains(&format!("(MAX_PIXELS) is {MAX_PIXELS}")), "{name}: {reason}");
        }
        assert!(within_limits((8192, 8192), 3 << 26).is_ok());
        assert!(within_limits((8193, 8192), 3 << 26).unwrap_err().contains("67117056 pixels"));
        assert!(within_limits((40_000, 1), 120_000).unwrap_err().contains("MAX_SIDE"));
        assert!(within_limits((8192, 8192), 8 << 26).unwrap_err().contains("MAX_DECODED"));
    }
}
