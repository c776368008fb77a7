//! No layer is left out without a word: computed weights are followed back, positions lie where they do, and what cannot be
//! read is named.

use tch::nn::{self, Init, VarStore};
use tch::{Device, Kind, Tensor};
use tch_audit::edit::{NoOptimizer, PrunePlan, ZeroPlan};
use tch_audit::graph::{Layout, Mask, Site};
use tch_audit::{Error, Model, Traced, UnitId};

const RANDOM: Init = Init::Randn { mean: 0.0, stdev: 0.3 };

fn images(n: i64, height: i64, width: i64) -> Tensor {
    tch::manual_seed(7);
    Tensor::randn([n, 3, height, width], (Kind::Float, Device::Cpu))
}

fn conv(x: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
    x.conv2d(w, Some(b), [1, 1], [1, 1], [1, 1], 1)
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && f64::try_from((a - b).abs().max()).unwrap() < 1e-4
}

type Compute = fn(&Tensor, &[Tensor]) -> Tensor;

/// Ways to compute a convolution's weight in the forward pass, of `weight` and three further parameters.
fn computations() -> Vec<(&'static str, Compute)> {
    vec![
        ("plain", |w, _| w.shallow_clone()),
        ("scaled", |w, _| w * 0.5),
        ("clamped", |w, _| w.clamp(-0.2, 0.2)),
        ("reshaped", |w, _| w.reshape([w.size()[0], -1]).view_as(w)),
        ("flipped", |w, _| w.flip([2, 3])),
        ("signs", |w, _| w.sign() * w.abs().mean(Kind::Float)),
        ("rounded", |w, _| (w / 0.05).round() * 0.05),
        ("standardised", |w, _| {
            let dims = [1i64, 2, 3].as_slice();
            let centred = w - w.mean_dim(dims, true, Kind::Float);
            &centred / (centred.square().mean_dim(dims, true, Kind::Float) + 1e-5).sqrt()
        }),
        ("normalised", |w, more| {
            let norm = w.square().sum_dim_intlist([1i64, 2, 3].as_slice(), true, Kind::Float).sqrt();
            w * (&more[0] / norm)
        }),
        ("fused norm", |w, more| Tensor::internal_weight_norm(w, &more[0], 0)),
        ("masked", |w, _| w * w.gt(0.0)),
        ("low rank", |w, more| w + more[1].matmul(&more[2]).view_as(w)),
        ("quantised", |w, _| w.fake_quantize_per_tensor_affine(0.02, 0, -128, 127)),
    ]
}

#[test]
fn a_computed_weight_is_followed_back_to_its_layer_and_edits_hold_or_are_refused() {
    for (name, compute) in computations() {
        let vs = VarStore::new(Device::Cpu);
        let root = vs.root();
        let part = |path: &nn::Path, shape: &[i64]| path.var("weight", shape, RANDOM);
        let a = &root / "a";
        let (wa, ba) = (part(&a, &[8, 3, 3, 3]), a.var("bias", &[8], RANDOM));
        let more = [a.var("scale", &[8, 1, 1, 1], RANDOM), a.var("B", &[8, 2], RANDOM), a.var("A", &[2, 27], RANDOM)];
        let b = &root / "b";
        let (wb, bb) = (part(&b, &[5, 8, 3, 3]), b.var("bias", &[5], RANDOM));
        let (wa2, ba2) = (wa.shallow_clone(), ba.shallow_clone());
        let more2: Vec<Tensor> = more.iter().map(Tensor::shallow_clone).collect();
        let net = nn::func(move |x| {
            let hidden = conv(x, &compute(&wa2, &more2), &ba2).relu();
            conv(&hidden, &wb, &bb).mean_dim([2i64, 3].as_slice(), false, Kind::Float)
        });
        let model = Model::new(&vs, &net);
        let x = images(2, 6, 6);
        let traced = Traced::new(&model, &x).unwrap();
        assert!(
            traced.unread_layers().iter().all(|l| l.layer.starts_with("a.")),
            "{name}: {:?}",
            traced.unread_layers()
        );
        let site = traced.site("a").unwrap_or_else(|e| panic!("{name}: {e}")).clone();
        assert_eq!((site.units, site.layout), (8, Layout::FeatureMap), "{name}");
        let expected = tch::no_grad(|| conv(&x, &compute(&wa, &more), &ba).relu());
        let mut seen = None;
        let _ = traced
            .read(std::slice::from_ref(&site), &x, |_, a| {
                seen = Some(a.copy());
                Ok(())
            })
            .unwrap();
        assert!(close(&seen.unwrap(), &expected), "{name}");
        let masks = [Mask { site: site.clone(), units: vec![3] }];
        let masked = traced.masked(&masks).forward(&x).unwrap();
        let before = model.forward(&x).unwrap();
        assert!(!close(&masked, &before), "{name}: a mask that does nothing proves nothing");
        let unit = [UnitId::new("a", 3)];
        match ZeroPlan::zero(&traced, &unit) {
            Ok(plan) => {
                let done = plan.apply(&traced, &x).unwrap();
                assert!(close(&model.forward(&x).unwrap(), &masked), "{name}: zeroed");
                done.undo().unwrap();
            }
            Err(error) => assert!(matches!(error, Error::Refused { .. }), "{name}: {error}"),
        }
        assert!(close(&model.forward(&x).unwrap(), &before), "{name}: undone");
        match PrunePlan::new(&traced, &unit).and_then(|plan| plan.apply(&traced, &x, NoOptimizer)) {
            Ok(done) => {
                assert!(close(&model.forward(&x).unwrap(), &masked), "{name}: pruned");
                done.undo().unwrap();
            }
            Err(error) => {
                let refused = matches!(error, Error::Refused { .. } | Error::RolledBack { .. });
                assert!(refused, "{name}: {error}");
            }
        }
        assert!(close(&model.forward(&x).unwrap(), &before), "{name}: undone");
    }
}

/// The layout of site `h`, a linear layer on what `reach` makes of an image; or why there is none.
fn layout_of(images: &Tensor, features: i64, reach: fn(&Tensor) -> Tensor) -> Result<(Layout, (usize, usize)), String> {
    let vs = VarStore::new(Device::Cpu);
    let hidden = nn::linear(vs.root() / "h", features, 11, Default::default());
    let net = nn::func(move |x| reach(x).apply(&hidden).relu());
    let model = Model::new(&vs, &net);
    let traced = Traced::new(&model, images).map_err(|e| e.to_string())?;
    let all = traced.coverage(&model, traced.sites());
    assert_eq!((all.layers, all.audited + all.unaudited.len()), (1, 1), "{all:?}");
    match traced.unread_layers() {
        [] => traced.site("h").map(|s| (s.layout, s.size)).map_err(|e| e.to_string()),
        [one] => {
            let asked = traced.site("h").unwrap_err().to_string();
            assert!(asked.contains(&one.reason), "{asked}");
            Err(one.reason.clone())
        }
        more => panic!("{more:?}"),
    }
}

/// Patches of 4 x 4 pixels: `[N, T, 48]`, in row order.
fn patches(x: &Tensor) -> Tensor {
    let [n, c, h, w] = x.size()[..] else { panic!("an image") };
    x.reshape([n, c, h / 4, 4, w / 4, 4]).permute([0, 2, 4, 3, 5, 1]).reshape([n, -1, 16 * c])
}

#[test]
fn tokens_lie_where_their_patches_lie_and_what_is_no_picture_is_a_row() {
    for n in [1, 2, 3] {
        let wide = images(n, 8, 20);
        let grid = |prefix, height, width| (Layout::Tokens { prefix, height, width }, (height, width));
        assert_eq!(layout_of(&wide, 48, patches), Ok(grid(0, 2, 5)), "patches of an image that is no square");
        let first = |x: &Tensor| patches(x).permute([1, 0, 2]);
        let expected = (Layout::TokensFirst { prefix: 0, height: 2, width: 5 }, (2, 5));
        assert_eq!(layout_of(&wide, 48, first), Ok(expected), "tokens before the batch");
        let rows = |x: &Tensor| x.permute([0, 2, 1, 3]).reshape([x.size()[0], x.size()[2], -1]);
        assert_eq!(layout_of(&images(n, 49, 4), 12, rows), Ok(grid(0, 49, 1)), "49 rows are no square");
        let mixed = |x: &Tensor| patches(x).matmul(&Tensor::ones([48, 9], (Kind::Float, x.device()))).transpose(1, 2);
        assert_eq!(layout_of(&images(n, 16, 16), 16, mixed), Ok(grid(0, 1, 9)), "channels in the place of tokens");
        let class = |x: &Tensor| {
            let tokens = patches(x);
            Tensor::cat(&[tokens.zeros_like().narrow(1, 0, 1), tokens], 1)
        };
        assert_eq!(layout_of(&wide, 48, class), Ok(grid(1, 2, 5)), "a token in front");
        let flat = |x: &Tensor| patches(x).reshape([-1, 48]);
        let why = layout_of(&wide, 48, flat).unwrap_err();
        assert!(why.contains("no dimension counts images alone"), "{why}");
    }
}

/// The activation maps of a site on some images.
fn maps(traced: &Traced<'_>, site: &Site, x: &Tensor) -> Tensor {
    let mut maps = None;
    let _ = traced
        .read(std::slice::from_ref(site), x, |_, a| {
            maps = Some(site.maps(a)?.copy());
            Ok(())
        })
        .unwrap();
    maps.unwrap()
}

#[test]
fn positions_of_windows_are_put_where_they_lie() {
    type Reach = fn(&Tensor) -> Tensor;
    let unfolded: Reach = |x| x.im2col([4, 4], [1, 1], [0, 0], [4, 4]).transpose(1, 2);
    // How tokens come to the layer, and the same tokens in row order.
    let ways: [(&str, Reach, Reach); 4] = [
        ("windows beside each other", |x| windows(x).reshape([-1, 6, 4, 48]), patches),
        ("windows in a row", |x| windows(x).reshape([-1, 24, 48]), patches),
        ("rolled", |x| patches(x).roll([1], [1]), patches),
        ("unfolded", |x| x.im2col([4, 4], [1, 1], [0, 0], [4, 4]).transpose(1, 2), unfolded),
    ];
    for n in [1, 2] {
        let x = images(n, 16, 24);
        for (name, reach, in_order) in ways {
            let vs = VarStore::new(Device::Cpu);
            let layer = nn::linear(vs.root() / "h", 48, 5, Default::default());
            let expected = in_order(&x).apply(&layer).transpose(1, 2).reshape([n, 5, 4, 6]);
            let net = nn::func(move |x| reach(x).apply(&layer));
            let model = Model::new(&vs, &net);
            let traced = Traced::new(&model, &x).unwrap();
            let site = traced.site("h").unwrap_or_else(|e| panic!("{name}: {e}")).clone();
            assert_eq!(site.size, (4, 6), "{name}");
            assert!(close(&maps(&traced, &site, &x), &expected), "{name}");
        }
    }
}

#[test]
fn maps_of_a_network_that_turns_its_images_lie_on_the_images() {
    type Turn = fn(&Tensor) -> Tensor;
    let turns: [(&str, Turn); 4] = [
        ("flipped", |x| x.flip([3])),
        ("transposed", |x| x.transpose(2, 3)),
        ("turned", |x| x.rot90(1, [2, 3])),
        ("rolled", |x| x.roll([5], [2])),
    ];
    let x = images(2, 8, 12);
    for (name, turn) in turns {
        let vs = VarStore::new(Device::Cpu);
        let layer = nn::conv2d(vs.root() / "h", 3, 5, 1, Default::default());
        let expected = x.apply(&layer);
        let net = nn::func(move |x| turn(x).apply(&layer));
        let model = Model::new(&vs, &net);
        let traced = Traced::new(&model, &x).unwrap();
        let site = traced.site("h").unwrap_or_else(|e| panic!("{name}: {e}")).clone();
        assert!(close(&maps(&traced, &site, &x), &expected), "{name}");
    }
}

/// Patches in windows of 2 x 2, `[N, 2, 3, 2, 2, 48]`, of an image of 16 x 24.
fn windows(x: &Tensor) -> Tensor {
    patches(x).reshape([-1, 2, 2, 3, 2, 48]).permute([0, 1, 3, 2, 4, 5])
}

#[test]
fn what_cannot_be_laid_out_is_named_with_the_reason() {
    let why = |reach: fn(&Tensor) -> Tensor, features| layout_of(&images(1, 8, 8), features, reach).unwrap_err();
    let tiles = |x: &Tensor| patches(x).reshape([-1, 4, 12]);
    assert!(why(tiles, 12).contains("no dimension counts images alone"));
    let copies = |x: &Tensor| Tensor::cat(&[x.shallow_clone(), x.flip([3])], 0).reshape([2 * x.size()[0], -1]);
    assert!(why(copies, 192).contains("no dimension counts images alone"));
    let film = |x: &Tensor| x.unsqueeze(2).expand([-1, -1, 4, -1, -1], false).contiguous();
    assert!(why(film, 8).contains("volumes, films"));
    let padded = |x: &Tensor| patches(&x.constant_pad_nd([0, 4, 0, 4]));
    assert!(why(padded, 48).contains("not the places of the image"));
}

#[test]
fn layers_that_did_not_run_or_run_inside_other_operators_are_named() {
    let vs = VarStore::new(Device::Cpu);
    let root = vs.root();
    let first = nn::conv2d(&root / "first", 3, 6, 3, Default::default());
    let _idle = nn::linear(&root / "aux" / "head", 6, 4, Default::default());
    let position = root.var("position", &[1, 6, 6, 6], RANDOM);
    let table = root.var("table", &[6, 5], RANDOM);
    let bias = nn::linear(&root / "bias", 5, 6, nn::LinearConfig { bias: false, ..Default::default() });
    let cell = nn::gru(&root / "cell", 6, 6, Default::default());
    let last = nn::linear(&root / "last", 6, 2, Default::default());
    let net = nn::func(move |x| {
        let maps = x.apply(&first).relu() + &position;
        let tokens = maps.flatten(2, 3).transpose(1, 2).contiguous();
        let shift = table.apply(&bias).mean_dim(0, false, Kind::Float);
        let (read, _) = nn::RNN::seq(&cell, &(tokens + shift));
        read.mean_dim([1i64].as_slice(), false, Kind::Float).apply(&last)
    });
    let model = Model::new(&vs, &net);
    let traced = Traced::new(&model, &images(1, 8, 8)).unwrap();
    let named: Vec<(&str, &str)> =
        traced.unread_layers().iter().map(|l| (l.layer.as_str(), l.reason.as_str())).collect();
    let reason = |layer: &str| named.iter().find(|(name, _)| *name == layer).map(|(_, why)| *why).unwrap_or_default();
    assert!(reason("aux.head").contains("did not run"), "{named:?}");
    assert!(reason("cell").contains("recurrent"), "{named:?}");
    assert!(reason("bias").contains("does not depend on the image"), "{named:?}");
    assert_eq!(named.len(), 3, "positions and tables are no layers: {named:?}");
    let coverage = traced.coverage(&model, &traced.select(&["auto"]).unwrap());
    assert_eq!((coverage.layers, coverage.audited, coverage.left_out.as_slice()), (5, 1, &["last".to_string()][..]));
    let held = 6 * 4 + 4 + (6 * 6 * 3 + 6 * 3) * 2 + 5 * 6;
    assert_eq!(coverage.unaudited_parameters(), held as u64);
    let error = traced.select(&["cell"]).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("recurrent"), "{error}");
}
