//! What a pickle may hold.

/// The number of a value.
pub(crate) type Id = usize;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// A dictionary, or an object that is one.
    Dict(Vec<(Id, Id)>),
    Class(Class),
    /// Of an outline: another class, or an object of it, by its full name.
    Object(String),
    /// Numbers in a file of their own.
    Storage {
        kind: Storage,
        key: String,
        count: u64,
    },
    Tensor {
        storage: Id,
        offset: u64,
        size: Vec<u64>,
        stride: Vec<u64>,
    },
}

/// The classes and functions that may be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    OrderedDict,
    /// spaCy's settings: a dictionary, of no use here.
    Config,
    Encode,
    RebuildTensor,
    Storage(Storage),
}

/// What numbers a storage holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    Float,
    Double,
    Half,
    BFloat16,
    Long,
    Int,
    Byte,
    Bool,
}

impl Class {
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Class::OrderedDict,
            ("thinc.config" | "confection._config" | "confection", "Config") => Class::Config,
            ("_codecs", "encode") => Class::Encode,
            ("torch._utils", "_rebuild_tensor_v2") => Class::RebuildTensor,
            ("torch", "FloatStorage") => Class::Storage(Storage::Float),
            ("torch", "DoubleStorage") => Class::Storage(Storage::Double),
            ("torch", "HalfStorage") => Class::Storage(Storage::Half),
            ("torch", "BFloat16Storage") => Class::Storage(Storage::BFloat16),
            ("torch", "LongStorage") => Class::Storage(Storage::Long),
            ("torch", "IntStorage") => Class::Storage(Storage::Int),
            ("torch", "ByteStorage") => Class::Storage(Storage::Byte),
            ("torch", "BoolStorage") => Class::Storage(Storage::Bool),
            _ => return None,
        })
    }
}
