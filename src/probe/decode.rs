//! One JPEG or PNG file to RGB, with distrust.

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, metadata::Orientation};
use std::{fs::File, io, io::Cursor, io::Read, path::Path};

/// Files above this many bytes are refused.
const MAX_FILE: u64 = 1 << 28;
/// A buffer for files keeps at most this many bytes.
const KEPT: usize = 1 << 22;
/// Images wider or higher than this are refused.
const MAX_SIDE: u32 = 1 << 15;
/// Images that need more than this many bytes once decoded are refused.
const MAX_DECODED: u64 = 1 << 29;

/// The format that the first bytes of a file show; `None` for anything but JPEG and PNG.
pub(super) fn sniff(path: &Path) -> io::Result<Option<ImageFormat>> {
    let mut head = Vec::new();
    File::open(path)?.take(8).read_to_end(&mut head)?;
    Ok(format_of(&head))
}

fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        Some(ImageFormat::Jpeg)
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else {
        None
    }
}

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
        _ => "its content is neither JPEG nor PNG".to_string(),
    })?;
    if format == ImageFormat::Jpeg && !jpeg_ends(bytes) {
        return Err("the JPEG data end too early".to_string());
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    let (width, height) = decoder.dimensions();
    if width > MAX_SIDE || height > MAX_SIDE || decoder.total_bytes() > MAX_DECODED {
        return Err(format!("{width}x{height} pixels are too many"));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    image.apply_orientation(orientation);
    Ok(if image.color().has_alpha() { over_white(&image) } else { image.into_rgb8() })
}

fn over_white(image: &DynamicImage) -> RgbImage {
    let rgba = image.to_rgba8();
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
}
