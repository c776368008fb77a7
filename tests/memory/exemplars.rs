//! Memory of exemplars does not grow with the number of images.

use super::{is_parent, measured};
use image::RgbImage;
use std::borrow::Cow;
use tch::nn;
use tch::{Device, Tensor};
use tch_audit::Traced;
use tch_audit::exemplars::{Options, Run};
use tch_audit::probe::{Batch, Digest, Images, Preprocess, Want, image_tensor};
use tch_audit::{Model, Result};

/// Images of noise, made when they are asked for.
struct Noise {
    count: usize,
    preprocess: Preprocess,
}

impl Noise {
    fn new(count: usize) -> Self {
        Self { count, preprocess: Preprocess::plain(3, 6, 6).unwrap() }
    }

    fn draw(&self, i: usize) -> RgbImage {
        let mut rng = fastrand::Rng::with_seed(i as u64);
        RgbImage::from_fn(6, 6, |_, _| image::Rgb([rng.u8(..), rng.u8(..), rng.u8(..)]))
    }
}

impl Images for Noise {
    fn len(&self) -> usize {
        self.count
    }
    fn name(&self, i: usize) -> Cow<'_, str> {
        Cow::Owned(i.to_string())
    }
    fn label(&self, _: usize) -> Option<usize> {
        None
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }
    fn image(&self, i: usize) -> Result<Cow<'_, RgbImage>> {
        Ok(Cow::Owned(self.draw(i)))
    }
    fn fingerprint(&self) -> String {
        self.count.to_string()
    }
    fn read(&self, numbers: &[usize], batch: usize, _: Want, each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        for numbers in numbers.chunks(batch) {
            let images: Vec<RgbImage> = numbers.iter().map(|i| self.draw(*i)).collect();
            let (input, numbers) = (image_tensor(&images, &self.preprocess)?, numbers.to_vec());
            let (pixels, regions, skipped) = (Vec::new(), Vec::new(), Vec::new());
            let digest = Digest::default();
            each(Batch { asked: images.len(), numbers, input, pixels, regions, digest, skipped })?;
        }
        Ok(())
    }
    fn digest(&self, _: &[usize]) -> Result<Digest> {
        Ok(Digest::default())
    }
}

fn work(images: usize, exemplars: bool) {
    let vs = nn::VarStore::new(Device::Cpu);
    let mean = |x: &Tensor| x.mean_dim([2i64, 3].as_slice(), false, None::<tch::Kind>);
    let net = nn::seq_t().add(nn::conv2d(vs.root() / "one", 3, 768, 1, Default::default())).add_fn(mean);
    let model = Model::new(&vs, &net);
    let noise = Noise::new(images);
    if !exemplars {
        let numbers: Vec<usize> = (0..images).collect();
        noise.read(&numbers, 64, Want::Inputs, &mut |batch| model.forward(&batch.input).map(drop)).unwrap();
        return;
    }
    let graph = Traced::new(&model, &Tensor::zeros([1, 3, 6, 6], (tch::Kind::Float, Device::Cpu))).unwrap();
    let sites = graph.select(&["one"]).unwrap();
    let out = tempfile::tempdir().unwrap();
    let options = Options::default();
    let run = Run::new(&graph, &sites, &noise, &options).unwrap();
    println!("{}", run.estimate());
    run.write(out.path()).unwrap();
}

#[test]
fn fifty_thousand_images_take_the_memory_of_five_hundred() {
    let parent = is_parent(|task| {
        let (images, exemplars) = task.split_once(' ').unwrap();
        work(images.parse().unwrap(), exemplars == "true");
    });
    if !parent {
        return;
    }
    let test = "exemplars::fifty_thousand_images_take_the_memory_of_five_hundred";
    let of = |images: usize, exemplars: bool| measured(test, format!("{images} {exemplars}"));
    let (few, many) = (of(500, true) - of(500, false), of(50_000, true) - of(50_000, false));
    println!("above the bare passes: {few} KB with 500 images, {many} KB with 50,000");
    assert!(many as f64 <= 1.05 * few as f64);
}
