//! What goes wrong below the log, and when.

use std::ffi::c_int;

use bincode::{Decode, Encode};

/// Kinds of calls that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Call {
    Read,
    Write,
    Sync,
    /// Of files and directories, their removal and their names, too.
    Create,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Fault {
    /// After so many calls of a kind the next ones fail, as many as are given, with an error of the system.
    Calls { call: Call, after: u64, count: u64, error: c_int },
    /// So many bytes can still be added to files.
    Room(u64),
}

impl Fault {
    /// Whether this call fails, and with what.
    pub(crate) fn strikes(&mut self, called: Call) -> Option<c_int> {
        let Fault::Calls { call, after, count, error } = self else { return None };
        if *call != called {
            return None;
        }
        if *after > 0 {
            *after -= 1;
            return None;
        }
        if *count == 0 {
            return None;
        }
        *count -= 1;
        Some(*error)
    }

    /// How many of so many bytes can be added.
    pub(crate) fn room(&mut self, bytes: u64) -> u64 {
        match self {
            Fault::Room(left) => {
                let taken = bytes.min(*left);
                *left -= taken;
                taken
            }
            Fault::Calls { .. } => bytes,
        }
    }
}
