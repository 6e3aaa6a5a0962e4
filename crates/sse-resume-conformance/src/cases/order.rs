//! One order: of all live readers, and of the replay.

use std::thread;

use crate::adapter::Promise::{ExactResume, Ordered};
use crate::case::{Case, Outcome, Stop, fail};
use crate::hub::Hub;
use crate::reader::{Item, Reader, Start};

pub(super) const CASES: &[Case] = &[Case {
    name: "replay-order-is-live-order",
    about: "what several publishers publish at once comes to all readers in one order, in the replay too",
    needs: &[ExactResume, Ordered],
    long: false,
    run: one_order,
}];

const PUBLISHERS: u64 = 4;
const EACH: u64 = 250;

fn one_order(hub: &Hub) -> Outcome {
    let topic = hub.topic();
    let first = hub.seed(&topic)?;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = hub.reader(&[&topic], Start::After(&first))?;
        reader.open()?;
        readers.push(reader);
    }
    let publish = |first: u64| {
        let mut publisher = hub.publisher();
        (first..first + EACH).try_for_each(|n| publisher.publish(&topic, n, 60)).map_err(Stop::from)
    };
    thread::scope(|scope| {
        let publish = &publish;
        let all: Vec<_> = (1..=PUBLISHERS).map(|n| scope.spawn(move || publish(n * 1_000))).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| fail("a publisher ended")))
    })?;
    readers.push(hub.reader(&[&topic], Start::After(&first))?);
    let orders = readers.iter_mut().map(order).collect::<Result<Vec<_>, _>>()?;
    for (i, other) in orders.iter().enumerate().skip(1) {
        if let Some(at) = (0..other.len()).find(|at| other[*at] != orders[0][*at]) {
            let who = if i == orders.len() - 1 { "the replay" } else { "another live reader" };
            return fail(format!(
                "a live reader got {} as its event {at}, and {who} got {}",
                orders[0][at], other[at]
            ));
        }
    }
    Ok(format!("{} events to 3 live readers and one replay", PUBLISHERS * EACH))
}

/// All that was published, in the order in which it came.
fn order(reader: &mut Reader) -> Result<Vec<u64>, Stop> {
    let mut order = Vec::new();
    while (order.len() as u64) < PUBLISHERS * EACH {
        match reader.next()? {
            Some(Item::Event { n, .. }) => order.push(n),
            other => {
                return fail(format!("after {} of {} events came {other:?}", order.len(), PUBLISHERS * EACH));
            }
        }
    }
    Ok(order)
}
