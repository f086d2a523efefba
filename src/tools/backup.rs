//! `ordercast backup`: a compact copy of the data file at one moment, whether or not a server runs. The copy is complete,
//! checked and synced before it gets its name.

mod rotation;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::copy::{Partial, SIDE_FILES, WITHOUT_WAL};
use super::source::Source;
use super::{ToolError, counted};
use crate::config::Backup;
use crate::store::files::{LAST_BACKUP_FILE, folder_of, sync_folder, with_suffix};
use crate::store::{Stored, now_ms, open};

/// A backup that was made.
pub struct Made {
    /// A line for each file that was made or removed.
    pub text: String,
    /// What went wrong after the copy was complete.
    pub remarks: Vec<String>,
}

/// Copies the data file. Returns lines about the content of the copy.
///
/// The copy is written under another name first, so that a file with the right name is always complete. Only its owner
/// may read it, whatever the folder allows.
///
/// # Errors
/// When the file exists already, cannot be written, or the data file cannot be read or is not sound.
pub fn run(options: &Backup) -> Result<Made, ToolError> {
    let Backup { data, file, keep } = options;
    let mut source = Source::open(data)?;
    // The orders before this moment are in the copy.
    let begun_ms = now_ms();
    let mut made = if keep.is_some() || file.is_dir() {
        rotation::run(&mut source, file, *keep, begun_ms)?
    } else {
        Made { text: to_file(&mut source, file)?, remarks: Vec::new() }
    };
    made.remarks.extend(record(source.path(), begun_ms).err());
    Ok(made)
}

/// A copy with this name.
fn to_file(source: &mut Source, file: &Path) -> Result<String, ToolError> {
    check_is_new(file)?;
    check_folder(source, folder_of(file))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // Something else would overwrite or remove it later.
    if SIDE_FILES.iter().chain(&[super::copy::PARTIAL]).any(|suffix| name.ends_with(suffix)) {
        let text = format!(
            "{} is a name that SQLite or an unfinished backup uses for a file beside another; name another file",
            file.display()
        );
        return Err(ToolError::failed(text));
    }
    write(source, Partial::create(file)?, file, rename_to_new)
}

/// Rejects the data folder, whose files have names and rules of their own.
fn check_folder(source: &Source, folder: &Path) -> Result<(), ToolError> {
    let other = match fs::metadata(folder) {
        Ok(other) if other.is_dir() => other,
        Ok(_) => return Err(ToolError::failed(format!("{} is not a folder", folder.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = format!("the folder {} does not exist; make it, or name another one", folder.display());
            return Err(ToolError::failed(text));
        }
        // Making the file says why.
        Err(_) => return Ok(()),
    };
    let own = fs::metadata(folder_of(source.path())).map_err(|error| ToolError::at(source.path(), error))?;
    if (own.dev(), own.ino()) != (other.dev(), other.ino()) {
        return Ok(());
    }
    let text = format!("{} is the data folder, which is no place for a backup; name another one", folder.display());
    Err(ToolError::failed(text))
}

fn check_is_new(file: &Path) -> Result<(), ToolError> {
    let text = || format!("{} exists already; move it away or name another file", file.display());
    if file.symlink_metadata().is_ok() { Err(ToolError::failed(text())) } else { Ok(()) }
}

/// Writes the copy, and gives it this name with `rename`.
fn write(
    source: &mut Source,
    mut partial: Partial,
    file: &Path,
    rename: fn(&Path, &Path) -> io::Result<()>,
) -> Result<String, ToolError> {
    let path = source.path().to_owned();
    source.read(|connection| {
        open::check_is_used(connection, &path)?;
        partial.write(connection, &path)
    })??;
    let Stored { catalog, last_seq, .. } = partial.finish(&path, WITHOUT_WAL)?;
    match rename(partial.path(), file) {
        Ok(()) => partial.complete(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            check_is_new(file)?;
            return Err(ToolError::at(file, error));
        }
        Err(error) => return Err(ToolError::at(file, error)),
    }
    let folder = folder_of(file);
    sync_folder(folder).map_err(|error| ToolError::at(folder, error))?;
    let products = counted(catalog.products().len() as u64, "product");
    Ok(format!("{}: {products}, the log up to order {last_seq}\n", file.display()))
}

/// Renames the file unless the new name is taken. Without hard links, as on a memory stick, another file may take the
/// name between the check and the renaming.
fn rename_to_new(partial: &Path, file: &Path) -> io::Result<()> {
    match fs::hard_link(partial, file) {
        Ok(()) => fs::remove_file(partial),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
        Err(_) if file.symlink_metadata().is_ok() => Err(ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(partial, file),
    }
}

/// Writes the time of the backup into a file beside the data file, whose metrics tell its age. Fails with a remark: the
/// backup itself is there.
fn record(data_file: &Path, begun_ms: u64) -> Result<(), String> {
    let path = folder_of(data_file).join(LAST_BACKUP_FILE);
    let new = with_suffix(&path, super::copy::PARTIAL);
    let write = || {
        // What a killed backup has left; not through a link to another file, nor into a pipe.
        let _ = fs::remove_file(&new);
        let mut file = File::create_new(&new)?;
        writeln!(file, "{}", begun_ms / 1_000)?;
        file.sync_all()?;
        match fs::rename(&new, &path) {
            // Another backup that ended at the same time has renamed it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&new);
        format!("the backup is complete, but its time could not be written to {}: {error}", path.display())
    })
}
