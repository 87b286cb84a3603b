//! One process at a time: a lock file beside the data.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// The operating system's lock on `<path>.lock`, held until it is dropped. It goes with the process, so a crash leaves
/// nothing to clean up; the empty file stays, since removing it would race with the next owner.
#[derive(Debug)]
pub(super) struct Exclusive {
    _file: File,
}

impl Exclusive {
    /// Locks `path` for this process. `origin` names the part that does it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when another process (or this one, elsewhere) holds it, or no lock file can be made there.
    pub(super) fn lock(path: &Path, origin: &'static str) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let name = PathBuf::from(name);
        let config = |text: String| Error::new(ErrorKind::Config, origin, text);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
        let file = file.map_err(|e| config(format!("{} can't be opened", name.display())).with_source(e))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(config(format!("{} is in use by another process", path.display()))),
            Err(TryLockError::Error(e)) => Err(config(format!("{} can't be locked", name.display())).with_source(e)),
        }
    }
}
