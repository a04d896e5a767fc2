//! Sends requests to rinit's broker, and receives the replies.

use crate::protocol::{MAX_REQUEST_BYTES, Reply, Request};
use crate::syscalls::*;
use core::ffi::{c_int, c_uint, c_void};
use core::sync::atomic::{AtomicU8, Ordering::SeqCst};

/// The timeout in seconds of each step: connect, send, receive.
const STEP_TIMEOUT: i64 = 5;

unsafe extern "C" {
    pub static mut environ: *const *const u8;
}

/// A descriptor of this library, closed when it is dropped.
pub struct Descriptor(pub c_int);

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: nobody else knows the number.
        unsafe { call(SYS_CLOSE, [word(self.0)]) };
    }
}

/// `struct iovec`.
#[repr(C)]
pub struct Buffer {
    pub bytes: *const c_void,
    pub length: usize,
}

/// `struct msghdr` (`recvmsg(2)`).
#[repr(C)]
pub struct Message {
    name: *const c_void,
    name_length: c_uint,
    buffers: *const Buffer,
    buffer_count: usize,
    pub control: *mut Control,
    pub control_length: usize,
    flags: c_int,
}

/// `struct cmsghdr` with a descriptor (`cmsg(3)`).
#[repr(C)]
pub struct Control {
    length: usize,
    level: c_int,
    kind: c_int,
    pub descriptor: c_int,
}

impl Control {
    /// The length without the bytes that fill it up: with them there would be room for two descriptors.
    pub const LENGTH: usize = 20;

    /// Sends a descriptor.
    fn sending(descriptor: c_int) -> Control {
        Control { length: Control::LENGTH, level: SOL_SOCKET, kind: SCM_RIGHTS, descriptor }
    }

    /// Has room for a descriptor that is received; -1 stands for none.
    pub fn receiving() -> Control {
        Control { length: 0, level: 0, kind: 0, descriptor: -1 }
    }
}

impl Message {
    /// A message of one part.
    pub fn new(buffer: &Buffer, control: &mut Control) -> Message {
        Message {
            name: core::ptr::null(),
            name_length: 0,
            buffers: buffer,
            buffer_count: 1,
            control,
            control_length: Control::LENGTH,
            flags: 0,
        }
    }
}

/// Sends a request about that socket, and waits for the reply. The descriptor that comes with the reply.
pub fn ask(request: &Request, fd: c_int) -> Option<(Reply, Option<Descriptor>)> {
    let broker = connect()?;
    let mut bytes = [0; MAX_REQUEST_BYTES];
    let length = request.encode(&mut bytes);
    let buffer = Buffer { bytes: (&raw const bytes).cast(), length };
    let mut control = Control::sending(fd);
    let (sent, _) = pass(SYS_SENDMSG, &broker, &buffer, &mut control, MSG_NOSIGNAL);
    if sent != length as isize {
        return None;
    }
    let mut code: c_int = 0;
    let buffer = Buffer { bytes: (&raw mut code).cast(), length: size_of::<c_int>() };
    let mut control = Control::receiving();
    let (received, flags) = pass(SYS_RECVMSG, &broker, &buffer, &mut control, MSG_CMSG_CLOEXEC);
    let descriptor = (received >= 0 && control.descriptor >= 0).then(|| Descriptor(control.descriptor));
    let reply = match Reply::decode(code) {
        // There was one, and this process had no number free for it.
        _ if descriptor.is_none() && flags & MSG_CTRUNC != 0 => Reply::Failed(EMFILE),
        reply => reply,
    };
    (received == size_of::<c_int>() as isize).then_some((reply, descriptor))
}

/// Calls `sendmsg(2)` or `recvmsg(2)`. Its result, and the flags that the message then has.
fn pass(number: usize, socket: &Descriptor, buffer: &Buffer, control: &mut Control, flags: c_int) -> (isize, c_int) {
    let mut message = Message::new(buffer, control);
    let arguments = [word(socket.0), &raw mut message as usize, word(flags)];
    // SAFETY: the message and what it points to are here until the call is over, and of the lengths that it says.
    let result = retry_if_interrupted(|| unsafe { call(number, arguments) });
    (result, message.flags)
}

/// Connects to the broker.
pub fn connect() -> Option<Descriptor> {
    let mut address = [0; 110];
    let length = broker_address(&mut address)?;
    let kind = SOCK_SEQPACKET | O_CLOEXEC;
    // SAFETY: no pointers.
    let socket = unsafe { call(SYS_SOCKET, [usize::from(AF_UNIX), word(kind)]) };
    let socket = (socket >= 0).then(|| Descriptor(socket as c_int))?;
    let timeout: Time = [STEP_TIMEOUT, 0];
    for name in [SO_RCVTIMEO, SO_SNDTIMEO] {
        let value = &raw const timeout as usize;
        let arguments = [word(socket.0), word(SOL_SOCKET), word(name), value, size_of::<Time>()];
        // SAFETY: the value is of the length that is said. It must be in force, or the program could wait forever.
        if unsafe { call(SYS_SETSOCKOPT, arguments) } != 0 {
            return None;
        }
    }
    let arguments = [word(socket.0), &raw const address as usize, length];
    // SAFETY: the address has at least `length` bytes.
    let connected = retry_if_interrupted(|| unsafe { call(SYS_CONNECT, arguments) });
    (connected == 0).then_some(socket)
}

/// The broker's name as it was when the program started, and a NUL: a program may clear its environment.
static BROKER_NAME: [AtomicU8; 108] = [const { AtomicU8::new(0) }; 108];

/// Reads the broker's name from the environment. Returns true if rinit has given this process a broker.
pub fn find_broker() -> bool {
    let Some(mut name) = variable(b"RINIT_PORTS=@") else { return false };
    for place in &BROKER_NAME {
        // SAFETY: a string, read byte by byte and not beyond its NUL.
        let byte = unsafe { *name };
        place.store(byte, SeqCst);
        if byte == 0 {
            return true;
        }
        // SAFETY: as above.
        name = unsafe { name.add(1) };
    }
    // Too long for an address.
    BROKER_NAME[0].store(0, SeqCst);
    false
}

/// Writes the broker's address over NULs, and returns its length (`unix(7)`): the family, a NUL, and the name, as far as the
/// length says.
fn broker_address(address: &mut [u8; 110]) -> Option<usize> {
    [address[0], address[1]] = AF_UNIX.to_ne_bytes();
    let name = BROKER_NAME.iter().map(|byte| byte.load(SeqCst)).take_while(|byte| *byte != 0);
    let mut length = 3;
    for (place, byte) in address.iter_mut().skip(3).zip(name) {
        *place = byte;
        length += 1;
    }
    (length > 3).then_some(length)
}

/// The rest of the environment's entry that begins so.
pub fn variable(beginning: &[u8]) -> Option<*const u8> {
    // SAFETY: `environ(7)` is an array of strings with a null at its end, or null itself (`clearenv(3)`). The strings
    // are read byte by byte and none beyond its NUL.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            entry = entry.add(1);
            if beginning.iter().zip(0..).all(|(byte, index)| *text.add(index) == *byte) {
                return Some(text.add(beginning.len()));
            }
        }
    }
    None
}

/// Repeats a call that a signal handler has interrupted, within the timeout: the kernel restarts no call on a socket that has
/// one (`signal(7)`).
fn retry_if_interrupted(attempt: impl Fn() -> isize) -> isize {
    let mut since = None;
    loop {
        let result = attempt();
        if result != -(EINTR as isize) || seconds() - *since.get_or_insert_with(seconds) > STEP_TIMEOUT {
            return result;
        }
    }
}

fn seconds() -> i64 {
    let mut time: Time = [0, 0];
    // SAFETY: there is room for a `struct timespec`.
    unsafe { call(SYS_CLOCK_GETTIME, [word(CLOCK_MONOTONIC), &raw mut time as usize]) };
    time[0]
}
