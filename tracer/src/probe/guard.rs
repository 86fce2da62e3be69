//! The guard: a small process of our own that makes the links, holds them, and takes them out, whatever becomes of us.
//!
//! A task with a fatal signal pending cannot take a breakpoint out: the kernel must write to the target's page, fetching
//! the page is interrupted (`EINTR`), and the breakpoint stays in the target for ever ("failed to unregister, leaking
//! uprobe", <https://github.com/torvalds/linux/blob/v6.18/kernel/events/uprobes.c#L1310>). So a recorder that is killed
//! while it makes or drops a link would harm its target. Who touches links must not be who gets killed: the guard has
//! nothing to do with the target's data, a session of its own, and no signal to end it but SIGKILL itself. It is asked over
//! a socket; when that is closed, at whatever instant the recorder died, it closes all links and ends.
//!
//! Each message is one packet. A request is a verb and its numbers in native byte order, with the program's descriptor
//! beside it; an answer is an `Answer`. Requests come one at a time.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs, io,
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    num::NonZeroU32,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    rc::Rc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg,
        shutdown, socketpair,
    },
    process::{Resource, Rlimit, getrlimit, setrlimit, setsid},
};
use thiserror::Error;

use super::sys::{self, Attach, Point};

/// The hidden verb of this executable that is the guard.
pub const VERB: &str = "__guard";

/// Most points in one request.
const MAX_POINTS: usize = 64;
/// Longest path, bytes: the kernel's own limit.
const MAX_PATH: usize = 4096;
/// Largest request: verb, attach, pid, count, points, path.
const MAX_REQUEST: usize = 1 + 1 + 4 + 4 + MAX_POINTS * 16 + MAX_PATH;

/// Why the guard could not be asked.
#[derive(Debug, Error)]
pub enum GuardError {
    /// It could not be started.
    #[error("cannot start the process that holds the probes (/proc/self/exe {VERB}): {0}")]
    Start(io::Error),
    /// It is there no more.
    #[error(
        "the process that holds the probes (hw-guard) is gone, and the probes with it ({0}); record again"
    )]
    Gone(io::Error),
    /// The request was refused, by us or by the kernel.
    #[error("{0}")]
    Refused(io::Error),
}

/// The recorder's end. Dropping it ends the guard, and waits until it has.
pub(super) struct Guard {
    socket: OwnedFd,
    process: Child,
}

/// A link that the guard holds. Dropping it returns when the probes are out.
pub(super) struct HeldLink {
    guard: Rc<Guard>,
    number: u32,
}

impl Guard {
    /// Whether it has ended, and all links with it. It ends by itself only after us.
    pub(super) fn is_gone(&self) -> bool {
        let mut sockets = [PollFd::new(&self.socket, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut sockets, Some(&now)).is_ok_and(|ready| ready > 0)
            && sockets[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
    }

    pub(super) fn start() -> Result<Rc<Self>, GuardError> {
        let start = || {
            let (ours, theirs) = socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let process = Command::new("/proc/self/exe")
                .arg(VERB)
                .stdin(Stdio::from(theirs))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            Ok(Rc::new(Self {
                socket: ours,
                process,
            }))
        };
        start().map_err(GuardError::Start)
    }

    /// Links a program to all `points` of the file at `path` in one process or, for perf events, thread.
    ///
    /// The path is looked up by the guard: it must mean the same file in another process. Absolute paths do, under
    /// `/proc/PID` too, and `/proc/self/exe` does because the guard runs the same executable.
    pub(super) fn link(
        self: &Rc<Self>,
        program: BorrowedFd<'_>,
        attach: Attach,
        pid: NonZeroU32,
        path: &Path,
        points: &[Point],
    ) -> Result<HeldLink, GuardError> {
        let request = Request::Link {
            attach,
            pid,
            path: path.as_os_str(),
            points: points.to_vec(),
        };
        let number = self.ask(&request, Some(program))?;
        Ok(HeldLink {
            guard: Rc::clone(self),
            number,
        })
    }

    fn ask(
        &self,
        request: &Request<'_>,
        program: Option<BorrowedFd<'_>>,
    ) -> Result<u32, GuardError> {
        let bytes = request
            .encode()
            .map_err(|error| GuardError::Refused(error.into()))?;
        let answer = self
            .exchange(&bytes, program)
            .map_err(|error| GuardError::Gone(error.into()))?;
        match answer {
            Answer { errno: 0, number } => Ok(number),
            Answer { errno, .. } => Err(GuardError::Refused(io::Error::from_raw_os_error(errno))),
        }
    }

    fn exchange(&self, request: &[u8], program: Option<BorrowedFd<'_>>) -> Result<Answer, Errno> {
        send(self.socket.as_fd(), request, program)?;
        let mut bytes = [0; Answer::SIZE];
        let (size, _) = receive(self.socket.as_fd(), &mut bytes)?;
        // Nothing: the other end is closed.
        if size == bytes.len() {
            Ok(Answer::decode(bytes))
        } else {
            Err(Errno::CONNRESET)
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It ends when the connection does; without a connection it has ended already.
        let _ = shutdown(&self.socket, Shutdown::Both);
        let _ = self.process.wait();
    }
}

impl Drop for HeldLink {
    fn drop(&mut self) {
        if let Err(error) = self.guard.ask(
            &Request::Close {
                number: self.number,
            },
            None,
        ) {
            log::warn!("a link was not closed in the ordinary way: {error}");
        }
    }
}

/// What the guard can be asked to do.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Link {
        attach: Attach,
        pid: NonZeroU32,
        path: &'a OsStr,
        points: Vec<Point>,
    },
    Close {
        number: u32,
    },
}

impl<'a> Request<'a> {
    const LINK: u8 = 1;
    const CLOSE: u8 = 2;

    fn encode(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::with_capacity(256);
        match self {
            Self::Link {
                attach,
                pid,
                path,
                points,
            } => {
                if points.len() > MAX_POINTS {
                    return Err(Errno::TOOBIG);
                }
                if path.len() > MAX_PATH {
                    return Err(Errno::NAMETOOLONG);
                }
                bytes.extend([Self::LINK, *attach as u8]);
                bytes.extend(pid.get().to_ne_bytes());
                bytes.extend((points.len() as u32).to_ne_bytes());
                for point in points {
                    bytes.extend(point.offset.to_ne_bytes());
                    bytes.extend(point.cookie.to_ne_bytes());
                }
                bytes.extend(path.as_bytes());
            }
            Self::Close { number } => {
                bytes.push(Self::CLOSE);
                bytes.extend(number.to_ne_bytes());
            }
        }
        Ok(bytes)
    }

    /// Nothing if the bytes are no request.
    fn decode(mut bytes: &'a [u8]) -> Option<Self> {
        let bytes = &mut bytes;
        match u8::from_ne_bytes(take(bytes)?) {
            Self::LINK => {
                let attach = Attach::from_number(u8::from_ne_bytes(take(bytes)?))?;
                let pid = NonZeroU32::new(u32::from_ne_bytes(take(bytes)?))?;
                let count = u32::from_ne_bytes(take(bytes)?) as usize;
                if count > MAX_POINTS {
                    return None;
                }
                let points = (0..count)
                    .map(|_| {
                        Some(Point {
                            offset: u64::from_ne_bytes(take(bytes)?),
                            cookie: u64::from_ne_bytes(take(bytes)?),
                        })
                    })
                    .collect::<Option<Vec<Point>>>()?;
                (bytes.len() <= MAX_PATH).then_some(Self::Link {
                    attach,
                    pid,
                    path: OsStr::from_bytes(bytes),
                    points,
                })
            }
            Self::CLOSE => {
                let number = u32::from_ne_bytes(take(bytes)?);
                bytes.is_empty().then_some(Self::Close { number })
            }
            _ => None,
        }
    }
}

/// Takes the first bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// The number of the link, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    errno: i32,
    number: u32,
}

impl Answer {
    const SIZE: usize = 8;

    fn of(result: io::Result<u32>) -> Self {
        match result {
            Ok(number) => Self { errno: 0, number },
            // What is no system call's failure is our own request's.
            Err(error) => Self {
                errno: error.raw_os_error().unwrap_or(libc::EINVAL),
                number: 0,
            },
        }
    }

    fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.errno.to_ne_bytes());
        bytes[4..].copy_from_slice(&self.number.to_ne_bytes());
        bytes
    }

    fn decode([a, b, c, d, e, f, g, h]: [u8; Self::SIZE]) -> Self {
        Self {
            errno: i32::from_ne_bytes([a, b, c, d]),
            number: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_ref().map(std::slice::from_ref);
    if let Some(descriptors) = descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    retry_on_intr(|| {
        sendmsg(
            socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })
    .map(drop)
}

/// How many bytes came, none when the other end is closed, and the descriptor that came with them.
fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<(usize, Option<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}

/// What the guard does: `__guard`, with the socket as its standard input.
pub fn run() {
    stand_apart();
    let socket = rustix::stdio::stdin();
    let mut links: HashMap<u32, Vec<OwnedFd>> = HashMap::new();
    let mut next = 0;
    let mut buffer = [0; MAX_REQUEST];
    // A failure of any kind means that the recorder is no more: `links` is dropped, and every probe is out.
    while let Ok((size @ 1.., program)) = receive(socket, &mut buffer) {
        let result = match (Request::decode(&buffer[..size]), program) {
            (
                Some(Request::Link {
                    attach,
                    pid,
                    path,
                    points,
                }),
                Some(program),
            ) => link(program.as_fd(), attach, pid, path, &points).map(|held| {
                next += 1;
                links.insert(next, held);
                next
            }),
            (Some(Request::Close { number }), None) => {
                // Closed when this returns: the kernel takes probes out on the way back from close(2).
                links
                    .remove(&number)
                    .map(|_| number)
                    .ok_or_else(|| Errno::BADF.into())
            }
            _ => Err(Errno::INVAL.into()),
        };
        if send(socket, &Answer::of(result).encode(), None).is_err() {
            break;
        }
    }
}

fn link(
    program: BorrowedFd<'_>,
    attach: Attach,
    pid: NonZeroU32,
    path: &OsStr,
    points: &[Point],
) -> io::Result<Vec<OwnedFd>> {
    let path = CString::new(path.as_bytes())?;
    match attach {
        Attach::PerfEntry | Attach::PerfReturn => points
            .iter()
            .map(|&point| {
                sys::link_perf_event(program, attach == Attach::PerfReturn, &path, point, pid)
            })
            .collect(),
        _ => sys::link_uprobes(program, attach, &path, points, pid).map(|link| vec![link]),
    }
}

/// Makes this process hard to end by accident. What is not permitted is done without.
fn stand_apart() {
    // Away from the recorder's terminal and process group, so that no Ctrl-C, hang-up or kill of the group comes here.
    let _ = setsid();
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: SIG_IGN runs no code of ours.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: nothing of this process uses a descriptor above standard error yet; these were inherited.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let _ = rustix::thread::set_name(c"hw-guard");
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // By perf events a process takes dozens of descriptors.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(count: u64) -> Vec<Point> {
        (0..count)
            .map(|number| Point {
                offset: number << 40 | 0x1234,
                cookie: !number,
            })
            .collect()
    }

    fn request(path: &str, count: u64) -> Request<'_> {
        Request::Link {
            attach: Attach::PerfReturn,
            pid: NonZeroU32::MAX,
            path: OsStr::new(path),
            points: points(count),
        }
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let longest = "/".repeat(MAX_PATH);
        for request in [
            request("/usr/lib/libc.so.6", 12),
            request(&longest, 64),
            Request::Close { number: 7 },
        ] {
            let bytes = request.encode().expect("it is within the bounds");
            assert!(bytes.len() <= MAX_REQUEST);
            assert_eq!(Request::decode(&bytes), Some(request));
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_not_sent() {
        assert_eq!(request("/", 65).encode(), Err(Errno::TOOBIG));
        assert_eq!(
            request(&"/".repeat(MAX_PATH + 1), 1).encode(),
            Err(Errno::NAMETOOLONG)
        );
    }

    #[test]
    fn an_answer_arrives_as_it_was_sent() {
        for answer in [Answer::of(Ok(9)), Answer::of(Err(Errno::SRCH.into()))] {
            assert_eq!(Answer::decode(answer.encode()), answer);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_none(bytes in prop::collection::vec(any::<u8>(), 0..200), verb in 0u8..4) {
            let bytes = [vec![verb], bytes].concat();
            if let Some(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), Ok(bytes.clone()));
            }
        }
    }
}
