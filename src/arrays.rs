//! Safetensors files with one text in their header.

use crate::{Error, Result};
use bytemuck::{NoUninit, Pod};
use safetensors::tensor::{Metadata, SafeTensors, View};
use safetensors::{Dtype, SafeTensorError};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The header's entry. Only one: a safetensors header with several comes in random order.
const META: &str = "tch-audit";

/// Arrays to be written.
#[derive(Default)]
pub(crate) struct Arrays<'a> {
    entries: Vec<(String, Entry<'a>)>,
}

struct Entry<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    length: usize,
    data: Data<'a>,
}

enum Data<'a> {
    Ready(Vec<u8>),
    /// Made when its turn comes, and dropped when it is written.
    Later(Box<dyn Fn() -> Result<Vec<u8>> + 'a>),
}

impl<'a> Arrays<'a> {
    pub fn add<T: NoUninit>(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize], values: &[T]) {
        let bytes = bytemuck::cast_slice(values).to_vec();
        let entry = Entry { dtype, shape: shape.to_vec(), length: bytes.len(), data: Data::Ready(bytes) };
        self.entries.push((name.into(), entry));
    }

    /// The bytes of values that are made when they are written, so that no second copy of everything exists.
    pub fn later(
        &mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        make: impl Fn() -> Result<Vec<u8>> + 'a,
    ) {
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let data = Data::Later(Box::new(make));
        self.entries.push((name.into(), Entry { dtype, shape: shape.to_vec(), length, data }));
    }

    /// Writes everything to `part`, which is to become `path`; the same arrays give the same bytes.
    pub fn write(self, part: &Path, path: &Path, meta: &impl Serialize) -> Result<()> {
        let failed = RefCell::new(None);
        let meta = serde_json::to_string(meta).map_err(|e| Error::io("write", path)(e.into()))?;
        let header = HashMap::from([(META.to_string(), meta)]);
        let views = self.entries.iter().map(|(name, entry)| (name.as_str(), Viewed { entry, failed: &failed }));
        let written = safetensors::serialize_to_file(views, Some(header), part);
        if let Some(error) = failed.take() {
            return Err(error);
        }
        written.map_err(|e| match e {
            SafeTensorError::IoError(e) => Error::io("write", path)(e),
            other => Error::io("write", path)(std::io::Error::other(other)),
        })
    }
}

struct Viewed<'e, 'a> {
    entry: &'e Entry<'a>,
    failed: &'e RefCell<Option<Error>>,
}

impl View for Viewed<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.entry.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.entry.data {
            Data::Ready(bytes) => Cow::Borrowed(bytes),
            // Nothing more is made after a failure; the file is thrown away.
            Data::Later(_) if self.failed.borrow().is_some() => Cow::Owned(vec![0; self.entry.length]),
            Data::Later(make) => Cow::Owned(make().unwrap_or_else(|error| {
                *self.failed.borrow_mut() = Some(error);
                vec![0; self.entry.length]
            })),
        }
    }

    fn data_len(&self) -> usize {
        self.entry.length
    }
}

/// A file that was read.
pub(crate) struct File {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl File {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_path_buf(), bytes })
    }

    /// The file's arrays and the header's entry.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no such file.
    pub fn open<M: DeserializeOwned>(&self, allowed: &str) -> Result<(Opened<'_>, M)> {
        let wrong = |received: String| Error::invalid(self.path.display().to_string(), received, allowed);
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| wrong(format!("{e}")))?;
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(|e| wrong(format!("{e}")))?;
        let meta = meta_of(&header).ok_or_else(|| wrong("a safetensors file of something else".to_string()))?;
        let meta = serde_json::from_str(meta).map_err(|e| wrong(format!("a header that is not understood ({e})")))?;
        Ok((Opened { path: &self.path, tensors }, meta))
    }
}

fn meta_of(header: &Metadata) -> Option<&str> {
    header.metadata().as_ref()?.get(META).map(String::as_str)
}

pub(crate) struct Opened<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
}

impl Opened<'_> {
    /// The array `name`, of this type and number of values.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is missing or something else.
    pub fn get<T: Pod>(&self, name: &str, dtype: Dtype, count: usize) -> Result<Vec<T>> {
        let values = self.all(name, dtype)?;
        if values.len() != count {
            return Err(self.wrong(format!("{} values in `{name}`", values.len()), format!("{count}")));
        }
        Ok(values)
    }

    /// The array `name`, of any number of values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn all<T: Pod>(&self, name: &str, dtype: Dtype) -> Result<Vec<T>> {
        let tensor = self.tensors.tensor(name).map_err(|e| self.wrong(format!("{e}"), format!("an array `{name}`")))?;
        if tensor.dtype() != dtype {
            return Err(self.wrong(format!("`{name}` of {:?}", tensor.dtype()), format!("{dtype:?}")));
        }
        Ok(bytemuck::pod_collect_to_vec(tensor.data()))
    }

    /// The arrays' names and shapes, by name.
    pub fn names(&self) -> Vec<(String, Vec<usize>)> {
        let mut names: Vec<_> = self.tensors.iter().map(|(name, t)| (name.to_string(), t.shape().to_vec())).collect();
        names.sort();
        names
    }

    pub fn wrong(&self, received: impl ToString, allowed: impl Into<String>) -> Error {
        Error::invalid(self.path.display().to_string(), received, allowed)
    }
}
