//! Probe images: files of every kind and every defect, labels, splits, tensors, drawn images and painted concepts.

mod common;

use common::with;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use std::{
    collections::BTreeSet,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};
use tch::{Device, Kind, Tensor};
use tch_audit::{
    Error,
    probe::{
        Changed, Corrupt, Fit, ImageFolder, Images, Labels, MAX_PIXELS, PaintedImages, Preprocess, Probe, Selected,
        Want, Why, drawn, example, image_tensor, left_out_sentence,
        paint::{Concept, Painted, Place, TextSize, TextStyle, bank, controls, text_stamp},
        read_classes, resize,
    },
};

// ---------------------------------------------------------------- helpers

fn plain(height: usize, width: usize) -> Preprocess {
    Preprocess::plain(3, height, width).unwrap()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn load(root: &Path, size: usize) -> tch_audit::Result<Probe> {
    ImageFolder::open(root).preprocess(plain(size, size)).load()
}

/// The error with its sources, as a user sees it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut link = std::error::Error::source(error);
    while let Some(e) = link {
        text.push_str(&format!(": {e}"));
        link = e.source();
    }
    text
}

fn failure<T>(result: tch_audit::Result<T>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(e) => chain(&e),
    }
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    encode(image, ImageFormat::Png)
}

fn jpeg(image: impl Into<DynamicImage>) -> Vec<u8> {
    encode(image, ImageFormat::Jpeg)
}

fn gradient(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 255 / width.max(2)) as u8, (y * 255 / height.max(2)) as u8, ((x * 7 + y * 3) % 256) as u8])
    })
}

fn solid(rgb: [u8; 3]) -> RgbImage {
    RgbImage::from_pixel(8, 8, Rgb(rgb))
}

/// A PNG file by hand: what the encoder does not write.
fn raw_png(width: u32, height: u32, depth: u8, color: u8, extra: &[(&[u8; 4], &[u8])], rows: &[u8]) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        out.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        let crc = !body.iter().fold(!0u32, |crc, &b| {
            (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
        });
        out.extend(&body);
        out.extend(crc.to_be_bytes());
    };
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat());
    extra.iter().for_each(|(kind, data)| chunk(*kind, data));
    // One stored block of deflate in zlib's wrapping.
    let (a, b) = rows.iter().fold((1u32, 0u32), |(a, b), &v| {
        let a = (a + u32::from(v)) % 65_521;
        (a, (b + a) % 65_521)
    });
    let length = rows.len() as u16;
    let mut data = vec![0x78, 0x01, 0x01];
    data.extend([length.to_le_bytes(), (!length).to_le_bytes()].concat());
    data.extend(rows);
    data.extend((b << 16 | a).to_be_bytes());
    chunk(b"IDAT", &data);
    chunk(b"IEND", &[]);
    out
}

/// A JPEG whose EXIF data give this orientation.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, 0xe1], &length, &tiff, &jpeg[2..]].concat()
}

fn pools<T: Send>(f: impl Fn() -> T + Sync) -> (T, T) {
    let with = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(&f);
    (with(1), with(8))
}

// ---------------------------------------------------------------- decoding

#[test]
fn every_color_type_of_png_becomes_rgb() {
    let root = folder();
    let grey = |v| GrayImage::from_pixel(8, 8, image::Luma([v]));
    let cases: Vec<(&str, Vec<u8>, [u8; 3])> = vec![
        ("a-rgb.png", png(solid([10, 20, 30])), [10, 20, 30]),
        ("b-grey.png", png(grey(77)), [77; 3]),
        ("c-grey-alpha.png", png(image::GrayAlphaImage::from_pixel(8, 8, image::LumaA([0, 0]))), [255; 3]),
        ("d-alpha-half.png", png(RgbaImage::from_pixel(8, 8, Rgba([200, 0, 0, 128]))), [227, 127, 127]),
        ("e-alpha-none.png", png(RgbaImage::from_pixel(8, 8, Rgba([200, 0, 0, 0]))), [255; 3]),
        ("f-alpha-full.png", png(RgbaImage::from_pixel(8, 8, Rgba([200, 1, 2, 255]))), [200, 1, 2]),
        (
            "g-grey16.png",
            png(DynamicImage::ImageLuma16(image::ImageBuffer::from_pixel(8, 8, image::Luma([100 * 257])))),
            [100; 3],
        ),
        (
            "h-rgb16.png",
            png(DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(8, 8, Rgb([257, 65_535, 300])))),
            [1, 255, 1],
        ),
        (
            "i-rgba16.png",
            png(DynamicImage::ImageRgba16(image::ImageBuffer::from_pixel(8, 8, Rgba([0, 0, 0, 65_535])))),
            [0; 3],
        ),
        (
            "j-palette.png",
            raw_png(8, 8, 8, 3, &[(b"PLTE", &[1, 2, 3, 40, 50, 60])], &[0, 1, 1, 1, 1, 1, 1, 1, 1].repeat(8)),
            [40, 50, 60],
        ),
        (
            "k-palette-transparent.png",
            raw_png(
                8,
                8,
                8,
                3,
                &[(b"PLTE", &[1, 2, 3, 40, 50, 60]), (b"tRNS", &[255, 0])],
                &[0, 1, 1, 1, 1, 1, 1, 1, 1].repeat(8),
            ),
            [255; 3],
        ),
        ("l-one-bit.png", raw_png(8, 8, 1, 0, &[], &[0, 0xff].repeat(8)), [255; 3]),
        ("m-two-bit.png", raw_png(8, 8, 2, 0, &[], &[0, 0x55, 0x55].repeat(8)), [85; 3]),
    ];
    for (name, bytes, _) in &cases {
        put(root.path(), name, bytes);
    }
    let probe = load(root.path(), 8).unwrap();
    assert_eq!(probe.len(), cases.len());
    for (i, (name, _, expected)) in cases.iter().enumerate() {
        assert_eq!(probe.name(i), *name);
        let odd = probe.image(i).pixels().find(|p| p.0 != *expected);
        assert_eq!(odd, None, "{name}: expected {expected:?}");
    }
    assert!(probe.labels().is_none() && probe.classes().is_empty() && probe.label(0).is_none());
}

#[test]
fn one_bit_pixels_keep_their_places() {
    let root = folder();
    put(root.path(), "x.png", raw_png(8, 8, 1, 0, &[], &[0, 0b1010_0000].repeat(8)));
    let probe = load(root.path(), 8).unwrap();
    let row: Vec<u8> = (0..8).map(|x| probe.image(0).get_pixel(x, 3).0[0]).collect();
    assert_eq!(row, [255, 0, 255, 0, 0, 0, 0, 0]);
}

#[test]
fn grey_and_color_jpegs_are_near_what_was_encoded() {
    let root = folder();
    put(root.path(), "a.jpg", jpeg(GrayImage::from_pixel(16, 16, image::Luma([90]))));
    put(root.path(), "b.JPEG", jpeg(RgbImage::from_pixel(16, 16, Rgb([200, 40, 90]))));
    let probe = load(root.path(), 16).unwrap();
    for (i, expected) in [[90; 3], [200, 40, 90]].into_iter().enumerate() {
        let pixel = probe.image(i).get_pixel(8, 8).0;
        assert!(pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 4), "{pixel:?} for {expected:?}");
    }
}

#[test]
fn images_of_any_size_are_made_to_fit() {
    let root = folder();
    for (w, h) in [(1, 1), (2, 300), (300, 2), (7, 9), (32, 20), (640, 481)] {
        put(root.path(), &format!("{w}x{h}.png"), png(gradient(w, h)));
        put(root.path(), &format!("{w}x{h}.jpg"), jpeg(gradient(w, h)));
    }
    for fit in [Fit::Squash, Fit::CenterCrop] {
        let probe = ImageFolder::open(root.path()).preprocess(plain(20, 32)).fit(fit).load().unwrap();
        assert_eq!(probe.len(), 12);
        assert!((0..12).all(|i| probe.image(i).dimensions() == (32, 20)));
        let same = (0..12).find(|&i| probe.name(i) == "32x20.png").unwrap();
        assert_eq!(probe.image(same), &gradient(32, 20), "an image of the right size is not resampled");
        assert_eq!(probe.tensor(0..12).unwrap().size(), [12, 3, 20, 32]);
    }
}

#[test]
fn squash_keeps_the_whole_image_and_center_crop_its_middle() {
    // Red, green and blue thirds of a wide image.
    let wide = RgbImage::from_fn(90, 30, |x, _| Rgb(std::array::from_fn(|c| if x / 30 == c as u32 { 255 } else { 0 })));
    let squashed = resize(&wide, 30, 30, Fit::Squash).unwrap();
    let at = |i: &RgbImage, x| i.get_pixel(x, 15).0;
    assert_eq!([at(&squashed, 2), at(&squashed, 15), at(&squashed, 27)], [[255, 0, 0], [0, 255, 0], [0, 0, 255]]);
    let cropped = resize(&wide, 30, 30, Fit::CenterCrop).unwrap();
    assert!([0, 15, 29].into_iter().all(|x| at(&cropped, x) == [0, 255, 0]));
    assert!(failure(resize(&wide, 0, 30, Fit::Squash)).contains("30x0"));
    assert!(failure(resize(&RgbImage::new(0, 3), 4, 4, Fit::Squash)).contains("0x3"));
    for fit in [Fit::Squash, Fit::CenterCrop] {
        assert_eq!(resize(&gradient(10, 10), 1, 4096, fit).unwrap().dimensions(), (4096, 1));
        assert_eq!(resize(&gradient(1, 3000), 32, 32, fit).unwrap().dimensions(), (32, 32));
    }
}

#[test]
fn shrinking_is_antialiased() {
    let fine = RgbImage::from_fn(64, 64, |x, _| Rgb([if x % 2 == 0 { 255 } else { 0 }; 3]));
    let small = resize(&fine, 8, 8, Fit::Squash).unwrap();
    assert!(small.pixels().all(|p| (120..=135).contains(&p.0[0])), "{:?}", small.get_pixel(4, 4));
}

#[test]
fn exif_orientation_is_undone() {
    // Stored: the left half white. Orientation 6: to be turned clockwise, so that the top becomes white.
    let half = RgbImage::from_fn(32, 32, |x, _| Rgb([if x < 16 { 255 } else { 0 }; 3]));
    let root = folder();
    for orientation in [1, 3, 6, 8] {
        put(root.path(), &format!("{orientation}.jpg"), turned(&jpeg(half.clone()), orientation));
    }
    let probe = load(root.path(), 32).unwrap();
    let white_at = [(4, 16), (28, 16), (16, 4), (16, 28)];
    for (i, (x, y)) in white_at.into_iter().enumerate() {
        let v = |x, y| probe.image(i).get_pixel(x, y).0[0];
        assert!(v(x, y) > 240 && v(31 - x, 31 - y) < 15, "orientation of {}", probe.name(i));
    }
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let whole_jpeg = jpeg(gradient(64, 64));
    let whole_png = png(gradient(64, 64));
    let mut bad_crc = whole_png.clone();
    let middle = bad_crc.len() / 2;
    bad_crc[middle] ^= 0x55;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("cut.jpg", whole_jpeg[..whole_jpeg.len() / 2].to_vec()),
        ("cut-at-the-end.jpg", whole_jpeg[..whole_jpeg.len() - 2].to_vec()),
        ("cut-header.jpg", whole_jpeg[..20].to_vec()),
        ("cut.png", whole_png[..whole_png.len() / 2].to_vec()),
        ("cut-header.png", whole_png[..20].to_vec()),
        ("signature-only.png", whole_png[..8].to_vec()),
        ("changed.png", bad_crc),
        ("empty.jpg", vec![]),
        ("text.jpg", b"this is no image\n".to_vec()),
        ("gif.png", b"GIF89a\x01\0\x01\0\0\0\0".to_vec()),
    ];
    for (name, bytes) in cases {
        let root = folder();
        put(root.path(), "a-good.png", png(gradient(32, 32)));
        let path = put(root.path(), name, bytes);
        let result = load(root.path(), 32);
        assert!(matches!(&result, Err(Error::Image { path: p, .. }) if *p == path), "{name}: {result:?}");
        assert!(failure(result).contains(name));
        let probe = ImageFolder::open(root.path()).preprocess(plain(32, 32)).corrupt(Corrupt::Skip).load().unwrap();
        assert_eq!((probe.len(), probe.name(0)), (1, "a-good.png"), "{name}");
        assert_eq!(probe.skipped().len(), 1, "{name}");
        assert_eq!(probe.skipped()[0].path, path);
        assert!(!probe.skipped()[0].reason.is_empty());
    }
}

#[test]
fn a_jpeg_cut_anywhere_is_never_taken_for_whole() {
    let whole = jpeg(gradient(24, 24));
    let root = folder();
    let step = (whole.len() / 60).max(1);
    let cuts: Vec<usize> = (0..whole.len()).step_by(step).collect();
    for cut in &cuts {
        put(root.path(), &format!("{cut:06}.jpg"), &whole[..*cut]);
    }
    put(root.path(), "whole.jpg", &whole);
    let probe = ImageFolder::open(root.path()).preprocess(plain(24, 24)).corrupt(Corrupt::Skip).load().unwrap();
    assert_eq!((probe.len(), probe.skipped().len()), (1, cuts.len()));
    assert!(probe.skipped().is_sorted_by(|a, b| a.path < b.path));
}

#[test]
fn a_folder_without_a_readable_image_is_an_error_even_when_skipping() {
    let root = folder();
    put(root.path(), "text.jpg", "no image");
    let text = failure(ImageFolder::open(root.path()).preprocess(plain(8, 8)).corrupt(Corrupt::Skip).load());
    assert!(text.contains("none readable") && text.contains("text.jpg"), "{text}");
}

#[test]
fn absurd_declared_sizes_are_refused_before_memory_is_taken() {
    let root = folder();
    for (w, h) in [(1_000_000, 1_000_000), (30_000, 30_000), (u32::MAX, 1), (0, 5)] {
        put(root.path(), &format!("{w}x{h}.png"), raw_png(w, h, 8, 2, &[], &[0; 64]));
    }
    let mut big = jpeg(gradient(16, 16));
    let frame = big.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    big[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    put(root.path(), "big.jpg", big);
    put(root.path(), "good.png", png(gradient(16, 16)));
    let probe = ImageFolder::open(root.path()).preprocess(plain(16, 16)).corrupt(Corrupt::Skip).load().unwrap();
    assert_eq!((probe.len(), probe.skipped().len()), (1, 5), "{:?}", probe.skipped());
    let reason = |name: &str| probe.skipped().iter().find(|s| s.path.ends_with(name)).unwrap().reason.clone();
    let expected =
        format!("it has 30000 x 30000 = 900000000 pixels; the limit of pixels per image (MAX_PIXELS) is {MAX_PIXELS}");
    assert!(reason("30000x30000.png").starts_with(&expected), "{}", reason("30000x30000.png"));
}

#[test]
fn every_format_is_read_in_the_same_way() {
    let root = folder();
    let half = RgbaImage::from_fn(16, 16, |x, _| Rgba(if x < 8 { [200, 60, 40, 0] } else { [20, 90, 220, 255] }));
    let formats = [
        ("bmp", ImageFormat::Bmp),
        ("gif", ImageFormat::Gif),
        ("png", ImageFormat::Png),
        ("tif", ImageFormat::Tiff),
        ("TIFF", ImageFormat::Tiff),
        ("webp", ImageFormat::WebP),
    ];
    for (extension, format) in formats {
        let mut bytes = Cursor::new(Vec::new());
        half.write_to(&mut bytes, format).unwrap();
        let bytes = bytes.into_inner();
        put(root.path(), &format!("{extension}/x.{extension}"), &bytes);
        put(root.path(), &format!("{extension}/named wrongly.jpg"), &bytes);
    }
    let probe = load(root.path(), 16).unwrap();
    assert_eq!((probe.len(), probe.classes().len()), (12, 6));
    for i in 0..probe.len() {
        let pixels = [2, 13].map(|x| probe.image(i).get_pixel(x, 8).0);
        assert_eq!(pixels, [[255; 3], [20, 90, 220]], "{}: what is transparent lies over white", probe.name(i));
    }
}

// ---------------------------------------------------------------- folders

#[test]
fn an_empty_or_missing_folder_says_what_was_found() {
    let root = folder();
    let text = failure(load(root.path(), 8));
    assert!(text.contains("no image") && text.contains(&root.path().display().to_string()), "{text}");
    put(root.path(), "notes.txt", "hello");
    put(root.path(), "more/data.csv", "1,2");
    let text = failure(load(root.path(), 8));
    assert!(text.contains("1 sub-folders") && text.contains("2 other files") && text.contains("notes.txt"), "{text}");
    let missing = root.path().join("missing");
    let result = load(&missing, 8);
    assert!(matches!(&result, Err(Error::Io { action: "list", .. })), "{result:?}");
    assert!(failure(result).contains("missing"));
    let file = put(root.path(), "one.png", png(solid([1; 3])));
    assert!(matches!(load(&file, 8), Err(Error::Io { .. })));
}

#[test]
fn one_image_is_a_probe() {
    let root = folder();
    put(root.path(), "only.png", png(gradient(8, 8)));
    let probe = load(root.path(), 8).unwrap();
    assert_eq!((probe.len(), probe.is_empty(), probe.name(0)), (1, false, "only.png"));
    assert_eq!(probe.image(0), &gradient(8, 8));
}

#[test]
fn sub_folders_are_classes_in_sorted_order() {
    let root = folder();
    for (name, v) in
        [("zebra/1.png", 1), ("ant/b.png", 2), ("ant/a.png", 3), ("cat/deep/er/x.png", 4), ("cat/a.png", 5)]
    {
        put(root.path(), name, png(solid([v; 3])));
    }
    put(root.path(), "readme.txt", "ignored");
    let probe = load(root.path(), 8).unwrap();
    assert_eq!(probe.classes(), ["ant", "cat", "zebra"]);
    let names: Vec<&str> = (0..probe.len()).map(|i| probe.name(i)).collect();
    assert_eq!(names, ["ant/a.png", "ant/b.png", "cat/a.png", "cat/deep/er/x.png", "zebra/1.png"]);
    assert_eq!(Vec::<i64>::try_from(probe.labels().unwrap()).unwrap(), [0, 0, 1, 1, 2]);
    let values: Vec<u8> = (0..probe.len()).map(|i| probe.image(i).get_pixel(0, 0).0[0]).collect();
    assert_eq!(values, [3, 2, 5, 4, 1]);
}

#[test]
fn images_beside_class_folders_are_an_error() {
    let root = folder();
    put(root.path(), "stray.png", png(solid([0; 3])));
    put(root.path(), "a/1.png", png(solid([0; 3])));
    put(root.path(), "a/2.png", png(solid([0; 3])));
    let text = failure(load(root.path(), 8));
    assert!(text.contains("1 images in it and 2 in its sub-folders"), "{text}");
}

#[test]
fn a_class_folder_without_images_is_an_error() {
    let root = folder();
    put(root.path(), "a/1.png", png(solid([0; 3])));
    put(root.path(), "b/notes.txt", "x");
    let text = failure(load(root.path(), 8));
    assert!(text.contains("`b`"), "{text}");
}

#[test]
fn hidden_and_other_files_are_ignored() {
    let root = folder();
    put(root.path(), "a/1.png", png(solid([9; 3])));
    for name in [".hidden.png", ".git/x.png", "a/.thumb.jpg", "a/notes.txt", "a/.cache/1.png", "Thumbs.db"] {
        put(root.path(), name, "not an image");
    }
    let probe = load(root.path(), 8).unwrap();
    assert_eq!((probe.len(), probe.skipped().len()), (1, 0));
    assert_eq!(probe.classes(), ["a"]);
    let account =
        [(Why::OtherProgram, ".cache", 1), (Why::OtherProgram, ".git", 1), (Why::Hidden, "", 2), (Why::NoImage, "", 2)];
    assert_eq!(counted(&probe), account.map(|(why, what, n)| (why, what.to_string(), n)));
}

/// Why, about what, how many.
fn counted(images: &dyn Images) -> Vec<(Why, String, usize)> {
    images.left_out().iter().map(|l| (l.why, l.what.clone(), l.files)).collect()
}

#[test]
fn what_is_left_out_is_counted_and_named() {
    let root = folder();
    for class in ["ant", "bee"] {
        for i in 0..3 {
            put(root.path(), &format!("{class}/{i}.png"), png(solid([i; 3])));
        }
        put(root.path(), &format!("{class}/one.HEIC"), "whatever");
        put(root.path(), &format!("{class}/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg"), jpeg(solid([9; 3])));
    }
    put(root.path(), "bee/drawing.svg", "<svg/>");
    put(root.path(), "bee/0.PNG", png(solid([7; 3])));
    put(root.path(), "__MACOSX/ant/._0.png", "resource fork");
    put(root.path(), "#recycle/readme.txt", "x");
    put(root.path(), ".ipynb_checkpoints/0.png", png(solid([0; 3])));
    put(root.path(), ".cache/index.db", "x");
    put(root.path(), "labels.csv", "a,b");
    let plain_folder = folder();
    for class in ["ant", "bee"] {
        for i in 0..3 {
            put(plain_folder.path(), &format!("{class}/{i}.png"), png(solid([i; 3])));
        }
    }
    put(plain_folder.path(), "bee/0.PNG", png(solid([7; 3])));
    let open = |root: &Path| ImageFolder::open(root).preprocess(plain(8, 8)).corrupt(Corrupt::Skip);
    let (probe, stream) = (open(root.path()).load().unwrap(), open(root.path()).stream().unwrap());
    assert_eq!(probe.classes(), ["ant", "bee"]);
    assert_eq!(probe.len(), 7, "`0.png` and `0.PNG` are two files");
    let expected = [
        (Why::KindNotRead, "heic", 2),
        (Why::KindNotRead, "svg", 1),
        (Why::OtherProgram, "#recycle", 0),
        (Why::OtherProgram, ".ipynb_checkpoints", 1),
        (Why::OtherProgram, "@eaDir", 2),
        (Why::OtherProgram, "__MACOSX", 1),
        (Why::NoImage, "", 1),
    ];
    let expected: Vec<_> = expected.map(|(why, what, n)| (why, what.to_string(), n)).to_vec();
    assert_eq!(counted(&probe), expected);
    assert_eq!(counted(&stream), expected);
    assert_eq!(counted(&Selected::new(&stream, vec![0]).unwrap()), expected);
    assert_eq!(counted(&probe.select(&[1]).unwrap()), expected);
    let shared: std::sync::Arc<dyn Images> =
        std::sync::Arc::new(Changed::new(stream.clone(), "same", |_, i| i.clone()));
    assert_eq!(counted(&shared), expected, "so it reaches an auditor");
    assert_eq!(probe.left_out()[0].names, ["ant/one.HEIC", "bee/one.HEIC"]);
    assert_eq!(
        left_out_sentence(probe.left_out()),
        ", 7 files left out: 2 heic, 1 svg are not read (ant/one.HEIC, bee/one.HEIC, …), 4 in folders of other programs \
         (#recycle, .ipynb_checkpoints, @eaDir, __MACOSX); 1 other file is no image"
    );
    let alone = open(plain_folder.path()).stream().unwrap();
    assert_eq!(stream.fingerprint(), alone.fingerprint(), "what is left out is no part of what the images are");
    let some = open(plain_folder.path()).limit_per_class(2).stream().unwrap();
    assert_eq!(counted(&some), [(Why::BeyondLimit, String::new(), 3)]);

    let only = folder();
    put(only.path(), "a/1.heic", "x");
    let text = failure(load(only.path(), 8));
    assert!(text.contains("no image") && text.contains("a/1.heic") && text.contains("heic is not read"), "{text}");
    put(only.path(), "b/1.png", png(solid([0; 3])));
    let text = failure(load(only.path(), 8));
    assert!(
        text.contains("`a` without images") && text.contains("a/1.heic") && text.contains("heic is not read"),
        "{text}"
    );
}

#[test]
fn class_folders_are_held_against_the_models_outputs_by_name() {
    let root = folder();
    for (name, v) in [("ant/1.png", 1), ("zebra/1.png", 2)] {
        put(root.path(), name, png(solid([v; 3])));
    }
    let open = || ImageFolder::open(root.path()).preprocess(plain(8, 8));
    let outputs = ["zebra", "cat", "ant"];
    let (probe, stream) = (open().classes(outputs).load().unwrap(), open().classes(outputs).stream().unwrap());
    for images in [&probe as &dyn Images, &stream] {
        assert_eq!([images.label(0), images.label(1)], [Some(2), Some(0)]);
        assert_eq!(images.classes(), outputs);
        assert_eq!(images.fingerprint(), open().stream().unwrap().fingerprint(), "they are the same images");
    }
    assert_eq!(probe.select(&[1]).unwrap().label(0), Some(0));
    let refused = |names: &[&str]| failure(open().classes(names.iter().copied()).stream());
    let text = refused(&["zebra", "cat", "ants"]);
    assert!(
        text.contains("class folder `ant`") && text.contains("none of the 3 classes has") && text.contains("`ants`"),
        "{text}"
    );
    let text = refused(&["ant", "zebra", "ant"]);
    assert!(text.contains("class folder `ant`") && text.contains("2 of the 3 classes have: 1, 3"), "{text}");
    let flat = ImageFolder::open(root.path().join("ant")).preprocess(plain(8, 8)).classes(outputs);
    assert!(failure(flat.load()).contains("images without class folders"));

    let lists = folder();
    let list = put(lists.path(), "classes.txt", "\u{feff}zebra\r\n  cat \r\nant\r\n\r\n");
    assert_eq!(read_classes(&list).unwrap(), outputs);
    std::fs::write(&list, "zebra\n\nant\n").unwrap();
    assert!(failure(read_classes(&list)).contains("line 2 of"));
    std::fs::write(&list, " \n").unwrap();
    assert!(failure(read_classes(&list)).contains("received nothing"));
    assert!(matches!(read_classes(root.path().join("none.txt")), Err(Error::Io { .. })));
}

#[test]
fn content_counts_where_the_extension_says_nothing() {
    let root = folder();
    put(root.path(), "a.jpg", png(solid([1, 2, 3])));
    put(root.path(), "b", png(solid([4, 5, 6])));
    put(root.path(), "c.dat", jpeg(solid([7; 3])));
    put(root.path(), "d.txt", b"GIF");
    let probe = load(root.path(), 8).unwrap();
    assert_eq!(probe.len(), 3);
    assert_eq!(probe.image(0).get_pixel(0, 0).0, [1, 2, 3]);
    assert_eq!(probe.image(1).get_pixel(0, 0).0, [4, 5, 6]);
}

#[test]
fn the_limit_takes_the_first_files_of_each_class() {
    let root = folder();
    for class in ["a", "b"] {
        for i in 0..5 {
            put(root.path(), &format!("{class}/{i}.png"), png(solid([i; 3])));
        }
    }
    let open = |n| ImageFolder::open(root.path()).preprocess(plain(8, 8)).limit_per_class(n).load();
    let probe = open(2).unwrap();
    let names: Vec<&str> = (0..probe.len()).map(|i| probe.name(i)).collect();
    assert_eq!(names, ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]);
    assert_eq!(open(100).unwrap().len(), 10);
    assert!(failure(open(0)).contains("limit per class: received 0"));
    let flat = ImageFolder::open(root.path().join("a")).preprocess(plain(8, 8)).limit_per_class(3).load().unwrap();
    assert_eq!((flat.len(), flat.labels().is_none()), (3, true));
}

#[test]
fn preprocessing_must_be_given() {
    let root = folder();
    put(root.path(), "a.png", png(solid([0; 3])));
    assert!(failure(ImageFolder::open(root.path()).load()).contains("preprocessing"));
    let mut broken = plain(8, 8);
    broken.std[1] = 0.0;
    assert!(failure(ImageFolder::open(root.path()).preprocess(broken).load()).contains("std"));
}

#[cfg(unix)]
#[test]
fn broken_links_pipes_and_circles_are_errors_not_hangs() {
    use std::os::unix::fs::symlink;
    let root = folder();
    put(root.path(), "a.png", png(solid([0; 3])));
    symlink(root.path().join("nowhere"), root.path().join("gone.jpg")).unwrap();
    let text = failure(load(root.path(), 8));
    assert!(text.contains("gone.jpg"), "{text}");
    let pipe = std::process::Command::new("mkfifo").arg(root.path().join("pipe.png")).status();
    let bad = 1 + usize::from(pipe.is_ok_and(|status| status.success()));
    let probe = ImageFolder::open(root.path()).preprocess(plain(8, 8)).corrupt(Corrupt::Skip).load().unwrap();
    assert_eq!((probe.len(), probe.skipped().len()), (1, bad));
    let circle = folder();
    put(circle.path(), "a/1.png", png(solid([0; 3])));
    symlink(circle.path(), circle.path().join("a/again")).unwrap();
    assert!(failure(load(circle.path(), 8)).contains("depth"));
}

#[test]
fn order_and_pixels_do_not_depend_on_the_number_of_threads() {
    let root = folder();
    for i in 0..40u32 {
        put(root.path(), &format!("{}/{i:02}.jpg", i % 3), jpeg(gradient(20 + i, 50 - i)));
    }
    put(root.path(), "1/bad.jpg", "bad");
    let read = || ImageFolder::open(root.path()).preprocess(plain(16, 16)).corrupt(Corrupt::Skip).load().unwrap();
    let (one, eight) = pools(read);
    assert_eq!(one.fingerprint(), eight.fingerprint());
    assert_eq!(one.skipped(), eight.skipped());
    assert!((0..one.len()).all(|i| one.name(i) == eight.name(i) && one.label(i) == eight.label(i)));
    // Two bad files: the first is named, whichever thread is faster.
    put(root.path(), "0/bad.jpg", "bad");
    let (one, eight) = pools(|| failure(load(root.path(), 16)));
    assert!(one == eight && one.contains("bad.jpg") && !one.contains(&format!("1{}bad", std::path::MAIN_SEPARATOR)));
}

#[test]
fn cifar10_photographs_are_read_with_their_classes() {
    let Some(path) = common::data("cifar10") else { return };
    let read = |part, n| {
        let mean = vec![0.4914, 0.4822, 0.4465];
        let preprocess = Preprocess::new(3, 32, 32, mean, vec![0.2023, 0.1994, 0.2010]).unwrap();
        let open = ImageFolder::open(path.join(part)).preprocess(preprocess);
        open.limit_per_class(n).load().unwrap()
    };
    let probe = read("test", usize::MAX);
    let classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
    assert_eq!(probe.classes(), classes);
    assert_eq!((probe.len(), probe.skipped().len()), (2000, 0));
    for (c, class) in classes.iter().enumerate() {
        let members: Vec<usize> = (0..probe.len()).filter(|&i| probe.label(i) == Some(c)).collect();
        assert_eq!(members.len(), 200);
        assert!(members.iter().all(|&i| probe.name(i).starts_with(&format!("{class}/"))));
    }
    let all = probe.tensor(0..2000).unwrap();
    let (mean, std) = (all.mean(Kind::Float).double_value(&[]), all.std(false).double_value(&[]));
    assert!(mean.abs() < 0.1 && (0.9..1.3).contains(&std), "photographs have mean {mean}, std {std}");
    assert_eq!(read("train", 7).len(), 70);
}

// ---------------------------------------------------------------- probes in memory

fn numbered(n: usize, classes: usize) -> Probe {
    let images = (0..n).map(|i| RgbImage::from_pixel(8, 8, Rgb([i as u8, 0, 1]))).collect();
    let labels = Labels::new((0..n).map(|i| i % classes).collect(), (0..classes).map(|c| format!("c{c}"))).unwrap();
    Probe::from_images(images, None, Some(labels), plain(8, 8)).unwrap()
}

#[test]
fn the_fingerprint_changes_with_everything_that_matters_and_with_nothing_else() {
    let base = numbered(4, 2);
    let (one, eight) = pools(|| numbered(4, 2).fingerprint());
    assert!(one == eight && one == base.fingerprint() && one.len() == 64);
    assert_eq!(base.select(&[0, 1, 2, 3]).unwrap().fingerprint(), one);
    let images = || (0..4).map(|i| base.image(i).clone()).collect::<Vec<_>>();
    let names = || Some((0..4).map(|i| base.name(i).to_string()).collect::<Vec<_>>());
    let labels = |l: [usize; 4], c: [&str; 2]| Some(Labels::new(l.to_vec(), c).unwrap());
    let same = Probe::from_images(images(), names(), labels([0, 1, 0, 1], ["c0", "c1"]), plain(8, 8)).unwrap();
    assert_eq!(same.fingerprint(), one);
    let mut one_pixel = images();
    one_pixel[3].get_pixel_mut(7, 7).0[2] ^= 1;
    let mut other_names = names();
    other_names.as_mut().unwrap()[2].push('!');
    let other_mean = Preprocess::new(3, 8, 8, vec![0.0, 0.1, 0.0], vec![1.0; 3]).unwrap();
    let class = || labels([0, 1, 0, 1], ["c0", "c1"]);
    let changed = [
        Probe::from_images(one_pixel, names(), class(), plain(8, 8)).unwrap(),
        Probe::from_images(images(), other_names, class(), plain(8, 8)).unwrap(),
        Probe::from_images(images(), names(), labels([0, 1, 1, 1], ["c0", "c1"]), plain(8, 8)).unwrap(),
        Probe::from_images(images(), names(), labels([0, 1, 0, 1], ["c0", "c2"]), plain(8, 8)).unwrap(),
        Probe::from_images(images(), names(), None, plain(8, 8)).unwrap(),
        Probe::from_images(images(), names(), class(), other_mean).unwrap(),
        Probe::from_images(images(), names(), class(), Preprocess::plain(1, 8, 8).unwrap()).unwrap(),
        base.select(&[1, 0, 2, 3]).unwrap(),
        base.select(&[0, 1, 2]).unwrap(),
        base.map(|_, image| image::imageops::flip_horizontal(&gradient(8, image.height()))),
    ];
    let distinct: BTreeSet<String> = changed.iter().map(Probe::fingerprint).chain([one]).collect();
    assert_eq!(distinct.len(), changed.len() + 1);
}

#[test]
fn a_split_is_stratified_complete_and_repeatable() {
    let probe = numbered(103, 4);
    for fraction in [0.1, 0.25, 0.5, 0.9] {
        let (part, rest) = probe.split(3, fraction).unwrap();
        assert_eq!(part.len(), (103.0 * fraction).round() as usize);
        let mut names: Vec<&str> =
            (0..part.len()).map(|i| part.name(i)).chain((0..rest.len()).map(|i| rest.name(i))).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 103, "every image is in one part");
        for class in 0..4 {
            let count = |p: &Probe| (0..p.len()).filter(|&i| p.label(i) == Some(class)).count() as f64;
            let expected = count(&probe) * fraction;
            assert!((count(&part) - expected).abs() <= 1.0, "class {class} at {fraction}: {}", count(&part));
        }
        let pixel = |p: &Probe| (0..p.len()).map(|i| p.image(i).get_pixel(0, 0).0[0]).collect::<Vec<_>>();
        assert!(pixel(&part).is_sorted() && pixel(&rest).is_sorted(), "the order of the images is kept");
        assert_eq!(part.fingerprint(), probe.split(3, fraction).unwrap().0.fingerprint());
        assert_ne!(part.fingerprint(), probe.split(4, fraction).unwrap().0.fingerprint());
        assert_eq!(part.classes(), probe.classes());
    }
    for bad in [0.0, 1.0, -0.5, f64::NAN, f64::INFINITY] {
        assert!(failure(probe.split(0, bad)).contains("fraction of a split"));
    }
}

#[test]
fn selecting_repeats_reorders_and_refuses_what_is_not_there() {
    let probe = numbered(5, 2);
    let chosen = probe.select(&[4, 0, 4]).unwrap();
    assert_eq!([chosen.name(0), chosen.name(1), chosen.name(2)], ["image-4", "image-0", "image-4"]);
    assert_eq!(chosen.label(0), Some(0));
    assert!(failure(probe.select(&[5])).contains("received 5"));
    assert!(probe.select(&[]).unwrap().is_empty());
    assert_eq!(probe.tensor(2..2).unwrap().size(), [0, 3, 8, 8]);
    assert!(failure(probe.tensor(3..6)).contains("3..6"));
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 3..1;
    assert!(probe.tensor(reversed).is_err());
}

#[test]
fn mapping_to_another_size_is_an_error_when_the_tensor_is_made() {
    let probe = numbered(3, 1).map(|i, image| if i == 1 { RgbImage::new(9, 8) } else { image.clone() });
    assert!(matches!(probe.tensor(0..3), Err(Error::Shape { .. })));
    assert!(probe.tensor(0..1).is_ok());
}

#[test]
fn preprocessing_that_makes_no_sense_is_refused_by_name() {
    let new = |c: usize, h, w, mean: &[f32], std: &[f32]| Preprocess::new(c, h, w, mean.to_vec(), std.to_vec());
    assert!(new(3, 4096, 1, &[0.0; 3], &[1.0; 3]).is_ok());
    for (result, what) in [
        (new(2, 8, 8, &[0.0; 2], &[1.0; 2]), "channels of the input: received 2"),
        (new(0, 8, 8, &[], &[]), "channels of the input: received 0"),
        (new(3, 0, 8, &[0.0; 3], &[1.0; 3]), "height of the input: received 0"),
        (new(3, 8, 4097, &[0.0; 3], &[1.0; 3]), "width of the input: received 4097"),
        (new(3, 8, 8, &[0.0; 1], &[1.0; 3]), "mean: received 1 numbers"),
        (new(3, 8, 8, &[0.0; 3], &[1.0; 4]), "std: received 4 numbers"),
        (new(1, 8, 8, &[f32::NAN], &[1.0]), "mean: received NaN"),
        (new(1, 8, 8, &[0.0], &[0.0]), "std: received 0"),
        (new(1, 8, 8, &[0.0], &[-1.0]), "std: received -1"),
        (new(1, 8, 8, &[0.0], &[f32::INFINITY]), "std: received inf"),
        (Preprocess::plain(usize::MAX, 8, 8), "channels of the input"),
    ] {
        let text = failure(result);
        assert!(text.starts_with(what), "{text}");
    }
}

#[test]
fn tensor_values_are_normalised_per_channel() {
    let image = gradient(5, 4);
    let (mean, std) = ([0.4914f32, 0.4822, 0.4465], [0.2023f32, 0.1994, 0.2010]);
    let preprocess = Preprocess::new(3, 4, 5, mean.to_vec(), std.to_vec()).unwrap();
    let tensor = image_tensor(&[image.clone(), RgbImage::new(5, 4)], &preprocess).unwrap();
    assert_eq!((tensor.size(), tensor.kind(), tensor.device()), (vec![2, 3, 4, 5], Kind::Float, Device::Cpu));
    for (x, y, pixel) in image.enumerate_pixels() {
        for c in 0..3 {
            let expected = (f64::from(pixel.0[c]) / 255.0 - f64::from(mean[c])) / f64::from(std[c]);
            let value = tensor.double_value(&[0, c as i64, i64::from(y), i64::from(x)]);
            assert!((value - expected).abs() < 1e-5, "{value} for {expected}");
        }
    }
    assert!((tensor.double_value(&[1, 2, 0, 0]) + 0.4465 / 0.2010).abs() < 1e-5);
    let wrong = image_tensor(&[RgbImage::new(4, 5)], &preprocess);
    assert!(matches!(wrong, Err(Error::Shape { .. })));
}

#[test]
fn one_channel_is_the_luma() {
    let colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3], [17; 3]];
    let image = RgbImage::from_fn(5, 1, |x, _| Rgb(colors[x as usize]));
    let tensor = image_tensor(&[image], &Preprocess::new(1, 1, 5, vec![0.5], vec![0.5]).unwrap()).unwrap();
    assert_eq!(tensor.size(), [1, 1, 1, 5]);
    for (x, luma) in [76.0, 150.0, 29.0, 255.0, 17.0].into_iter().enumerate() {
        assert!((tensor.double_value(&[0, 0, 0, x as i64]) - (luma / 255.0 - 0.5) / 0.5).abs() < 1e-6);
    }
}

#[test]
fn a_probe_from_a_tensor_holds_its_pixels() {
    let bytes: Vec<u8> = (0..2 * 3 * 4 * 5).map(|v| (v * 2) as u8).collect();
    let tensor = Tensor::from_slice(&bytes).view([2, 3, 4, 5]);
    let labels = Labels::from_tensor(&Tensor::from_slice(&[1i64, 0]), ["a", "b"]).unwrap();
    let probe = Probe::from_tensor(&tensor, Some(labels), plain(4, 5)).unwrap();
    assert_eq!((probe.len(), probe.label(0), probe.name(1)), (2, Some(1), "image-1"));
    let back = (probe.tensor(0..2).unwrap() * 255.0).round().to_kind(Kind::Uint8);
    assert_eq!(back, tensor);
    for kind in [Kind::Float, Kind::Double] {
        let floats = tensor.to_kind(kind) / 255.0;
        assert_eq!(Probe::from_tensor(&floats, None, plain(4, 5)).unwrap().image(1), probe.image(1));
    }
    // Not contiguous, and one channel.
    let turned = tensor.transpose(2, 3);
    assert_eq!(
        Probe::from_tensor(&turned, None, plain(5, 4)).unwrap().image(0).get_pixel(1, 3),
        probe.image(0).get_pixel(3, 1)
    );
    let grey = Probe::from_tensor(&tensor.narrow(1, 1, 1), None, Preprocess::plain(1, 4, 5).unwrap()).unwrap();
    assert_eq!(grey.image(0).get_pixel(2, 1).0, [probe.image(0).get_pixel(2, 1).0[1]; 3]);
    let none = Tensor::zeros([0, 3, 4, 5], (Kind::Float, Device::Cpu));
    assert!(Probe::from_tensor(&none, None, plain(4, 5)).unwrap().is_empty());
}

#[test]
fn tensors_of_the_wrong_shape_kind_or_range_are_refused() {
    let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cpu));
    for size in [&[2, 3, 4, 6][..], &[2, 1, 4, 5], &[3, 4, 5], &[5], &[], &[1, 2, 3, 4, 5]] {
        let result = Probe::from_tensor(&zeros(size), None, plain(4, 5));
        assert!(matches!(&result, Err(Error::Shape { .. })), "{size:?}: {result:?}");
    }
    let ok = zeros(&[2, 3, 4, 5]);
    for bad in [&ok - 1.0, &ok + 200.0, &ok + f64::NAN, ok.to_kind(Kind::Int64), ok.to_kind(Kind::Bool)] {
        assert!(matches!(Probe::from_tensor(&bad, None, plain(4, 5)), Err(Error::Invalid { .. })));
    }
    let three = Labels::new(vec![0; 3], ["a"]).unwrap();
    assert!(matches!(Probe::from_tensor(&ok, Some(three), plain(4, 5)), Err(Error::Shape { .. })));
    let names = Some(vec!["x".to_string()]);
    assert!(matches!(Probe::from_images(vec![], names, None, plain(4, 5)), Err(Error::Shape { .. })));
}

#[test]
fn labels_without_a_class_are_refused() {
    assert!(failure(Labels::new(vec![0, 2], ["a", "b"])).contains("label of image 1: received 2"));
    let from = |t: &Tensor| Labels::from_tensor(t, ["a", "b"]);
    assert!(from(&Tensor::from_slice(&[0i32, 1])).is_ok());
    assert!(failure(from(&Tensor::from_slice(&[0i64, -1]))).contains("received -1"));
    assert!(matches!(from(&Tensor::from_slice(&[0.0f32])), Err(Error::Invalid { .. })));
    assert!(matches!(from(&Tensor::from_slice(&[0i64]).view([1, 1])), Err(Error::Shape { .. })));
}

// ---------------------------------------------------------------- drawn images

#[test]
fn drawn_images_are_deterministic_and_balanced() {
    let (one, eight) = pools(|| drawn(4, 32, 11).unwrap());
    assert_eq!(one.fingerprint(), eight.fingerprint());
    assert_ne!(one.fingerprint(), drawn(4, 32, 12).unwrap().fingerprint());
    assert_eq!((one.len(), one.classes().len()), (40, 10));
    assert!(one.classes().is_sorted());
    for class in 0..10 {
        assert_eq!((0..40).filter(|&i| one.label(i) == Some(class)).count(), 4);
    }
    let distinct: BTreeSet<&[u8]> = (0..40).map(|i| one.image(i).as_raw().as_slice()).collect();
    assert_eq!(distinct.len(), 40);
    // More images: the first ones stay.
    assert_eq!(drawn(5, 32, 11).unwrap().image(39), one.image(39));
    assert_eq!(drawn(1, 8, 0).unwrap().image(0).dimensions(), (8, 8));
    for (n, size) in [(0, 32), (1, 7), (1, 4097), (1, 0)] {
        assert!(matches!(drawn(n, size, 0), Err(Error::Invalid { .. })));
    }
}

#[test]
fn the_mean_color_of_drawn_images_does_not_tell_the_class() {
    let probe = drawn(40, 16, 2).unwrap();
    let means = probe.tensor(0..400).unwrap().mean_dim(&[2i64, 3][..], false, Kind::Float);
    let overall = means.std(true).double_value(&[]);
    for class in 0..10 {
        let members: Vec<i64> = (0..400).filter(|&i| probe.label(i) == Some(class)).map(|i| i as i64).collect();
        let mean = means.index_select(0, &Tensor::from_slice(&members)).mean_dim(0, false, Kind::Float);
        let off = mean - means.mean_dim(0, false, Kind::Float);
        let most = off.abs().max().double_value(&[]);
        // Four and a half standard errors of a mean of forty.
        assert!(most < overall * 4.5 / 40f64.sqrt(), "class {class} is {most} off, images vary by {overall}");
    }
}

// ---------------------------------------------------------------- paint

const NAMES: [&str; 25] = [
    "text",
    "red",
    "green",
    "blue",
    "yellow",
    "cyan",
    "magenta",
    "white",
    "black",
    "horizontal-stripes",
    "vertical-stripes",
    "diagonal-stripes",
    "dots",
    "checks",
    "horizontal-edge",
    "vertical-edge",
    "border",
    "disc",
    "square",
    "triangle",
    "cross",
    "blur",
    "noise",
    "bright",
    "dark",
];

fn photograph(width: u32, height: u32) -> RgbImage {
    let drawn = drawn(1, 64, 21).unwrap();
    resize(drawn.image(4), height as usize, width as usize, Fit::Squash).unwrap()
}

#[test]
fn the_bank_has_exactly_its_concepts() {
    let names: Vec<String> = bank().iter().map(|c| c.name().to_string()).collect();
    assert_eq!(names, NAMES);
    for concept in bank() {
        assert!(!concept.description().is_empty() && !concept.words().is_empty(), "{concept:?}");
    }
    let families: BTreeSet<String> = bank().iter().map(|c| c.family().to_string()).collect();
    let expected = ["border", "color", "edge", "quality", "shape", "stripes", "text", "texture"];
    assert_eq!(families.iter().collect::<Vec<_>>(), expected);
    assert!(controls().len() >= 3);
    assert!(controls().iter().all(|c| c.family() == "control" && !NAMES.contains(&c.name())));
}

#[test]
fn paint_changes_pixels_only_inside_its_region() {
    for (width, height) in [(8, 8), (32, 32), (97, 64), (64, 97), (224, 224)] {
        let image = photograph(width, height);
        let seeds = if width == 224 { 3 } else { 12 };
        for concept in bank().into_iter().chain(controls()) {
            let (mut areas, mut changed) = (0, 0);
            for seed in 0..seeds {
                let Painted { image: painted, region } = concept.paint(&image, seed);
                let name = format!("{} on {width}x{height}, seed {seed}", concept.name());
                assert!(region.area() > 0, "{name}: empty region");
                assert_eq!(painted.dimensions(), (width, height), "{name}");
                for (x, y, pixel) in painted.enumerate_pixels() {
                    if pixel != image.get_pixel(x, y) {
                        changed += 1;
                        assert!(region.contains(y as usize, x as usize), "{name}: changed outside at {x}, {y}");
                    }
                }
                areas += region.area();
            }
            // Outlined shapes and text leave part of their region as it is.
            assert!(changed * 12 > areas, "{}: {changed} of {areas} pixels change", concept.name());
        }
    }
}

#[test]
fn paint_depends_on_image_and_seed_alone() {
    let image = photograph(32, 32);
    for (a, b) in bank().into_iter().chain(controls()).zip(bank().into_iter().chain(controls())) {
        let (first, again) = (a.paint(&image, 5), b.paint(&image, 5));
        assert!(first.image == again.image && first.region == again.region, "{}", a.name());
        let distinct: BTreeSet<Vec<u8>> = (0..20).map(|seed| a.paint(&image, seed).image.into_raw()).collect();
        assert!(distinct.len() > 15, "{}: {} different paints of 20", a.name(), distinct.len());
    }
}

#[test]
fn the_smallest_images_can_be_painted() {
    for (width, height) in [(0, 0), (1, 1), (1, 9), (3, 2), (5, 40), (300, 1)] {
        let image = RgbImage::from_pixel(width, height, Rgb([90, 120, 30]));
        for concept in bank().into_iter().chain(controls()) {
            for seed in 0..4 {
                let painted = concept.paint(&image, seed);
                assert_eq!(painted.region.area() > 0, width * height > 0, "{} on {width}x{height}", concept.name());
            }
        }
    }
}

#[test]
fn color_patches_have_their_color() {
    let image = RgbImage::from_pixel(64, 64, Rgb([128; 3]));
    for (name, high, low) in [
        ("red", &[0][..], &[1, 2][..]),
        ("green", &[1], &[0, 2]),
        ("blue", &[2], &[0, 1]),
        ("yellow", &[0, 1], &[2]),
        ("cyan", &[1, 2], &[0]),
        ("magenta", &[0, 2], &[1]),
        ("white", &[0, 1, 2], &[]),
        ("black", &[], &[0, 1, 2]),
    ] {
        let concept = bank().into_iter().find(|c| c.name() == name).unwrap();
        for seed in 0..30 {
            let painted = concept.paint(&image, seed);
            let inside =
                painted.image.enumerate_pixels().find(|(x, y, _)| painted.region.contains(*y as usize, *x as usize));
            let pixel = inside.unwrap().2.0;
            let lowest = high.iter().map(|&c| pixel[c]).min().unwrap_or(255);
            let highest = low.iter().map(|&c| pixel[c]).max().unwrap_or(0);
            assert!(lowest >= highest.saturating_add(60), "{name}: {pixel:?}");
        }
    }
}

#[test]
fn stripes_run_the_way_their_name_says() {
    let image = RgbImage::from_pixel(64, 64, Rgb([128; 3]));
    let steps = |name: &str, dx: u32, dy: u32| {
        let concept = bank().into_iter().find(|c| c.name() == name).unwrap();
        let mut count = 0;
        for seed in 0..20 {
            let Painted { image, region } = concept.paint(&image, seed);
            let inside = |x: u32, y: u32| region.contains(y as usize, x as usize);
            for (x, y) in (0..63).flat_map(|y| (0..63).map(move |x| (x, y))) {
                let there = inside(x, y) && inside(x + dx, y + dy);
                count += usize::from(there && image.get_pixel(x, y) != image.get_pixel(x + dx, y + dy));
            }
        }
        count
    };
    assert!(steps("horizontal-stripes", 1, 0) == 0 && steps("horizontal-stripes", 0, 1) > 1000);
    assert!(steps("vertical-stripes", 0, 1) == 0 && steps("vertical-stripes", 1, 0) > 1000);
    assert!(steps("diagonal-stripes", 0, 1) > 1000 && steps("diagonal-stripes", 1, 0) > 1000);
}

#[test]
fn dots_of_one_paint_do_not_run_together() {
    let image = RgbImage::from_pixel(32, 32, Rgb([128; 3]));
    let concept = bank().into_iter().find(|c| c.name() == "dots").unwrap();
    for seed in 0..60 {
        let Painted { image, region } = concept.paint(&image, seed);
        // No dot is as long as a period: a run of one colour of 8 pixels and more would be the ground's alone.
        let runs = |color: Rgb<u8>| {
            (0..32u32)
                .map(|y| {
                    let row: Vec<bool> = (0..32)
                        .map(|x| region.contains(y as usize, x as usize) && *image.get_pixel(x, y) == color)
                        .collect();
                    row.split(|inside| !inside).map(<[bool]>::len).max().unwrap_or(0)
                })
                .max()
                .unwrap_or(0)
        };
        let colors: BTreeSet<[u8; 3]> = image
            .enumerate_pixels()
            .filter(|(x, y, _)| region.contains(*y as usize, *x as usize))
            .map(|(_, _, p)| p.0)
            .collect();
        let shortest = colors.iter().map(|&c| runs(Rgb(c))).min().unwrap();
        assert!(colors.len() == 2 && shortest <= 6, "seed {seed}: {} colours, {shortest}", colors.len());
    }
}

#[test]
fn a_concept_of_ones_own_takes_its_randomness_from_the_seed() {
    let own = Concept::new("speck", "mark", "a speck", |image, rng| {
        let (x, y) = (rng.u32(0..image.width()), rng.u32(0..image.height()));
        let mut image = image.clone();
        image.put_pixel(x, y, Rgb([1, 2, 3]));
        let (h, w) = (image.height() as usize, image.width() as usize);
        let region = tch_audit::Region::from_fn(h, w, |v, u| (u as u32, v as u32) == (x, y));
        Painted { image, region }
    })
    .with_words(["speck", "spot"]);
    assert_eq!((own.name(), own.family(), own.words()), ("speck", "mark", &["speck".to_string(), "spot".into()][..]));
    let image = photograph(32, 32);
    assert_eq!(own.paint(&image, 1).region, own.clone().paint(&image, 1).region);
    assert_ne!(own.paint(&image, 1).region, own.paint(&image, 2).region);
}

// ---------------------------------------------------------------- text

/// The smallest box around a region: left, top, width, height.
fn extent(painted: &Painted) -> (usize, usize, usize, usize) {
    let r = &painted.region;
    let inside =
        || (0..r.height()).flat_map(|y| (0..r.width()).map(move |x| (x, y))).filter(|&(x, y)| r.contains(y, x));
    let (left, right) = (inside().map(|p| p.0).min().unwrap(), inside().map(|p| p.0).max().unwrap());
    let (top, bottom) = (inside().map(|p| p.1).min().unwrap(), inside().map(|p| p.1).max().unwrap());
    (left, top, right - left + 1, bottom - top + 1)
}

#[test]
fn a_stamp_stands_where_it_should() {
    let image = RgbImage::from_pixel(64, 48, Rgb([100; 3]));
    let style = |place| {
        with(TextStyle::default(), |o| {
            o.size = TextSize::Smallest;
            o.plate = None;
            o.place = place;
        })
    };
    // Four letters of 4 x 6 pixels.
    for (place, at) in [
        (Place::TopLeft, (0, 0)),
        (Place::Top, (24, 0)),
        (Place::TopRight, (48, 0)),
        (Place::Left, (0, 21)),
        (Place::Center, (24, 21)),
        (Place::Right, (48, 21)),
        (Place::BottomLeft, (0, 42)),
        (Place::Bottom, (24, 42)),
        (Place::BottomRight, (48, 42)),
        (Place::At { x: 7, y: 9 }, (7, 9)),
    ] {
        let painted = text_stamp(&image, "star", &style(place));
        assert_eq!(extent(&painted), (at.0, at.1, 16, 6), "{place:?}");
        let inked = painted.image.pixels().filter(|p| p.0 == [255; 3]).count();
        assert!((15..80).contains(&inked), "{inked} pixels of ink");
    }
    let plate = with(style(Place::Center), |o| o.plate = Some([9; 3]));
    let painted = text_stamp(&image, "star", &plate);
    assert_eq!(extent(&painted), (23, 20, 18, 8), "the plate is one pixel larger on each side");
    assert_eq!(painted.image.get_pixel(23, 20).0, [9; 3]);
}

#[test]
fn a_stamp_wraps_at_spaces_and_within_long_words() {
    let image = RgbImage::from_pixel(32, 32, Rgb([100; 3]));
    let style = with(TextStyle::default(), |o| {
        o.size = TextSize::Smallest;
        o.plate = None;
        o.place = Place::TopLeft;
    });
    assert_eq!(extent(&text_stamp(&image, "a red", &style)), (0, 0, 20, 6));
    assert_eq!(extent(&text_stamp(&image, "one two three", &style)), (0, 0, 28, 12));
    assert_eq!(extent(&text_stamp(&image, "incomprehensible", &style)), (0, 0, 32, 12));
    let at = with(style, |o| o.place = Place::At { x: 20, y: 0 });
    assert_eq!(extent(&text_stamp(&image, "abcdef", &at)), (20, 0, 12, 12), "wrapped at the rim");
}

#[test]
fn a_stamp_that_does_not_fit_is_clipped() {
    let image = photograph(16, 16);
    let far = [i32::MIN, -1_000_000, 1_000_000, i32::MAX];
    for plate in [None, Some([0; 3])] {
        let style = |place, size| {
            with(TextStyle::default(), |o| {
                o.size = size;
                o.plate = plate;
                o.place = place;
            })
        };
        let long = "many words that can never fit on so small an image ".repeat(40);
        let painted = text_stamp(&image, &long, &style(Place::TopLeft, TextSize::Pixels(u32::MAX)));
        let (.., width, height) = extent(&painted);
        assert!(width <= 16 && height == 16);
        for (x, y) in far.into_iter().flat_map(|x| far.map(|y| (x, y))) {
            let painted = text_stamp(&image, "text", &style(Place::At { x, y }, TextSize::Smallest));
            assert!(painted.region.area() == 0 && painted.image == image);
        }
        let partly = text_stamp(&image, "text", &style(Place::At { x: -6, y: -2 }, TextSize::Smallest));
        assert!(partly.region.contains(0, 0) && partly.region.area() < 16 * 16);
        for blank in ["", " \n\t "] {
            let painted = text_stamp(&image, blank, &style(Place::Bottom, TextSize::Smallest));
            assert!(painted.region.area() == 0 && painted.image == image, "a blank text leaves no plate");
        }
        for fraction in [0.0, 1.0, 50.0, -1.0, f32::NAN, f32::INFINITY] {
            let painted = text_stamp(&image, "né", &style(Place::Center, TextSize::Fraction(fraction)));
            assert!(painted.region.area() > 0);
        }
        let none = text_stamp(&RgbImage::new(0, 0), "text", &style(Place::Top, TextSize::Smallest));
        assert_eq!(none.region.area(), 0);
    }
}

#[test]
fn a_stamp_changes_pixels_only_inside_its_region() {
    let image = photograph(97, 64);
    for (size, plate) in
        [(TextSize::Smallest, None), (TextSize::Fraction(0.3), Some([1, 2, 3])), (TextSize::Pixels(20), None)]
    {
        for place in [Place::TopLeft, Place::Center, Place::BottomRight, Place::At { x: 80, y: 50 }] {
            let Painted { image: painted, region } = text_stamp(
                &image,
                "automobile truck",
                &with(TextStyle::default(), |o| {
                    o.size = size;
                    o.plate = plate;
                    o.place = place;
                }),
            );
            let outside = |x: u32, y: u32| !region.contains(y as usize, x as usize);
            assert!(painted.enumerate_pixels().all(|(x, y, p)| p == image.get_pixel(x, y) || !outside(x, y)));
        }
    }
}

#[test]
fn the_largest_face_that_keeps_words_whole_is_taken() {
    let image = RgbImage::from_pixel(224, 224, Rgb([100; 3]));
    let style = |size| {
        with(TextStyle::default(), |o| {
            o.size = size;
            o.plate = None;
            o.place = Place::TopLeft;
        })
    };
    let big = extent(&text_stamp(&image, "cat", &style(TextSize::Fraction(0.2))));
    assert!((36..=44).contains(&big.3), "{big:?}");
    let long = extent(&text_stamp(&image, "incomprehensibilities", &style(TextSize::Pixels(100))));
    assert!(long.2 <= 224 && long.3 < 100, "one line, in a smaller font: {long:?}");
    assert_eq!(long.3, 20);
}

#[test]
fn a_generator_is_shown_latent_vectors_and_looked_at_by_its_images() {
    use tch::nn::{self, Module};
    let vs = nn::VarStore::new(Device::Cpu);
    let make = nn::linear(vs.root() / "make", 4, 3 * 4 * 4, Default::default());
    let paint = nn::conv2d(vs.root() / "paint", 3, 3, 1, Default::default());
    let net = nn::func(move |z: &Tensor| paint.forward(&make.forward(z).view([-1, 3, 4, 4]).relu()).tanh());
    let model = tch_audit::Model::new(&vs, &net);
    let z = Tensor::randn([40, 4], (Kind::Float, Device::Cpu));
    let probe = Probe::generated(&model, &z).unwrap();
    assert_eq!((probe.len(), probe.image(0).dimensions()), (40, (4, 4)));
    assert_eq!(probe.tensor(3..7).unwrap(), z.narrow(0, 3, 4), "the model is shown its inputs");
    assert_eq!(
        probe.select(&[5, 2]).unwrap().tensor(0..2).unwrap(),
        z.index_select(0, &Tensor::from_slice(&[5i64, 2]))
    );
    let pixel = probe.image(9).get_pixel(2, 1).0[0];
    let output = tch::no_grad(|| net.forward(&z)).double_value(&[9, 0, 1, 2]);
    assert_eq!(f64::from(pixel), ((output + 1.0) / 2.0 * 255.0).round(), "-1 to 1 becomes 0 to 255");

    // Exemplars: the images of the inputs that excite a unit most, found by hand.
    let graph = tch_audit::Traced::new(&model, &z.narrow(0, 0, 2)).unwrap();
    let sites = graph.select(&["make"]).unwrap();
    let options = with(tch_audit::exemplars::Options::default(), |o| o.k = 3);
    let exemplars = tch_audit::exemplars::Exemplars::compute(&graph, &sites, &probe, &options).unwrap();
    let weights = vs.variables()["make.weight"].get(7);
    let activation = z.matmul(&weights) + vs.variables()["make.bias"].get(7);
    let best = activation.argmax(0, false).int64_value(&[]);
    assert_eq!(exemplars.units[7].top[0].image as i64, best);

    let changed = Changed::new(&probe, "same", |_, image: &RgbImage| image.clone());
    assert_eq!(changed.image(9).unwrap().as_ref(), probe.image(9), "it can be looked at");
    let mut same = false;
    changed
        .read(&[9], 1, Want::Pixels, &mut |batch| {
            same = batch.pixels[0].as_ref() == probe.image(9);
            Ok(())
        })
        .unwrap();
    assert!(same);
    let text = PaintedImages::new(Selected::new(&probe, vec![1, 2]).unwrap(), bank().remove(0), 1);
    let chosen = Selected::new(&changed, vec![1, 2]).unwrap();
    for made in [&changed as &dyn Images, &text, &chosen] {
        let error = made.read(&[1], 1, Want::Inputs, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("nothing can be painted onto its inputs"), "{error}");
        assert!(!made.are_inputs());
    }
    assert_eq!(example(&probe, 3).unwrap(), z.narrow(0, 0, 3), "an example are its inputs");
    let some = Selected::new(&probe, vec![5, 2]).unwrap();
    assert_eq!(example(&some, 2).unwrap(), z.index_select(0, &Tensor::from_slice(&[5i64, 2])));
    assert!(Probe::of(&probe, &[0]).is_err());
    let painted = probe.map(|_, image| image.clone());
    let error = painted.tensor(0..1).unwrap_err().to_string();
    assert!(error.contains("nothing can be painted onto its inputs"), "{error}");
    let classifier = nn::func(|x: &Tensor| x.mean_dim(1, false, Kind::Float));
    let error = Probe::generated(&tch_audit::Model::new(&vs, &classifier), &z).unwrap_err().to_string();
    assert!(error.contains("the output of a generator"), "{error}");
}
