//! Rust: closures in closures, generics, boxes, vectors and strings, a panic that is caught with blocks taken in `drop`,
//! and threads. Its allocator is libc's, and tells of every block.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::ffi::{CString, c_char};
use std::hint::black_box;
use std::io::BufRead;
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

unsafe extern "C" {
    fn begin_truth(path: *const c_char);
    fn start_telling();
    fn take(size: usize) -> *mut u8;
    fn write_truth() -> u64;
}

struct Telling;

// SAFETY: what `take` gives is fresh memory of that size, aligned like all that malloc gives, and never handed out again.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > 16 {
            std::process::abort();
        }
        // SAFETY: any size will do.
        unsafe { take(layout.size().max(1)) }
    }

    // The truth is of blocks that stay.
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: Telling = Telling;

struct Drops(usize);

impl Drop for Drops {
    fn drop(&mut self) {
        black_box(vec![0u8; 100 + self.0]);
    }
}

#[inline(never)]
fn unwinds(depth: usize) -> usize {
    let here = Drops(depth);
    if depth == 0 {
        resume_unwind(Box::new("no message is printed"));
    }
    unwinds(depth - 1) + black_box(&here).0
}

trait Grows {
    fn grown(&self, by: usize) -> Box<dyn Grows>;
    fn size(&self) -> usize;
}

impl Grows for String {
    #[inline(never)]
    fn grown(&self, by: usize) -> Box<dyn Grows> {
        Box::new(format!("{self}{by:08}"))
    }

    fn size(&self) -> usize {
        self.len()
    }
}

impl<T: Clone + 'static> Grows for Vec<T> {
    #[inline(never)]
    fn grown(&self, by: usize) -> Box<dyn Grows> {
        let mut more = self.clone();
        for _ in 0..by {
            more.extend_from_slice(self);
        }
        Box::new(more)
    }

    fn size(&self) -> usize {
        self.len()
    }
}

#[inline(never)]
fn generic<T: Grows + 'static>(depth: usize, start: T) -> usize {
    let mut boxed: Box<dyn Grows> = Box::new(start);
    for by in 0..depth {
        boxed = black_box(boxed.grown(by % 3));
    }
    boxed.size()
}

#[inline(never)]
fn within(depth: usize, action: &mut dyn FnMut(usize)) {
    if depth == 0 {
        return action(depth);
    }
    within(depth - 1, &mut |inner| {
        let kept = black_box(Box::new([inner; 40]));
        action(inner + kept[0]);
    });
}

fn work(number: usize) {
    for i in 0..number {
        let mut sum = 0;
        within(i % 7, &mut |n| sum += vec![n; 10 + i].len());
        sum += generic(i % 5, "x".repeat(i + 1));
        sum += generic(i % 4, vec![1u64, 2, 3]);
        let mut numbers: Vec<(usize, String)> = (0..30).map(|n| (n * 7 % 30, n.to_string())).collect();
        numbers.sort_by_key(|(n, text)| (text.clone(), *n));
        let map: BTreeMap<usize, String> = numbers.into_iter().collect();
        let caught = catch_unwind(AssertUnwindSafe(|| unwinds(i % 6)));
        black_box((sum, map, caught.is_err()));
    }
}

fn main() {
    let path = std::env::args_os().nth(1).expect("the first argument is the file for the truth");
    let path = CString::new(path.into_vec()).expect("a path has no zero byte");
    // SAFETY: the path is a string of C.
    unsafe { begin_truth(path.as_ptr()) };
    let mut lines = std::io::stdin().lock();
    let mut line = String::with_capacity(100);
    // The buffer of standard output is made here, before anything is traced.
    println!("READY");
    while lines.read_line(&mut line).expect("commands are text") > 0 {
        let number = line.trim().strip_prefix("go ").expect("the command is go");
        let number = number.parse().expect("go has a number");
        line.clear();
        // SAFETY: needs nothing.
        unsafe { start_telling() };
        work(number);
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(move || work(number / 4))).collect();
        for thread in threads {
            thread.join().expect("no thread panics");
        }
        // SAFETY: needs nothing.
        let blocks = unsafe { write_truth() };
        println!("TRUTH blocks={blocks}\nDONE go");
    }
}
