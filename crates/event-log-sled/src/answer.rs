//! The way back to who waits for an append.
//!
//! To wake a task of a runtime of one thread from outside costs a system call for each task (tokio has no other way to
//! know that the runtime is not asleep), and as many tasks wait for a commit as it has requests. From inside, a wake-up is an
//! entry in a queue. So whoever appends says which runtime it runs on, and each runtime is given all its answers at
//! once, in a task that only hands them out.

use event_log::{AppendError, Receipt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Receipts = Result<Receipt, AppendError>;

/// Who waits for an append. Dropped, it says that there will be no answer.
pub(crate) struct Answer {
    sender: oneshot::Sender<Receipts>,
    runtime: Option<Handle>,
}

impl Answer {
    /// One for whoever runs here, and the other end of it.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Receipts>) {
        let (sender, receiver) = oneshot::channel();
        (Answer { sender, runtime: Handle::try_current().ok() }, receiver)
    }
}

/// The answers of a commit, by the runtimes that wait for them. They leave when this is dropped.
#[derive(Default)]
pub(crate) struct Answers {
    runtimes: Vec<(Handle, Delivery)>,
}

impl Answers {
    pub(crate) fn add(&mut self, answer: Answer, receipts: Receipts) {
        let Answer { sender, runtime } = answer;
        let Some(runtime) = runtime else {
            deliver(sender, receipts);
            return;
        };
        match self.runtimes.iter_mut().find(|(known, _)| known.id() == runtime.id()) {
            Some((_, delivery)) => delivery.0.push((sender, receipts)),
            None => self.runtimes.push((runtime, Delivery(vec![(sender, receipts)]))),
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for (runtime, delivery) in self.runtimes.drain(..) {
            // A single one is not worth a task.
            if delivery.0.len() > 1 {
                drop(runtime.spawn(async move { drop(delivery) }));
            }
        }
    }
}

/// Answers that leave when this is dropped: by its task, or by a runtime that takes no more tasks.
struct Delivery(Vec<(oneshot::Sender<Receipts>, Receipts)>);

impl Drop for Delivery {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|(sender, receipts)| deliver(sender, receipts));
    }
}

/// Whoever went away in the meantime does not hear it; what was done stands.
fn deliver(sender: oneshot::Sender<Receipts>, receipts: Receipts) {
    drop(sender.send(receipts));
}

#[cfg(test)]
mod tests {
    use event_log::Position;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn receipts() -> Receipts {
        Ok(Receipt { events: Vec::new(), head: Position::ORIGIN })
    }

    fn waiting(runtime: &Runtime, count: usize) -> (Vec<Answer>, Vec<oneshot::Receiver<Receipts>>) {
        let _inside = runtime.enter();
        (0..count).map(|_| Answer::new()).unzip()
    }

    fn send(waiting: impl IntoIterator<Item = Answer>) {
        let mut answers = Answers::default();
        waiting.into_iter().for_each(|answer| answers.add(answer, receipts()));
    }

    #[test]
    fn every_runtime_hears_its_own_answers_and_who_has_none_hears_at_once() {
        let runtimes = [(); 2].map(|()| Builder::new_current_thread().build().unwrap());
        let (mut first, mut heard_by_first) = waiting(&runtimes[0], 3);
        let (second, heard_by_second) = waiting(&runtimes[1], 2);
        let (outside, mut heard_outside) = Answer::new();
        first.extend(second);
        first.push(outside);
        send(first);
        assert!(heard_outside.try_recv().is_ok());
        assert!(heard_by_first[0].try_recv().is_err(), "the runtime has not run yet");
        for (runtime, heard) in runtimes.iter().zip([heard_by_first, heard_by_second]) {
            for receiver in heard {
                assert!(runtime.block_on(receiver).unwrap().is_ok());
            }
        }
    }

    #[test]
    fn a_single_answer_does_not_wait_for_the_runtime() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (answers, mut heard) = waiting(&runtime, 1);
        send(answers);
        assert!(heard[0].try_recv().is_ok());
    }

    #[test]
    fn answers_to_a_runtime_that_has_ended_are_not_lost() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let (answers, heard) = waiting(&runtime, 4);
        drop(runtime);
        send(answers);
        assert!(heard.into_iter().all(|mut receiver| receiver.try_recv().is_ok()));
    }
}
