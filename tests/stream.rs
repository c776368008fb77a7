//! Image folders that are read while a model runs: the same images as when they are loaded, damaged files, errors and
//! panics, threads, and thousands of photographs.
#![allow(clippy::single_range_in_vec_init)] // Lists of ranges, often of one.

mod common;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};
use tch::{Kind, Tensor};
use tch_audit::{
    Error,
    probe::{Batch, Corrupt, Digest, Fit, ImageFolder, ImageStream, Preprocess, Probe, Skipped, Source},
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

fn every(n: usize, len: usize) -> Vec<Range<usize>> {
    (0..len).step_by(n).map(|i| i..len.min(i + n)).collect()
}

/// What remains of a batch once its tensor is gone.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    range: Range<usize>,
    numbers: Vec<usize>,
    size: Vec<i64>,
    bits: Vec<u32>,
    digest: Digest,
    skipped: Vec<Skipped>,
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    assert_eq!(tensor.kind(), Kind::Float);
    Vec::<f32>::try_from(&tensor.view(-1)).unwrap().into_iter().map(f32::to_bits).collect()
}

fn seen(batch: Batch) -> Seen {
    let Batch { range, numbers, input, digest, skipped } = batch;
    Seen { range, numbers, size: input.size(), bits: bits(&input), digest, skipped }
}

fn all(source: &dyn Source, ranges: &[Range<usize>]) -> tch_audit::Result<Vec<Seen>> {
    let mut out = Vec::new();
    let caller = std::thread::current().id();
    source.batches(ranges, &mut |batch| {
        assert_eq!(std::thread::current().id(), caller);
        out.push(seen(batch));
        Ok(())
    })?;
    Ok(out)
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
        ("text.png", b"this is no image\n".to_vec(), "neither JPEG nor PNG"),
        ("text.jpg", b"nor is this\n".to_vec(), "neither JPEG nor PNG"),
        ("gif.png", b"GIF89a\x01\0\x01\0\0\0\0".to_vec(), "neither JPEG nor PNG"),
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
                let batches = all(&stream, &every(batch_size, 17)).unwrap();
                assert_eq!(batches.len(), 17_usize.div_ceil(batch_size));
                for batch in &batches {
                    let n = batch.range.len();
                    assert_eq!(batch.numbers, batch.range.clone().collect::<Vec<_>>());
                    assert_eq!(batch.size, [n as i64, channels as i64, height as i64, width as i64]);
                    assert!(batch.bits == bits(&probe.tensor(batch.range.clone()).unwrap()), "{:?}", batch.range);
                    assert!(batch.skipped.is_empty());
                }
                assert_eq!(sum(&batches), stream.digest(&[0..17]).unwrap());
            }
            for i in 0..17 {
                assert_eq!(Source::name(&stream, i), Probe::name(&probe, i));
                assert_eq!(Source::label(&stream, i), Probe::label(&probe, i));
                assert_eq!(stream.image(i).unwrap().as_ref(), Probe::image(&probe, i));
                assert_eq!(stream.path(i), root.path().join(Probe::name(&probe, i)));
            }
            assert_eq!(Source::preprocess(&stream), Probe::preprocess(&probe));
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
        |source: &dyn Source| (0..6).map(|i| (source.name(i).into_owned(), source.label(i))).collect::<Vec<_>>();
    assert_eq!(described(&stream), described(&probe));
    assert_eq!(Source::label(&stream, 3), Some(1));
    put(root.path(), "beside.png", png(gradient(8, 8, 0)));
    assert!(open(root.path(), 8).stream().unwrap_err().to_string().contains("either in it or in a sub-folder"));
}

#[test]
fn one_image_and_no_labels() {
    let root = folder();
    put(root.path(), "only.png", png(gradient(8, 8, 3)));
    fs::create_dir(root.path().join("x.png")).unwrap();
    let stream = open(root.path(), 8).stream().unwrap();
    assert_eq!((stream.len(), stream.classes().len(), Source::label(&stream, 0)), (1, 0, None));
    assert_eq!(stream.image(0).unwrap().as_ref(), &gradient(8, 8, 3), "the right size is not resampled");
    let batches = all(&stream, &every(64, 1)).unwrap();
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
    assert_eq!((Source::name(&stream, 1).as_ref(), stream.path(1)), ("b\u{fffd}.png", odd));
    assert_eq!(stream.image(1).unwrap().as_ref(), &gradient(8, 8, 7));
    assert_eq!(all(&stream, &[0..2]).unwrap()[0].numbers, [0, 1]);
}

#[test]
fn ranges_may_overlap_repeat_be_empty_and_go_back() {
    let root = folder();
    solids(root.path(), 9);
    let stream = open(root.path(), 8).stream().unwrap();
    let probe = open(root.path(), 8).load().unwrap();
    let ranges = [3..5, 0..0, 0..9, 9..9, 4..4, 1..2, 0..9];
    let batches = all(&stream, &ranges).unwrap();
    for (batch, range) in batches.iter().zip(&ranges) {
        assert_eq!((&batch.range, batch.size[0]), (range, range.len() as i64));
        assert!(range.is_empty() || batch.bits == bits(&probe.tensor(range.clone()).unwrap()));
    }
    assert_eq!(batches.len(), ranges.len());
    assert!(all(&stream, &[]).unwrap().is_empty());
    assert_eq!(all(&stream, &[5..5]).unwrap()[0].size, [0, 3, 8, 8]);
    #[allow(clippy::reversed_empty_ranges)]
    for bad in [5..10, 10..10, 6..4, 0..usize::MAX] {
        let mut calls = 0;
        let result = stream.batches(&[0..1, bad.clone()], &mut |_| {
            calls += 1;
            Ok(())
        });
        assert!(matches!(result, Err(Error::Invalid { .. })), "{bad:?}");
        assert_eq!(calls, 0, "{bad:?}");
        assert!(matches!(stream.digest(&[0..1, bad]), Err(Error::Invalid { .. })));
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
        let batches = all(&stream, &every(batch_size, stream.len())).unwrap();
        let skipped: Vec<Skipped> = batches.iter().flat_map(|b| b.skipped.clone()).collect();
        assert_eq!(skipped, load.skipped());
        for (file, (path, reason)) in skipped.iter().zip(&expected) {
            assert_eq!(&file.path, path);
            assert!(!file.reason.is_empty() && file.reason.contains(reason), "{file:?}");
        }
        let numbers: Vec<usize> = batches.iter().flat_map(|b| b.numbers.clone()).collect();
        assert!(numbers.is_sorted());
        let names: Vec<_> = numbers.iter().map(|&i| Source::name(&stream, i)).collect();
        assert!(names.iter().zip(0..).all(|(name, i)| name == Probe::name(&load, i)));
        let values: Vec<u32> = batches.iter().flat_map(|b| b.bits.clone()).collect();
        assert!(values == bits(&load.tensor(0..30).unwrap()), "batches of {batch_size}");
        for batch in &batches {
            assert_eq!(batch.size, [batch.numbers.len() as i64, 3, 16, 16]);
            assert_eq!(batch.numbers.len() + batch.skipped.len(), batch.range.len());
        }
        assert_eq!(batches.iter().any(|b| b.size[0] == 0), batch_size < 100, "some batches hold damaged files only");
        assert_eq!(sum(&batches), stream.digest(&[0..stream.len()]).unwrap());
    }
}

#[test]
fn a_folder_of_damaged_files_alone_is_empty_batches() {
    let root = folder();
    let files = damaged();
    for (name, bytes, _) in &files {
        put(root.path(), name, bytes);
    }
    let batches = all(&skipping(root.path(), 8), &every(5, files.len())).unwrap();
    assert!(batches.iter().all(|b| b.size == [0, 3, 8, 8] && b.numbers.is_empty() && b.skipped.len() == b.range.len()));
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
                stream.batches(&every(batch_size, 40), &mut |_| {
                    calls += 1;
                    Ok(())
                })
            });
            assert!(matches!(&result, Err(Error::Image { path, .. }) if *path == paths[21]), "{result:?}");
            assert_eq!(calls, before);
        }
    }
    assert!(matches!(stream.image(22), Err(Error::Image { path, .. }) if path == paths[22]));
    stream.digest(&[0..40]).expect("their bytes can be read");
}

#[test]
fn no_more_than_two_batches_are_read_ahead_and_files_that_vanish_are_named() {
    let root = folder();
    let paths = solids(root.path(), 12);
    let run = |corrupt| {
        let stream = open(root.path(), 8).corrupt(corrupt).stream().unwrap();
        let mut batches = Vec::new();
        let result = stream.batches(&every(2, 12), &mut |batch| {
            if batches.is_empty() {
                // Batches 1 and 2 may have been read by now; no later one can have been.
                paths[6..].iter().for_each(|path| fs::remove_file(path).unwrap());
                fs::create_dir(&paths[8]).unwrap();
            }
            batches.push(seen(batch));
            Ok(())
        });
        assert_eq!(batches.iter().flat_map(|b| b.numbers.clone()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        let digest = stream.digest(&[0..12]);
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
    let before = stream.digest(&[0..4]).unwrap();
    assert_eq!(all(&stream, &[0..4]).unwrap()[0].digest, before);
    fs::write(&paths[2], png(gradient(30, 30, 2))).unwrap();
    let now = open(root.path(), 8).load().unwrap();
    let batch = all(&stream, &[0..4]).unwrap().remove(0);
    assert!(batch.bits == bits(&now.tensor(0..4).unwrap()));
    assert_ne!(batch.digest, before);
    assert_eq!(batch.digest, stream.digest(&[2..4, 0..2]).unwrap());
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
        let result = stream.batches(&[0..1, 1..2, 2..60], &mut |_| {
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
            stream
                .batches(&every(2, 30), &mut |batch| if batch.range.start == 4 { panic!("stop here") } else { Ok(()) })
        }));
        let message = panic.unwrap_err().downcast_ref::<&str>().map(|s| (*s).to_string());
        (message, all(&stream, &every(2, 30)).unwrap().len())
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
            let batches = all(&stream, &every(6, stream.len())).unwrap();
            (batches, stream.digest(&[0..stream.len()]).unwrap(), stream.fingerprint())
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
        rayon::broadcast(|_| all(&stream, &every(3, 20)).unwrap())
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
        .batches(&every(64, stream.len()), &mut |batch| {
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
    assert_eq!(digest, stream.digest(&[0..stream.len()]).unwrap());
}
