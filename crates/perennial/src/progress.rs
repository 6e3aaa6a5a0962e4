//! How far long work is: a bar on standard error while somebody can see it there.
//!
//! Bars are indicatif's. What was done is told in a last line by whoever did it, terminal or not.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// With and without a total.
const EVENTS: [&str; 2] = [
    "{bar:40} {human_pos} of {human_len} events, {per_sec}, {eta} left",
    "{spinner} {human_pos} events, {per_sec}",
];
const BYTES: [&str; 2] = [
    "{bar:40} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left",
    "{spinner} {binary_bytes}, {binary_bytes_per_sec}",
];

/// A bar, which vanishes when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts events; without a total it only counts.
    pub(crate) fn events(total: Option<u64>) -> Self {
        Self::new(total, EVENTS)
    }

    /// Counts bytes of an input.
    pub(crate) fn bytes(total: Option<u64>) -> Self {
        Self::new(total, BYTES)
    }

    fn new(total: Option<u64>, [with_total, without]: [&str; 2]) -> Self {
        if !stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(if total.is_some() { with_total } else { without });
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// So much is done, all in all.
    pub(crate) fn reach(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed() {
        for template in EVENTS.iter().chain(&BYTES) {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
