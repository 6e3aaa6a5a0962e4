//! What tests hold up reads with.

use crossbeam_channel::{Receiver, Sender};
use event_log::limits;

use crate::SledLog;

/// Keeps the threads that read busy until it is let go.
pub(crate) struct Gate(Vec<Sender<()>>);

impl Gate {
    pub(crate) fn close(log: &SledLog) -> Self {
        let (inside, entered) = crossbeam_channel::unbounded();
        let gates = (0..limits::READ_THREADS).map(|_| {
            let (gate, opened): (Sender<()>, Receiver<()>) = crossbeam_channel::bounded(1);
            let inside = inside.clone();
            let job = Box::new(move || {
                inside.send(()).unwrap();
                assert!(opened.recv().is_err(), "a gate is only ever dropped");
            });
            assert!(log.inner.shared.jobs.send(job));
            gate
        });
        let gates = gates.collect();
        (0..limits::READ_THREADS).for_each(|_| entered.recv().unwrap());
        Gate(gates)
    }

    pub(crate) fn let_one_go(&mut self) {
        drop(self.0.pop());
    }
}
