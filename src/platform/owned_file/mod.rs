//! Files in folders that another user may write to: pid file, log, lock, the application's cache, the demo's data.
//! Whatever that user puts there (a link, a FIFO, a device, another folder in the place of ours), this process neither
//! touches a file of that user's choice nor waits.
//!
//! Every operation is relative to an opened folder and never blocks. Strict mode, for root and the demo, follows a link
//! to a folder only if root or that folder's owner made it, and no link to a file. Before all this, root becomes the
//! storage's owner ([`become_owner`]); if root owns the storage, it stays root, and strict.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use rustix::process::{DumpableBehavior, geteuid};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Mode of files that are made, before the umask: as the helpdesk's, and never writable by everybody.
pub(crate) const FILE_MODE: u32 = 0o664;

/// As many links as the kernel follows in one path.
const MOST_LINKS: usize = 40;
/// How a folder is opened that is only passed through.
const PASS: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// Names of the outputs that a process has.
const OUTPUTS: [(&str, u8); 6] = [
    ("/dev/stdout", 1),
    ("/dev/stderr", 2),
    ("/dev/fd/1", 1),
    ("/dev/fd/2", 2),
    ("/proc/self/fd/1", 1),
    ("/proc/self/fd/2", 2),
];

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Reading.
    Read,
    /// Reading and writing; made if missing.
    Change,
    /// Writing at its end; made if missing.
    Append,
}

/// Opens a regular file; strictly for root.
///
/// # Errors
/// It cannot be opened, or is something that another user may have put there.
pub(crate) fn open(path: &Path, purpose: Use) -> io::Result<File> {
    open_as(path, purpose, FILE_MODE, geteuid().is_root())
}

/// The same, but strictly for every user, and readable by its owner alone if made.
///
/// # Errors
/// As [`open`].
#[cfg_attr(
    not(feature = "embedded"),
    allow(dead_code, reason = "the demo alone uses it")
)]
pub(crate) fn open_private(path: &Path, purpose: Use) -> io::Result<File> {
    open_as(path, purpose, 0o600, true)
}

fn open_as(path: &Path, purpose: Use, mode: u32, is_strict: bool) -> io::Result<File> {
    let (folder, name) = parent(path, is_strict)?;
    let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags |= match purpose {
        Use::Read => OFlags::RDONLY,
        Use::Change => OFlags::RDWR | OFlags::CREATE,
        Use::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
    };
    if is_strict {
        flags |= OFlags::NOFOLLOW;
    }
    let opened = rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(mode));
    let file = opened.map_err(|error| match error {
        Errno::LOOP if is_strict => refused("it is a link, and none is followed there"),
        // What a FIFO without a reader, a socket and some devices answer.
        Errno::NXIO => refused("it is no regular file"),
        error => error.into(),
    })?;
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(refused("it is no regular file"));
    }
    if is_strict {
        let owner = rustix::fs::fstat(&folder)?.st_uid;
        if found.st_uid != 0 && found.st_uid != owner {
            return Err(refused("it belongs to another user than its folder"));
        }
        if found.st_nlink > 1 {
            return Err(refused("it has a second name (a hard link)"));
        }
    }
    Ok(File::from(file))
}

/// Opens a log to append to. If it is a link to an output of this process, that output is duplicated: a socket or
/// another user's pipe cannot be opened by name.
///
/// # Errors
/// As [`open`].
pub(crate) fn append_log(path: &Path) -> io::Result<File> {
    match own_output(path) {
        Some(1) => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Some(_) => Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?)),
        None => open(path, Use::Append),
    }
}

/// Which output of this process a link leads to.
fn own_output(path: &Path) -> Option<u8> {
    let own = format!("/proc/{}/fd/", std::process::id());
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        path = path.parent()?.join(path.read_link().ok()?);
        let name = path.to_str()?.replacen(&own, "/proc/self/fd/", 1);
        let output = OUTPUTS.iter().find(|(output, _)| *output == name);
        if let Some((_, output)) = output {
            return Some(*output);
        }
    }
    None
}

/// The path of a folder with its links resolved. If one may not be followed, `path` as it is, so that its use fails
/// with the reason.
pub(crate) fn resolve(path: PathBuf) -> PathBuf {
    let opened = folder(&path, None, geteuid().is_root());
    let real =
        opened.and_then(|opened| fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())));
    real.unwrap_or(path)
}

/// Makes a folder and those above it that are missing; `is_strict`: for every user, not only for root.
///
/// # Errors
/// It cannot be made, or a link of another user leads there.
pub(crate) fn make_folder(path: &Path, mode: u32, is_strict: bool) -> io::Result<OwnedFd> {
    folder(path, Some(mode), is_strict || geteuid().is_root())
}

/// Puts a file with this text in the place of `path`, so that a reader sees the old text or the new one. It belongs to
/// the folder's owner, whose program has to be able to change it as well.
///
/// # Errors
/// The folder is missing, or cannot be written.
pub(crate) fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let is_root = geteuid().is_root();
    let (folder, name) = parent(path, is_root)?;
    let mut random = [0; 16];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let fresh = format!(".{}-{:032x}", name.display(), u128::from_ne_bytes(random));
    // Only a new file: one that has this name already is not ours.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, &fresh, flags, Mode::from_raw_mode(mode))?;
    let written = (|| {
        let mut file = File::from(file);
        file.write_all(text.as_bytes())?;
        if is_root {
            let owner = rustix::fs::fstat(&folder)?;
            std::os::unix::fs::fchown(&file, Some(owner.st_uid), Some(owner.st_gid))?;
        }
        Ok(rustix::fs::renameat(&folder, &fresh, &folder, name)?)
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&folder, &fresh, AtFlags::empty());
    }
    written
}

/// Whether `path` still names this file.
pub(crate) fn is_named(file: &File, path: &Path) -> bool {
    let is_strict = geteuid().is_root();
    parent(path, is_strict).is_ok_and(|(folder, name)| is_in(&folder, name, is_strict, file))
}

/// Removes the file that `path` names, if it is this one.
pub(crate) fn remove(file: &File, path: &Path) {
    let is_strict = geteuid().is_root();
    if let Ok((folder, name)) = parent(path, is_strict)
        && is_in(&folder, name, is_strict, file)
    {
        let _ = rustix::fs::unlinkat(&folder, name, AtFlags::empty());
    }
}

/// Listens on a Unix socket that only its owner may connect to. Replaces an existing one: the caller knows that no
/// other process serves it.
///
/// # Errors
/// It cannot be made, or something else has its name.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (folder, name) = parent(path, geteuid().is_root())?;
    unlink_socket(&folder, name)?;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // Before it has a name, so that no other user can ever connect.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(short_name(&folder, name))?)?;
    rustix::net::listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

/// Connects to a Unix socket.
///
/// # Errors
/// There is none, or this user may not.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = parent(path, geteuid().is_root())?;
    UnixStream::connect(short_name(&folder, name))
}

/// Removes a Unix socket.
pub(crate) fn remove_socket(path: &Path) {
    if let Ok((folder, name)) = parent(path, geteuid().is_root()) {
        let _ = unlink_socket(&folder, name);
    }
}

fn unlink_socket(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let found = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Socket => Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?),
        _ => Err(refused("something that is no socket has its name")),
    }
}

/// A socket's address has room for 107 bytes, and an opened folder stays the same one.
fn short_name(folder: &OwnedFd, name: &OsStr) -> PathBuf {
    Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name)
}

fn is_in(folder: &OwnedFd, name: &OsStr, is_strict: bool, file: &File) -> bool {
    let flags = match is_strict {
        true => AtFlags::SYMLINK_NOFOLLOW,
        false => AtFlags::empty(),
    };
    match (rustix::fs::statat(folder, name, flags), file.metadata()) {
        (Ok(named), Ok(open)) => named.st_ino == open.ino() && named.st_dev == open.dev(),
        _ => false,
    }
}

/// If this process runs as root, it becomes the owner of this folder, or of the nearest one above that exists. Call it
/// before the first thread starts.
///
/// # Errors
/// The folder cannot be looked at, or the system does not allow the change.
pub(crate) fn become_owner(path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let path = std::path::absolute(path)?;
    let nearest = path
        .ancestors()
        .map(|one| folder(one, None, true))
        .find(|opened| !opened.as_ref().is_err_and(is_no_folder));
    let Some(nearest) = nearest.transpose()? else {
        return Ok(());
    };
    let Stat { st_uid, st_gid, .. } = rustix::fs::fstat(nearest)?;
    if st_uid == 0 {
        return Ok(());
    }
    let (user, group) = (
        rustix::process::Uid::from_raw(st_uid),
        rustix::process::Gid::from_raw(st_gid),
    );
    let change = || -> rustix::io::Result<()> {
        set_thread_groups(&[group])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        // The change of user switches this off, and hides the working directory from the supervisor.
        rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
    };
    change().map_err(|error| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("cannot become user {st_uid}, who owns it: {error}"),
        )
    })
}

/// The opened folder of a file, and the file's name in it.
fn parent(path: &Path, is_strict: bool) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    Ok((folder(above, None, is_strict)?, name))
}

/// Opens a folder; if `is_strict`, step by step, so that nothing changes between the check of a step and its use.
fn folder(path: &Path, make: Option<u32>, is_strict: bool) -> io::Result<OwnedFd> {
    if !is_strict {
        if let Some(mode) = make {
            DirBuilder::new().recursive(true).mode(mode).create(path)?;
        }
        return Ok(rustix::fs::openat(
            CWD,
            path,
            PASS | OFlags::DIRECTORY,
            Mode::empty(),
        )?);
    }
    let path = std::path::absolute(path)?;
    let mut rest = steps(&path);
    let mut here = root()?;
    let mut link_owners = Vec::new();
    while let Some(step) = rest.pop() {
        let found = match rustix::fs::openat(&here, &step, PASS | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOENT) if make.is_some() => {
                are_trusted(&link_owners, &here)?;
                let mode = Mode::from_raw_mode(make.unwrap_or_default());
                match rustix::fs::mkdirat(&here, &step, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rest.push(step);
                continue;
            }
            found => found?,
        };
        let stat = rustix::fs::fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => here = found,
            FileType::Symlink => {
                link_owners.push(stat.st_uid);
                if link_owners.len() > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
                if target.is_absolute() {
                    here = root()?;
                }
                rest.extend(steps(&target));
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    are_trusted(&link_owners, &here)?;
    Ok(here)
}

fn root() -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, "/", PASS | OFlags::DIRECTORY, Mode::empty())
}

/// The components of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|one| match one {
        Component::Normal(_) | Component::ParentDir => Some(one.as_os_str().to_owned()),
        _ => None,
    });
    names.collect()
}

/// Fails if a link was made by neither root nor the owner of what it leads to.
fn are_trusted(link_owners: &[u32], folder: &OwnedFd) -> io::Result<()> {
    let owner = rustix::fs::fstat(folder)?.st_uid;
    match link_owners.iter().any(|of| *of != 0 && *of != owner) {
        true => Err(refused("a link of another user leads there")),
        false => Ok(()),
    }
}

/// Whether this error means that there is no such folder.
pub(crate) fn is_no_folder(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned())
}

#[cfg(test)]
mod tests;
