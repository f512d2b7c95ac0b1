//! The directory that an image is built from, as the archive that Docker wants.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use tar::{EntryType, Header};

use super::{DockerError, ignore_file::IgnoreFile};

/// What says how to build.
const DOCKERFILE: &str = "Dockerfile";
/// What says what is left out.
const IGNORE_FILE: &str = ".dockerignore";

/// A directory with a Dockerfile.
#[derive(Debug)]
pub(super) struct Context {
    directory: PathBuf,
    ignored: IgnoreFile,
}

impl Context {
    /// Looks whether there is what is needed.
    pub(super) fn open(directory: &Path) -> Result<Self, DockerError> {
        let refuse = |why: String| DockerError::NoContext { directory: directory.to_owned(), why };
        if !directory.is_dir() {
            return Err(refuse("there is no such directory".to_owned()));
        }
        if !directory.join(DOCKERFILE).is_file() {
            return Err(refuse(format!("there is no {DOCKERFILE} in it")));
        }
        let ignored = match fs::read_to_string(directory.join(IGNORE_FILE)) {
            Ok(text) => IgnoreFile::parse(&text).map_err(refuse)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => IgnoreFile::default(),
            Err(error) => return Err(refuse(format!("{IGNORE_FILE}: {error}"))),
        };
        Ok(Self { directory: directory.to_owned(), ignored })
    }

    /// Writes the archive: everything that is not left out, in the order of the names, as the
    /// property of root, so that the same files always give the same image.
    pub(super) fn pack(&self, out: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        self.pack_below(Path::new(""), &mut archive)?;
        archive.into_inner()?.flush()
    }

    fn pack_below(&self, below: &Path, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
        let directory = self.directory.join(below);
        let entries = fs::read_dir(&directory).map_err(|error| about(&directory, &error))?;
        let entries = entries.map(|it| Ok(below.join(it?.file_name())));
        let mut paths: Vec<_> = entries.collect::<io::Result<_>>()?;
        paths.sort_unstable();
        for path in paths {
            // Docker itself needs these two, and leaves them out afterwards.
            let is_needed = [DOCKERFILE, IGNORE_FILE].iter().any(|it| path == Path::new(it));
            let is_wanted = is_needed || !self.ignored.excludes(&path);
            let is_directory = self.directory.join(&path).symlink_metadata()?.is_dir();
            if is_wanted {
                self.append(&path, archive)
                    .map_err(|error| about(&self.directory.join(&path), &error))?;
            }
            if is_directory && (is_wanted || self.ignored.takes_back()) {
                self.pack_below(&path, archive)?;
            }
        }
        Ok(())
    }

    fn append(&self, path: &Path, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
        let source = self.directory.join(path);
        let metadata = source.symlink_metadata()?;
        let mut header = Header::new_gnu();
        header.set_metadata(&metadata);
        header.set_uid(0);
        header.set_gid(0);
        let kind = metadata.file_type();
        if kind.is_symlink() {
            header.set_size(0);
            archive.append_link(&mut header, path, fs::read_link(&source)?)
        } else if kind.is_file() {
            let size = metadata.len();
            let mut content = File::open(&source)?.take(size);
            archive.append_data(&mut header, path, &mut content)?;
            // The header has said how much there is.
            match content.limit() {
                0 => Ok(()),
                _ => Err(io::Error::other("it became shorter while it was read")),
            }
        } else if kind.is_socket() {
            // Nothing that an archive could hold.
            Ok(())
        } else {
            header.set_size(0);
            if kind.is_fifo() {
                header.set_entry_type(EntryType::Fifo);
            }
            archive.append_data(&mut header, path, io::empty())
        }
    }
}

/// The error with the file that it is about.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
