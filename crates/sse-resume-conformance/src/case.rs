//! A case: what it is about, what it rests on, and what came of it.

use std::io;

use crate::adapter::Promise;
use crate::hub::Hub;

/// One failure known from the field, looked for in one hub.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name, by which it is chosen.
    pub name: &'static str,
    /// What holds when it passes.
    pub about: &'static str,
    /// The promises that it rests on.
    pub needs: &'static [Promise],
    /// Whether it takes minutes, and runs only when asked for.
    pub long: bool,
    pub(crate) run: fn(&Hub) -> Outcome,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It held; with what is worth saying.
    Pass(String),
    /// It did not; with what was seen.
    Fail(String),
    /// The hub does not promise it; with the promise and with what was seen all the same.
    NotPromised(Promise, String),
    /// It cannot be put to this hub; with the reason.
    NotApplicable(String),
    /// It was not asked for, because it takes minutes.
    NotRun,
}

impl Verdict {
    /// Whether the hub broke a promise.
    pub fn is_failure(&self) -> bool {
        matches!(self, Verdict::Fail(_))
    }

    /// The word of the table.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Pass(_) => "pass",
            Verdict::Fail(_) => "FAIL",
            Verdict::NotPromised(..) => "not promised",
            Verdict::NotApplicable(_) => "not applicable",
            Verdict::NotRun => "not run",
        }
    }

    /// What was seen.
    pub fn seen(&self) -> String {
        match self {
            Verdict::Pass(seen) | Verdict::Fail(seen) | Verdict::NotApplicable(seen) => seen.clone(),
            Verdict::NotPromised(promise, seen) => format!("{promise} is not promised; seen: {seen}"),
            Verdict::NotRun => "takes minutes: --long".to_owned(),
        }
    }
}

/// What a case's run gives: a remark, or why it stopped.
pub(crate) type Outcome = Result<String, Stop>;

/// Why a case stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    Failed(String),
    NotApplicable(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Failed(error.to_string())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Stop::Failed(format!("{error:#}"))
    }
}

/// Ends a case with what was seen.
pub(crate) fn fail<T>(seen: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(seen.into()))
}

/// Ends a case that cannot be put to this hub.
pub(crate) fn not_applicable<T>(reason: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::NotApplicable(reason.into()))
}
