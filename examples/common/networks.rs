//! The networks of `tch::vision`, with random weights.

use tch::nn::{self, ModuleT, VarStore};
use tch::{Device, vision};

/// A network and where its variables live.
pub struct Built {
    pub vs: VarStore,
    pub net: Box<dyn ModuleT>,
}

fn built<M: ModuleT + 'static>(make: impl FnOnce(&nn::Path) -> M) -> Built {
    let vs = VarStore::new(Device::Cpu);
    let net = Box::new(make(&vs.root()));
    Built { vs, net }
}

/// Name, constructor, side of the input in pixels.
pub type Network = (&'static str, fn() -> Built, i64);

/// Of families that differ in depth and width only, the smallest.
pub const ALL: &[Network] = &[
    ("alexnet", || built(|p| vision::alexnet::alexnet(p, 1000)), 224),
    ("vgg11", || built(|p| vision::vgg::vgg11(p, 1000)), 224),
    ("vgg11_bn", || built(|p| vision::vgg::vgg11_bn(p, 1000)), 224),
    ("resnet18", || built(|p| vision::resnet::resnet18(p, 1000)), 224),
    ("resnet34", || built(|p| vision::resnet::resnet34(p, 1000)), 224),
    ("resnet50", || built(|p| vision::resnet::resnet50(p, 1000)), 224),
    ("densenet121", || built(|p| vision::densenet::densenet121(p, 1000)), 224),
    ("squeezenet1_0", || built(|p| vision::squeezenet::v1_0(p, 1000)), 224),
    ("squeezenet1_1", || built(|p| vision::squeezenet::v1_1(p, 1000)), 224),
    ("mobilenet_v2", || built(|p| vision::mobilenet::v2(p, 1000)), 224),
    ("inception_v3", || built(|p| vision::inception::v3(p, 1000)), 299),
    ("efficientnet_b0", || built(|p| vision::efficientnet::b0(p, 1000)), 224),
    ("convmixer_1024_20", || built(|p| vision::convmixer::c1024_20(p, 1000)), 224),
    ("dinov2_vit_small", || built(vision::dinov2::vit_small), 224),
];

/// Fresh normalisations scale by 1 and shift by 0, and fresh layer scales are 0: that hides mistakes.
pub fn randomise(vs: &VarStore) {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::manual_seed(11);
    tch::no_grad(|| {
        for (name, mut t) in variables {
            if name.ends_with("token") || name.ends_with("embed") {
                let _ = t.normal_(0.0, 0.5);
            } else if t.dim() == 1 {
                let scale = name.ends_with("var") || name.ends_with("weight") || name.ends_with("gamma");
                let _ = if scale { t.uniform_(0.5, 1.5) } else { t.normal_(0.2, 0.5) };
            }
        }
    });
}
