//! Moves the registrations in epoll instances from a socket to the one that takes its place.
//!
//! An instance knows a socket by its open file. A program may register its socket before it binds it, as Boost.Asio does, and
//! would hear nothing of the socket that stands there later. The kernel shows an instance's registrations in
//! `/proc/self/fdinfo` (`proc_pid_fdinfo(5)`). Where there is no /proc, they are not moved.

use crate::client::Descriptor;
use crate::open_files;
use crate::syscalls::*;
use core::cell::Cell;
use core::ffi::{c_int, c_uint};

/// The maximum number of instances that are looked after.
const MAX_REGISTRATIONS: usize = 8;
/// The name that the kernel gives the file of an instance.
const INSTANCE: &[u8] = b"anon_inode:[eventpoll]";

/// The registrations of one descriptor.
pub struct Registrations {
    fd: c_int,
    all: [Cell<Option<Registration>>; MAX_REGISTRATIONS],
}

#[derive(Clone, Copy)]
struct Registration {
    instance: c_int,
    event: Event,
}

/// `struct epoll_event` (`epoll_ctl(2)`).
#[derive(Clone, Copy)]
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
struct Event {
    events: c_uint,
    data: u64,
}

impl Registrations {
    /// The registrations of that descriptor in the instances of this process.
    pub fn of(fd: c_int) -> Registrations {
        let found = Registrations { fd, all: [const { Cell::new(None) }; MAX_REGISTRATIONS] };
        open_files::for_each(|instance| {
            if let Some(event) = is_instance(instance).then(|| registration(instance, fd)).flatten()
                && let Some(place) = found.all.iter().find(|place| place.get().is_none())
            {
                place.set(Some(Registration { instance, event }));
            }
        });
        found
    }

    /// Returns true if an instance reports when there is something to read.
    pub fn wait_to_read(&self) -> bool {
        self.each().any(|one| one.event.events & READ as c_uint != 0)
    }

    /// Removes them from their instances.
    pub fn remove(&self) {
        self.each().for_each(|one| self.control(EPOLL_CTL_DEL, &one));
    }

    /// Adds them to their instances again, for the socket that the descriptor has by now.
    pub fn add(&self) {
        self.each().for_each(|one| self.control(EPOLL_CTL_ADD, &one));
    }

    fn each(&self) -> impl Iterator<Item = Registration> {
        self.all.iter().filter_map(Cell::get)
    }

    fn control(&self, command: c_int, one: &Registration) {
        let arguments = [word(one.instance), word(command), word(self.fd), &raw const one.event as usize];
        // SAFETY: the event is here until the call is over.
        unsafe { call(SYS_EPOLL_CTL, arguments) };
    }
}

fn is_instance(fd: c_int) -> bool {
    let (path, mut name) = (path_of(b"/proc/self/fd/", fd), [0u64; 4]);
    let name_at = &raw mut name as usize;
    // SAFETY: the path ends with a NUL, and there is as much room as is said.
    let length =
        unsafe { call(SYS_READLINKAT, [word(AT_FDCWD), &raw const path as usize, name_at, size_of_val(&name)]) };
    let bytes = name.iter().flat_map(|part| part.to_ne_bytes());
    length == INSTANCE.len() as isize && INSTANCE.iter().zip(bytes).all(|(byte, other)| *byte == other)
}

/// The path of a descriptor's file in that directory of /proc, with a NUL.
fn path_of(folder: &[u8], fd: c_int) -> [u8; 40] {
    let (mut path, mut digits, mut rest) = ([0; 40], [0; 10], fd as c_uint);
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        if rest > 0 || count == 0 {
            *place = b'0' + (rest % 10) as u8;
            (rest, count) = (rest / 10, count + 1);
        }
    }
    let number = digits.iter().filter(|digit| **digit > 0);
    path.iter_mut().zip(folder.iter().chain(number)).for_each(|(place, byte)| *place = *byte);
    path
}

/// The registration of a descriptor in an instance.
fn registration(instance: c_int, fd: c_int) -> Option<Event> {
    const ROOM: usize = 512;
    let path = path_of(b"/proc/self/fdinfo/", instance);
    // SAFETY: the path ends with a NUL.
    let file = unsafe { call(SYS_OPENAT, [word(AT_FDCWD), &raw const path as usize, word(O_CLOEXEC)]) };
    let file = (file >= 0).then(|| Descriptor(file as c_int))?;
    let mut line = Line::default();
    loop {
        let mut bytes = [0u64; ROOM / 8];
        // SAFETY: there is that much room.
        let count = unsafe { call(SYS_READ, [word(file.0), &raw mut bytes as usize, ROOM]) };
        if count <= 0 {
            return None;
        }
        for byte in bytes.iter().flat_map(|part| part.to_ne_bytes()).take(count as usize) {
            if let Some((found, event)) = line.take(byte)
                && found == fd
            {
                return Some(event);
            }
        }
    }
}

/// A line of an instance's page, read byte by byte: `tfd: N events: X data: X …`, of which the first number is decimal and
/// the others are hexadecimal.
#[derive(Default)]
struct Line {
    numbers: [u64; 3],
    /// The number of colons so far, each of which ends a name.
    colons: usize,
    part: Part,
    is_registration: bool,
    length: usize,
}

/// The part of a line that is read: a name, the spaces before its number, the number.
#[derive(Default, PartialEq)]
enum Part {
    #[default]
    Name,
    Padding,
    Digits,
}

impl Line {
    /// Takes the next byte. At the end of a registration's line: the descriptor, and the event.
    fn take(&mut self, byte: u8) -> Option<(c_int, Event)> {
        if self.length == 0 {
            self.is_registration = byte == b't';
        }
        self.length += 1;
        match byte {
            b'\n' => {
                let Line { numbers: [fd, events, data], is_registration, .. } = core::mem::take(self);
                return is_registration.then_some((fd as c_int, Event { events: events as c_uint, data }));
            }
            b':' => {
                self.colons += 1;
                self.part = Part::Padding;
            }
            b' ' if self.part == Part::Digits => self.part = Part::Name,
            b'0'..=b'9' | b'a'..=b'f' if self.part != Part::Name => {
                self.part = Part::Digits;
                let digit = if byte > b'9' { byte - b'a' + 10 } else { byte - b'0' };
                let base = if self.colons == 1 { 10 } else { 16 };
                if let Some(number) = self.numbers.get_mut(self.colons.wrapping_sub(1)) {
                    *number = number.wrapping_mul(base).wrapping_add(u64::from(digit));
                }
            }
            _ => {}
        }
        None
    }
}
