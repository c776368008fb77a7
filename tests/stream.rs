//! Image folders that are read while a model runs: the same images as when they are loaded, damaged files, errors and
//! panics, threads, and thousands of photographs.

mod common;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};
use tch::{Kind, Tensor};
use tch_audit::{
    Error,
    probe::{
        Batch, Changed, Corrupt, Digest, Fit, ImageFolder, ImageStream, Images, Labels, PaintedImages, Preprocess,
        Probe, Selected, Skipped, Want, example, labels, paint, split,
    },
};

// ---------------------------------------------------------------- helpers

fn preprocess(channels: usize, height: usize, width: usize) -> Preprocess {
    let mean = vec![0.4914, 0.4822, 0.4465][..channels].to_vec();
    Preprocess::new(channels, height, width, mean, vec![0.2023; channels]).unwrap()
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

fn open(root: &Path, size: usize) -> ImageFolder {
    ImageFolder::open(root).preprocess(preprocess(3, size, size))
}

fn skipping(root: &Path, size: usize) -> ImageStream {
    open(root, size).corrupt(Corrupt::Skip).stream().unwrap()
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

fn gradient(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 255 / width.max(2)) as u8, (y * 255 / height.max(2)) as u8, ((x * 7 + y * 3 + seed * 5) % 256) as u8])
    })
}

/// Small PNG files of one colour each.
fn solids(root: &Path, n: u8) -> Vec<PathBuf> {
    let image = |i: u8| png(RgbImage::from_pixel(8, 8, Rgb([i, 100, 200 - i])));
    (0..n).map(|i| put(root, &format!("{i:03}.png"), image(i))).collect()
}

/// Images of many shapes and both formats, in two classes.
fn mixed(root: &Path) {
    for i in 0..17u32 {
        let image = gradient(9 + 13 * i, 200 - 11 * i, i);
        match i % 4 {
            0 => put(root, &format!("a/{i:02}.png"), png(image)),
            1 => put(root, &format!("b/deep/{i:02}.jpg"), jpeg(image)),
            2 => put(root, &format!("b/{i:02}.png"), png(DynamicImage::ImageRgb8(image).to_luma_alpha16())),
            _ => put(root, &format!("a/{i:02}.jpeg"), jpeg(DynamicImage::ImageRgb8(image).to_luma8())),
        };
    }
}

fn upto(n: usize) -> Vec<usize> {
    (0..n).collect()
}

/// What remains of a batch once its tensor is gone.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    asked: usize,
    numbers: Vec<usize>,
    size: Vec<i64>,
    bits: Vec<u32>,
    pixels: Vec<RgbImage>,
    digest: Digest,
    skipped: Vec<Skipped>,
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    assert_eq!(tensor.kind(), Kind::Float);
    Vec::<f32>::try_from(&tensor.view(-1)).unwrap().into_iter().map(f32::to_bits).collect()
}

fn seen(batch: Batch) -> Seen {
    let Batch { asked, numbers, input, pixels, regions, digest, skipped } = batch;
    assert!(regions.is_empty());
    let pixels = pixels.iter().map(|image| image.as_ref().clone()).collect();
    match input.defined() {
        true => Seen { asked, numbers, size: input.size(), bits: bits(&input), pixels, digest, skipped },
        false => Seen { asked, numbers, size: vec![], bits: vec![], pixels, digest, skipped },
    }
}

fn read(images: &dyn Images, numbers: &[usize], batch: usize, want: Want) -> tch_audit::Result<Vec<Seen>> {
    let mut out = Vec::new();
    let caller = std::thread::current().id();
    images.read(numbers, batch, want, &mut |batch| {
        assert_eq!(std::thread::current().id(), caller);
        out.push(seen(batch));
        Ok(())
    })?;
    Ok(out)
}

fn all(images: &dyn Images, numbers: &[usize], batch: usize) -> tch_audit::Result<Vec<Seen>> {
    read(images, numbers, batch, Want::Inputs)
}

/// The inputs of the images with these numbers, one after the other.
fn inputs(probe: &Probe, numbers: &[usize]) -> Vec<u32> {
    numbers.iter().flat_map(|&i| bits(&probe.tensor(i..i + 1).unwrap())).collect()
}

/// Fails instead of waiting for ever.
fn within<T: Send + 'static>(seconds: u64, f: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(f()));
    receiver.recv_timeout(Duration::from_secs(seconds)).expect("finished in time")
}

fn sum(batches: &[Seen]) -> Digest {
    batches.iter().fold(Digest::default(), |sum, b| sum.and(b.digest))
}

/// A PNG file whose header says what is wanted, whatever its data.
fn lying_png(width: u32, height: u32) -> Vec<u8> {
    let mut out = png(RgbImage::from_pixel(4, 4, Rgb([9; 3])));
    out[16..20].copy_from_slice(&width.to_be_bytes());
    out[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = !out[12..29].iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    });
    out[29..33].copy_from_slice(&crc.to_be_bytes());
    out
}

/// Names, contents, and a part of the reason.
fn damaged() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (whole_jpeg, whole_png) = (jpeg(gradient(64, 48, 1)), png(gradient(64, 48, 1)));
    let cut = |bytes: &[u8], eighths: usize| bytes[..bytes.len() * eighths / 8].to_vec();
    let changed = |at: usize| {
        let mut bytes = whole_png.clone();
        bytes[at] ^= 0x55;
        bytes
    };
    let mut huge_jpeg = whole_jpeg.clone();
    let frame = huge_jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    huge_jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    vec![
        ("cut-1.jpg", cut(&whole_jpeg, 1), "end too early"),
        ("cut-4.jpg", cut(&whole_jpeg, 4), "end too early"),
        ("cut-7.jpeg", cut(&whole_jpeg, 7), "end too early"),
        ("cut-end.jpg", whole_jpeg[..whole_jpeg.len() - 2].to_vec(), "end too early"),
        ("cut-header.jpg", whole_jpeg[..20].to_vec(), "end too early"),
        ("signature.jpg", whole_jpeg[..3].to_vec(), "end too early"),
        ("huge.jpg", huge_jpeg, ""),
        ("cut-1.png", cut(&whole_png, 1), ""),
        ("cut-4.png", cut(&whole_png, 4), ""),
        ("cut-7.png", cut(&whole_png, 7), ""),
        ("cut-header.png", whole_png[..20].to_vec(), ""),
        ("signature.png", whole_png[..8].to_vec(), ""),
        ("changed-header.png", changed(18), ""),
        ("changed-data.png", changed(whole_png.len() / 2), ""),
        ("empty.png", vec![], "the file is empty"),
        ("empty.jpg", vec![], "the file is empty"),
        ("text.png", b"this is no image\n".to_vec(), "is not JPEG, PNG"),
        ("text.jpg", b"nor is this\n".to_vec(), "is not JPEG, PNG"),
        ("heic.png", b"\0\0\0\x18ftypheic".to_vec(), "its content is heic, which is not read"),
        ("gif.png", b"GIF89a\x01\0\x01\0\0\0\0".to_vec(), ""),
        ("lying-tall.png", lying_png(4, 5000), ""),
        ("lying-huge.png", lying_png(30_000, 30_000), ""),
        ("lying-absurd.png", lying_png(u32::MAX, 7), ""),
        ("lying-none.png", lying_png(0, 4), ""),
    ]
}

// ---------------------------------------------------------------- the same as loading

#[test]
fn a_stream_shows_the_bytes_that_loading_shows() {
    let root = folder();
    mixed(root.path());
    for (channels, height, width) in [(3, 32, 32), (1, 20, 48), (3, 9, 200)] {
        for fit in [Fit::Squash, Fit::CenterCrop] {
            let open = ImageFolder::open(root.path()).preprocess(preprocess(channels, height, width)).fit(fit);
            let (probe, stream) = (open.load().unwrap(), open.stream().unwrap());
            assert_eq!((stream.len(), stream.is_empty(), stream.classes()), (17, false, probe.classes()));
            for batch_size in [1, 5, 17, 64] {
                let batches = all(&stream, &upto(17), batch_size).unwrap();
                assert_eq!(batches.len(), 17_usize.div_ceil(batch_size));
                for (batch, numbers) in batches.iter().zip(upto(17).chunks(batch_size)) {
                    let n = numbers.len();
                    assert_eq!((batch.asked, batch.numbers.as_slice()), (n, numbers));
                    assert_eq!(batch.size, [n as i64, channels as i64, height as i64, width as i64]);
                    let range = numbers[0]..numbers[0] + n;
                    assert!(batch.bits == bits(&probe.tensor(range.clone()).unwrap()), "{range:?}");
                    assert!(batch.skipped.is_empty());
                }
                assert_eq!(sum(&batches), stream.digest(&upto(17)).unwrap());
            }
            for i in 0..17 {
                assert_eq!(Images::name(&stream, i), Probe::name(&probe, i));
                assert_eq!(Images::label(&stream, i), Probe::label(&probe, i));
                assert_eq!(stream.image(i).unwrap().as_ref(), Probe::image(&probe, i));
                assert_eq!(stream.path(i), root.path().join(Probe::name(&probe, i)));
            }
            assert_eq!(Images::preprocess(&stream), Probe::preprocess(&probe));
        }
    }
}

#[test]
fn files_are_those_that_loading_finds() {
    let root = folder();
    assert!(matches!(open(root.path(), 8).stream(), Err(Error::Invalid { .. })), "an empty folder");
    assert!(matches!(open(&root.path().join("none"), 8).stream(), Err(Error::Io { action: "list", .. })));
    mixed(root.path());
    put(root.path(), "a/.hidden.png", "");
    put(root.path(), "a/notes.txt", "no image");
    fs::create_dir(root.path().join("a/folder.png")).unwrap();
    assert!(matches!(ImageFolder::open(root.path()).stream(), Err(Error::Invalid { .. })), "no preprocessing");
    assert!(open(root.path(), 8).limit_per_class(0).stream().is_err());
    let limited = open(root.path(), 8).limit_per_class(3);
    let (probe, stream) = (limited.load().unwrap(), limited.stream().unwrap());
    assert_eq!(stream.len(), 6);
    let described =
        |source: &dyn Images| (0..6).map(|i| (source.name(i).into_owned(), source.label(i))).collect::<Vec<_>>();
    assert_eq!(described(&stream), described(&probe));
    assert_eq!(Images::label(&stream, 3), Some(1));
    put(root.path(), "beside.png", png(gradient(8, 8, 0)));
    assert!(open(root.path(), 8).stream().unwrap_err().to_string().contains("either in it or in a sub-folder"));
}

#[test]
fn one_image_and_no_labels() {
    let root = folder();
    put(root.path(), "only.png", png(gradient(8, 8, 3)));
    fs::create_dir(root.path().join("x.png")).unwrap();
    let stream = open(root.path(), 8).stream().unwrap();
    assert_eq!((stream.len(), stream.classes().len(), Images::label(&stream, 0)), (1, 0, None));
    assert_eq!(stream.image(0).unwrap().as_ref(), &gradient(8, 8, 3), "the right size is not resampled");
    let batches = all(&stream, &[0], 64).unwrap();
    assert_eq!((batches.len(), batches[0].size.as_slice()), (1, &[1, 3, 8, 8][..]));
    assert!(matches!(stream.image(1), Err(Error::Invalid { .. })));
    assert!(matches!(stream.image(usize::MAX), Err(Error::Invalid { .. })));
}

#[cfg(unix)]
#[test]
fn names_that_are_not_unicode_are_read() {
    use std::os::unix::ffi::OsStrExt;
    let root = folder();
    let odd = root.path().join(std::ffi::OsStr::from_bytes(b"b\xff.png"));
    solids(root.path(), 1);
    // Some file systems have no such names.
    let Ok(()) = fs::write(&odd, png(gradient(8, 8, 7))) else { return };
    let stream = open(root.path(), 8).stream().unwrap();
    assert_eq!((Images::name(&stream, 1).as_ref(), stream.path(1)), ("b\u{fffd}.png", odd));
    assert_eq!(stream.image(1).unwrap().as_ref(), &gradient(8, 8, 7));
    assert_eq!(all(&stream, &[0, 1], 2).unwrap()[0].numbers, [0, 1]);
}

#[test]
fn any_numbers_in_any_order_are_read_as_inputs_and_as_pixels() {
    let root = folder();
    mixed(root.path());
    let (stream, probe) = (open(root.path(), 12).stream().unwrap(), open(root.path(), 12).load().unwrap());
    let descending: Vec<usize> = (0..17).rev().collect();
    for numbers in [&[3, 4][..], &[5, 5, 5], &[0, 16, 0, 7, 7, 1, 16], &descending, &[4], &[]] {
        for images in [&stream as &dyn Images, &probe] {
            for batch_size in [1, 2, 3, 100] {
                for want in [Want::Inputs, Want::Pixels, Want::Both] {
                    let batches = read(images, numbers, batch_size, want).unwrap();
                    assert_eq!(batches.len(), numbers.len().div_ceil(batch_size));
                    for (batch, numbers) in batches.iter().zip(numbers.chunks(batch_size)) {
                        assert_eq!((batch.asked, batch.numbers.as_slice()), (numbers.len(), numbers));
                        if want.inputs() {
                            assert_eq!(batch.size, [numbers.len() as i64, 3, 12, 12]);
                            assert!(batch.bits == inputs(&probe, numbers), "{numbers:?}");
                        } else {
                            assert!(batch.size.is_empty(), "no input was wanted");
                        }
                        let wanted = numbers.iter().filter(|_| want.pixels());
                        assert!(batch.pixels.iter().eq(wanted.map(|i| probe.image(*i))), "{numbers:?}");
                        for (number, pixels) in batch.numbers.iter().zip(&batch.pixels) {
                            assert_eq!(images.image(*number).unwrap().as_ref(), pixels);
                        }
                    }
                    assert_eq!(sum(&batches), images.digest(numbers).unwrap());
                }
            }
        }
    }
}

#[test]
fn numbers_that_are_not_there_and_batches_of_none_are_refused_before_anything_is_read() {
    let root = folder();
    solids(root.path(), 9);
    let (stream, probe) = (open(root.path(), 8).stream().unwrap(), open(root.path(), 8).load().unwrap());
    for images in [&stream as &dyn Images, &probe] {
        for (numbers, batch) in [(&[0, 9][..], 1), (&[0, usize::MAX], 2), (&[10], 1), (&[0], 0)] {
            let mut calls = 0;
            let result = images.read(numbers, batch, Want::Inputs, &mut |_| {
                calls += 1;
                Ok(())
            });
            assert!(matches!(result, Err(Error::Invalid { .. })), "{numbers:?} {batch}");
            assert_eq!(calls, 0, "{numbers:?} {batch}");
            assert!(batch == 0 || matches!(images.digest(numbers), Err(Error::Invalid { .. })));
        }
    }
}

// ---------------------------------------------------------------- damaged files

#[test]
fn damaged_files_keep_their_numbers_and_are_named_with_a_reason() {
    let root = folder();
    let mut expected = BTreeMap::new();
    for (name, bytes, reason) in damaged() {
        expected.insert(put(root.path(), name, bytes), reason);
    }
    for i in 0..30 {
        put(root.path(), &format!("c{i:02}-good.png"), png(gradient(20 + i, 30, i)));
    }
    let load = open(root.path(), 16).corrupt(Corrupt::Skip).load().unwrap();
    let stream = skipping(root.path(), 16);
    assert_eq!(stream.len(), expected.len() + 30);
    for batch_size in [1, 4, 7, 100] {
        let batches = all(&stream, &upto(stream.len()), batch_size).unwrap();
        let skipped: Vec<Skipped> = batches.iter().flat_map(|b| b.skipped.clone()).collect();
        assert_eq!(skipped, load.skipped());
        for (file, (path, reason)) in skipped.iter().zip(&expected) {
            assert_eq!(&file.path, path);
            assert!(!file.reason.is_empty() && file.reason.contains(reason), "{file:?}");
        }
        let numbers: Vec<usize> = batches.iter().flat_map(|b| b.numbers.clone()).collect();
        assert!(numbers.is_sorted());
        let names: Vec<_> = numbers.iter().map(|&i| Images::name(&stream, i)).collect();
        assert!(names.iter().zip(0..).all(|(name, i)| name == Probe::name(&load, i)));
        let values: Vec<u32> = batches.iter().flat_map(|b| b.bits.clone()).collect();
        assert!(values == bits(&load.tensor(0..30).unwrap()), "batches of {batch_size}");
        for batch in &batches {
            assert_eq!(batch.size, [batch.numbers.len() as i64, 3, 16, 16]);
            assert_eq!(batch.numbers.len() + batch.skipped.len(), batch.asked);
        }
        assert_eq!(batches.iter().any(|b| b.size[0] == 0), batch_size < 100, "some batches hold damaged files only");
        assert_eq!(sum(&batches), stream.digest(&upto(stream.len())).unwrap());
    }
}

#[test]
fn unreadable_numbers_in_between_are_missing_wherever_they_are_asked_for() {
    let root = folder();
    let paths = solids(root.path(), 9);
    let (bad, gone) = (2, 6);
    let stream = skipping(root.path(), 8);
    fs::write(&paths[bad], "bad").unwrap();
    fs::remove_file(&paths[gone]).unwrap();
    let numbers = [8, bad, 0, bad, gone, 5, 5, bad, 8, 8];
    for want in [Want::Inputs, Want::Pixels, Want::Both] {
        let batches = read(&stream, &numbers, 4, want).unwrap();
        let shown: Vec<&[usize]> = batches.iter().map(|b| b.numbers.as_slice()).collect();
        assert_eq!(shown, [&[8, 0][..], &[5, 5], &[8, 8]]);
        let skipped: Vec<Vec<&Path>> =
            batches.iter().map(|b| b.skipped.iter().map(|s| s.path.as_path()).collect()).collect();
        let (bad, gone) = (paths[bad].as_path(), paths[gone].as_path());
        assert_eq!(skipped, [vec![bad, bad], vec![gone, bad], vec![]]);
        assert_eq!(batches.iter().map(|b| b.asked).collect::<Vec<_>>(), [4, 4, 2]);
        for batch in &batches {
            let images: Vec<RgbImage> = batch.numbers.iter().map(|i| stream.image(*i).unwrap().into_owned()).collect();
            assert!(!want.pixels() || batch.pixels == images);
            let expected = tch_audit::probe::image_tensor(&images, Images::preprocess(&stream)).unwrap();
            assert!(!want.inputs() || batch.bits == bits(&expected));
        }
        assert_eq!(sum(&batches), stream.digest(&numbers).unwrap());
    }
}

#[test]
fn a_folder_of_damaged_files_alone_is_empty_batches() {
    let root = folder();
    let files = damaged();
    for (name, bytes, _) in &files {
        put(root.path(), name, bytes);
    }
    let batches = all(&skipping(root.path(), 8), &upto(files.len()), 5).unwrap();
    assert!(batches.iter().all(|b| b.size == [0, 3, 8, 8] && b.numbers.is_empty() && b.skipped.len() == b.asked));
}

#[test]
fn the_first_damaged_file_is_the_error_after_the_batches_before_it() {
    let root = folder();
    let paths = solids(root.path(), 40);
    // The later one is found to be bad much sooner.
    let large = png(gradient(1500, 1500, 0));
    fs::write(&paths[21], &large[..large.len() - 30]).unwrap();
    fs::write(&paths[22], "bad").unwrap();
    fs::write(&paths[33], "bad").unwrap();
    let stream = open(root.path(), 8).stream().unwrap();
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for (batch_size, before) in [(1, 21), (10, 2), (40, 0)] {
            let mut calls = 0;
            let result = pool.install(|| {
                stream.read(&upto(40), batch_size, Want::Inputs, &mut |_| {
                    calls += 1;
                    Ok(())
                })
            });
            assert!(matches!(&result, Err(Error::Image { path, .. }) if *path == paths[21]), "{result:?}");
            assert_eq!(calls, before);
        }
    }
    assert!(matches!(stream.image(22), Err(Error::Image { path, .. }) if path == paths[22]));
    stream.digest(&upto(40)).expect("their bytes can be read");
}

#[test]
fn no_more_than_two_batches_are_read_ahead_and_files_that_vanish_are_named() {
    let root = folder();
    let paths = solids(root.path(), 12);
    let run = |corrupt| {
        let stream = open(root.path(), 8).corrupt(corrupt).stream().unwrap();
        let mut batches = Vec::new();
        let result = stream.read(&upto(12), 2, Want::Inputs, &mut |batch| {
            if batches.is_empty() {
                // Batches 1 and 2 may have been read by now; no later one can have been.
                paths[6..].iter().for_each(|path| fs::remove_file(path).unwrap());
                fs::create_dir(&paths[8]).unwrap();
            }
            batches.push(seen(batch));
            Ok(())
        });
        assert_eq!(batches.iter().flat_map(|b| b.numbers.clone()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        let digest = stream.digest(&upto(12));
        fs::remove_dir(&paths[8]).unwrap();
        (result, batches, digest)
    };
    let (result, batches, digest) = run(Corrupt::Skip);
    result.unwrap();
    let skipped: Vec<&Skipped> = batches.iter().flat_map(|b| &b.skipped).collect();
    assert!(skipped.iter().map(|s| &s.path).eq(&paths[6..]), "{skipped:?}");
    assert!(skipped[0].reason.contains("No such file") || !cfg!(unix), "{skipped:?}");
    assert!(skipped[2].reason.contains("not a regular file"), "{skipped:?}");
    assert_eq!(digest.unwrap(), sum(&batches));
    solids(root.path(), 12);
    let (result, batches, digest) = run(Corrupt::Fatal);
    assert_eq!(batches.len(), 3);
    for result in [result, digest.map(|_| ())] {
        assert!(matches!(&result, Err(Error::Image { path, .. }) if *path == paths[6]), "{result:?}");
    }
}

#[test]
fn a_file_that_changes_is_read_as_it_is_and_told_by_the_digest() {
    let root = folder();
    let paths = solids(root.path(), 4);
    let stream = open(root.path(), 8).stream().unwrap();
    let before = stream.digest(&upto(4)).unwrap();
    assert_eq!(all(&stream, &upto(4), 4).unwrap()[0].digest, before);
    fs::write(&paths[2], png(gradient(30, 30, 2))).unwrap();
    let now = open(root.path(), 8).load().unwrap();
    let batch = all(&stream, &upto(4), 4).unwrap().remove(0);
    assert!(batch.bits == bits(&now.tensor(0..4).unwrap()));
    assert_ne!(batch.digest, before);
    assert_eq!(batch.digest, stream.digest(&[2, 3, 0, 1]).unwrap());
    assert_eq!(batch.digest, {
        let of = |path: &PathBuf| Digest::of(path.file_name().unwrap().to_str().unwrap(), &fs::read(path).unwrap());
        paths.iter().map(of).fold(Digest::default(), Digest::and)
    });
}

// ---------------------------------------------------------------- fingerprints

#[test]
fn the_fingerprint_changes_with_everything_that_is_known_without_reading() {
    let root = folder();
    put(root.path(), "a/1.png", png(gradient(8, 8, 1)));
    let second = put(root.path(), "b/2.png", png(gradient(8, 8, 2)));
    let open = || ImageFolder::open(root.path()).preprocess(preprocess(3, 8, 8));
    let print = |folder: ImageFolder| folder.stream().unwrap().fingerprint();
    let first = print(open());
    assert_eq!(first.len(), 64);
    assert_eq!(first, print(open().corrupt(Corrupt::Skip)));
    let elsewhere = folder();
    put(elsewhere.path(), "a/1.png", png(gradient(8, 8, 1)));
    put(elsewhere.path(), "b/2.png", png(gradient(8, 8, 2)));
    assert_eq!(first, print(ImageFolder::open(elsewhere.path()).preprocess(preprocess(3, 8, 8))));
    let mut prints = vec![first.clone()];
    let mut other = preprocess(3, 8, 8);
    other.std[1] = 0.3;
    prints.push(print(open().preprocess(other)));
    prints.push(print(open().preprocess(preprocess(3, 8, 9))));
    prints.push(print(open().preprocess(preprocess(1, 8, 8))));
    prints.push(print(open().fit(Fit::CenterCrop)));
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, [&bytes[..], &[0]].concat()).unwrap();
    prints.push(print(open()));
    fs::rename(&second, root.path().join("b/3.png")).unwrap();
    fs::write(root.path().join("b/3.png"), &bytes).unwrap();
    prints.push(print(open()));
    fs::rename(root.path().join("b"), root.path().join("c")).unwrap();
    prints.push(print(open()));
    fs::rename(root.path().join("c"), root.path().join("b")).unwrap();
    fs::rename(root.path().join("b/3.png"), root.path().join("a/3.png")).unwrap();
    fs::remove_dir(root.path().join("b")).unwrap();
    prints.push(print(open()));
    let distinct: std::collections::BTreeSet<&String> = prints.iter().collect();
    assert_eq!(distinct.len(), prints.len());
}

#[test]
fn the_same_folder_has_the_same_identity_however_it_is_read() {
    let root = folder();
    mixed(root.path());
    let open = |fit| ImageFolder::open(root.path()).preprocess(preprocess(3, 8, 8)).fit(fit);
    let both = |folder: ImageFolder| (folder.load().unwrap(), folder.stream().unwrap());
    for fit in [Fit::Squash, Fit::CenterCrop] {
        let (probe, stream) = both(open(fit));
        assert_eq!(Images::fingerprint(&probe), stream.fingerprint());
        for numbers in [upto(17), vec![3], vec![16, 2, 2], vec![]] {
            assert_eq!(probe.digest(&numbers).unwrap(), stream.digest(&numbers).unwrap());
            assert_eq!(
                sum(&all(&probe, &numbers, 4).unwrap()),
                sum(&all(&stream, &numbers, 4).unwrap()),
                "batch by batch"
            );
        }
        let (some, others) = (vec![9, 1, 1, 4], vec![9, 1, 4]);
        let chosen = |images, numbers: &[usize]| Selected::<&dyn Images>::new(images, numbers.to_vec()).unwrap();
        let print = |images| chosen(images, &some).fingerprint();
        assert_eq!(print(&probe), print(&stream));
        assert_ne!(print(&probe), chosen(&probe, &others).fingerprint());
        let nested = |images| Selected::new(chosen(images, &some), vec![3, 0]).unwrap().fingerprint();
        assert_eq!(nested(&probe), nested(&stream));
        let flipped = |images: &dyn Images, label: &str| {
            Changed::new(images, label, |_, image| image::imageops::flip_vertical(image)).fingerprint()
        };
        assert_eq!(flipped(&probe, "flipped"), flipped(&stream, "flipped"));
        assert_ne!(flipped(&probe, "flipped"), flipped(&stream, "turned"));
        assert_ne!(flipped(&probe, "flipped"), stream.fingerprint());
        // In memory: some of them are some of the files; changed ones are pixels.
        assert_eq!(probe.select(&upto(17)).unwrap().fingerprint(), stream.fingerprint());
        assert_ne!(probe.select(&[0, 1]).unwrap().fingerprint(), stream.fingerprint());
        assert_eq!(probe.select(&[4, 0]).unwrap().digest(&[0, 1]).unwrap(), stream.digest(&[4, 0]).unwrap());
        let same = probe.map(|_, image| image.clone());
        assert_ne!(same.fingerprint(), probe.fingerprint());
        assert_ne!(same.digest(&[0]).unwrap(), probe.digest(&[0]).unwrap());
        let copies = (0..17).map(|i| probe.image(i).clone()).collect();
        let names = (0..17).map(|i| probe.name(i).to_string()).collect();
        let labels = Labels::new((0..17).map(|i| probe.label(i).unwrap()).collect(), probe.classes()).unwrap();
        let from_memory = Probe::from_images(copies, Some(names), Some(labels), preprocess(3, 8, 8)).unwrap();
        assert_eq!(from_memory.fingerprint(), same.fingerprint(), "a hash of pixels");
    }
    // Where a file is left out the numbers after it are others.
    put(root.path(), "a/05-bad.png", "bad");
    let (probe, stream) = both(open(Fit::Squash).corrupt(Corrupt::Skip));
    assert_eq!((probe.len(), stream.len()), (17, 18));
    assert_ne!(probe.fingerprint(), stream.fingerprint());
}

// ---------------------------------------------------------------- made of others

/// Names, labels, and every bit that is read of some numbers, twice and in another order.
fn shown(images: &dyn Images) -> (Vec<(String, Option<usize>)>, Vec<Seen>) {
    let described = (0..images.len()).map(|i| (images.name(i).into_owned(), images.label(i))).collect();
    let numbers: Vec<usize> = (0..images.len()).chain((0..images.len()).rev()).collect();
    let batches = read(images, &numbers, 5, Want::Both).unwrap();
    for (number, pixels) in batches.iter().flat_map(|b| b.numbers.iter().zip(&b.pixels)) {
        assert_eq!(images.image(*number).unwrap().as_ref(), pixels);
    }
    assert_eq!(sum(&batches), images.digest(&numbers).unwrap());
    (described, batches)
}

fn darker(i: usize, image: &RgbImage) -> RgbImage {
    let mut image = image.clone();
    image.iter_mut().for_each(|v| *v = v.saturating_sub(i as u8 * 9));
    image
}

#[test]
fn what_is_made_of_a_stream_is_what_is_made_of_the_loaded_images() {
    let root = folder();
    mixed(root.path());
    let (probe, stream) = (open(root.path(), 10).load().unwrap(), open(root.path(), 10).stream().unwrap());
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..6 {
        let numbers: Vec<usize> = (0..rng.usize(1..20)).map(|_| rng.usize(..17)).collect();
        let again: Vec<usize> = (0..rng.usize(1..6)).map(|_| rng.usize(..numbers.len())).collect();
        let some = |images| Selected::<&dyn Images>::new(images, numbers.clone()).unwrap();
        let (ours, theirs) = (some(&probe), some(&stream));
        assert_eq!(shown(&ours), shown(&theirs));
        assert_eq!(shown(&ours), shown(&probe.select(&numbers).unwrap()));
        assert!((0..numbers.len()).all(|i| ours.name(i) == probe.name(numbers[i])));
        let nested = |images| Selected::new(some(images), again.clone()).unwrap();
        assert_eq!(shown(&nested(&probe)), shown(&nested(&stream)));
        assert_eq!(shown(&Changed::new(&ours, "", darker)), shown(&Changed::new(&theirs, "", darker)));
        let twice = |images| Selected::new(Changed::new(some(images), "", darker), again.clone()).unwrap();
        assert_eq!(shown(&twice(&probe)), shown(&twice(&stream)));
        let mapped = probe.select(&numbers).unwrap().map(darker);
        let (pixels, inputs) = (read(&mapped, &again, 9, Want::Both).unwrap(), shown(&twice(&stream)).1);
        assert!(pixels[0].pixels.iter().zip(inputs.iter().flat_map(|b| &b.pixels)).all(|(a, b)| a == b));
    }
    let held = Probe::of(&stream, &[4, 0, 4]).unwrap();
    assert_eq!(held.image(0), probe.image(4));
    assert_eq!((held.name(1), held.label(1), held.classes()), (probe.name(0), probe.label(0), probe.classes()));
}

#[test]
fn unreadable_images_are_missing_in_what_is_made_of_them() {
    let root = folder();
    let paths = solids(root.path(), 9);
    fs::write(&paths[2], "bad").unwrap();
    let stream = skipping(root.path(), 8);
    let some = Selected::new(&stream, vec![8, 2, 2, 0, 8]).unwrap();
    let batches = all(&some, &[4, 1, 0, 3, 2, 3], 4).unwrap();
    assert_eq!(batches.iter().map(|b| b.numbers.clone()).collect::<Vec<_>>(), [vec![4, 0, 3], vec![3]]);
    assert_eq!(batches.iter().map(|b| b.skipped.len()).collect::<Vec<_>>(), [1, 1]);
    let changed = Changed::new(&some, "darker", darker);
    let batches = read(&changed, &[4, 1, 0], 3, Want::Pixels).unwrap();
    assert_eq!((batches[0].numbers.as_slice(), batches[0].skipped.len()), (&[4, 0][..], 1));
    assert_eq!(batches[0].pixels[0], darker(4, &stream.image(8).unwrap()), "changed by its own number");
    let held = Probe::of(&some, &[0, 1, 3]).unwrap();
    assert_eq!((held.len(), held.name(1), held.skipped().len()), (2, "000.png", 1));

    let fatal = open(root.path(), 8).stream().unwrap();
    for images in [&Selected::new(&fatal, vec![0, 2]).unwrap() as &dyn Images, &Changed::new(&fatal, "", darker)] {
        let result = all(images, &upto(images.len()), 1);
        assert!(matches!(&result, Err(Error::Image { path, .. }) if *path == paths[2]), "{result:?}");
    }
    assert!(matches!(Probe::of(&fatal, &upto(9)), Err(Error::Image { .. })));
}

#[test]
fn a_concept_is_painted_onto_each_image_and_its_place_is_known() {
    let root = folder();
    mixed(root.path());
    let (probe, stream) = (open(root.path(), 24).load().unwrap(), open(root.path(), 24).stream().unwrap());
    for concept in [0, 9, 13].map(|i| paint::bank().remove(i)) {
        let name = concept.name().to_string();
        let on = |images| PaintedImages::<&dyn Images>::new(images, concept.clone(), 3);
        let (ours, theirs) = (on(&probe), on(&stream));
        let mut seen = Vec::new();
        for images in [&ours, &theirs] {
            let mut of_these = Vec::new();
            images
                .read(&[5, 0, 5, 16], 3, Want::Both, &mut |batch| {
                    assert_eq!((batch.regions.len(), batch.pixels.len()), (batch.numbers.len(), batch.numbers.len()));
                    let expected = tch_audit::probe::image_tensor(&batch.pixels, images.preprocess()).unwrap();
                    assert_eq!(batch.input, expected);
                    of_these.extend(batch.numbers.into_iter().zip(batch.pixels).zip(batch.regions));
                    Ok(())
                })
                .unwrap();
            seen.push(of_these);
        }
        assert!(seen[0] == seen[1] && seen[0][0] == seen[0][2], "{name}");
        for ((number, pixels), region) in &seen[0] {
            assert!(region.area() > 0);
            let plain = probe.image(*number);
            let differ = pixels.enumerate_pixels().filter(|(x, y, p)| *p != plain.get_pixel(*x, *y));
            assert!(differ.into_iter().all(|(x, y, _)| region.contains(y as usize, x as usize)), "{name}");
            assert_eq!(ours.image(*number).unwrap().as_ref(), pixels.as_ref());
            assert_eq!(ours.name(*number), format!("{} (painted: {name})", probe.name(*number)));
        }
        assert_eq!(ours.fingerprint(), theirs.fingerprint());
        let other = PaintedImages::new(&probe, concept.clone(), 4);
        assert_ne!(ours.fingerprint(), other.fingerprint());
    }
}

#[test]
fn a_change_that_fails_is_an_error_or_goes_through() {
    let root = folder();
    solids(root.path(), 6);
    let stream = open(root.path(), 8).stream().unwrap();
    let larger =
        Changed::new(&stream, "", |i, image: &RgbImage| if i == 3 { RgbImage::new(9, 8) } else { image.clone() });
    let mut calls = 0;
    let result = larger.read(&upto(6), 2, Want::Inputs, &mut |_| {
        calls += 1;
        Ok(())
    });
    assert!(matches!(result, Err(Error::Shape { .. })), "{result:?}");
    assert_eq!(calls, 1, "after the batch before it");
    let path = root.path().to_path_buf();
    let message = within(60, move || {
        let stream = open(&path, 8).stream().unwrap();
        let panics = Changed::new(stream, "", |_, _: &RgbImage| -> RgbImage { panic!("no paint") });
        let panic = catch_unwind(AssertUnwindSafe(|| all(&panics, &[1], 1)));
        panic.unwrap_err().downcast_ref::<&str>().map(|s| (*s).to_string())
    });
    assert_eq!(message.as_deref(), Some("no paint"));
}

#[test]
fn images_are_changed_while_the_model_runs() {
    let root = folder();
    solids(root.path(), 12);
    let stream = open(root.path(), 8).stream().unwrap();
    let changed = std::sync::atomic::AtomicUsize::new(0);
    let counting = Changed::new(&stream, "", |_, image: &RgbImage| {
        changed.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        image.clone()
    });
    let now = || changed.load(std::sync::atomic::Ordering::SeqCst);
    let mut first = true;
    counting
        .read(&upto(12), 2, Want::Inputs, &mut |_| {
            if std::mem::take(&mut first) {
                // Two batches more are made while this one is in use, and no third.
                for _ in 0..1000 {
                    if now() == 6 {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                std::thread::sleep(Duration::from_millis(50));
                assert_eq!(now(), 6);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(now(), 12);
}

#[test]
fn what_points_to_images_is_images() {
    let root = folder();
    mixed(root.path());
    let shared: std::sync::Arc<dyn Images> = std::sync::Arc::new(open(root.path(), 8).stream().unwrap());
    let some = Selected::new(shared.clone(), vec![1, 2]).unwrap();
    let changed = Changed::new(&some, "", darker);
    let boxed: Box<dyn Images + '_> = Box::new(&changed);
    assert_eq!(shown(&boxed), shown(&changed));
    assert_eq!(shared.fingerprint(), Images::fingerprint(&&shared));
}

#[test]
fn examples_labels_and_parts_of_images_wherever_they_are() {
    let root = folder();
    mixed(root.path());
    put(root.path(), "a/00-bad.png", "bad");
    let stream = skipping(root.path(), 8);
    let probe = open(root.path(), 8).corrupt(Corrupt::Skip).load().unwrap();
    for n in [1, 3, 17, 100] {
        assert_eq!(example(&stream, n).unwrap(), probe.tensor(0..n.min(17)).unwrap(), "the bad one is passed over");
        assert_eq!(example(&probe, n).unwrap(), probe.tensor(0..n.min(17)).unwrap());
    }
    assert!(matches!(example(&probe.select(&[]).unwrap(), 1), Err(Error::Invalid { .. })));
    let only_bad = folder();
    put(only_bad.path(), "bad.png", "bad");
    assert!(example(&skipping(only_bad.path(), 8), 2).unwrap_err().to_string().contains("no readable image"));

    assert_eq!(labels(&probe, &upto(17)).unwrap(), probe.labels().unwrap());
    assert_eq!(labels(&stream, &[17, 0]).unwrap(), Tensor::from_slice(&[1i64, 0]));
    let flat = folder();
    solids(flat.path(), 3);
    let error = labels(&skipping(flat.path(), 8), &[0]).unwrap_err().to_string();
    assert!(error.contains("images without labels"), "{error}");

    let ((part, rest), (one, other)) = (split(&probe, 7, 0.3).unwrap(), probe.split(7, 0.3).unwrap());
    let names = |numbers: &[usize]| numbers.iter().map(|i| probe.name(*i).to_string()).collect::<Vec<_>>();
    assert_eq!(names(&part), (0..one.len()).map(|i| one.name(i).to_string()).collect::<Vec<_>>());
    assert_eq!(names(&rest), (0..other.len()).map(|i| other.name(i).to_string()).collect::<Vec<_>>());
    assert!(split(&stream, 1, 1.0).is_err());
    let (part, rest) = split(&stream, 1, 0.5).unwrap();
    let mut both = [part, rest].concat();
    both.sort_unstable();
    assert_eq!(both, upto(18));
}

// ---------------------------------------------------------------- errors, panics, threads

#[test]
fn an_error_of_the_caller_stops_the_reading() {
    let root = folder();
    let image = png(gradient(900, 900, 0));
    for i in 0..60 {
        put(root.path(), &format!("{i:02}.png"), &image);
    }
    let path = root.path().to_path_buf();
    let (result, calls) = within(60, move || {
        let stream = open(&path, 8).stream().unwrap();
        let mut calls = 0;
        let result = stream.read(&upto(60), 20, Want::Inputs, &mut |_| {
            calls += 1;
            if calls == 2 {
                return Err(Error::Unknown { kind: "thing", name: "enough".into(), nearest: Vec::new() });
            }
            Ok(())
        });
        (result, calls)
    });
    assert!(matches!(result, Err(Error::Unknown { name, .. }) if name == "enough"));
    assert_eq!(calls, 2);
}

#[test]
fn a_panic_of_the_caller_goes_through_and_the_stream_can_be_used_again() {
    let root = folder();
    solids(root.path(), 30);
    let path = root.path().to_path_buf();
    let (message, after) = within(60, move || {
        let stream = open(&path, 8).stream().unwrap();
        let panic = catch_unwind(AssertUnwindSafe(|| {
            stream.read(&upto(30), 2, Want::Inputs, &mut |batch| {
                if batch.numbers[0] == 4 { panic!("stop here") } else { Ok(()) }
            })
        }));
        let message = panic.unwrap_err().downcast_ref::<&str>().map(|s| (*s).to_string());
        (message, all(&stream, &upto(30), 2).unwrap().len())
    });
    assert_eq!((message.as_deref(), after), (Some("stop here"), 15));
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let root = folder();
    mixed(root.path());
    for (name, bytes, _) in damaged() {
        put(root.path(), &format!("b/{name}"), bytes);
    }
    let path = root.path().to_path_buf();
    let run = move |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let stream = skipping(&path, 24);
            let batches = all(&stream, &upto(stream.len()), 6).unwrap();
            (batches, stream.digest(&upto(stream.len())).unwrap(), stream.fingerprint())
        })
    };
    let (one, four) = within(120, move || (run(1), run(4)));
    assert_eq!(one.1, sum(&one.0));
    assert!(one == four);
}

#[test]
fn every_thread_of_a_pool_can_read_at_once() {
    let root = folder();
    solids(root.path(), 20);
    let path = root.path().to_path_buf();
    let results = within(60, move || {
        let stream = open(&path, 8).stream().unwrap();
        // All of the global pool's threads wait for images: nobody of the pool is left to read them.
        rayon::broadcast(|_| all(&stream, &upto(20), 3).unwrap())
    });
    assert!(results.iter().all(|r| *r == results[0]));
}

#[test]
fn a_stream_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>() {}
    shared::<ImageStream>();
}

// ---------------------------------------------------------------- real photographs

fn photographs(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            photographs(&path, found);
        } else if path.extension().is_some_and(|e| e == "jpg" || e == "png") {
            found.push(path);
        }
    }
}

#[test]
fn four_thousand_photographs_are_finished_and_every_damaged_file_is_named() {
    let (Some(small), Some(large)) = (common::data("cifar10"), common::data("imagenet-samples")) else { return };
    let (mut paths, mut many) = (Vec::new(), Vec::new());
    photographs(&large, &mut paths);
    photographs(&small, &mut many);
    let wanted = 4000usize.saturating_sub(paths.len());
    let step = (many.len() / wanted.max(1)).max(1);
    paths.extend(many.into_iter().step_by(step).take(wanted));
    let root = folder();
    let mut expected = BTreeMap::new();
    for (i, path) in paths.iter().enumerate() {
        // Other kinds of file are made of some.
        let name = |kind: &str| format!("{i:04}.{kind}");
        let image = || image::open(path).unwrap();
        match i % 40 {
            0 => put(root.path(), &name("png"), png(image().to_rgb8())),
            1 => put(root.path(), &name("png"), png(image().to_rgba16())),
            2 => put(root.path(), &name("jpeg"), jpeg(image().to_luma8())),
            3 => put(root.path(), &name("data"), png(image().to_luma_alpha8())),
            _ => {
                let to = root.path().join(name("JPG"));
                if fs::hard_link(path, &to).is_err() {
                    fs::copy(path, &to).unwrap();
                }
                to
            }
        };
    }
    for (i, (name, bytes, reason)) in damaged().into_iter().enumerate() {
        expected.insert(put(root.path(), &format!("{:04}-{name}", i * 171), bytes), reason);
    }
    // A photograph cut in its middle.
    let bytes = fs::read(&paths[7]).unwrap();
    expected.insert(put(root.path(), "0007-cut.jpg", &bytes[..bytes.len() / 2]), "end too early");
    #[cfg(unix)]
    {
        let link = root.path().join("2000-gone.jpg");
        std::os::unix::fs::symlink(root.path().join("nowhere"), &link).unwrap();
        expected.insert(link, "No such file");
    }
    let stream = skipping(root.path(), 32);
    assert_eq!(stream.len(), paths.len() + expected.len());
    let (mut shown, mut skipped, mut digest) = (0, Vec::new(), Digest::default());
    stream
        .read(&upto(stream.len()), 64, Want::Inputs, &mut |batch| {
            assert_eq!(batch.input.size(), [batch.numbers.len() as i64, 3, 32, 32]);
            assert!(batch.input.isfinite().all().int64_value(&[]) == 1);
            shown += batch.numbers.len();
            digest = digest.and(batch.digest);
            skipped.extend(batch.skipped);
            Ok(())
        })
        .unwrap();
    assert_eq!(shown, paths.len());
    assert!(skipped.iter().map(|s| &s.path).eq(expected.keys()), "{skipped:?}");
    for file in &skipped {
        assert!(!file.reason.is_empty() && file.reason.contains(expected[&file.path]), "{file:?}");
    }
    assert_eq!(digest, stream.digest(&upto(stream.len())).unwrap());
}
