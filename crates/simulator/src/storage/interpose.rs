//! The C library's functions that change files, defined by this program in their place: what they do below one directory is
//! written down in the order in which it is done, and some of it is made to fail.
//!
//! The linker takes a program's own definition before that of a library, as it does for `sync_file_range` in the engine. So the
//! engine and sled run as they are, on real files, and only what they ask of the system is seen. A lock is held from before a call
//! until it is written down, so that the order in the journal is the true one. A call that changes a file in a way that is not
//! modelled ends the process: nothing escapes silently.

#![expect(unsafe_code, reason = "C functions can be neither defined nor called in another way")]

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Duration;

use libc::{iovec, mode_t, off64_t, size_t, ssize_t};

use crate::storage::fault::{Call, Fault};
use crate::storage::journal::{self, Entry, FileId};

static ARMED: AtomicBool = AtomicBool::new(false);
static RECORDER: Mutex<Option<Recorder>> = Mutex::new(None);
static GATE: Gate = Gate {
    state: Mutex::new(GateState { closed: false, waiting: false, woken: false }),
    changed: Condvar::new(),
};

struct Recorder {
    root: PathBuf,
    journal: c_int,
    files: HashMap<u64, File>,
    directories: HashMap<u64, PathBuf>,
    next: FileId,
    faults: Vec<Fault>,
    /// Pages of files that were read: they are in memory, and no disk can fail to read them.
    cached: HashSet<(FileId, u64)>,
}

const PAGE_BYTES: u64 = 4_096;
/// How long a call takes that fails.
const FAILS_AFTER: Duration = Duration::from_millis(3);

#[derive(Clone, Copy)]
struct File {
    id: FileId,
    holds_events: bool,
}

/// Begins to record what happens below a directory, to a file that is open.
pub(crate) fn begin(root: &Path, journal: std::fs::File, faults: Vec<Fault>) {
    use std::os::fd::IntoRawFd;

    let mut recorder = Recorder {
        root: root.to_owned(),
        journal: journal.into_raw_fd(),
        files: HashMap::new(),
        directories: HashMap::new(),
        next: 0,
        faults,
        cached: HashSet::new(),
    };
    recorder.look_around(root);
    *lock() = Some(recorder);
    // SAFETY: the function does nothing that may not be done at the end of a process.
    unsafe { libc::atexit(end) };
    ARMED.store(true, Ordering::SeqCst);
}

/// From here to the end of the process no thread is between a call and its entry.
extern "C" fn end() {
    std::mem::forget(lock());
}

/// Writes down what the one who drives the log did, between what its threads do to files.
pub(crate) fn note(entry: &Entry) {
    lock().as_mut().expect("a recording has begun").put(entry);
}

/// From now on faults are as given.
pub(crate) fn set_faults(faults: Vec<Fault>) {
    lock().as_mut().expect("a recording has begun").faults = faults;
}

/// Lets each thread of this process tell where it is, on the standard error. Only for a process that ends then: a thread may be
/// anywhere, so what it does here may never come back.
#[expect(clippy::print_stderr, reason = "whoever started the process reads it there")]
pub(crate) fn show_stacks() {
    extern "C" fn show(_signal: c_int) {
        let thread = std::thread::current();
        let stack = std::backtrace::Backtrace::force_capture();
        eprintln!("thread {}:\n{stack}", thread.name().unwrap_or("without a name"));
    }
    // SAFETY: the handler is a function of this program. What it must not do in general is what its caller is told of.
    unsafe { libc::signal(libc::SIGUSR1, show as *const () as libc::sighandler_t) };
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Some(thread) = thread.file_name().to_str().and_then(|name| name.parse::<c_int>().ok()) else {
            continue;
        };
        // SAFETY: takes no pointers; the handler is in place.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, libc::SIGUSR1) };
        // One after the other, or none could be read.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends the process without anything that a hanging thread may hold up.
pub(crate) fn end_at_once(code: c_int) -> ! {
    // SAFETY: takes no pointers, and nothing follows.
    unsafe { libc::_exit(code) }
}

fn lock() -> MutexGuard<'static, Option<Recorder>> {
    RECORDER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Names what is there already.
    fn look_around(&mut self, directory: &Path) {
        use std::os::unix::fs::MetadataExt;

        let metadata = std::fs::metadata(directory).expect("the directory is there");
        self.directories.insert(metadata.ino(), directory.to_owned());
        let mut entries: Vec<PathBuf> = std::fs::read_dir(directory)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        entries.sort();
        for path in entries {
            match path.is_dir() {
                true => self.look_around(&path),
                false => {
                    let inode = std::fs::metadata(&path).expect("a file").ino();
                    let id = self.name(inode, &path);
                    self.put(&Entry::Present(id, self.relative(&path)));
                }
            }
        }
    }

    fn name(&mut self, inode: u64, path: &Path) -> FileId {
        let id = self.next;
        self.next += 1;
        let holds_events = path.parent().is_some_and(|folder| folder.ends_with("events"));
        self.files.insert(inode, File { id, holds_events });
        id
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).expect("below the root").to_owned()
    }

    fn is_below(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Writes an entry down, past everything that could be recorded itself.
    fn put(&mut self, entry: &Entry) {
        let bytes = journal::encode(entry);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            // SAFETY: the bytes are there for the time of the call.
            let written = unsafe { libc::syscall(libc::SYS_write, self.journal, rest.as_ptr(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) => rest = &rest[written..],
                Err(_) => refuse("the journal cannot be written"),
            }
        }
    }

    /// Whether a call is to fail, and with what; a write may be allowed a part.
    fn fault(&mut self, call: Call) -> Option<c_int> {
        let error = self.faults.iter_mut().find_map(|fault| fault.strikes(call))?;
        // A disk takes its time before it says that it cannot; whoever waits for it waits by then.
        std::thread::sleep(FAILS_AFTER);
        Some(error)
    }

    /// How many of so many bytes there is room for.
    fn room(&mut self, bytes: u64) -> u64 {
        self.faults.iter_mut().map(|fault| fault.room(bytes)).min().unwrap_or(bytes)
    }
}

/// Ends the process for what the journal could not tell.
fn refuse(what: &str) -> ! {
    let line = format!("simulator: {what}\n");
    // SAFETY: the bytes are there for the time of the call, and then nothing follows.
    unsafe {
        libc::syscall(libc::SYS_write, 2, line.as_ptr(), line.len());
        libc::abort()
    }
}

fn fail(error: c_int) -> c_int {
    // SAFETY: the place is this thread's own.
    unsafe { *libc::__errno_location() = error };
    -1
}

fn armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// How long a file is.
///
/// # Safety
///
/// It is open.
unsafe fn length(file: c_int) -> i64 {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: as promised, so the answer is written.
    unsafe {
        libc::fstat64(file, stat.as_mut_ptr());
        stat.assume_init().st_size
    }
}

/// The inode of an open file, if it is a file or a directory.
fn inode(file: c_int) -> Option<u64> {
    let mut stat = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: there is room for the answer, which is read only if it was written.
    unsafe {
        match libc::fstat64(file, stat.as_mut_ptr()) {
            0 => {
                let stat = stat.assume_init();
                let kind = stat.st_mode & libc::S_IFMT;
                matches!(kind, libc::S_IFREG | libc::S_IFDIR).then_some(stat.st_ino)
            }
            _ => None,
        }
    }
}

fn exists(path: &CStr) -> bool {
    // SAFETY: the path ends with a NUL.
    unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) == 0 }
}

/// # Safety
///
/// The pointer is that of a text that ends with a NUL.
unsafe fn text<'a>(path: *const c_char) -> &'a CStr {
    // SAFETY: as promised.
    unsafe { CStr::from_ptr(path) }
}

fn path_of(path: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path.to_bytes()))
}

/// What is known of an open file, with the lock in hand. Without it nothing has to be done.
fn known(file: c_int) -> Option<(MutexGuard<'static, Option<Recorder>>, File)> {
    if !armed() {
        return None;
    }
    let inode = inode(file)?;
    let recorder = lock();
    let known = recorder.as_ref().and_then(|recorder| recorder.files.get(&inode).copied())?;
    Some((recorder, known))
}

// ---- opening ----

#[unsafe(no_mangle)]
extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(libc::AT_FDCWD, path, flags, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn openat(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(directory, path, flags, mode) }
}

#[unsafe(no_mangle)]
extern "C" fn openat64(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: as above.
    unsafe { opened(directory, path, flags, mode) }
}

/// # Safety
///
/// The pointer is that of a text that ends with a NUL.
unsafe fn opened(directory: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let open = || {
        // SAFETY: as promised. The answer is small.
        unsafe { libc::syscall(libc::SYS_openat, directory, path, flags, c_uint::from(mode)) as c_int }
    };
    if !armed() || flags & (libc::O_CREAT | libc::O_TRUNC) == 0 {
        return open();
    }
    // SAFETY: as promised.
    let name = unsafe { text(path) };
    let path = path_of(name);
    let mut recorder = lock();
    let Some(recorder) = recorder.as_mut().filter(|recorder| recorder.is_below(&path)) else { return open() };
    if directory != libc::AT_FDCWD {
        refuse("a file is made below an open directory");
    }
    let is_new = !exists(name);
    if is_new && let Some(error) = recorder.fault(Call::Create) {
        return fail(error);
    }
    let file = open();
    let Some(inode) = (file >= 0).then(|| inode(file)).flatten() else { return file };
    if is_new {
        let id = recorder.name(inode, &path);
        recorder.put(&Entry::Create(id, recorder.relative(&path)));
    } else if flags & libc::O_TRUNC != 0
        && let Some(File { id, .. }) = recorder.files.get(&inode).copied()
    {
        recorder.put(&Entry::SetLength(id, 0));
    }
    file
}

// ---- writing ----

#[unsafe(no_mangle)]
extern "C" fn write(file: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's promise is that of the function that this replaces.
    unsafe { written(file, bytes, count, None) }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(file: c_int, bytes: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { written(file, bytes, count, Some(offset)) }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(file: c_int, bytes: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { written(file, bytes, count, Some(offset)) }
}

#[unsafe(no_mangle)]
extern "C" fn writev(file: c_int, pieces: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: as above. To write the first piece alone is allowed.
    unsafe {
        match known(file).is_some() && count > 0 {
            true => written(file, (*pieces).iov_base, (*pieces).iov_len, None),
            false => libc::syscall(libc::SYS_writev, file, pieces, count) as ssize_t,
        }
    }
}

/// # Safety
///
/// The pointer is that of so many bytes.
unsafe fn written(file: c_int, bytes: *const c_void, count: size_t, offset: Option<off64_t>) -> ssize_t {
    let write = |count: size_t| {
        // SAFETY: as promised.
        unsafe {
            match offset {
                None => libc::syscall(libc::SYS_write, file, bytes, count) as ssize_t,
                Some(offset) => libc::syscall(libc::SYS_pwrite64, file, bytes, count, offset) as ssize_t,
            }
        }
    };
    let Some((mut recorder, File { id, .. })) = known(file) else { return write(count) };
    let Some(recorder) = recorder.as_mut() else { return write(count) };
    if let Some(error) = recorder.fault(Call::Write) {
        return fail(error) as ssize_t;
    }
    let start = match offset {
        Some(offset) => offset,
        // SAFETY: only asks where the file is.
        None => unsafe { libc::syscall(libc::SYS_lseek, file, 0, libc::SEEK_CUR) },
    };
    // What is written over has its room already.
    // SAFETY: the file is open.
    let length = unsafe { length(file) };
    let over = (length - start).clamp(0, i64::try_from(count).unwrap_or(i64::MAX)) as u64;
    let allowed = over + recorder.room(count as u64 - over);
    if allowed == 0 && count > 0 {
        return fail(libc::ENOSPC) as ssize_t;
    }
    let written = write(usize::try_from(allowed).unwrap_or(count));
    if let Ok(count) = usize::try_from(written)
        && count > 0
    {
        // SAFETY: so many bytes were there to be written.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
        recorder.put(&Entry::Write(id, start as u64, bytes.to_vec()));
    }
    written
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(file: c_int, length: off64_t) -> c_int {
    set_length(file, length)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(file: c_int, length: off64_t) -> c_int {
    set_length(file, length)
}

fn set_length(file: c_int, length: off64_t) -> c_int {
    // SAFETY: takes no pointers.
    let set = || unsafe { libc::syscall(libc::SYS_ftruncate, file, length) as c_int };
    let Some((mut recorder, File { id, .. })) = known(file) else { return set() };
    let Some(recorder) = recorder.as_mut() else { return set() };
    if let Some(error) = recorder.fault(Call::Write) {
        return fail(error);
    }
    let done = set();
    if done == 0 {
        recorder.put(&Entry::SetLength(id, length as u64));
    }
    done
}

macro_rules! not_modelled {
    ($($name:ident($file:ident: c_int $(, $other:ident: $type:ty)*) -> $answer:ty, $number:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($file: c_int $(, $other: $type)*) -> $answer {
                if known($file).is_some() {
                    refuse(concat!(stringify!($name), " changes a file and is not modelled"));
                }
                // SAFETY: the caller's promise is that of the function that this replaces.
                unsafe { libc::syscall(libc::$number, $file $(, $other)*) as $answer }
            }
        )*
    };
}

not_modelled! {
    pwritev(file: c_int, pieces: *const iovec, count: c_int, offset: off64_t) -> ssize_t, SYS_pwritev;
    pwritev64(file: c_int, pieces: *const iovec, count: c_int, offset: off64_t) -> ssize_t, SYS_pwritev;
    fallocate(file: c_int, mode: c_int, offset: off64_t, bytes: off64_t) -> c_int, SYS_fallocate;
    fallocate64(file: c_int, mode: c_int, offset: off64_t, bytes: off64_t) -> c_int, SYS_fallocate;
    sendfile(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t, SYS_sendfile;
    sendfile64(to: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t, SYS_sendfile;
}

#[unsafe(no_mangle)]
extern "C" fn copy_file_range(
    from: c_int,
    from_offset: *mut off64_t,
    to: c_int,
    to_offset: *mut off64_t,
    count: size_t,
    flags: c_uint,
) -> ssize_t {
    if known(to).is_some() {
        refuse("copy_file_range changes a file and is not modelled");
    }
    // SAFETY: the caller's promise is that of the function that this replaces.
    unsafe {
        libc::syscall(libc::SYS_copy_file_range, from, from_offset, to, to_offset, count, flags) as ssize_t
    }
}

// ---- reading ----

#[unsafe(no_mangle)]
extern "C" fn pread(file: c_int, bytes: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: the caller's promise is that of the function that this replaces.
    unsafe { read_at(file, bytes, count, offset) }
}

#[unsafe(no_mangle)]
extern "C" fn pread64(file: c_int, bytes: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { read_at(file, bytes, count, offset) }
}

#[unsafe(no_mangle)]
extern "C" fn read(file: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
    // SAFETY: as above; only asks where the file is.
    unsafe {
        if known(file).is_none() {
            return libc::syscall(libc::SYS_read, file, bytes, count) as ssize_t;
        }
        let offset = libc::syscall(libc::SYS_lseek, file, 0, libc::SEEK_CUR);
        let read = read_at(file, bytes, count, offset);
        libc::syscall(libc::SYS_lseek, file, offset + read.max(0) as i64, libc::SEEK_SET);
        read
    }
}

/// # Safety
///
/// There is room for so many bytes.
unsafe fn read_at(file: c_int, bytes: *mut c_void, count: size_t, offset: off64_t) -> ssize_t {
    if let Some((mut recorder, File { id, .. })) = known(file)
        && let Some(recorder) = recorder.as_mut()
        && !recorder.faults.is_empty()
    {
        // Nothing is read behind the end of the file, so nothing can fail there.
        // SAFETY: the caller holds it open.
        let length = unsafe { length(file) } as u64;
        let end = (offset as u64 + count as u64).min(length);
        let pages = offset as u64 / PAGE_BYTES..end.div_ceil(PAGE_BYTES);
        let is_cached = pages.clone().all(|page| recorder.cached.contains(&(id, page)));
        if !is_cached && let Some(error) = recorder.fault(Call::Read) {
            return fail(error) as ssize_t;
        }
        recorder.cached.extend(pages.map(|page| (id, page)));
    }
    // SAFETY: as promised.
    unsafe { libc::syscall(libc::SYS_pread64, file, bytes, count, offset) as ssize_t }
}

// ---- barriers ----

#[unsafe(no_mangle)]
extern "C" fn fsync(file: c_int) -> c_int {
    sync(file, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(file: c_int) -> c_int {
    sync(file, libc::SYS_fdatasync)
}

fn sync(file: c_int, number: libc::c_long) -> c_int {
    // SAFETY: takes no pointers.
    let sync = || unsafe { libc::syscall(number, file) as c_int };
    let Some(inode) = armed().then(|| inode(file)).flatten() else { return sync() };
    let holds_events =
        lock().as_ref().and_then(|recorder| recorder.files.get(&inode).map(|file| file.holds_events));
    if holds_events == Some(true) {
        GATE.pass();
    }
    let mut recorder = lock();
    let Some(recorder) = recorder.as_mut() else { return sync() };
    let entry: Box<dyn Fn(bool) -> Entry> =
        match (recorder.files.get(&inode).copied(), recorder.directories.get(&inode).cloned()) {
            (Some(File { id, .. }), _) => Box::new(move |ok| Entry::Sync(id, ok)),
            (None, Some(path)) => {
                let path = recorder.relative(&path);
                Box::new(move |ok| Entry::SyncDirectory(path.clone(), ok))
            }
            (None, None) => return sync(),
        };
    if let Some(error) = recorder.fault(Call::Sync) {
        recorder.put(&entry(false));
        return fail(error);
    }
    // The disk below is none that anybody relies on: that the barrier was asked for, and where, is all that counts.
    recorder.put(&entry(true));
    0
}

// ---- names ----

// `rename` itself is the engine's, and ends here.
#[unsafe(no_mangle)]
extern "C" fn renameat(from_at: c_int, from: *const c_char, to_at: c_int, to: *const c_char) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    let (from, to) = unsafe { (text(from), text(to)) };
    // SAFETY: both paths end with a NUL. (The call of all systems takes flags.)
    let rename = || unsafe {
        libc::syscall(libc::SYS_renameat2, from_at, from.as_ptr(), to_at, to.as_ptr(), 0) as c_int
    };
    if armed() && (from_at, to_at) != (libc::AT_FDCWD, libc::AT_FDCWD) {
        refuse("a name below an open directory is changed");
    }
    changed_name(to, rename, |recorder| {
        let (from, to) = (path_of(from), path_of(to));
        for path in recorder.directories.values_mut() {
            if let Ok(below) = path.strip_prefix(&from) {
                *path = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
            }
        }
        Entry::Rename(recorder.relative(&from), recorder.relative(&to))
    })
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    let path = unsafe { text(path) };
    // SAFETY: the path ends with a NUL.
    let unlink = || unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) as c_int };
    changed_name(path, unlink, |recorder| Entry::Remove(recorder.relative(&path_of(path))))
}

#[unsafe(no_mangle)]
extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    let path = unsafe { text(path) };
    // SAFETY: the path ends with a NUL.
    let remove = || unsafe {
        libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), libc::AT_REMOVEDIR) as c_int
    };
    changed_name(path, remove, |recorder| Entry::Remove(recorder.relative(&path_of(path))))
}

#[unsafe(no_mangle)]
extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    let path = unsafe { text(path) };
    // SAFETY: the path ends with a NUL.
    let make = || unsafe {
        libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), c_uint::from(mode)) as c_int
    };
    changed_name(path, make, |recorder| {
        use std::os::unix::fs::MetadataExt;

        let path = path_of(path);
        let inode = std::fs::metadata(&path).map(|metadata| metadata.ino()).unwrap_or_default();
        recorder.directories.insert(inode, path.clone());
        Entry::MakeDirectory(recorder.relative(&path))
    })
}

/// Changes a name, and writes it down if it is one below the root and the change was done.
fn changed_name(
    path: &CStr,
    change: impl FnOnce() -> c_int,
    entry: impl FnOnce(&mut Recorder) -> Entry,
) -> c_int {
    if !armed() {
        return change();
    }
    let name = path_of(path);
    let mut recorder = lock();
    let Some(recorder) = recorder.as_mut().filter(|recorder| recorder.is_below(&name)) else {
        return change();
    };
    if let Some(error) = recorder.fault(Call::Create) {
        return fail(error);
    }
    let done = change();
    if done == 0 {
        let entry = entry(recorder);
        recorder.put(&entry);
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: the caller's promise is that of the function that this replaces.
    let remove = || unsafe { libc::syscall(libc::SYS_unlinkat, directory, path, flags) as c_int };
    let above = match directory {
        libc::AT_FDCWD => Some(PathBuf::new()),
        directory => armed()
            .then(|| inode(directory))
            .flatten()
            .and_then(|inode| lock().as_ref().and_then(|recorder| recorder.directories.get(&inode).cloned())),
    };
    let Some(above) = above else { return remove() };
    // SAFETY: as above.
    let name = above.join(path_of(unsafe { text(path) }));
    let whole = std::ffi::CString::new(name.as_os_str().as_bytes()).expect("a path has no NUL");
    changed_name(&whole, remove, |recorder| Entry::Remove(recorder.relative(&name)))
}

// ---- the gate ----

/// Where the engine's writer can be held just before a barrier of a file of events.
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

struct GateState {
    closed: bool,
    waiting: bool,
    woken: bool,
}

/// The one gate.
pub(crate) fn gate() -> &'static Gate {
    &GATE
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on whoever comes to the gate waits there.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Lets everybody pass, until it is closed again.
    pub(crate) fn open(&self) {
        self.state().closed = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state();
        while state.closed {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting = false;
    }

    /// Waits until somebody waits at the gate, or something else calls to look again.
    pub(crate) fn wait_for_somebody(&self) {
        let mut state = self.state();
        while !state.waiting && !std::mem::take(&mut state.woken) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether somebody waits there.
    pub(crate) fn is_somebody_waiting(&self) -> bool {
        self.state().waiting
    }
}

/// Wakes the one who waits for somebody at the gate.
pub(crate) struct GateWaker;

impl Wake for GateWaker {
    fn wake(self: std::sync::Arc<Self>) {
        GATE.state().woken = true;
        GATE.changed.notify_all();
    }
}
