//! Byte access to a stored file: positional reads on a local disk, ranged requests to an object store.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use quick_cache::sync::Cache;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use tracehouse_disk::{open_again, open_to_read, what_reading_tells};

/// A file that can be read from many threads at once.
#[derive(Clone)]
pub enum FileSource {
    Local {
        file: Arc<File>,
        length: u64,
    },
    /// One of many, which can't all be open.
    Pooled(Arc<PooledFile>),
    /// Reads block the calling thread, which is one of the query or background threads, never one of the runtime's.
    Remote {
        objects: Arc<dyn ObjectStore>,
        path: Path,
        length: u64,
        runtime: tokio::runtime::Handle,
    },
}

/// Open handles of files, the most recently used ones.
pub struct Handles(Cache<u64, Arc<File>>);

/// So many files are kept open.
const OPEN_FILES_MAX: usize = 128;

impl Default for Handles {
    fn default() -> Self {
        Self(Cache::new(OPEN_FILES_MAX))
    }
}

impl Handles {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.len()
    }

    pub fn close(&self, number: u64) {
        self.0.remove(&number);
    }
}

/// A file that is opened when it is read, if it is not open.
pub struct PooledFile {
    number: u64,
    length: u64,
    open: Box<OpenHandle>,
    handles: Arc<Handles>,
}

/// Opens a file, wherever it is now, in one of the ways to open a path.
type OpenHandle = dyn Fn(OpenPath) -> io::Result<File> + Send + Sync;
type OpenPath = fn(&std::path::Path) -> io::Result<File>;

impl PooledFile {
    fn handle(&self, open_path: OpenPath) -> io::Result<Arc<File>> {
        self.handles.0.get_or_insert_with(&self.number, || (self.open)(open_path).map(Arc::new))
    }

    fn read_at(&self, start: u64, length: usize) -> io::Result<Bytes> {
        let file = self.handle(open_again)?;
        read_exact(&file, start, length).map_err(|error| what_reading_tells(&file, error))
    }
}

/// The handle of a file that nobody reads any more is closed: of a deleted one, the disk's room is free then.
impl Drop for PooledFile {
    fn drop(&mut self) {
        self.handles.close(self.number);
    }
}

impl FileSource {
    /// A file whose handle is kept under a number as long as there is room.
    pub fn pooled(
        number: u64,
        handles: &Arc<Handles>,
        open: impl Fn(OpenPath) -> io::Result<File> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut file = PooledFile { number, length: 0, open: Box::new(open), handles: handles.clone() };
        file.length = file.handle(open_to_read)?.metadata()?.len();
        Ok(Self::Pooled(Arc::new(file)))
    }

    pub fn open_local(path: &std::path::Path) -> io::Result<Self> {
        Self::of_file(open_to_read(path)?)
    }

    pub fn of_file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::Local { file: Arc::new(file), length })
    }

    fn read_at(&self, start: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::Local { file, .. } => Ok(read_exact(file, start, length)?),
            Self::Pooled(pooled) => Ok(pooled.read_at(start, length)?),
            Self::Remote { objects, path, runtime, .. } => runtime
                .block_on(objects.get_range(path, start..start + length as u64))
                .map_err(|error| ParquetError::External(Box::new(error))),
        }
    }
}

fn read_exact(file: &File, start: u64, length: usize) -> io::Result<Bytes> {
    // Not cleared before it is read into: that takes about as long as the reading.
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = start + bytes.len() as u64;
        match pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bytes.truncate(length);
    Ok(bytes.into())
}

impl Length for FileSource {
    fn len(&self) -> u64 {
        match self {
            Self::Local { length, .. } | Self::Remote { length, .. } => *length,
            Self::Pooled(pooled) => pooled.length,
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
pub struct Cursor {
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
