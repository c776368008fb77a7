//! What kind of image a file is, by its name and its first bytes.

use image::ImageFormat;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The kinds that are read, for messages.
pub(super) const READ: &str = "JPEG, PNG, WebP, BMP, TIFF or GIF";
/// So many first bytes show what a file is.
const HEAD: usize = 32;

/// Extensions of what is read.
const READ_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif"];

/// Extensions of images that are not read: each is a kind of its own.
const UNREAD_EXTENSIONS: [&[&str]; 7] = [
    // Read where the content is that of a JPEG or PNG file.
    &["jpe", "jfif", "jif", "pjpeg", "pjp", "mpo", "jps", "apng"],
    // Photographs.
    &[
        "heic", "heif", "hif", "heics", "heifs", "avif", "avifs", "jxl", "jxr", "wdp", "hdp", "jls", "bpg", "flif",
        "mng",
    ],
    &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx", "jpm", "jph", "jng"],
    // As cameras write them.
    &[
        "dng", "raw", "arw", "srf", "sr2", "cr2", "cr3", "crw", "nef", "nrw", "orf", "raf", "rw2", "rwl", "pef", "ptx",
        "srw", "x3f", "3fr", "fff", "iiq", "mef", "mos", "mrw", "kdc", "dcr", "erf", "gpr", "dcs", "cap",
    ],
    // Drawings, and what programs keep.
    &["svg", "svgz", "psd", "psb", "xcf", "kra", "ora", "ai", "eps", "emf", "wmf", "ico", "cur", "icns", "dib"],
    // Older ones, and those of renderers.
    &[
        "ppm", "pgm", "pbm", "pnm", "pam", "pfm", "tga", "qoi", "hdr", "exr", "dds", "ktx", "ktx2", "pcx", "xbm",
        "xpm", "sgi", "ras", "wbmp", "farbfeld",
    ],
    // Of medicine, microscopes and telescopes.
    &["dcm", "nii", "svs", "ndpi", "mrxs", "czi", "fits", "fit"],
];

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image that is read, or that should be: its extension says so.
    Read,
    /// An image of a kind that is not read.
    Unread(String),
    /// No image.
    Other,
}

impl Kind {
    /// By the extension and, failing that, by the first bytes; what cannot be opened is no image.
    ///
    /// What is named as a kind that is not read counts as what it is named, unless its content is plainly something else:
    /// cameras' own files begin as TIFF does.
    pub fn of(path: &Path) -> Self {
        let extension = extension(path);
        let named = Self::of_name(path);
        if named == Kind::Read {
            return named;
        }
        let head = if path.is_file() { head(path).unwrap_or_default() } else { Vec::new() };
        match (format_of(&head), named) {
            (Some(ImageFormat::Tiff | ImageFormat::Bmp), Kind::Other) if !extension.is_empty() => {
                Kind::Unread(extension)
            }
            (Some(ImageFormat::Tiff | ImageFormat::Bmp), unread @ Kind::Unread(_)) => unread,
            (Some(_), _) => Kind::Read,
            (None, Kind::Other) => unread(&head).map_or(Kind::Other, |kind| Kind::Unread(kind.to_string())),
            (None, named) => named,
        }
    }

    /// By the extension alone.
    pub fn of_name(path: &Path) -> Self {
        let extension = extension(path);
        if READ_EXTENSIONS.contains(&extension.as_str()) {
            Kind::Read
        } else if UNREAD_EXTENSIONS.iter().any(|group| group.contains(&extension.as_str())) {
            Kind::Unread(extension)
        } else {
            Kind::Other
        }
    }
}

/// In lower case, without the dot.
fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The format that the first bytes of a file show, among those that are read.
pub(super) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    let at = |place: usize, text: &[u8]| bytes.get(place..place + text.len()) == Some(text);
    // The third and fourth number of a bitmap are unused, and it goes on with the length of its header.
    let bitmap =
        || at(6, &[0; 4]) && matches!(bytes.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]));
    if at(0, &[0xff, 0xd8, 0xff]) {
        Some(ImageFormat::Jpeg)
    } else if at(0, b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        Some(ImageFormat::Gif)
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        Some(ImageFormat::WebP)
    } else if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| at(0, *magic)) {
        Some(ImageFormat::Tiff)
    } else if at(0, b"BM") && bitmap() {
        Some(ImageFormat::Bmp)
    } else {
        None
    }
}

/// The kind that the first bytes of a file show, among those that are not read.
pub(super) fn unread(bytes: &[u8]) -> Option<&'static str> {
    let at = |place: usize, text: &[u8]| bytes.get(place..place + text.len()) == Some(text);
    let brand = |brands: &[&[u8; 4]]| at(4, b"ftyp") && brands.iter().any(|brand| at(8, *brand));
    let kinds = [
        ("avif", brand(&[b"avif", b"avis"])),
        ("heic", brand(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"])),
        ("cr3", brand(&[b"crx "])),
        ("jxl", at(0, b"\0\0\0\x0cJXL \r\n\x87\n")),
        ("jp2", at(0, b"\0\0\0\x0cjP  \r\n\x87\n") || at(0, &[0xff, 0x4f, 0xff, 0x51])),
        ("psd", at(0, b"8BPS")),
        ("xcf", at(0, b"gimp xcf")),
        ("svg", at(0, b"<svg")),
        ("exr", at(0, &[0x76, 0x2f, 0x31, 0x01])),
        ("dds", at(0, b"DDS ")),
        ("qoi", at(0, b"qoif")),
        ("hdr", at(0, b"#?RADIANCE")),
        ("fits", at(0, b"SIMPLE  =")),
        ("ico", at(0, &[0, 0, 1, 0]) && bytes.get(4..6).is_some_and(|n| n != [0, 0]) && at(9, &[0])),
        ("ppm", at(0, b"P6\n") || at(0, b"P3\n")),
        ("pgm", at(0, b"P5\n") || at(0, b"P2\n")),
    ];
    kinds.into_iter().find(|(_, is)| *is).map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_tells_where_the_name_does_not() {
        let folder = tempfile::TempDir::new().unwrap();
        let kind = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Kind::of(&path)
        };
        let unread = |kind: &str| Kind::Unread(kind.to_string());
        let (jpeg, tiff): (&[u8], &[u8]) = (&[0xff, 0xd8, 0xff, 0xe0], b"II*\0\x08\0\0\0");
        assert_eq!(kind("a.JPG", b"<html>"), Kind::Read, "what is named so must be one");
        assert_eq!(kind("a", jpeg), Kind::Read);
        assert_eq!(kind("a.heic", jpeg), Kind::Read, "a telephone that renames");
        assert_eq!(kind("a.heic", b"\0\0\0\x18ftypheic"), unread("heic"));
        assert_eq!(kind("b", b"\0\0\0\x18ftypavif"), unread("avif"));
        assert_eq!(kind("a.NEF", tiff), unread("nef"), "a camera's own");
        assert_eq!(kind("c", tiff), Kind::Read);
        assert_eq!(kind("c.lsm", tiff), unread("lsm"));
        assert_eq!(kind("BMW.txt", b"BMW is a maker of cars, and more."), Kind::Other);
        assert_eq!(kind("d.svg", b"<?xml version"), unread("svg"));
        assert_eq!(kind("e.csv", b"a,b"), Kind::Other);
        assert_eq!(kind("f.jfif", jpeg), Kind::Read);
        assert_eq!(kind("f.jfif", b"<html>"), unread("jfif"), "it should have been an image");
        assert_eq!(Kind::of(&folder.path().join("missing")), Kind::Other);
    }
}
