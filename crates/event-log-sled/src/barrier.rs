//! The barrier: what makes sled's flush survive a power cut on Linux.
//!
//! sled 0.34 ends each flush with `sync_file_range`, which starts the write of the file's pages and waits for it, but
//! flushes neither the device's cache nor the file's length. It is called at exactly the right place: after the last
//! byte of a commit, before the commit counts as stable. So this program defines that C function itself, as the
//! barrier that is meant: `fdatasync`. The linker takes this definition before the C library's.
//!
//! Each start of sled writes a snapshot, gives it its name, and then writes zeros over what the older one led to; but it never syncs
//! the directory, so a power cut could leave the zeros without the name. So `rename` is defined here too: behind the name of a
//! snapshot comes the barrier that is missing.
//!
//! The files of events are ours, and have the same barrier without a detour.
//!
//! A barrier that fails is final. The kernel may report an error once, drop the pages, and let the next call succeed;
//! so the process says so and stops, and nothing that waits for this barrier is ever answered.

use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);

/// Barriers since the start of the process. [`crate::store`] counts them around a flush, which proves that sled's
/// flush ends here.
pub(crate) fn calls() -> u64 {
    // The linker takes from this library only what something asks for before it comes to sled, and sled alone would be
    // satisfied by the C library. This is what asks.
    #[cfg(target_os = "linux")]
    std::hint::black_box(symbol::sync_file_range as symbol::Function);
    #[cfg(target_os = "linux")]
    std::hint::black_box(symbol::rename as symbol::Rename);
    CALLS.load(Ordering::SeqCst)
}

/// Makes what was written to a file durable, or ends the process.
#[cfg(target_os = "linux")]
pub(crate) fn sync(file: &std::fs::File) -> std::io::Result<()> {
    rustix::fs::fdatasync(file).map_err(|error| stop(error.into()))
}

/// Makes what was written to a file durable.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync(file: &std::fs::File) -> std::io::Result<()> {
    file.sync_data()
}

/// Whether flushes of this system go through here; elsewhere sled itself ends a flush with a full sync of the file.
pub(crate) const EXPECTED: bool = cfg!(target_os = "linux");

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "the one place where sled's flush can be made a true barrier is this C symbol"
)]
mod symbol {
    use std::ffi::{CStr, OsStr, c_char, c_int, c_uint};
    use std::os::fd::BorrowedFd;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use rustix::fs::CWD;

    use super::{CALLS, Ordering};

    pub(super) type Function = extern "C" fn(c_int, i64, i64, c_uint) -> c_int;

    pub(super) type Rename = extern "C" fn(*const c_char, *const c_char) -> c_int;

    /// How the names of sled's snapshots begin.
    const SNAPSHOT: &[u8] = b"snap.";

    /// Takes the place of the C library's function, for this whole program.
    #[unsafe(no_mangle)]
    pub(super) extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
        // SAFETY: the caller's texts end with a NUL, as for the function that this replaces.
        let (from, to) = unsafe { (CStr::from_ptr(from), CStr::from_ptr(to)) };
        // This goes by the C library, which leaves the reason of a failure where the caller looks for it.
        if rustix::fs::renameat(CWD, from, CWD, to).is_err() {
            return -1;
        }
        let to = Path::new(OsStr::from_bytes(to.to_bytes()));
        if to.file_name().is_some_and(|name| name.as_bytes().starts_with(SNAPSHOT))
            && let Some(parent) = to.parent()
            && let Err(error) = crate::directory::sync(parent)
        {
            super::stop(error);
        }
        0
    }

    /// Takes the place of the C library's function, for this whole program.
    #[unsafe(no_mangle)]
    pub(super) extern "C" fn sync_file_range(file: c_int, _from: i64, _bytes: i64, _flags: c_uint) -> c_int {
        // SAFETY: the caller holds the file open for the time of the call, as for the function that this replaces.
        let file = unsafe { BorrowedFd::borrow_raw(file) };
        match rustix::fs::fdatasync(file) {
            Ok(()) => {
                CALLS.fetch_add(1, Ordering::SeqCst);
                0
            }
            Err(error) => super::stop(error.into()),
        }
    }
}

/// Ends the process without unwinding: nobody may go on as if the bytes were safe.
#[cfg(target_os = "linux")]
fn stop(error: std::io::Error) -> ! {
    use std::io::Write;

    let line = format!(
        "perennial: fatal: the disk refused to make the log durable (fdatasync: {error}); stopping. What was \
         acknowledged before is safe. Check the disk, then start again.\n"
    );
    // Written past the logging, which may itself wait for something. If it fails there is nobody left to tell.
    drop(std::io::stderr().write_all(line.as_bytes()));
    std::process::exit(1)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use super::*;

    const IN_CHILD: &str = "EVENT_LOG_SLED_TEST_FAILING_BARRIER";

    #[test]
    fn a_barrier_that_fails_stops_the_process_and_says_so() {
        if std::env::var_os(IN_CHILD).is_some() {
            // A pipe cannot be synced.
            let (reader, _writer) = std::io::pipe().unwrap();
            symbol::sync_file_range(reader.as_raw_fd(), 0, 0, 0);
            unreachable!("the process goes on after a barrier that failed");
        }
        let name = "barrier::tests::a_barrier_that_fails_stops_the_process_and_says_so";
        let child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(IN_CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(1), "{said}");
        assert!(said.contains("refused to make the log durable"), "{said}");
        assert!(!String::from_utf8_lossy(&child.stdout).contains("test result"), "the test went on");
    }

    #[test]
    fn a_barrier_is_counted() {
        let before = calls();
        let file = tempfile::tempfile().unwrap();
        assert_eq!(symbol::sync_file_range(file.as_raw_fd(), 0, 0, 0), 0);
        assert!(calls() > before);
    }
}
