//! Keeps the preloaded library (`library.rs`) where every worker finds it, and answers its requests.

mod binding;
mod broker;
mod datagrams;
#[cfg_attr(not(test), expect(dead_code, reason = "the library uses the other half"))]
mod protocol;
mod requests;

pub(super) use broker::{Broker, Client};
pub use protocol::Peer;
pub(super) use protocol::{PACKET_BYTES, Packet, REPORT_BYTES, UnusedTurn};
pub(super) use requests::IdleListener;

use super::placed_file::{PlacedFile, is_executable, is_protected};
use crate::embedded::{Embedded, embedded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Made by `build.rs` for this machine's kind; empty where it knows none.
const LIBRARY: Embedded = embedded!("preload.so");
/// The end of its file's name.
const SUFFIX: &str = ".so";
/// The maximum number of `#!` lines that are followed.
const MAX_INTERPRETERS: usize = 4;
/// The types of an ELF file's segments that are looked at (elf(5)).
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// The maximum number of segments that are looked at.
const MAX_SEGMENTS: u16 = 64;
/// The maximum length of the notes of one segment, in bytes.
const MAX_NOTES_BYTES: u64 = 4096;
/// The type of Go's note (`ELF_NOTE_GOBUILDID_TAG` in cmd/link).
const GO_BUILD_ID: usize = 4;
/// The directories that are searched without a `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The library, where the loader of every worker finds it.
#[derive(Debug)]
pub enum Library {
    /// In a file, which processes of other users and in other PID namespaces find too, also when the worker has ended.
    File(Placed),
    /// In memory, sealed: where no directory can have such a file. Each worker gets a descriptor.
    Memory(OwnedFd),
}

/// The library's file.
#[derive(Debug)]
pub struct Placed(PlacedFile);

impl Library {
    /// # Errors
    /// The reason, in words.
    pub fn open() -> Result<Library, String> {
        if LIBRARY.is_empty() {
            return Err("rinit has no library for this kind of machine".into());
        }
        Broker::check()?;
        if let Ok(file) = PlacedFile::place(LIBRARY, SUFFIX, |folder| is_protected(folder) && is_executable(folder)) {
            return Ok(Library::File(Placed(file)));
        }
        Library::in_memory()
    }

    fn in_memory() -> Result<Library, String> {
        if !Path::new("/proc/self/fd").exists() {
            return Err("there is no /proc, by which the library is found".into());
        }
        Library::create().map(Library::Memory).map_err(|errno| format!("no memory file: {}", errno.desc()))
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
        file.write_all(&LIBRARY.unpack()).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }
}

impl Placed {
    /// The file's path. The file is written again if it was removed.
    ///
    /// # Errors
    /// It cannot be written any more.
    pub fn path(&self) -> io::Result<PathBuf> {
        self.0.path()
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
    if !elf.has_loader(&mut file) {
        return Kind::Unsupported("is a static program");
    }
    if elf.is_go(&mut file) {
        return Kind::Unsupported("is a Go program, which makes its system calls itself");
    }
    Kind::Supported
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
        self.segments(file, PT_INTERP).next().is_some()
    }

    /// Returns true if Go's linker made it: its note is the build's identity (`.note.go.buildid`).
    fn is_go(&self, file: &mut File) -> bool {
        let notes: Vec<(u64, u64)> = self.segments(file, PT_NOTE).collect();
        notes.into_iter().any(|(offset, length)| {
            let mut notes = vec![0; length.min(MAX_NOTES_BYTES) as usize];
            let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut notes));
            read.is_ok() && has_go_note(&notes)
        })
    }

    /// The segments of that type: where each begins in the file, and its length, in bytes.
    fn segments(&self, file: &mut File, wanted: u32) -> impl Iterator<Item = (u64, u64)> {
        (0..self.headers.min(MAX_SEGMENTS)).filter_map(move |index| {
            let mut header = [0; 40];
            let at = self.headers_at.saturating_add(u64::from(index) * u64::from(self.header_size));
            file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut header)).ok()?;
            let long =
                |at: usize| header.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
            let kind = header.first_chunk().copied().map(u32::from_le_bytes);
            (kind == Some(wanted)).then_some((long(8)?, long(32)?))
        })
    }
}

/// Returns true if Go's note is among these (elf(5), "Notes"): each has the lengths of its name and of its data, a type, the
/// name and the data, both filled up to four bytes.
fn has_go_note(mut notes: &[u8]) -> bool {
    let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
    while let Some((head, rest)) = notes.split_first_chunk::<12>() {
        let [name, data, kind] = [0, 4, 8].map(|at| head.get(at..).and_then(<[u8]>::first_chunk).map_or(0, number));
        if kind == GO_BUILD_ID && name == 4 && rest.starts_with(b"Go\0\0") {
            return true;
        }
        let length = name.next_multiple_of(4).saturating_add(data.next_multiple_of(4));
        notes = rest.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

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
    fn a_go_program_with_a_loader_is_not_supported() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        // A header, two segments (a loader, notes), and the notes: the linker's build ID, and Go's.
        let mut elf = vec![0u8; 64 + 2 * 56];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
        (elf[32], elf[54], elf[56], elf[64]) = (64, 56, 2, PT_INTERP as u8);
        let notes = [
            &[4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0][..],
            b"GNU\0abc\0",
            &[4, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0],
            b"Go\0\0abcde\0\0\0",
        ];
        let notes = notes.concat();
        (elf[120], elf[128], elf[152]) = (PT_NOTE as u8, elf.len() as u8, notes.len() as u8);
        elf.extend(&notes);
        std::fs::write(&program, &elf).unwrap();
        let reason = || unsupported_reason(&command(&[program.to_str().unwrap()]));
        assert!(reason().is_some_and(|reason| reason.contains("Go program")), "{:?}", reason());
        let end = elf.len();
        elf[end - 12] = b'X';
        std::fs::write(&program, &elf).unwrap();
        assert_eq!(reason(), None);
    }

    #[test]
    fn the_library_cannot_be_changed() {
        let Ok(Library::Memory(library)) = Library::in_memory() else { panic!("there is a memory file") };
        let path = format!("/proc/self/fd/{}", library.as_raw_fd());
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY.unpack());
        assert!(std::fs::write(&path, "changed").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), LIBRARY.unpack());
    }
}
