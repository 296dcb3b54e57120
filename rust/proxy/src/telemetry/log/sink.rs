//! Where the bytes end up. Only the writer thread blocks here.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::Output;

/// An open output.
pub(super) struct Sink(Box<dyn Write + Send>);

impl Sink {
    pub(super) fn open(output: &Output) -> io::Result<Self> {
        let file = match output {
            Output::File(path) => File::options().append(true).create(true).open(path)?,
            // Its own descriptor: no lock and no buffer shared with whoever else prints in this process.
            Output::Stdout => io::stdout().as_fd().try_clone_to_owned()?.into(),
        };
        Ok(Self(Box::new(file)))
    }

    #[cfg(test)]
    pub(super) fn to(writer: impl Write + Send + 'static) -> Self {
        Self(Box::new(writer))
    }

    /// Writes all of it. Somebody may have made a shared stdout non-blocking: then `pause` is asked to wait,
    /// until it says that there is no time left.
    pub(super) fn write(
        &mut self,
        mut bytes: &[u8],
        mut pause: impl FnMut(Duration) -> bool,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && pause(RETRY) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A full pipe empties in milliseconds, or not at all.
const RETRY: Duration = Duration::from_millis(5);
