//! Keeps the preloaded library (`library.rs`) in memory, where every worker finds it, and answers its requests.

mod binding;
mod broker;
#[cfg_attr(not(test), expect(dead_code, reason = "the library uses the other half"))]
mod protocol;
mod requests;

pub(super) use broker::{Broker, Client};
pub use protocol::Peer;
pub(super) use protocol::{PACKET_BYTES, Packet};
pub(super) use requests::IdleListener;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Made by `build.rs` for this machine's kind; empty where it knows none.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));
/// The maximum number of `#!` lines that are followed.
const MAX_INTERPRETERS: usize = 4;
/// The directories that are searched without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The library in memory, sealed: no worker can change it for another.
#[derive(Debug)]
pub struct Library {
    file: OwnedFd,
}

impl Library {
    /// # Errors
    /// The reason, in words.
    pub fn open() -> Result<Library, String> {
        if LIBRARY.is_empty() {
            return Err("rinit has no library for this kind of machine".into());
        }
        if !Path::new("/proc/self/fd").exists() {
            return Err("there is no /proc, by which the library is found".into());
        }
        Library::create().map(|file| Library { file }).map_err(|errno| format!("no memory file: {}", errno.desc()))
    }

    fn create() -> nix::Result<OwnedFd> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        // MFD_NOEXEC_SEAL, which Linux 6.3 and later expect (memfd_create(2)) and those before do not know.
        let not_a_program = flags | MFdFlags::from_bits_retain(0x8);
        let file = match memfd_create(c"rinit-ports", not_a_program) {
            Err(Errno::EINVAL) => memfd_create(c"rinit-ports", flags),
            result => result,
        }?;
        let mut file = File::from(file);
        file.write_all(LIBRARY).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }
}

impl AsRawFd for Library {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

/// The reason why that command's program cannot load the library, if it cannot.
pub fn unsupported_reason(command: &[OsString]) -> Option<String> {
    let mut program = find(command.first()?)?;
    for _ in 0..MAX_INTERPRETERS {
        match inspect(&program) {
            Kind::Script(next) => program = find(&next)?,
            Kind::Supported => return None,
            Kind::Unsupported(reason) => return Some(format!("{} {reason}", program.display())),
        }
    }
    None
}

/// The kind of a program file.
#[derive(Debug, PartialEq)]
enum Kind {
    /// That program runs it.
    Script(OsString),
    Supported,
    Unsupported(&'static str),
}

/// The file that the shell would run.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Reads a program's header. A file that cannot be read counts as supported.
fn inspect(program: &Path) -> Kind {
    let Ok(mut file) = File::open(program) else { return Kind::Supported };
    let mut head = [0; 256];
    let mut count = 0;
    while let Ok(more @ 1..) = head.get_mut(count..).map_or(Ok(0), |rest| file.read(rest)) {
        count += more;
    }
    let head = head.get(..count).unwrap_or_default();
    if let Some(line) = head.strip_prefix(b"#!") {
        return interpreter(line);
    }
    // setuid, setgid: the loader drops LD_PRELOAD (ld.so(8)).
    if file.metadata().is_ok_and(|file| file.permissions().mode() & 0o6000 != 0) {
        return Kind::Unsupported("runs as another user (setuid)");
    }
    let Some(elf) = Elf::read(head) else { return Kind::Supported };
    if !elf.is_native() {
        return Kind::Unsupported("is a program for another kind of machine");
    }
    if elf.has_loader(&mut file) { Kind::Supported } else { Kind::Unsupported("is a static program") }
}

/// The program of a `#!` line; for `env` the one that it searches for.
fn interpreter(line: &[u8]) -> Kind {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let Some(program) = words.next() else { return Kind::Supported };
    let searched_for = words.find(|word| !word.starts_with(b"-"));
    let word = if program.ends_with(b"/env") { searched_for.unwrap_or(program) } else { program };
    Kind::Script(OsString::from_vec(word.to_vec()))
}

/// The fields of an ELF file's header (elf(5)) that are read here.
struct Elf {
    is_64_bit_little_endian: bool,
    machine: u16,
    headers_at: u64,
    header_size: u16,
    headers: u16,
}

impl Elf {
    fn read(head: &[u8]) -> Option<Elf> {
        let short = |at: usize| head.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes);
        let long = |at: usize| head.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        head.starts_with(b"\x7fELF").then_some(())?;
        Some(Elf {
            is_64_bit_little_endian: head.get(4..6) == Some(&[2, 1]),
            machine: short(18)?,
            headers_at: long(32)?,
            header_size: short(54)?,
            headers: short(56)?,
        })
    }

    fn is_native(&self) -> bool {
        let native = match std::env::consts::ARCH {
            "x86_64" => 62,
            "aarch64" => 183,
            _ => return true,
        };
        self.is_64_bit_little_endian && self.machine == native
    }

    /// Returns true if it names a loader (`PT_INTERP`): a program without one is static.
    fn has_loader(&self, file: &mut File) -> bool {
        (0..self.headers.min(64)).any(|index| {
            let mut kind = [0; 4];
            let at = self.headers_at.saturating_add(u64::from(index) * u64::from(self.header_size));
            let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut kind));
            read.is_ok() && u32::from_le_bytes(kind) == 3
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn dynamic_programs_and_their_scripts_are_supported() {
        assert_eq!(unsupported_reason(&command(&["sh", "-c", "true"])), None);
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#!/usr/bin/env -S sh -e\ntrue\n").unwrap();
        assert_eq!(unsupported_reason(&command(&[script.to_str().unwrap()])), None);
        assert_eq!(unsupported_reason(&command(&["/no/such/program"])), None, "exec reports that");
    }

    #[test]
    fn static_and_foreign_programs_are_not_supported() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        let mut elf = vec![0u8; 128];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        std::fs::write(&program, &elf).unwrap();
        let reason = || unsupported_reason(&command(&[program.to_str().unwrap()])).unwrap();
        assert!(reason().contains("static"), "{}", reason());
        elf[18] = 8;
        std::fs::write(&program, &elf).unwrap();
        assert!(reason().contains("another kind of machine"), "{}", reason());
    }

    #[test]
    fn the_library_cannot_be_changed() {
        let library = Library::open().unwrap();
        let path = format!("/proc/self/fd/{}", library.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY);
        assert!(std::fs::write(&path, "changed").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY);
    }
}
