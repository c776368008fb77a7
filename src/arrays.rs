//! Safetensors files with one text in their header: written in pieces, read by offset.

use crate::files::Positioned;
use crate::{Error, Result};
use bytemuck::{NoUninit, Pod};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The header's entry. Only one: a safetensors header with several comes in random order.
const META: &str = "tch-audit";
/// What the format allows for a header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Takes the next bytes of an array.
pub(crate) type Put<'p> = dyn FnMut(&[u8]) -> Result<()> + 'p;

/// Hands over the bytes of an array, in pieces of any length.
type Make<'a> = dyn Fn(&mut Put<'_>) -> Result<()> + 'a;

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
    /// Made when its turn comes, piece by piece.
    Later(Box<Make<'a>>),
}

impl<'a> Arrays<'a> {
    pub fn add<T: NoUninit>(&mut self, name: impl Into<String>, dtype: Dtype, shape: &[usize], values: &[T]) {
        let bytes = bytemuck::cast_slice(values).to_vec();
        let entry = Entry { dtype, shape: shape.to_vec(), length: bytes.len(), data: Data::Ready(bytes) };
        self.entries.push((name.into(), entry));
    }

    /// An array that is made when it is written, so that it never is in memory: `make` hands over its bytes, in pieces of
    /// any length.
    pub fn later(
        &mut self,
        name: impl Into<String>,
        dtype: Dtype,
        shape: &[usize],
        make: impl Fn(&mut Put<'_>) -> Result<()> + 'a,
    ) {
        let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let data = Data::Later(Box::new(make));
        self.entries.push((name.into(), Entry { dtype, shape: shape.to_vec(), length, data }));
    }

    /// Writes everything to `part`, which is to become `path`; the same arrays give the same bytes.
    pub fn write(mut self, part: &Path, path: &Path, meta: &impl Serialize) -> Result<()> {
        // By falling alignment, then by name: every array begins where its type may.
        self.entries.sort_by(|(a, x), (b, y)| y.dtype.cmp(&x.dtype).then(a.cmp(b)));
        let failed = || Error::io("write", path);
        let header = self.header(meta).map_err(failed())?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(part).map_err(failed())?);
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
        out.write_all(&header).map_err(failed())?;
        for (name, entry) in &self.entries {
            let mut written = 0;
            let mut put = |bytes: &[u8]| {
                written += bytes.len();
                out.write_all(bytes).map_err(failed())
            };
            match &entry.data {
                Data::Ready(bytes) => put(bytes)?,
                Data::Later(make) => make(&mut put)?,
            }
            if written != entry.length {
                let message = format!("`{name}` has {written} bytes instead of {}", entry.length);
                return Err(failed()(io::Error::other(message)));
            }
        }
        out.flush().map_err(failed())
    }

    /// The header as it is in the file.
    fn header(&self, meta: &impl Serialize) -> io::Result<Vec<u8>> {
        let mut end = 0;
        let infos = self.entries.iter().map(|(name, entry)| {
            let start = end;
            end += entry.length;
            let shape = entry.shape.clone();
            (name.clone(), TensorInfo { dtype: entry.dtype, shape, data_offsets: (start, end) })
        });
        let infos = infos.collect();
        let meta = HashMap::from([(META.to_string(), serde_json::to_string(meta)?)]);
        let header = Metadata::new(Some(meta), infos).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok(header)
    }
}

/// A file whose header was read; arrays are read when they are asked for.
pub(crate) struct Opened {
    file: Arc<Positioned>,
    header: Metadata,
    /// Where the arrays begin.
    start: u64,
}

impl Opened {
    /// The file's arrays and the header's entry.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no such file; [`Error::Io`].
    pub fn open<M: DeserializeOwned>(path: &Path, allowed: &str) -> Result<(Self, M)> {
        let wrong = |received: String| Error::invalid(path.display().to_string(), received, allowed);
        let file = Positioned::open(path)?;
        let length = file.len()?;
        let mut size = [0; 8];
        if length < 8 {
            return Err(wrong(format!("{length} bytes")));
        }
        file.read(0, &mut size)?;
        let size = u64::from_le_bytes(size);
        let start = size.saturating_add(8);
        if size > MAX_HEADER || start > length {
            return Err(wrong(format!("{length} bytes with a header of {size}")));
        }
        let mut text = vec![0; size as usize];
        file.read(8, &mut text)?;
        let header: Metadata =
            serde_json::from_slice(&text).map_err(|e| wrong(format!("a header that is none ({e})")))?;
        if (header.data_len() as u64).checked_add(start) != Some(length) {
            return Err(wrong(format!("{length} bytes instead of {}", header.data_len() as u64 + start)));
        }
        let meta = header.metadata().as_ref().and_then(|m| m.get(META));
        let meta = meta.ok_or_else(|| wrong("a safetensors file of something else".to_string()))?;
        let meta = serde_json::from_str(meta).map_err(|e| wrong(format!("a header that is not understood ({e})")))?;
        Ok((Self { file: Arc::new(file), header, start }, meta))
    }

    /// The array `name`, of this type and number of values.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is missing or something else; [`Error::Io`].
    pub fn get<T: Pod>(&self, name: &str, dtype: Dtype, count: usize) -> Result<Vec<T>> {
        self.part(name, dtype, count, 0..count)
    }

    /// Some values of the array `name`, which has this type and number of values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn part<T: Pod>(&self, name: &str, dtype: Dtype, count: usize, values: Range<usize>) -> Result<Vec<T>> {
        let offset = self.offset(name, dtype, count)?;
        if values.end > count || values.start > values.end {
            return Err(self.wrong(format!("{count} values in `{name}`"), format!("{values:?} of them")));
        }
        let mut out = vec![T::zeroed(); values.len()];
        self.file.read(offset + (values.start * size_of::<T>()) as u64, bytemuck::cast_slice_mut(&mut out))?;
        Ok(out)
    }

    /// The array `name`, of any number of values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn all<T: Pod>(&self, name: &str, dtype: Dtype) -> Result<Vec<T>> {
        let count = self.info(name)?.shape.iter().product();
        self.get(name, dtype, count)
    }

    /// Where the array `name`, which has this type and number of values, begins in the [file](Self::file).
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn offset(&self, name: &str, dtype: Dtype, count: usize) -> Result<u64> {
        let info = self.info(name)?;
        if info.dtype != dtype {
            return Err(self.wrong(format!("`{name}` of {:?}", info.dtype), format!("{dtype:?}")));
        }
        let received: usize = info.shape.iter().product();
        if received != count {
            return Err(self.wrong(format!("{received} values in `{name}`"), format!("{count}")));
        }
        Ok(self.start + info.data_offsets.0 as u64)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.header.info(name).ok_or_else(|| self.wrong(format!("no array `{name}`"), format!("an array `{name}`")))
    }

    /// The file itself.
    pub fn file(&self) -> &Arc<Positioned> {
        &self.file
    }

    /// The arrays' names and shapes, by name.
    pub fn names(&self) -> Vec<(String, Vec<usize>)> {
        let tensors = self.header.tensors();
        let mut names: Vec<_> = tensors.into_iter().map(|(name, info)| (name, info.shape.clone())).collect();
        names.sort();
        names
    }

    pub fn wrong(&self, received: impl ToString, allowed: impl Into<String>) -> Error {
        Error::invalid(self.file.path().display().to_string(), received, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_in_pieces_are_read_whole_in_part_and_by_the_format_s_own_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let floats: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let mut arrays = Arrays::default();
        arrays.add("bytes", Dtype::U8, &[3], &[7u8, 8, 9]);
        arrays.later("floats", Dtype::F32, &[2, 5], |put| {
            floats.chunks(3).try_for_each(|some| put(bytemuck::cast_slice(some)))
        });
        arrays.write(&path, &path, &"meta").unwrap();
        let (opened, meta) = Opened::open::<String>(&path, "this").unwrap();
        assert_eq!(meta, "meta");
        assert_eq!(opened.all::<f32>("floats", Dtype::F32).unwrap(), floats);
        assert_eq!(opened.part::<f32>("floats", Dtype::F32, 10, 4..6).unwrap(), [4.0, 5.0]);
        assert_eq!(opened.get::<u8>("bytes", Dtype::U8, 3).unwrap(), [7, 8, 9]);
        assert!(opened.get::<u8>("bytes", Dtype::U8, 4).is_err() && opened.all::<u8>("none", Dtype::U8).is_err());
        let bytes = std::fs::read(&path).unwrap();
        let own = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(own.tensor("floats").unwrap().shape(), [2, 5]);
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(own.tensor("floats").unwrap().data()), floats);
        // A piece that is missing is not written over.
        let mut short = Arrays::default();
        short.later("floats", Dtype::F32, &[2], |put| put(&[0; 4]));
        assert!(short.write(&path, &path, &"meta").is_err());
    }
}
