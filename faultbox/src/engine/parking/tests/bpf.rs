//! The maps of the kernel's half, and two programs that do by hand what its programs do: send
//! the running thread a signal, and write to the ring buffer. They are run by
//! `BPF_PROG_TEST_RUN`, in the caller, and attached to nothing.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use faultbox_common::{MAX_PARKED, Park, Wake};
use nix::errno::Errno;

const MAP_CREATE: u32 = 0;
const PROG_LOAD: u32 = 5;
const PROG_TEST_RUN: u32 = 10;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_RINGBUF: u32 = 27;
const NO_PREALLOC: u32 = 1;
const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// One instruction: `struct bpf_insn`.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    code as u64
        | (to as u64) << 8
        | (from as u64) << 12
        | ((offset as u16) as u64) << 16
        | ((value as u32) as u64) << 32
}

const LOAD: u8 = 0x79;
const STORE: u8 = 0x7b;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const MAP: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);

/// `bpf_send_signal_thread(ctx[0])`.
const SIGNAL: &[u64] = &[instruction(LOAD, 1, 1, 0, 0), instruction(CALL, 0, 0, 0, 117), EXIT];

/// `bpf_ringbuf_output(ring, ctx, 16, 0)`.
fn wake(ring: i32) -> [u64; 12] {
    [
        instruction(LOAD, 2, 1, 0, 0),
        instruction(STORE, 10, 2, -16, 0),
        instruction(LOAD, 2, 1, 8, 0),
        instruction(STORE, 10, 2, -8, 0),
        instruction(MAP, 1, 1, 0, ring),
        0,
        instruction(COPY, 2, 10, 0, 0),
        instruction(ADD, 2, 0, 0, -16),
        instruction(SET, 3, 0, 0, 16),
        instruction(SET, 4, 0, 0, 0),
        instruction(CALL, 0, 0, 0, 130),
        EXIT,
    ]
}

/// `bpf(2)` with attributes as words.
fn bpf<const N: usize>(command: u32, mut words: [u32; N]) -> io::Result<i32> {
    let (at, size) = (words.as_mut_ptr(), size_of_val(&words));
    // SAFETY: the kernel reads and writes no more than that; what the words point to is live.
    let result = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, at, size) })?;
    Ok(result as i32)
}

fn descriptor(result: io::Result<i32>) -> io::Result<OwnedFd> {
    // SAFETY: a descriptor that was just made for us.
    result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn halves(address: *const u8) -> [u32; 2] {
    [address as u64 as u32, (address as u64 >> 32) as u32]
}

/// The map of parked threads.
pub(super) fn park_map() -> io::Result<OwnedFd> {
    let value = size_of::<Park>() as u32;
    descriptor(bpf(MAP_CREATE, [MAP_TYPE_HASH, 4, value, MAX_PARKED, NO_PREALLOC]))
}

/// The ring buffer.
pub(super) fn ring() -> io::Result<OwnedFd> {
    descriptor(bpf(MAP_CREATE, [MAP_TYPE_RINGBUF, 0, 0, 1 << 16, 0]))
}

fn load(program: &[u64]) -> io::Result<OwnedFd> {
    let ([a, b], [c, d]) = (halves(program.as_ptr().cast()), halves(c"GPL".as_ptr().cast()));
    let count = program.len() as u32;
    descriptor(bpf(PROG_LOAD, [PROG_TYPE_RAW_TRACEPOINT, count, a, b, c, d, 0, 0, 0, 0, 0, 0]))
}

/// The program that sends its caller a signal.
pub(super) fn signal_program() -> io::Result<OwnedFd> {
    load(SIGNAL)
}

/// The program that writes to the ring buffer.
pub(super) fn wake_program(ring: &OwnedFd) -> io::Result<OwnedFd> {
    load(&wake(ring.as_raw_fd()))
}

fn run(program: BorrowedFd<'_>, context: [u64; 2]) -> io::Result<i32> {
    let [a, b] = halves(context.as_ptr().cast());
    let mut words = [0; 20];
    words[0] = program.as_raw_fd() as u32;
    words[10] = size_of_val(&context) as u32;
    [words[12], words[13]] = [a, b];
    let (at, size) = (words.as_mut_ptr(), size_of_val(&words));
    // SAFETY: as above.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, at, size) })?;
    Ok(words[1] as i32)
}

/// Sends the calling thread a signal, as the programs do.
pub(super) fn send_signal(program: BorrowedFd<'_>, signal: i32) {
    assert_eq!(run(program, [signal as u64, 0]).unwrap(), 0);
}

/// Writes to the ring buffer.
pub(super) fn send_wake(program: BorrowedFd<'_>, wake: Wake) {
    let words = [
        u64::from(wake.kind) | u64::from(wake.pid) << 32,
        u64::from(wake.tid) | u64::from(wake.signal) << 32,
    ];
    assert_eq!(run(program, words).unwrap(), 0);
}
