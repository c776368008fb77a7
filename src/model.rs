//! A forward pass with named tensors: the one view that the rest of the crate has of a user's model.

mod causes;
mod foreign;
mod gradient;
mod into;
mod kept;
mod layout;
mod outputs;
mod quiet;
mod script;
mod trial;

pub use into::IntoModel;
pub use layout::InputLayout;
pub use outputs::Outputs;

use crate::error::first_line;
use crate::hook::{ffi, with_rng_seeded};
use crate::{Error, Result};
use kept::Kept;
use outputs::Output;
use quiet::quietly;
use script::{buffers, device_hint, named};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use tch::nn::{ModuleT, VarStore};
use tch::{CModule, Device, Kind, TchError, Tensor};

type Forward<'m> = Rc<dyn Fn(&Tensor) -> Result<Vec<Output>, TchError> + 'm>;

/// Where libtorch's random numbers start in every pass.
const SEED: u64 = 0;

/// A model whose forward pass can be run and whose parameters have names.
///
/// Passes run without gradients and in evaluation mode. One that draws random numbers draws the same ones each time, and
/// libtorch's generators are left as they were; so are the buffers that a TorchScript module writes to. The handles are shared with the model: writing to a parameter
/// here writes to the model. A clone is the same model, and costs next to nothing.
#[derive(Clone)]
pub struct Model<'m> {
    name: Option<Rc<str>>,
    /// Where it was loaded from.
    file: Option<Rc<str>>,
    forward: Forward<'m>,
    parameters: Rc<[(String, Tensor)]>,
    /// How many of them are buffers, which no training changes; of a tch network this is not known.
    buffers: u64,
    device: Device,
    kind: Kind,
    script: Option<Script<'m>>,
    /// The buffers of a module.
    kept: Rc<Kept>,
    /// Which of the tensors that it returns is its output; the first unless it is said.
    output: Option<Rc<str>>,
    layout: InputLayout,
    /// At most so many images go through it at once.
    batch_size: usize,
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
        let forward = move |xs: &Tensor| forward(xs).tensors().map(Output::by_place);
        Self::from_parts(vs.variables(), vs.device(), Rc::new(forward), None)
    }

    /// The file that it was loaded from, as it was asked for; none for a model that was made in memory.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// How its images are laid out.
    pub fn input_layout(&self) -> InputLayout {
        self.layout
    }

    /// The same model with a name, which tells it from others that the same [auditor](crate::auditor) sees.
    #[must_use]
    pub fn named(self, name: impl AsRef<str>) -> Self {
        Self { name: Some(name.as_ref().into()), ..self }
    }

    /// The same model, of whose outputs another one counts as its output: by its key in a dictionary (`logits`), its place
    /// in a tuple (`1`), or both (`1.boxes`). Whether there is one is seen when it runs.
    #[must_use]
    pub fn with_output(self, name: impl AsRef<str>) -> Self {
        Self { output: Some(name.as_ref().into()), ..self }
    }

    /// The same model, whose images are laid out so. Everything else, gradients included, stays `[N, C, H, W]`.
    #[must_use]
    pub fn with_input_layout(self, layout: InputLayout) -> Self {
        Self { layout, ..self }
    }

    /// The same model, which is shown at most so many images at once, at least one, whatever the size of batches elsewhere.
    #[must_use]
    pub fn with_batch_size(self, images: usize) -> Self {
        Self { batch_size: images.max(1), ..self }
    }

    /// How many images to show it at once where `wanted` would be good.
    pub fn at_most(&self, wanted: usize) -> usize {
        wanted.min(self.batch_size)
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
        let forward = Rc::new(move |xs: &Tensor| script::forward(module, xs));
        let model = Self::from_parts(parameters, device_hint(module), forward, Some(Script::Borrowed(module)));
        let (buffers, kept) = buffers(module)?;
        Ok(Self { buffers, kept, ..model })
    }

    /// Loads a TorchScript file, scripted, traced or frozen, onto the CPU, in evaluation mode.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::NotTorchScript`] with what it is when it is something else,
    /// [`Error::Torch`] when libtorch cannot load it.
    pub fn load(path: impl AsRef<Path>) -> Result<Model<'static>> {
        let path = path.as_ref();
        foreign::check(path)?;
        let module = CModule::load_on_device(path, Device::Cpu).map_err(|e| causes::unloadable(path, &e))?;
        ffi::set_eval(&module)?;
        let (parameters, device) = (named(&module)?, device_hint(&module));
        let module = Rc::new(module);
        let owned = Some(Script::Owned(Rc::clone(&module)));
        let (buffers, kept) = buffers(&module)?;
        let model = Model::from_parts(parameters, device, Rc::new(move |xs| script::forward(&module, xs)), owned);
        Ok(Model { buffers, kept, file: Some(path.display().to_string().into()), ..model })
    }

    /// The same parameters behind another forward pass.
    pub(crate) fn with_forward<'a>(&'a self, forward: impl Fn(&Tensor) -> Result<Tensor> + 'a) -> Model<'a> {
        let forward = move |xs: &Tensor| {
            forward(xs).map(|y| Output::by_place(vec![y])).map_err(|e| TchError::Torch(e.to_string()))
        };
        Model {
            name: self.name.clone(),
            file: self.file.clone(),
            forward: Rc::new(forward),
            parameters: Rc::clone(&self.parameters),
            buffers: self.buffers,
            device: self.device,
            kind: self.kind,
            script: None,
            // As the pass itself does it.
            kept: Rc::default(),
            output: None,
            layout: InputLayout::default(),
            batch_size: self.batch_size,
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
        Self {
            name: None,
            file: None,
            forward,
            parameters: parameters.into_iter().collect(),
            buffers: 0,
            device,
            kind,
            script,
            kept: Rc::default(),
            output: None,
            layout: InputLayout::default(),
            batch_size: usize::MAX,
        }
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
        self.run(&self.prepare(input)?).map_err(|error| self.explained(error, input))
    }

    /// `input`, `[N, C, H, W]`, as the model wants it: on its device, in its kind and layout.
    pub(crate) fn prepare(&self, input: &Tensor) -> Result<Tensor> {
        self.layout.arrange(&self.moved(input)?)
    }

    /// `input` on the model's device, in its kind.
    fn moved(&self, input: &Tensor) -> Result<Tensor> {
        input
            .f_to_device(self.device)
            .and_then(|x| x.f_to_kind(self.kind))
            .map_err(Error::torch("moving the input to the model's device"))
    }

    /// [`forward`](Self::forward) on what [`prepare`](Self::prepare) returned.
    pub(crate) fn run(&self, prepared: &Tensor) -> Result<Tensor> {
        self.run_all(prepared)?.into_iter().next().ok_or_else(|| self.nothing(prepared))
    }

    /// As [`run`](Self::run), with every tensor that the model returns, its output first.
    pub(crate) fn run_all(&self, prepared: &Tensor) -> Result<Vec<Tensor>> {
        self.outputs_of(prepared, false)
    }

    /// What the model returns for an example, `[N, C, H, W]`, one line each: `0 or `logits` [2, 10]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn outputs(&self, example: &Tensor) -> Result<Vec<String>> {
        let outputs = self.called(&self.prepare(example)?, false)?;
        Ok(outputs.iter().enumerate().map(|(i, output)| outputs::described(i, output)).collect())
    }

    fn outputs_of(&self, prepared: &Tensor, gradients: bool) -> Result<Vec<Tensor>> {
        outputs::chosen(self.called(prepared, gradients)?, self.output.as_deref())
    }

    fn called(&self, prepared: &Tensor, gradients: bool) -> Result<Vec<Output>> {
        let pass = || (self.forward)(prepared);
        let forward = || quietly(|| if gradients { tch::with_grad(pass) } else { tch::no_grad(pass) });
        let seeded = || with_rng_seeded(self.device, SEED, forward);
        // A pass back needs what the pass left.
        let result = if gradients { seeded() } else { self.kept.around(prepared, seeded)? };
        let message = match result? {
            Ok(Ok(outputs)) => return Ok(outputs),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => panic,
        };
        Err(Error::Forward { message: first_line(&message), input: prepared.size() })
    }

    fn nothing(&self, input: &Tensor) -> Error {
        Error::Forward { message: "the model returns no tensor".to_string(), input: input.size() }
    }
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16)
}
