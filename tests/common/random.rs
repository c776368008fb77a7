//! Small random networks, put together from the patterns that networks are made of.

use fastrand::Rng;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use tch::nn::{self, Module, ModuleT, VarStore};
use tch::{Device, Kind, Tensor};

/// One block of a network: which pattern, and the seed of its details.
pub type Block = (usize, u64);

/// A network: blocks between a stem and a head.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub blocks: Vec<Block>,
    pub head: usize,
    pub seed: u64,
}

/// A network, its variables, and the tensors that it holds beside them.
pub struct Net {
    pub vs: VarStore,
    /// Captured in closures, in no store.
    pub constants: Vec<Tensor>,
    /// What it is made of.
    pub text: String,
    pub input: Tensor,
    forward: Vec<Forward>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl ModuleT for Net {
    fn forward_t(&self, xs: &Tensor, _train: bool) -> Tensor {
        self.forward.iter().fold(xs.shallow_clone(), |x, f| f(&x))
    }
}

type Forward = Box<dyn Fn(&Tensor) -> Tensor + Send>;
type Pattern = fn(&mut Build<'_>, i64) -> (Forward, i64);

/// All patterns. The first four are what pruning must never refuse.
pub const PATTERNS: &[(&str, Pattern)] = &[
    ("chain", chain),
    ("residual", residual),
    ("concat", concat),
    ("dense", dense),
    ("gate", gate),
    ("squeeze-excite", squeeze_excite),
    ("grouped", grouped),
    ("depthwise", depthwise),
    ("transposed", transposed),
    ("pixel-shuffle", pixel_shuffle),
    ("channel-shuffle", channel_shuffle),
    ("group-norm", group_norm),
    ("layer-norm", layer_norm),
    ("prelu", prelu),
    ("shared", shared),
    ("per-channel", per_channel),
    ("two-streams", two_streams),
    ("attention", attention),
    ("mlp", mlp),
    ("across", across),
    ("in-place", in_place),
    ("stacked", stacked),
    ("products", products),
];

/// How many of [`PATTERNS`] must never be refused.
pub const PLAIN: usize = 4;

pub const HEADS: usize = 6;

/// A block in the making.
pub struct Build<'a> {
    p: nn::Path<'a>,
    rng: Rng,
    constants: Vec<Tensor>,
    text: String,
    /// Height and width where the block begins.
    size: (i64, i64),
}

impl Build<'_> {
    fn say(&mut self, what: impl fmt::Display) {
        self.text += &format!(" {what}");
    }

    fn coin(&mut self) -> bool {
        self.rng.bool()
    }

    fn width(&mut self) -> i64 {
        self.rng.i64(2..5) * 4
    }

    fn conv(&mut self, name: &str, from: i64, to: i64, kernel: i64, stride: i64, groups: i64) -> nn::Conv2D {
        let bias = self.coin();
        let config = nn::ConvConfig { stride, padding: kernel / 2, groups, bias, ..Default::default() };
        nn::conv2d(&self.p / name, from, to, kernel, config)
    }

    fn batch_norm(&self, name: &str, c: i64) -> Forward {
        let norm = nn::batch_norm2d(&self.p / name, c, Default::default());
        Box::new(move |x| norm.forward_t(x, false))
    }

    fn linear(&mut self, name: &str, from: i64, to: i64) -> nn::Linear {
        let bias = self.coin();
        nn::linear(&self.p / name, from, to, nn::LinearConfig { bias, ..Default::default() })
    }

    fn activation(&mut self) -> fn(&Tensor) -> Tensor {
        type Activation = (&'static str, fn(&Tensor) -> Tensor);
        const ALL: &[Activation] = &[
            ("relu", |x| x.relu()),
            ("relu", |x| x.relu()),
            ("relu_", |x| x.shallow_clone().relu_()),
            ("gelu", |x| x.gelu("none")),
            ("silu", |x| x.silu()),
            ("tanh", |x| x.tanh()),
            ("sigmoid", |x| x.sigmoid()),
            ("softplus", |x| x.softplus()),
            ("leaky_relu", |x| x.leaky_relu()),
            ("elu", |x| x.elu()),
            ("hardswish", |x| x.hardswish()),
            ("clamp", |x| x.clamp(0.1, 6.0)),
            ("exp", |x| x.clamp_max(2.0).exp()),
            ("1 - x", |x| -x + 1.0),
        ];
        let (name, f) = ALL[self.rng.usize(..ALL.len())];
        self.say(name);
        f
    }

    /// Convolution, usually a batch norm, an activation.
    fn unit(&mut self, name: &str, from: i64, to: i64, kernel: i64, stride: i64) -> Forward {
        let conv = self.conv(&format!("{name}_conv"), from, to, kernel, stride, 1);
        let norm = (self.rng.u8(..4) > 0).then(|| self.batch_norm(&format!("{name}_bn"), to));
        let f = self.activation();
        Box::new(move |x| {
            let x = conv.forward(x);
            f(&norm.as_ref().map_or_else(|| x.shallow_clone(), |n| n(&x)))
        })
    }

    fn constant(&mut self, shape: &[i64]) -> Tensor {
        let constant = Tensor::rand(shape, (Kind::Float, Device::Cpu)) + 0.5;
        self.constants.push(constant.shallow_clone());
        constant
    }
}

fn chain(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (to, kernel, stride) = (b.width(), b.rng.i64(0..2) * 2 + 1, b.rng.i64(1..3));
    let unit = b.unit("a", c, to, kernel, stride);
    let pool: fn(&Tensor) -> Tensor = match b.rng.u8(..4) {
        0 => |x| x.max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false),
        1 => |x| x.avg_pool2d([3, 3], [2, 2], [1, 1], false, true, None),
        _ => Tensor::shallow_clone,
    };
    (Box::new(move |x| pool(&unit(x))), to)
}

fn residual(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let projected = b.coin();
    let (to, stride) = if projected { (b.width(), b.rng.i64(1..3)) } else { (c, 1) };
    let inner = b.width();
    let first = b.unit("a", c, inner, 3, stride);
    let second = b.conv("b_conv", inner, to, 3, 1, 1);
    let norm = b.batch_norm("b_bn", to);
    let skip = projected.then(|| (b.conv("skip", c, to, 1, stride, 1), b.batch_norm("skip_bn", to)));
    let f = b.activation();
    let how = b.rng.u8(..3);
    b.say(if projected { "projected" } else { "identity" });
    let forward = move |x: &Tensor| {
        let skipped = skip.as_ref().map_or_else(|| x.shallow_clone(), |(conv, norm)| norm(&conv.forward(x)));
        let y = norm(&second.forward(&first(x)));
        f(&match how {
            0 => skipped + y,
            1 => y + skipped,
            _ => y.shallow_clone().g_add_(&skipped),
        })
    };
    (Box::new(forward), to)
}

fn concat(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let mut branches: Vec<Forward> = Vec::new();
    let mut to = 0;
    for i in 0..b.rng.usize(2..5) {
        let (width, name) = (b.width(), format!("branch{i}"));
        let (branch, width): (Forward, i64) = match b.rng.u8(..4) {
            0 => (b.unit(&name, c, width, 1, 1), width),
            1 => (b.unit(&name, c, width, 3, 1), width),
            2 => {
                let unit = b.unit(&name, c, width, 1, 1);
                (Box::new(move |x| unit(&x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false))), width)
            }
            _ => (Box::new(Tensor::shallow_clone), c),
        };
        branches.push(branch);
        to += width;
    }
    let join = b.unit("join", to, 8, 1, 1);
    (Box::new(move |x| join(&Tensor::cat(&branches.iter().map(|f| f(x)).collect::<Vec<_>>(), 1))), 8)
}

fn dense(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let growth = 8;
    let layers: Vec<(Forward, Forward)> = (0..b.rng.i64(2..4))
        .map(|i| {
            let width = c + growth * i;
            (b.batch_norm(&format!("bn{i}"), width), b.unit(&format!("layer{i}"), width, growth, 3, 1))
        })
        .collect();
    let to = c + growth * layers.len() as i64;
    let join = b.unit("join", to, 12, 1, 1);
    let forward = move |x: &Tensor| {
        let x = layers
            .iter()
            .fold(x.shallow_clone(), |x, (norm, f)| Tensor::cat(&[x.shallow_clone(), f(&norm(&x).relu())], 1));
        join(&x)
    };
    (Box::new(forward), 12)
}

fn gate(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let half = b.width();
    let conv = b.conv("conv", c, 2 * half, 3, 1, 1);
    let how = b.rng.u8(..7);
    b.say(["split", "chunk", "narrow", "narrow by size", "glu", "slice", "unbind"][how as usize]);
    let forward = move |x: &Tensor| {
        let x = conv.forward(x);
        let halves = |x: &Tensor| {
            let size = x.size()[1];
            (x.narrow(1, 0, size / 2), x.narrow(1, size / 2, size - size / 2))
        };
        let pair = |mut all: Vec<Tensor>| {
            let second = all.pop().unwrap();
            (all.pop().unwrap(), second)
        };
        let (a, g) = match how {
            0 => pair(x.split(half, 1)),
            1 => pair(x.chunk(2, 1)),
            2 => (x.narrow(1, 0, half), x.narrow(1, half, half)),
            3 => halves(&x),
            4 => return x.glu(1),
            5 => (x.slice(1, None, half, 1), x.slice(1, half, None, 1)),
            _ => {
                let (n, h, w) = (x.size()[0], x.size()[2], x.size()[3]);
                pair(x.reshape([n, 2, -1, h, w]).unbind(1))
            }
        };
        a * g.sigmoid()
    };
    (Box::new(forward), half)
}

fn squeeze_excite(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let linear = b.coin();
    let hard = b.coin();
    b.say(if linear { "linear" } else { "conv" });
    if linear {
        let (down, up) = (b.linear("down", c, 4), b.linear("up", 4, c));
        let forward = move |x: &Tensor| {
            let s = up.forward(&down.forward(&x.mean_dim([2, 3].as_slice(), false, None::<Kind>)).relu());
            let s = if hard { s.hardsigmoid() } else { s.sigmoid() };
            x * s.unsqueeze(-1).unsqueeze(-1)
        };
        return (Box::new(forward), c);
    }
    let (down, up) = (b.conv("down", c, 4, 1, 1, 1), b.conv("up", 4, c, 1, 1, 1));
    let forward = move |x: &Tensor| {
        let s = up.forward(&down.forward(&x.adaptive_avg_pool2d([1, 1])).silu());
        x * if hard { s.hardsigmoid() } else { s.sigmoid() }
    };
    (Box::new(forward), c)
}

fn grouped(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (inner, to) = (b.width(), b.width());
    let groups = [2, 4][b.rng.usize(..2)];
    let before = b.unit("before", c, inner, 1, 1);
    let conv = b.conv("conv", inner, to, 3, 1, groups);
    let norm = b.batch_norm("bn", to);
    let after = b.conv("after", to, 8, 1, 1, 1);
    b.say(format!("groups {groups}"));
    (Box::new(move |x| after.forward(&norm(&conv.forward(&before(x))).relu())), 8)
}

fn depthwise(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (inner, times) = (b.width(), b.rng.i64(1..3));
    let expand = b.unit("expand", c, inner, 1, 1);
    let conv = b.conv("conv", inner, inner * times, 3, 1, inner);
    let by_size = b.coin();
    let norm = b.batch_norm("bn", inner * times);
    let project = b.conv("project", inner * times, c, 1, 1, 1);
    let skip = b.coin();
    b.say(if by_size { "groups by size" } else { "groups in code" });
    let forward = move |x: &Tensor| {
        let h = expand(x);
        let h = if by_size {
            let groups = h.size()[1];
            h.conv2d(&conv.ws, conv.bs.as_ref(), [1, 1], [1, 1], [1, 1], groups)
        } else {
            conv.forward(&h)
        };
        let y = project.forward(&norm(&h).relu());
        if skip { x + y } else { y }
    };
    (Box::new(forward), c)
}

fn transposed(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (inner, to) = (b.width(), b.width());
    let groups = [1, 1, 2][b.rng.usize(..3)];
    let before = b.unit("before", c, inner, 1, 1);
    let (kernel, stride, padding) = if b.size.0 > 8 { (3, 1, 1) } else { (2, 2, 0) };
    let bias = b.coin();
    let config = nn::ConvTransposeConfig { stride, padding, groups, bias, ..Default::default() };
    let up = nn::conv_transpose2d(&b.p / "up", inner, to, kernel, config);
    let norm = b.batch_norm("bn", to);
    let f = b.activation();
    b.say(format!("groups {groups}"));
    (Box::new(move |x| f(&norm(&up.forward(&before(x))))), to)
}

fn pixel_shuffle(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    if b.size.0 % 2 == 0 && b.size.1 % 2 == 0 && b.coin() {
        let (before, after) = (b.unit("before", c, 4, 1, 1), b.unit("after", 16, 8, 1, 1));
        b.say("unshuffle");
        return (Box::new(move |x| after(&before(x).pixel_unshuffle(2))), 8);
    }
    let to = b.width();
    let conv = b.conv("conv", c, 4 * to, 1, 2, 1);
    (Box::new(move |x| conv.forward(x).pixel_shuffle(2).relu()), to)
}

fn channel_shuffle(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let (before, after) = (b.unit("before", c, to, 1, 1), b.conv("after", to, to, 3, 1, 1));
    let how = b.rng.u8(..3);
    b.say(["operator", "sizes in code", "sizes from tensor"][how as usize]);
    let forward = move |x: &Tensor| {
        let x = before(x);
        let (n, c, h, w) = x.size4().unwrap();
        after.forward(&match how {
            0 => x.channel_shuffle(2),
            1 => x.reshape([n, 2, to / 2, h, w]).transpose(1, 2).reshape([n, to, h, w]),
            _ => x.reshape([n, 2, c / 2, h, w]).transpose(1, 2).flatten(1, 2),
        })
    };
    (Box::new(forward), to)
}

fn group_norm(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let conv = b.conv("conv", c, to, 3, 1, 1);
    let how = b.rng.u8(..4);
    let groups = [2, 4, to, 0][how as usize];
    b.say(format!("{groups} of {to}"));
    if how == 3 {
        let (scale, shift) = (b.p.randn("scale", &[to], 1.0, 0.3), b.p.randn("shift", &[to], 0.0, 0.3));
        let nothing = || None::<&Tensor>;
        let forward = move |x: &Tensor| {
            conv.forward(x)
                .instance_norm(Some(&scale), Some(&shift), nothing(), nothing(), true, 0.1, 1e-3, false)
                .relu()
        };
        return (Box::new(forward), to);
    }
    let norm = nn::group_norm(&b.p / "gn", groups, to, Default::default());
    let f = b.activation();
    (Box::new(move |x| f(&norm.forward(&conv.forward(x)))), to)
}

/// A block with its channels last.
fn layer_norm(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let groups = if b.coin() { c } else { 1 };
    let conv = b.conv("conv", c, c, 3, 1, groups);
    let norm = nn::layer_norm(&b.p / "ln", vec![c], Default::default());
    let inner = b.width();
    let (up, down) = (b.linear("up", c, inner), b.linear("down", inner, c));
    let gamma = b.p.randn("gamma", &[c], 1.0, 0.3);
    let f = b.activation();
    let forward = move |x: &Tensor| {
        let y = norm.forward(&conv.forward(x).permute([0, 2, 3, 1]));
        x + (down.forward(&f(&up.forward(&y))) * &gamma).permute([0, 3, 1, 2])
    };
    (Box::new(forward), c)
}

fn prelu(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let conv = b.conv("conv", c, to, 3, 1, 1);
    let one = b.coin();
    b.say(if one { "one slope" } else { "slopes" });
    let slopes = b.p.randn("slopes", &[if one { 1 } else { to }], 0.3, 0.1);
    (Box::new(move |x| conv.forward(x).prelu(&slopes)), to)
}

fn shared(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let how = b.rng.u8(..4);
    b.say(["twice", "two inputs", "tied", "norm twice"][how as usize]);
    match how {
        0 => {
            let conv = b.conv("conv", c, c, 3, 1, 1);
            let f = b.activation();
            (Box::new(move |x| f(&conv.forward(&conv.forward(x).relu()))), c)
        }
        1 => {
            let (one, other) = (b.unit("one", c, 8, 1, 1), b.unit("other", c, 8, 3, 1));
            let conv = b.conv("conv", 8, 12, 1, 1, 1);
            (Box::new(move |x| conv.forward(&one(x)) + conv.forward(&other(x)).tanh()), 12)
        }
        2 => {
            let weight = b.p.randn("weight", &[10, c], 0.0, 0.3);
            let forward = move |x: &Tensor| {
                let h = x.permute([0, 2, 3, 1]).linear(&weight, None::<Tensor>).relu();
                h.matmul(&weight).permute([0, 3, 1, 2])
            };
            (Box::new(forward), c)
        }
        _ => {
            let (one, other) = (b.conv("one", c, 8, 1, 1, 1), b.conv("other", c, 8, 3, 1, 1));
            let norm = b.batch_norm("bn", 8);
            (Box::new(move |x| Tensor::cat(&[norm(&one.forward(x)), norm(&other.forward(x)).relu()], 1)), 16)
        }
    }
}

fn per_channel(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let conv = b.conv("conv", c, to, 3, 1, 1);
    let how = b.rng.u8(..7);
    b.say(["scale", "shift", "constant", "vector constant", "made in passing", "map", "registers"][how as usize]);
    let forward: Forward = match how {
        0 => {
            let scale = b.p.randn("scale", &[to], 1.0, 0.3);
            Box::new(move |x| conv.forward(x) * scale.view([1, -1, 1, 1]))
        }
        1 => {
            let shift = b.p.randn("shift", &[to, 1, 1], 0.0, 0.3);
            Box::new(move |x| conv.forward(x).relu() + &shift)
        }
        2 => {
            let constant = b.constant(&[1, to, 1, 1]);
            Box::new(move |x| conv.forward(x).relu() * &constant)
        }
        3 => {
            let constant = b.constant(&[to]);
            Box::new(move |x| conv.forward(x) / constant.unsqueeze(-1).unsqueeze(-1))
        }
        4 => {
            let numbers: Vec<f32> = (0..to).map(|i| 0.5 + i as f32 / 8.0).collect();
            Box::new(move |x| conv.forward(x) * Tensor::from_slice(&numbers).view([to, 1, 1]))
        }
        5 => {
            let (h, w) = b.size;
            let map = b.p.randn("map", &[1, to, h, w], 0.0, 0.3);
            Box::new(move |x| conv.forward(x) + &map)
        }
        _ => {
            let more = b.p.randn("more", &[1, 4, 1, 1], 0.0, 0.3);
            let join = b.conv("join", to + 4, to, 1, 1, 1);
            Box::new(move |x| {
                let (n, _, h, w) = x.size4().unwrap();
                join.forward(&Tensor::cat(&[more.expand([n, -1, h, w], false), conv.forward(x)], 1))
            })
        }
    };
    (forward, to)
}

fn two_streams(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let width = b.width();
    let by_split = b.coin();
    b.say(if by_split { "halves" } else { "two layers" });
    let stem = b.conv("stem", c, 2 * width, 1, 1, 1);
    let (left, right) = (b.conv("left", c, width, 1, 1, 1), b.conv("right", c, width, 1, 1, 1));
    let (f, g) = (b.unit("f", width, width, 3, 1), b.unit("g", width, width, 3, 1));
    let add = b.coin();
    let forward = move |x: &Tensor| {
        let (a, c) = if by_split {
            let mut halves = stem.forward(x).chunk(2, 1);
            let second = halves.pop().unwrap();
            (halves.pop().unwrap(), second)
        } else {
            (left.forward(x), right.forward(x))
        };
        let a = &a + f(&c);
        let c = &c + g(&a);
        if add { Tensor::cat(&[&a + &c, a], 1) } else { Tensor::cat(&[a, c], 1) }
    };
    (Box::new(forward), 2 * width)
}

fn tokens(x: &Tensor) -> Tensor {
    x.flatten(2, 3).transpose(1, 2)
}

fn attention(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (heads, width) = ([2, 4][b.rng.usize(..2)], 4);
    let dim = heads * width;
    let (how, fused, residual, normed) = (b.rng.u8(..5), b.coin(), b.coin(), b.coin());
    let (join, scale) = (b.rng.u8(..3), b.rng.u8(..3));
    b.say(["qkv 3 h d", "qkv 3 -1 d", "qkv chunks -1 d", "q k v h d", "q k v -1 d"][how as usize]);
    b.say(format!("fused {fused} residual {residual} norm {normed} join {join} scale {scale}"));
    let norm = normed.then(|| nn::layer_norm(&b.p / "norm", vec![c], Default::default()));
    let qkv = (how < 3).then(|| b.linear("qkv", c, 3 * dim));
    let three = (how >= 3).then(|| ["q", "k", "v"].map(|n| b.linear(n, c, dim)));
    let proj = b.linear("proj", dim, c);
    let forward = move |x: &Tensor| {
        let (n, _, h, w) = x.size4().unwrap();
        let (own, t) = (tokens(x), h * w);
        let y = norm.as_ref().map_or_else(|| own.shallow_clone(), |norm| norm.forward(&own));
        let mut parts = match (how, &qkv, &three) {
            (0, Some(qkv), _) => qkv.forward(&y).reshape([n, t, 3, heads, width]).permute([2, 0, 3, 1, 4]).unbind(0),
            (1, Some(qkv), _) => qkv.forward(&y).reshape([n, t, 3, -1, width]).permute([2, 0, 3, 1, 4]).unbind(0),
            (_, Some(qkv), _) => {
                let chunks = qkv.forward(&y).chunk(3, -1);
                chunks.iter().map(|c| c.reshape([n, t, -1, width]).transpose(1, 2)).collect()
            }
            (_, _, Some(three)) => {
                let heads = if how == 3 { heads } else { -1 };
                three.iter().map(|l| l.forward(&y).view([n, t, heads, width]).transpose(1, 2)).collect()
            }
            _ => unreachable!(),
        };
        let (v, k, q) = (parts.pop().unwrap(), parts.pop().unwrap(), parts.pop().unwrap());
        let factor = match scale {
            0 => (width as f64).powf(-0.5),
            1 => (*q.size().last().unwrap() as f64).powf(-0.5),
            _ => 0.5,
        };
        let out = if fused {
            let given = if scale == 2 { Some(factor) } else { None };
            Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, given, false)
        } else {
            (q * factor).matmul(&k.transpose(-2, -1)).softmax(-1, None::<Kind>).matmul(&v)
        };
        let out = out.transpose(1, 2);
        let joined = match join {
            0 => out.reshape([n, t, dim]),
            1 => out.reshape([n, t, -1]),
            _ => out.flatten(2, 3),
        };
        let y = proj.forward(&joined);
        let y = if residual { own + y } else { y };
        y.transpose(1, 2).reshape([n, -1, h, w])
    };
    (Box::new(forward), c)
}

fn mlp(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let inner = b.width();
    let (up, down) = (b.linear("up", c, inner), b.linear("down", inner, c));
    let f = b.activation();
    let how = b.rng.u8(..3);
    b.say(["plain", "residual", "gated"][how as usize]);
    let gate = b.linear("gate", c, inner);
    let forward = move |x: &Tensor| {
        let (_, _, h, w) = x.size4().unwrap();
        let t = tokens(x);
        let y = match how {
            0 => down.forward(&f(&up.forward(&t))),
            1 => &t + down.forward(&f(&up.forward(&t))),
            _ => down.forward(&(f(&gate.forward(&t)) * up.forward(&t))),
        };
        y.transpose(1, 2).unflatten(2, [h, w])
    };
    (Box::new(forward), c)
}

/// What runs over channels or moves positions.
fn across(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let unit = b.unit("a", c, to, 3, 1);
    let how = b.rng.u8(..9);
    b.say(["mean", "max", "softmax", "pad", "flip", "roll channels", "resize", "norm", "channel pad"][how as usize]);
    let conv = b.conv("spatial", 1, 1, 3, 1, 1);
    let wide = b.conv("wide", to + 4, to, 1, 1, 1);
    let forward = move |x: &Tensor| {
        let x = unit(x);
        match how {
            0 => &x * conv.forward(&x.mean_dim([1].as_slice(), true, None::<Kind>)).sigmoid(),
            1 => &x * conv.forward(&x.amax([1], true)).sigmoid(),
            2 => x.softmax(1, None::<Kind>),
            3 => x.constant_pad_nd([1, 1, 0, 1]),
            4 => x.flip([3]),
            5 => x.roll([1], [1]),
            6 => x.upsample_nearest2d([6, 7], None, None),
            7 => &x / (x.norm_scalaropt_dim(2.0, [1], true) + 1.0),
            _ => wide.forward(&x.constant_pad_nd([0, 0, 0, 0, 2, 2])),
        }
    };
    (Box::new(forward), to)
}

/// Memory that is written to.
fn in_place(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let (conv, other) = (b.conv("conv", c, to, 3, 1, 1), b.conv("other", c, to, 1, 1, 1));
    let how = b.rng.u8(..5);
    b.say(["add_", "half of it", "into zeros", "view relu_", "mul_ of an input"][how as usize]);
    let half = to / 2;
    let after = b.conv("after", to, to, 1, 1, 1);
    let forward = move |x: &Tensor| {
        let (mut y, z) = (conv.forward(x), other.forward(x));
        let y = match how {
            0 => y.relu_().g_add_(&z).tanh_(),
            1 => {
                let _ = y.narrow(1, 0, half).g_add_(&z.narrow(1, 0, half));
                y
            }
            2 => {
                let all = y.zeros_like();
                all.narrow(1, 0, half).copy_(&y.narrow(1, 0, half));
                all.narrow(1, half, half).copy_(&z.narrow(1, half, half));
                all
            }
            3 => {
                y = y.contiguous();
                let _ = y.view([x.size()[0], -1]).relu_();
                y
            }
            _ => {
                let s = z.mean_dim([2, 3].as_slice(), true, None::<Kind>);
                y.shallow_clone().g_mul_(&s)
            }
        };
        after.forward(&y)
    };
    (Box::new(forward), to)
}

/// Branches in a dimension of their own.
fn stacked(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let to = b.width();
    let (one, other) = (b.unit("one", c, to, 3, 1), b.unit("other", c, to, 1, 1));
    let both = b.conv("both", c, 2 * to, 1, 1, 1);
    let how = b.rng.u8(..5);
    b.say(["sum", "max", "weighted", "maxout", "repeat"][how as usize]);
    let weights = b.p.randn("weights", &[2], 0.0, 1.0);
    let join = b.conv("join", 2 * to, to, 1, 1, 1);
    let forward = move |x: &Tensor| {
        let pair = || Tensor::stack(&[one(x), other(x)], 1);
        let (n, _, h, w) = x.size4().unwrap();
        match how {
            0 => pair().sum_dim_intlist([1].as_slice(), false, None::<Kind>),
            1 => pair().max_dim(1, false).0,
            2 => (pair() * weights.softmax(0, None::<Kind>).view([1, 2, 1, 1, 1])).sum_dim_intlist(
                [1].as_slice(),
                false,
                None::<Kind>,
            ),
            3 => both.forward(x).reshape([n, -1, 2, h, w]).amax([2], false),
            _ => join.forward(&one(x).repeat([1, 2, 1, 1])),
        }
    };
    (Box::new(forward), to)
}

/// Products of activations with activations.
fn products(b: &mut Build<'_>, c: i64) -> (Forward, i64) {
    let (width, to) = (b.width(), b.width());
    let (q, k, v) = (b.conv("q", c, width, 1, 1, 1), b.conv("k", c, width, 1, 1, 1), b.conv("v", c, to, 1, 1, 1));
    let mixed = b.linear("mixed", width, to);
    let how = b.rng.u8(..4);
    b.say(["positions", "channels", "gram", "einsum"][how as usize]);
    let forward = move |x: &Tensor| {
        let (_, _, h, w) = x.size4().unwrap();
        let (q, k, v) = (q.forward(x).flatten(2, 3), k.forward(x).flatten(2, 3), v.forward(x).flatten(2, 3));
        let y = match how {
            // [n, t, t] over positions
            0 => v.bmm(&(q.transpose(1, 2).bmm(&k) * 0.3).softmax(-1, None::<Kind>).transpose(1, 2)),
            // [n, c, c] over channels
            1 => {
                let scores = (q.bmm(&k.transpose(1, 2)) * 0.1).softmax(-1, None::<Kind>);
                mixed.forward(&scores.bmm(&k).transpose(1, 2)).transpose(1, 2)
            }
            2 => {
                let gram = q.bmm(&k.transpose(1, 2)) / ((h * w) as f64);
                let summary = mixed.forward(&gram).mean_dim([1].as_slice(), false, None::<Kind>);
                v * summary.unsqueeze(-1)
            }
            _ => {
                let scores = Tensor::einsum("nct,ncs->nts", &[&q, &k], None::<i64>).tanh();
                Tensor::einsum("nts,ncs->nct", &[&scores, &v], None::<i64>)
            }
        };
        y.unflatten(2, [h, w])
    };
    (Box::new(forward), to)
}

fn head(b: &mut Build<'_>, which: usize, c: i64) -> Forward {
    let (h, w) = b.size;
    let name = ["pool", "flatten", "mean and hidden", "map", "max", "flatten and norm"][which];
    b.say(name);
    match which {
        0 => {
            let fc = b.linear("fc", c, 5);
            Box::new(move |x| fc.forward(&x.adaptive_avg_pool2d([1, 1]).flat_view()))
        }
        1 => {
            let fc = b.linear("fc", c * h * w, 5);
            Box::new(move |x| fc.forward(&x.flatten(1, -1)))
        }
        2 => {
            let (hidden, fc) = (b.linear("hidden", c, 10), b.linear("fc", 10, 5));
            let f = b.activation();
            Box::new(move |x| fc.forward(&f(&hidden.forward(&x.mean_dim([2, 3].as_slice(), false, None::<Kind>)))))
        }
        3 => {
            let conv = b.conv("map", c, 3, 1, 1, 1);
            Box::new(move |x| conv.forward(x))
        }
        4 => {
            let fc = b.linear("fc", c, 5);
            Box::new(move |x| fc.forward(&x.amax([2, 3], false)).log_softmax(-1, None::<Kind>))
        }
        _ => {
            let (hidden, fc) = (b.linear("hidden", c * h * w, 10), b.linear("fc", 10, 5));
            let norm = nn::batch_norm1d(&b.p / "bn", 10, Default::default());
            Box::new(move |x| fc.forward(&norm.forward_t(&hidden.forward(&x.flatten(1, -1)), false).relu()))
        }
    }
}

/// Builds a network of a recipe, with random weights and random statistics.
pub fn build(recipe: &Recipe) -> Net {
    // One generator for all threads: the same recipe gives the same network.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(recipe.seed as i64);
    let vs = VarStore::new(Device::Cpu);
    let mut rng = Rng::with_seed(recipe.seed);
    let input = Tensor::randn([rng.i64(1..4), 3, 8, 10], (Kind::Float, Device::Cpu));
    let mut forward: Vec<Forward> = Vec::new();
    let (mut constants, mut text) = (Vec::new(), format!("batch {}", input.size()[0]));
    let mut x = input.shallow_clone();
    let mut c = 3;
    let stem = (0, rng.u64(..));
    for (i, (which, seed)) in std::iter::once(&stem).chain(&recipe.blocks).enumerate() {
        let (name, pattern) = PATTERNS[*which];
        let (_, _, h, w) = x.size4().unwrap();
        let p = vs.root() / format!("b{i}");
        let rng = Rng::with_seed(*seed);
        let mut b = Build { p, rng, constants, text: text + &format!("; {name}:"), size: (h, w) };
        let (f, to) = pattern(&mut b, c);
        x = tch::no_grad(|| f(&x));
        (c, constants, text) = (to, b.constants, b.text);
        assert_eq!(x.size()[1], c, "{text}");
        forward.push(f);
    }
    let (_, _, h, w) = x.size4().unwrap();
    let mut b = Build { p: vs.root() / "head", rng, constants, text: text + "; head:", size: (h, w) };
    forward.push(head(&mut b, recipe.head, c));
    let (constants, text) = (b.constants, b.text);
    randomise(&vs);
    Net { vs, constants, text, input, forward }
}

/// Fresh normalisations scale by 1 and shift by 0: that hides mistakes.
pub fn randomise(vs: &VarStore) {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    tch::no_grad(|| {
        for (name, mut t) in variables {
            if t.dim() == 1 {
                let scale = name.ends_with("var") || name.ends_with("weight");
                let _ = if scale { t.uniform_(0.5, 1.5) } else { t.normal_(0.2, 0.5) };
            }
        }
    });
}
