//! The cases. Each begins with a hub of its own in an empty directory.

mod boundary;
mod frames;
mod handoff;
mod history;
mod idle;
mod ids;
mod kill;
mod order;
mod restart;
mod slow;
mod starts;
mod topics;
mod trim;

use crate::case::Case;

/// All cases, in the order of the tables.
pub fn all() -> Vec<Case> {
    [
        handoff::CASES,
        history::CASES,
        boundary::CASES,
        slow::CASES,
        restart::CASES,
        kill::CASES,
        ids::CASES,
        trim::CASES,
        starts::CASES,
        order::CASES,
        topics::CASES,
        frames::CASES,
        idle::CASES,
    ]
    .concat()
}
