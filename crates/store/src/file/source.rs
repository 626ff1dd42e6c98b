//! Byte access to a stored file: positional reads on a local disk, ranged requests to an object store.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// A file that can be read from many threads at once.
#[derive(Clone)]
pub(crate) enum FileSource {
    Local {
        file: Arc<File>,
        length: u64,
    },
    /// Reads block the calling thread, which is one of the query or background threads, never one of the runtime's.
    Remote {
        objects: Arc<dyn ObjectStore>,
        path: Path,
        length: u64,
        runtime: tokio::runtime::Handle,
    },
}

impl FileSource {
    pub(crate) fn open_local(path: &std::path::Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self::Local { file: Arc::new(file), length })
    }

    fn read_at(&self, start: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::Local { file, .. } => {
                let mut buffer = vec![0; length];
                file.read_exact_at(&mut buffer, start)?;
                Ok(buffer.into())
            }
            Self::Remote { objects, path, runtime, .. } => runtime
                .block_on(objects.get_range(path, start..start + length as u64))
                .map_err(|error| ParquetError::External(Box::new(error))),
        }
    }
}

impl Length for FileSource {
    fn len(&self) -> u64 {
        match self {
            Self::Local { length, .. } | Self::Remote { length, .. } => *length,
        }
    }
}

impl ChunkReader for FileSource {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(Cursor { source: self.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} are beyond the end of the file at {}",
                self.len()
            )));
        }
        self.read_at(start, length)
    }
}

/// Reads onward from a position.
pub(crate) struct Cursor {
    source: FileSource,
    position: u64,
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.len().saturating_sub(self.position);
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let bytes = self.source.read_at(self.position, length).map_err(io::Error::other)?;
        buffer[..length].copy_from_slice(&bytes);
        self.position += length as u64;
        Ok(length)
    }
}
