//! What can be given where a model is wanted again and again.

use super::Model;
use tch::nn::{ModuleT, VarStore};

/// A network as a training loop has it at hand: `(&vs, &net)`, a [`Model`], or a reference to one.
///
/// ```
/// use tch::{Device, nn};
/// use tch_audit::{IntoModel, Model};
///
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = nn::seq().add(nn::linear(vs.root() / "fc", 4, 3, Default::default()));
/// let named = Model::new(&vs, &net).named("teacher");
/// assert_eq!(IntoModel::name(&(&vs, &net)), None);
/// assert_eq!((&named).into_model().name(), Some("teacher"));
/// ```
pub trait IntoModel<'m> {
    /// The model's name, if it was given one.
    fn name(&self) -> Option<&str> {
        None
    }

    /// The model. Of a pair, all variables are looked up; of a reference, nothing is copied.
    fn into_model(self) -> Model<'m>;
}

impl<'m, N: ModuleT + ?Sized> IntoModel<'m> for (&VarStore, &'m N) {
    fn into_model(self) -> Model<'m> {
        let (vs, net) = self;
        Model::from_fn(vs, move |xs| net.forward_t(xs, false))
    }
}

impl<'m> IntoModel<'m> for Model<'m> {
    fn name(&self) -> Option<&str> {
        Model::name(self)
    }

    fn into_model(self) -> Model<'m> {
        self
    }
}

impl<'m> IntoModel<'m> for &Model<'m> {
    fn name(&self) -> Option<&str> {
        Model::name(self)
    }

    fn into_model(self) -> Model<'m> {
        self.clone()
    }
}
