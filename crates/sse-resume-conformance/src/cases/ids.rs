//! Ids that say nothing about the hub's history.

use std::time::{Duration, Instant};

use crate::adapter::Place;
use crate::adapter::Promise::GapSignalled;
use crate::case::{Case, Outcome, fail, not_applicable};
use crate::hub::Hub;
use crate::reader::{Item, Start, shown};
use crate::template::fill;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "id-unknown",
        about: "a reader with an id that the hub never gave is told so",
        needs: &[GapSignalled],
        long: false,
        run: unknown,
    },
    Case {
        name: "id-future",
        about: "a reader with an id that is newer than the newest is told so",
        needs: &[GapSignalled],
        long: false,
        run: future,
    },
    Case {
        name: "id-foreign",
        about: "a reader with an id of another hub of the same kind is told so",
        needs: &[GapSignalled],
        long: false,
        run: foreign,
    },
    Case {
        name: "id-malformed",
        about: "a reader with a text that is no id is told so, and its stream is not refused",
        needs: &[GapSignalled],
        long: false,
        run: malformed,
    },
];

const EVENTS: u64 = 20;

/// Texts that are ids of no hub.
const MALFORMED: [&str; 8] =
    ["garbage", "-1", "0x10", "1e9", "99999999999999999999999999", "1:2:3:4", "%00", "\u{e9}\u{1F680}"];

fn unknown(hub: &Hub) -> Outcome {
    match &hub.adapter.ids.unknown {
        Some(id) => come_with(hub, &|topic, _| Ok(fill(id, &[("topic", topic)])?)),
        None => not_applicable("the adapter names no unknown id"),
    }
}

fn future(hub: &Hub) -> Outcome {
    let Some(place) = hub.adapter.ids.grows else {
        return not_applicable("the hub's ids have no order");
    };
    come_with(hub, &|_, ids| {
        let newest = ids.last().map_or("", String::as_str);
        raised(newest, place).map_or_else(|| fail(format!("the id {newest:?} has no number in it")), Ok)
    })
}

/// An id whose number at this place is greater by a million.
fn raised(id: &str, place: Place) -> Option<String> {
    let is_digit = |c: char| c.is_ascii_digit();
    let (start, end) = match place {
        Place::First => {
            let start = id.find(is_digit)?;
            (start, id[start..].find(|c| !is_digit(c)).map_or(id.len(), |length| start + length))
        }
        Place::Last => {
            let end = id.rfind(is_digit)? + 1;
            (id[..end].rfind(|c| !is_digit(c)).map_or(0, |before| before + 1), end)
        }
    };
    let number: u64 = id[start..end].parse().ok()?;
    Some(format!("{}{}{}", &id[..start], number.checked_add(1_000_000)?, &id[end..]))
}

fn foreign(hub: &Hub) -> Outcome {
    let other = hub.another()?;
    let mut seen = String::new();
    // The other hub has more events in its topic of this name. Of its ids, one is early, and one behind what this hub has.
    for place in [4, 2 * EVENTS - 1] {
        seen = come_with(hub, &|topic, known| {
            let ids = other.seed_many(topic, 2 * EVENTS, 60)?;
            if let Some(id) = ids.iter().find(|id| known.contains(id)) {
                return fail(format!("two hubs gave the same id {id:?}, so nobody can tell them apart"));
            }
            Ok(ids[usize::try_from(place).unwrap_or_default()].clone())
        })?;
    }
    Ok(seen)
}

fn malformed(hub: &Hub) -> Outcome {
    let standard = || MALFORMED.map(str::to_owned).to_vec();
    let mut seen = String::new();
    for text in hub.adapter.ids.malformed.clone().unwrap_or_else(standard) {
        seen = come_with(hub, &|_, _| Ok(text.clone()))?;
    }
    Ok(seen)
}

/// A reader comes to a topic with a history, with an id that is made from the topic's name and its ids; then an event is
/// published. It must be told before its first event, and get all events from some place on.
fn come_with(hub: &Hub, id_of: &dyn Fn(&str, &[String]) -> Outcome) -> Outcome {
    let topic = hub.topic();
    let known = hub.seed_many(&topic, EVENTS, 60)?;
    let id = id_of(&topic, &known)?;
    let mut reader = hub.reader(&[&topic], Start::After(&id))?;
    reader.connect_now()?;
    // A hub that replays begins before this, and one that does not has nothing to wait for.
    let replay = reader.next_by(Instant::now() + Duration::from_millis(300))?;
    hub.publisher().publish(&topic, EVENTS + 1, 60)?;
    let mut items: Vec<Item> = replay.into_iter().collect();
    if !matches!(items.last(), Some(Item::Event { n, .. }) if *n == EVENTS + 1) {
        items.extend(reader.until(EVENTS + 1)?);
    }
    judge(&id, &items)
}

fn judge(id: &str, items: &[Item]) -> Outcome {
    let Some((Item::Gap(_), events)) = items.split_first() else {
        let silently = match items.len() as u64 {
            1 => "silently got only what happened next".to_owned(),
            n if n == EVENTS + 1 => "silently got the whole history".to_owned(),
            _ => format!("silently got {}", shown(items)),
        };
        return fail(format!("with the id {id:?} a reader {silently}"));
    };
    let numbers: Vec<u64> =
        events.iter().map(|item| if let Item::Event { n, .. } = item { *n } else { 0 }).collect();
    let due: Vec<u64> = (EVENTS + 2 - numbers.len() as u64..=EVENTS + 1).collect();
    if numbers != due {
        return fail(format!("with the id {id:?} came {}", shown(items)));
    }
    Ok(format!("told, then {}", shown(events)))
}

#[cfg(test)]
mod tests {
    use super::{Place, raised};

    #[test]
    fn an_id_of_the_future_has_a_greater_number() {
        let first = |id| raised(id, Place::First);
        assert_eq!(first("41-7f3a").as_deref(), Some("1000041-7f3a"));
        assert_eq!(first("a7").as_deref(), Some("a1000007"));
        assert_eq!(first("none"), None);
        assert_eq!(raised("a-3:41!", Place::Last).as_deref(), Some("a-3:1000041!"));
        assert_eq!(raised("7", Place::Last).as_deref(), Some("1000007"));
    }
}
