//! Many topics on one connection, resumed by one id.

use std::collections::BTreeMap;

use crate::adapter::Promise::{ExactResume, MultiTopic};
use crate::case::{Case, Outcome, Stop, fail, not_applicable};
use crate::hub::Hub;
use crate::reader::{Item, Reader, Start};

pub(super) const CASES: &[Case] = &[Case {
    name: "many-topics",
    about: "a connection that reads many topics, and is cut again and again, gets each event of each once, in order",
    needs: &[ExactResume, MultiTopic],
    long: false,
    run: many_topics,
}];

const ROUNDS: u64 = 20;

fn many_topics(hub: &Hub) -> Outcome {
    let count = hub.adapter.topics_max.min(20);
    if count < 2 {
        return not_applicable("a connection reads one topic");
    }
    let topics: Vec<String> = (0..count).map(|_| hub.topic()).collect();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut reader = hub.reader(&names, Start::Next)?;
    reader.open()?;
    let mut next: BTreeMap<&str, u64> = names.iter().map(|name| (*name, 1)).collect();
    let mut publisher = hub.publisher();
    let mut published = 0;
    for round in 1..=ROUNDS {
        // Some topics get several events in a row, others none.
        let mut due = 0;
        for (i, topic) in topics.iter().enumerate() {
            let events = (round + i as u64) % 4;
            let first = 1 + (1..round).map(|r| (r + i as u64) % 4).sum::<u64>();
            for n in first..first + events {
                publisher.publish(topic, n, 60)?;
                due += 1;
            }
        }
        published += due;
        // It is cut in the middle, and once more before anything new is published.
        read_some(&mut reader, &mut next, due / 2)?;
        reader.cut();
        read_some(&mut reader, &mut next, due - due / 2)?;
        reader.cut();
    }
    Ok(format!("{published} events of {count} topics over {} connections", reader.connections))
}

/// So many events of any topics, each the next of its topic.
fn read_some(reader: &mut Reader, next: &mut BTreeMap<&str, u64>, count: u64) -> Result<(), Stop> {
    for read in 0..count {
        match reader.next()? {
            Some(Item::Event { topic, n, .. }) => {
                let Some(due) = next.get_mut(topic.as_str()) else {
                    return fail(format!("an event of {topic} came, which was not asked for"));
                };
                if n != *due {
                    return fail(format!("{n} of {topic} came where {due} was due"));
                }
                *due += 1;
            }
            other => return fail(format!("after {read} of {count} events came {other:?}")),
        }
    }
    Ok(())
}
