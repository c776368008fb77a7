//! A forward pass with named tensors: the one view that the rest of the crate has of a user's model.

mod into;
mod outputs;

pub use into::IntoModel;
pub use outputs::Outputs;

use crate::error::first_line;
use crate::hook::panic_message;
use crate::{Error, Result};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Once;
use tch::nn::{ModuleT, VarStore};
use tch::{CModule, Device, IValue, Kind, TchError, Tensor};

type Forward<'m> = Rc<dyn Fn(&Tensor) -> Result<Vec<Tensor>, TchError> + 'm>;

/// A model whose forward pass can be run and whose parameters have names.
///
/// Passes run without gradients and in evaluation mode. The handles are shared with the model: writing to a parameter
/// here writes to the model. A clone is the same model, and costs next to nothing.
#[derive(Clone)]
pub struct Model<'m> {
    name: Option<Rc<str>>,
    forward: Forward<'m>,
    parameters: Rc<[(String, Tensor)]>,
    /// How many of them are buffers, which no training changes; of a tch network this is not known.
    buffers: u64,
    device: Device,
    kind: Kind,
    script: Option<Script<'m>>,
}

/// The module behind a TorchScript model.
#[derive(Clone)]
enum Script<'m> {
    Borrowed(&'m CModule),
    Owned(Rc<CModule>),
}

impl std::fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("parameters", &self.parameters.len()).field("device", &self.device).finish()
    }
}

impl<'m> Model<'m> {
    /// A tch network and the variable store that its variables live in.
    ///
    /// The variables' names are the store's; non-trainable ones (running statistics) are included.
    pub fn new(vs: &VarStore, net: &'m dyn ModuleT) -> Self {
        Self::from_fn(vs, move |xs| net.forward_t(xs, false))
    }

    /// A closure and the variable store that the variables it reads live in: for a forward pass that is no
    /// [`ModuleT`], takes more than one argument, returns several tensors, or can fail. It should compute what the network
    /// computes in evaluation mode.
    ///
    /// ```
    /// use tch::{Device, Kind, Tensor, nn, nn::Module};
    /// use tch_audit::{Model, Traced};
    /// # fn main() -> tch_audit::Result<()> {
    /// let vs = nn::VarStore::new(Device::Cpu);
    /// let body = nn::linear(vs.root() / "body", 4, 8, Default::default());
    /// let (class, boxes) = (
    ///     nn::linear(vs.root() / "class", 8, 3, Default::default()),
    ///     nn::linear(vs.root() / "boxes", 8, 4, Default::default()),
    /// );
    /// let temperature = 2.0;
    /// let model = Model::from_fn(&vs, |xs| {
    ///     let features = body.forward(xs).relu();
    ///     (class.forward(&features) / temperature, boxes.forward(&features))
    /// });
    /// let xs = Tensor::zeros([1, 4], (Kind::Float, Device::Cpu));
    /// assert_eq!(model.forward(&xs)?.size(), [1, 3]); // the first of them
    /// assert_eq!(Traced::new(&model, &xs)?.site("body")?.units, 8);
    /// # Ok(()) }
    /// ```
    pub fn from_fn<O: Outputs>(vs: &VarStore, forward: impl Fn(&Tensor) -> O + 'm) -> Self {
        Self::from_parts(vs.variables(), vs.device(), Rc::new(move |xs| forward(xs).tensors()), None)
    }

    /// The same model with a name, which tells it from others that the same [auditor](crate::auditor) sees.
    #[must_use]
    pub fn named(self, name: impl AsRef<str>) -> Self {
        Self { name: Some(name.as_ref().into()), ..self }
    }

    /// Its name, if it was [given](Self::named) one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// A TorchScript module.
    ///
    /// It should be in evaluation mode ([`CModule::set_eval`]) and should not have run with gradients: the JIT rewrites
    /// such a module, and its sites may then not be found. A frozen module has no parameters; its constants are named
    /// by structure.
    ///
    /// # Errors
    /// [`Error::Torch`] when the module does not list its parameters.
    pub fn script(module: &'m CModule) -> Result<Self> {
        let parameters = named(module)?;
        let forward = Rc::new(move |xs: &Tensor| script_forward(module, xs));
        let model = Self::from_parts(parameters, device_hint(module), forward, Some(Script::Borrowed(module)));
        Ok(Self { buffers: buffers(module)?, ..model })
    }

    /// Loads a TorchScript file, scripted, traced or frozen, onto the CPU, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Torch`] when it is not TorchScript.
    pub fn load(path: impl AsRef<Path>) -> Result<Model<'static>> {
        let path = path.as_ref();
        let is_archive = || {
            use std::io::Read;
            let mut start = [0; 2];
            std::fs::File::open(path)?.read(&mut start).map(|_| start == *b"PK")
        };
        if !is_archive().map_err(Error::io("read", path))? {
            let received = "a file that is no zip archive";
            return Err(Error::invalid(
                path.display().to_string(),
                received,
                "a TorchScript file, as torch.jit.save writes",
            ));
        }
        let during = format!("loading {} as TorchScript", path.display());
        let mut module = CModule::load_on_device(path, Device::Cpu).map_err(Error::torch(during.clone()))?;
        // A frozen module has no training mode to leave; libtorch says so by failing.
        if let Err(error) = module.f_set_eval() {
            tracing::debug!(%error, "the module has no evaluation mode");
        }
        let (parameters, device) = (named(&module)?, device_hint(&module));
        let module = Rc::new(module);
        let owned = Some(Script::Owned(Rc::clone(&module)));
        let buffers = buffers(&module)?;
        let model = Model::from_parts(parameters, device, Rc::new(move |xs| script_forward(&module, xs)), owned);
        Ok(Model { buffers, ..model })
    }

    /// The same parameters behind another forward pass.
    pub(crate) fn with_forward<'a>(&'a self, forward: impl Fn(&Tensor) -> Result<Tensor> + 'a) -> Model<'a> {
        let forward = move |xs: &Tensor| forward(xs).map(|y| vec![y]).map_err(|e| TchError::Torch(e.to_string()));
        Model {
            name: self.name.clone(),
            forward: Rc::new(forward),
            parameters: Rc::clone(&self.parameters),
            buffers: self.buffers,
            device: self.device,
            kind: self.kind,
            script: None,
        }
    }

    /// Writes a TorchScript model to a file that Python's `torch.jit.load` reads, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a tch network, whose variables its `VarStore` saves; [`Error::Io`] and [`Error::Torch`]
    /// when the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let allowed = "a TorchScript module (see VarStore::save)";
        let module = self.module().ok_or_else(|| Error::invalid("saving a model", "a tch network", allowed))?;
        crate::files::replace(path, |part| {
            module.save(part).map_err(Error::torch(format!("writing {}", path.display())))
        })
    }

    fn from_parts(
        parameters: impl IntoIterator<Item = (String, Tensor)>,
        device: Device,
        forward: Forward<'m>,
        script: Option<Script<'m>>,
    ) -> Self {
        let parameters: BTreeMap<String, Tensor> = parameters.into_iter().collect();
        let kind = parameters.values().map(Tensor::kind).find(|k| is_float(*k)).unwrap_or(Kind::Float);
        Self { name: None, forward, parameters: parameters.into_iter().collect(), buffers: 0, device, kind, script }
    }

    /// The module behind it; `None` for a tch network.
    pub(crate) fn module(&self) -> Option<&CModule> {
        match &self.script {
            Some(Script::Borrowed(module)) => Some(module),
            Some(Script::Owned(module)) => Some(module.as_ref()),
            None => None,
        }
    }

    /// Whether this is a frozen TorchScript module: its weights are constants of its code.
    pub fn is_frozen(&self) -> bool {
        self.script.is_some() && self.parameters.is_empty()
    }

    /// How many numbers the parameters hold; of a tch network running statistics are among them.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(|(_, t)| t.numel() as u64).sum::<u64>() - self.buffers
    }

    /// The named parameters and buffers (running statistics included), sorted by name.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// The parameter called `name`.
    pub fn parameter(&self, name: &str) -> Option<&Tensor> {
        self.parameters.binary_search_by(|(n, _)| n.as_str().cmp(name)).ok().map(|i| &self.parameters[i].1)
    }

    /// Where the parameters live.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Runs the model on `input`, `[N, C, H, W]`, on the model's device and in the kind of its parameters, without
    /// gradients, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::Forward`] with the first line of libtorch's message, also when the model panics.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.run(&self.prepare(input)?)
    }

    /// `input` as the model wants it: on its device, in its kind.
    pub(crate) fn prepare(&self, input: &Tensor) -> Result<Tensor> {
        input
            .f_to_device(self.device)
            .and_then(|x| x.f_to_kind(self.kind))
            .map_err(Error::torch("moving the input to the model's device"))
    }

    /// [`forward`](Self::forward) on what [`prepare`](Self::prepare) returned.
    pub(crate) fn run(&self, prepared: &Tensor) -> Result<Tensor> {
        let first = self.run_all(prepared)?.into_iter().next();
        first.ok_or_else(|| Error::Forward { message: "the model returns no tensor".into(), input: prepared.size() })
    }

    /// As [`run`](Self::run), with every tensor that the model returns.
    pub(crate) fn run_all(&self, prepared: &Tensor) -> Result<Vec<Tensor>> {
        let forward = || tch::no_grad(|| (self.forward)(prepared));
        let message = match quietly(forward) {
            Ok(Ok(output)) => return Ok(output),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        Err(Error::Forward { message: first_line(&message), input: prepared.size() })
    }

    /// The gradient of the summed cross-entropy loss with respect to the input, and the logits, in evaluation mode.
    ///
    /// The parameters are left as they are: their own gradients are not touched, and whether they want any is not
    /// changed. A TorchScript module that has run with gradients is rewritten by the JIT, and its sites may then not be
    /// found: call this on a second copy, loaded again.
    ///
    /// **Shapes:** `input` is `[N, C, H, W]`, `labels` `[N]` of an integer kind; the gradient has the shape of `input`,
    /// the logits are `[N, classes]`. Both are on the model's device and in its kind.
    ///
    /// # Errors
    /// [`Error::Forward`] when the pass fails or panics; [`Error::Shape`] when output or labels have another shape;
    /// [`Error::Invalid`] for labels that are no classes, and when the output does not depend on the input by operators
    /// that have derivatives; [`Error::Torch`] when the pass back fails.
    pub fn input_gradient(&self, input: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let leaf = self.prepare(input)?.f_detach().and_then(|x| x.f_set_requires_grad(true));
        let leaf = leaf.map_err(Error::torch(GRADIENT))?;
        let message = match quietly(|| tch::with_grad(|| (self.forward)(&leaf))) {
            Ok(Ok(outputs)) => {
                let logits = outputs.first().ok_or_else(|| Error::Forward {
                    message: "the model returns no tensor".to_string(),
                    input: leaf.size(),
                })?;
                return Ok((loss_gradient(&leaf, logits, labels)?, logits.detach()));
            }
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        Err(Error::Forward { message: first_line(&message), input: leaf.size() })
    }
}

const GRADIENT: &str = "computing the gradient of the loss with respect to the input";

/// The gradient of the summed cross-entropy loss with respect to `leaf` alone, of which `logits` were computed.
fn loss_gradient(leaf: &Tensor, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (size, n) = (logits.size(), leaf.size().first().copied().unwrap_or(0));
    let shape =
        |what: &str, received: Vec<i64>, expected: String| Error::Shape { what: what.into(), received, expected };
    let &[rows, classes] = size.as_slice() else {
        return Err(shape("the model's output", size, format!("[{n}, classes]")));
    };
    if rows != n {
        return Err(shape("the model's output", size, format!("[{n}, classes]")));
    }
    if labels.size() != [n] {
        return Err(shape("labels", labels.size(), format!("[{n}], one per image")));
    }
    if !matches!(labels.kind(), Kind::Uint8 | Kind::Int8 | Kind::Int16 | Kind::Int | Kind::Int64) {
        return Err(Error::invalid("labels", format!("kind {:?}", labels.kind()), "an integer kind"));
    }
    let labels = labels.f_to_kind(Kind::Int64).and_then(|l| l.f_to_device(Device::Cpu));
    let labels = labels.map_err(Error::torch(GRADIENT))?;
    let values = Vec::<i64>::try_from(&labels).map_err(Error::torch(GRADIENT))?;
    if let Some((i, label)) = values.iter().enumerate().find(|(_, l)| !(0..classes).contains(*l)) {
        return Err(Error::invalid(format!("label of image {i}"), label, format!("0 to {}", classes - 1)));
    }
    let none = || {
        let allowed = "a model whose output depends on its input by operators with derivatives";
        Error::invalid("gradient of the loss with respect to the input", "none", allowed)
    };
    if !logits.requires_grad() {
        return Err(none());
    }
    // In double precision, so that the loss of an image that the model is sure of still has a gradient.
    let backward = || {
        let labels = labels.f_to_device(logits.device())?;
        let loss = logits.f_to_kind(Kind::Double)?;
        let loss = loss.f_cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Sum, -100, 0.0)?;
        Tensor::f_run_backward(&[loss], &[leaf], false, false)
    };
    let gradients = tch::with_grad(backward).map_err(Error::torch(GRADIENT))?;
    gradients.into_iter().next().filter(Tensor::defined).map(|g| g.detach()).ok_or_else(none)
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}

fn named(module: &CModule) -> Result<Vec<(String, Tensor)>> {
    let mut all = module.named_parameters().map_err(Error::torch("listing the module's parameters"))?;
    all.extend(crate::hook::ffi::named_buffers(module)?);
    Ok(all)
}

/// How many numbers the buffers of a module hold.
fn buffers(module: &CModule) -> Result<u64> {
    Ok(crate::hook::ffi::named_buffers(module)?.iter().map(|(_, t)| t.numel() as u64).sum())
}

fn device_hint(module: &CModule) -> Device {
    named(module).ok().and_then(|p| p.first().map(|(_, t)| t.device())).unwrap_or(Device::Cpu)
}

/// Runs a module and collects the tensors that it returns, in order.
fn script_forward(module: &CModule, xs: &Tensor) -> Result<Vec<Tensor>, TchError> {
    fn collect(value: IValue, tensors: &mut Vec<Tensor>) {
        match value {
            IValue::Tensor(t) => tensors.push(t),
            IValue::TensorList(list) => tensors.extend(list),
            IValue::Tuple(items) | IValue::GenericList(items) => items.into_iter().for_each(|v| collect(v, tensors)),
            IValue::GenericDict(pairs) => pairs.into_iter().for_each(|(_, v)| collect(v, tensors)),
            _ => {}
        }
    }
    let mut tensors = Vec::new();
    collect(module.forward_is(&[IValue::Tensor(xs.shallow_clone())])?, &mut tensors);
    if tensors.is_empty() { Err(TchError::Torch("the module returns no tensor".to_string())) } else { Ok(tensors) }
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic is caught and returned as its message, and nothing of it is printed.
///
/// tch panics when libtorch fails inside a module, with a message full of C++ frames. The process's panic hook is wrapped
/// once; it stays as it was for every other thread and for everything outside `work`. Gradient mode is put back.
fn quietly<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    static WRAP: Once = Once::new();
    WRAP.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let _gradients = tch::no_grad_guard();
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(outer);
    result.map_err(|panic| panic_message(panic.as_ref()))
}
