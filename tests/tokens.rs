//! Transformers: where every token of a patch grid lies, and heads and hidden units that are masked, zeroed and pruned.

use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor};
use tch_audit::Traced;
use tch_audit::edit::{NoOptimizer, PrunePlan, ZeroPlan};
use tch_audit::graph::{Layout, Mask, SiteKind};
use tch_audit::{Error, Model, UnitId};

/// One class token and four registers.
const PREFIX: i64 = 5;
const PATCH: i64 = 4;
/// Rows and columns of the patch grid, of an image of 12 x 20.
const GRID: (i64, i64) = (3, 5);
const DIM: i64 = 12;
const HEADS: i64 = 3;
const HIDDEN: i64 = 20;

/// How a block tells its heads apart.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Heads {
    /// One layer for q, k and v, reshaped to `[B, N, 3, h, d]` with numbers from the code, and an explicit softmax.
    Fused,
    /// Three layers, heads counted by the code, and `scaled_dot_product_attention`.
    Separate,
    /// As `Fused`, with the number of heads left to the tensors.
    FusedCounted,
    /// As `Separate`, with the number of heads left to the tensors.
    SeparateCounted,
}

const ALL: [Heads; 4] = [Heads::Fused, Heads::Separate, Heads::FusedCounted, Heads::SeparateCounted];

#[derive(Debug)]
struct Block {
    norms: [nn::LayerNorm; 2],
    /// One layer or three.
    qkv: Vec<nn::Linear>,
    proj: nn::Linear,
    fc1: nn::Linear,
    fc2: nn::Linear,
    heads: Heads,
}

impl Block {
    fn new(p: &nn::Path, heads: Heads) -> Self {
        let norm = |name: &str| nn::layer_norm(p / name, vec![DIM], Default::default());
        let linear = |p: nn::Path, from, to| nn::linear(p, from, to, Default::default());
        let attn = p / "attn";
        let qkv = match heads {
            Heads::Fused | Heads::FusedCounted => vec![linear(&attn / "qkv", DIM, 3 * DIM)],
            Heads::Separate | Heads::SeparateCounted => ["q", "k", "v"].map(|n| linear(&attn / n, DIM, DIM)).into(),
        };
        let mlp = p / "mlp";
        Self {
            norms: [norm("norm1"), norm("norm2")],
            qkv,
            proj: linear(&attn / "proj", DIM, DIM),
            fc1: linear(&mlp / "fc1", DIM, HIDDEN),
            fc2: linear(&mlp / "fc2", HIDDEN, DIM),
            heads,
        }
    }

    fn attention(&self, x: &Tensor) -> Tensor {
        let (b, n, _) = x.size3().unwrap();
        let width = DIM / HEADS;
        let own = |l: &nn::Linear, heads| l.forward(x).view([b, n, heads, width]).transpose(1, 2);
        let (q, k, v) = match (self.heads, self.qkv.as_slice()) {
            (Heads::Fused | Heads::FusedCounted, [qkv]) => {
                let heads = if self.heads == Heads::Fused { HEADS } else { -1 };
                let all = qkv.forward(x).reshape([b, n, 3, heads, width]).permute([2, 0, 3, 1, 4]);
                (all.get(0), all.get(1), all.get(2))
            }
            (Heads::Separate, [q, k, v]) => (own(q, HEADS), own(k, HEADS), own(v, HEADS)),
            (_, [q, k, v]) => (own(q, -1), own(k, -1), own(v, -1)),
            _ => unreachable!(),
        };
        let out = if matches!(self.heads, Heads::Fused | Heads::FusedCounted) {
            let scores = q.matmul(&k.transpose(-2, -1)) * (width as f64).powf(-0.5);
            scores.softmax(-1, None::<Kind>).matmul(&v)
        } else {
            Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false)
        };
        self.proj.forward(&out.transpose(1, 2).reshape([b, n, -1]))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let x = x + self.attention(&self.norms[0].forward(x));
        &x + self.fc2.forward(&self.fc1.forward(&self.norms[1].forward(&x)).gelu("none"))
    }
}

#[derive(Debug)]
struct Vit {
    patches: nn::Conv2D,
    class: Tensor,
    registers: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: nn::LayerNorm,
    head: nn::Linear,
}

impl Vit {
    fn new(p: &nn::Path, heads: Heads) -> Self {
        let patch = nn::ConvConfig { stride: PATCH, ..Default::default() };
        Self {
            patches: nn::conv2d(p / "patch_embed", 3, DIM, PATCH, patch),
            class: p.randn("cls_token", &[1, 1, DIM], 0.0, 0.5),
            registers: p.randn("registers", &[1, PREFIX - 1, DIM], 0.0, 0.5),
            positions: p.randn("positions", &[1, PREFIX + GRID.0 * GRID.1, DIM], 0.0, 0.5),
            blocks: (0..2).map(|i| Block::new(&(p / "blocks" / i), heads)).collect(),
            norm: nn::layer_norm(p / "norm", vec![DIM], Default::default()),
            head: nn::linear(p / "head", DIM, 4, Default::default()),
        }
    }
}

impl Module for Vit {
    fn forward(&self, x: &Tensor) -> Tensor {
        let n = x.size()[0];
        let x = self.patches.forward(x).flatten(2, 3).transpose(1, 2);
        let first = |t: &Tensor| t.expand([n, -1, -1], false);
        let x = Tensor::cat(&[first(&self.class), first(&self.registers), x], 1) + &self.positions;
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        self.head.forward(&self.norm.forward(&x).select(1, 0))
    }
}

struct Built {
    vs: VarStore,
    net: Vit,
    x: Tensor,
}

fn built(heads: Heads) -> Built {
    let vs = VarStore::new(Device::Cpu);
    let net = Vit::new(&vs.root(), heads);
    // Numbers without a generator: tests run side by side.
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let numbers = |shape: &[i64], seed: f64| {
        let n = shape.iter().product::<i64>();
        ((Tensor::arange(n, (Kind::Float, Device::Cpu)) * 12.9898 + seed).sin() * 43.7585).frac().reshape(shape)
    };
    tch::no_grad(|| {
        for (i, (name, mut t)) in variables.into_iter().enumerate() {
            let lift = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
            t.copy_(&(numbers(&t.size(), i as f64) * 0.6 + lift));
        }
    });
    let x = numbers(&[2, 3, GRID.0 * PATCH, GRID.1 * PATCH], 0.5);
    Built { vs, net, x }
}

fn bytes(model: &Model) -> Vec<Tensor> {
    model.parameters().iter().map(|(_, t)| t.detach().copy()).collect()
}

fn same(before: &[Tensor], model: &Model) -> bool {
    before.iter().zip(model.parameters()).all(|(a, (_, b))| a.size() == b.size() && a.equal(b))
}

fn close(a: &Tensor, b: &Tensor) -> bool {
    a.size() == b.size() && (a - b).abs().max().double_value(&[]) <= 1e-5 * b.abs().max().double_value(&[])
}

fn grid() -> (usize, usize, usize) {
    (PREFIX as usize, GRID.0 as usize, GRID.1 as usize)
}

#[test]
fn a_vision_transformer_has_sites_for_patches_tokens_heads_and_hidden_units() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let (prefix, height, width) = grid();
        let patches = graph.site("patch_embed").unwrap();
        assert_eq!((patches.layout, patches.units), (Layout::FeatureMap, DIM as usize), "{heads:?}");
        assert_eq!(patches.size, (height, width), "{heads:?}");
        for i in 0..2 {
            let site = graph.site(&format!("blocks.{i}.attn@heads")).unwrap();
            assert_eq!(site.kind, SiteKind::Heads);
            assert_eq!(
                (site.layout, site.units),
                (Layout::Heads { prefix, height, width }, HEADS as usize),
                "{heads:?}"
            );
            for (name, units) in [("attn.proj", DIM), ("mlp.fc1", HIDDEN), ("mlp.fc2", DIM)] {
                let site = graph.site(&format!("blocks.{i}.{name}")).unwrap();
                let expected = (Layout::Tokens { prefix, height, width }, units as usize, (height, width));
                assert_eq!((site.layout, site.units, site.size), expected, "{heads:?} {name}");
            }
        }
        // What leaves a block is a stream of tokens as well, though its class token comes from no layer.
        let block = graph.site("blocks.0").unwrap();
        assert_eq!((block.layout, block.units), (Layout::Tokens { prefix, height, width }, DIM as usize), "{heads:?}");
        let head = graph.site("head").unwrap();
        assert_eq!((head.layout, head.units), (Layout::Vector, 4));
    }
}

/// What only depends on one token must show at that token's row and column, and nowhere else.
#[test]
fn every_patch_of_the_image_lights_its_own_row_and_column_of_the_maps() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        // Attention adds nothing: what a token is depends on its own patch alone.
        for block in &net.blocks {
            tch::no_grad(|| {
                let _ = block.proj.ws.shallow_clone().zero_();
                let _ = block.proj.bs.as_ref().unwrap().shallow_clone().zero_();
            });
        }
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let names =
            ["patch_embed", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2@raw", "blocks.1.mlp.fc1@raw", "blocks.1.mlp.fc2"];
        let sites = graph.select(&names).unwrap();
        let dark = Tensor::zeros([1, 3, GRID.0 * PATCH, GRID.1 * PATCH], (Kind::Float, Device::Cpu));
        let maps = |x: &Tensor| {
            let mut maps = Vec::new();
            let _ = graph
                .read(&sites, x, |site, activation| {
                    maps.push((site, sites[site].maps(activation)?.copy()));
                    Ok(())
                })
                .unwrap();
            maps.sort_by_key(|(site, _)| *site);
            maps
        };
        let at_rest = maps(&dark);
        assert_eq!(at_rest.len(), names.len());
        for row in 0..GRID.0 {
            for column in 0..GRID.1 {
                let image = dark.copy();
                let patch = image.narrow(2, row * PATCH, PATCH).narrow(3, column * PATCH, PATCH);
                let _ = patch.shallow_clone().fill_(1.0);
                for ((site, now), (_, before)) in maps(&image).iter().zip(&at_rest) {
                    assert_eq!(now.size()[2..], [GRID.0, GRID.1]);
                    let lit = (now - before).abs().amax([0, 1], false).gt(1e-6).nonzero();
                    let lit = Vec::<Vec<i64>>::try_from(&lit).unwrap();
                    assert_eq!(lit, [[row, column]], "{heads:?}, site {}", sites[*site].name);
                }
            }
        }
    }
}

#[test]
fn what_a_head_returns_at_a_token_shows_at_its_own_row_and_column_as_a_length() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let site = graph.site("blocks.1.attn@heads").unwrap();
        let (tokens, width) = (PREFIX + GRID.0 * GRID.1, DIM / HEADS);
        let _ = graph
            .read(std::slice::from_ref(site), &x, |_, activation| {
                assert_eq!(activation.size(), [2, HEADS, tokens, width]);
                Ok(())
            })
            .unwrap();
        for token in 0..tokens {
            let activation = Tensor::zeros([1, HEADS, tokens, width], (Kind::Float, Device::Cpu));
            let _ = activation.select(1, 1).select(1, token).fill_(3.0);
            let maps = site.maps(&activation).unwrap();
            assert_eq!(maps.size(), [1, HEADS, GRID.0, GRID.1]);
            let lit = Vec::<Vec<i64>>::try_from(&maps.nonzero()).unwrap();
            let place = token - PREFIX;
            let expected = if place < 0 { vec![] } else { vec![vec![0, 1, place / GRID.1, place % GRID.1]] };
            assert_eq!(lit, expected, "{heads:?}, token {token}");
            if place >= 0 {
                let length = maps.max().double_value(&[]);
                assert!((length - 3.0 * (width as f64).sqrt()).abs() < 1e-5, "{length}");
            }
        }
    }
}

#[test]
fn a_masked_head_is_a_head_whose_columns_of_the_projection_are_zero() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let plain = model.forward(&x).unwrap();
        let site = graph.site("blocks.1.attn@heads").unwrap().clone();
        for head in 0..HEADS {
            let mask = Mask { site: site.clone(), units: vec![head as usize] };
            let masked = graph.read_masked(&[], &[mask], &x, |_, _| Ok(())).unwrap();
            let mut weight = net.blocks[1].proj.ws.detach();
            let before = weight.copy();
            let width = DIM / HEADS;
            let _ = weight.narrow(1, head * width, width).zero_();
            let by_hand = model.forward(&x).unwrap();
            weight.copy_(&before);
            assert!(close(&masked, &by_hand) && !close(&masked, &plain), "{heads:?} head {head}");
        }
    }
}

#[test]
fn a_head_is_zeroed_exactly_however_heads_are_counted() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let (before, output) = (bytes(&model), model.forward(&x).unwrap());
        for (block, head) in [(0, 0), (0, 2), (1, 1)] {
            let name = format!("blocks.{block}.attn@heads");
            let site = graph.site(&name).unwrap().clone();
            let plan = ZeroPlan::zero(&graph, &[UnitId::new(&name, head)]).unwrap_or_else(|e| panic!("{heads:?}: {e}"));
            let masked = graph.read_masked(&[], &[Mask { site, units: vec![head] }], &x, |_, _| Ok(())).unwrap();
            let applied = plan.apply(&graph, &x).unwrap_or_else(|e| panic!("{heads:?}: {e}"));
            assert!(close(&model.forward(&x).unwrap(), &masked), "{heads:?} {name}/{head}");
            applied.undo().unwrap();
            assert!(same(&before, &model));
            assert_eq!(model.forward(&x).unwrap(), output);
        }
    }
}

#[test]
fn a_head_is_pruned_where_the_code_counts_heads_from_tensors_and_refused_elsewhere() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let (before, output) = (bytes(&model), model.forward(&x).unwrap());
        let units = [UnitId::new("blocks.0.attn@heads", 1)];
        let done = PrunePlan::new(&graph, &units).and_then(|plan| plan.apply(&graph, &x, NoOptimizer));
        match (heads, done) {
            (Heads::FusedCounted | Heads::SeparateCounted, Ok(pruned)) => {
                let masks = PrunePlan::masks(&graph, &units).unwrap();
                let now = model.forward(&x).unwrap();
                let left = DIM - DIM / HEADS;
                assert_eq!(model.parameter("blocks.0.attn.proj.weight").unwrap().size(), [DIM, left]);
                if heads == Heads::FusedCounted {
                    assert_eq!(model.parameter("blocks.0.attn.qkv.weight").unwrap().size(), [3 * left, DIM]);
                    assert_eq!(model.parameter("blocks.0.attn.qkv.bias").unwrap().size(), [3 * left]);
                } else {
                    for name in ["q", "k", "v"] {
                        let own = |what: &str| model.parameter(&format!("blocks.0.attn.{name}.{what}")).unwrap().size();
                        assert_eq!((own("weight"), own("bias")), (vec![left, DIM], vec![left]));
                    }
                }
                let again = Traced::new(&model, &x).unwrap();
                assert_eq!(again.site("blocks.0.attn@heads").unwrap().units as i64, HEADS - 1);
                assert_eq!(again.site("blocks.1.attn@heads").unwrap().units as i64, HEADS);
                pruned.undo().unwrap();
                let masked = graph.read_masked(&[], &masks, &x, |_, _| Ok(())).unwrap();
                assert!(close(&now, &masked), "{heads:?}");
            }
            (Heads::Fused | Heads::Separate, Err(Error::Refused { .. } | Error::RolledBack { .. })) => {}
            (_, other) => panic!("{heads:?}: {other:?}"),
        }
        assert!(same(&before, &model), "{heads:?}");
        assert_eq!(model.forward(&x).unwrap(), output, "{heads:?}");
    }
}

#[test]
fn hidden_units_of_an_mlp_are_pruned_exactly() {
    for heads in ALL {
        let Built { vs, net, x } = built(heads);
        let model = Model::new(&vs, &net);
        let graph = Traced::new(&model, &x).unwrap();
        let (before, output) = (bytes(&model), model.forward(&x).unwrap());
        let units = [0, 7, 19].map(|u| UnitId::new("blocks.1.mlp.fc1", u));
        let mask = Mask { site: graph.site("blocks.1.mlp.fc1").unwrap().clone(), units: vec![0, 7, 19] };
        let masked = graph.read_masked(&[], &[mask], &x, |_, _| Ok(())).unwrap();
        let plan = PrunePlan::new(&graph, &units).unwrap();
        assert!(plan.relies_on.is_empty(), "{:?}", plan.relies_on);
        let pruned = plan.apply(&graph, &x, NoOptimizer).unwrap();
        assert_eq!(model.parameter("blocks.1.mlp.fc1.weight").unwrap().size(), [HIDDEN - 3, DIM]);
        assert_eq!(model.parameter("blocks.1.mlp.fc1.bias").unwrap().size(), [HIDDEN - 3]);
        assert_eq!(model.parameter("blocks.1.mlp.fc2.weight").unwrap().size(), [DIM, HIDDEN - 3]);
        assert!(close(&model.forward(&x).unwrap(), &masked), "{heads:?}");
        assert!(!close(&masked, &output));
        pruned.undo().unwrap();
        assert!(same(&before, &model));
        assert_eq!(model.forward(&x).unwrap(), output);
    }
}

#[test]
fn a_channel_of_the_token_stream_is_refused_for_its_layer_norms() {
    let Built { vs, net, x } = built(Heads::FusedCounted);
    let model = Model::new(&vs, &net);
    let graph = Traced::new(&model, &x).unwrap();
    for site in ["blocks.0.attn.proj", "blocks.1.mlp.fc2", "patch_embed"] {
        let error = PrunePlan::new(&graph, &[UnitId::new(site, 3)]).unwrap_err();
        let kind = if let Error::Refused { kind, .. } = &error { kind.name() } else { "" };
        assert_eq!(kind, "norm-over-channels", "{site}: {error}");
    }
}
