//! The commands `policy` and `purge`.

use serde_json::{Value, json};

use crate::command_line::assert_fails;
use crate::harness::Broker;
use crate::harness::archive::{run, text_of};
use crate::harness::broker::command;

fn print(broker: &Broker, arguments: &[&str]) -> String {
    text_of(&run(broker.command(arguments), b""))
}

#[test]
fn policies_are_set_shown_listed_and_deleted() {
    let broker = Broker::start();
    let set = [
        "policy",
        "set",
        "a.**",
        "--max-age",
        "7d",
        "--max-events",
        "5",
        "--max-bytes",
        "1GiB",
        "--compact",
        "key",
    ];
    let shown = print(&broker, &set);
    assert_eq!(print(&broker, &["policy", "get", "a.**"]), shown);
    for part in ["a.**", "7d", "5", "key"] {
        assert!(shown.contains(part), "{shown}");
    }
    let told: Value = serde_json::from_str(&print(&broker, &["policy", "get", "a.**", "--json"])).unwrap();
    assert_eq!(
        (&told["pattern"], &told["max_age"], &told["compact"]),
        (&json!("a.**"), &json!("7d"), &json!("key"))
    );
    print(&broker, &["policy", "set", "b"]);
    let listed = print(&broker, &["policy", "list"]);
    assert!(listed.lines().count() == 3 && listed.contains("a.**"), "{listed}");
    let all: Value = serde_json::from_str(&print(&broker, &["policy", "list", "--json"])).unwrap();
    assert_eq!(all, broker.json("/v1/policies"));
    print(&broker, &["policy", "delete", "a.**"]);
    assert_fails(&run(broker.command(&["policy", "get", "a.**"]), b""), &[1], "a.**");
    assert_fails(&run(broker.command(&["policy", "delete", "a.**"]), b""), &[1], "a.**");
}

#[test]
fn a_policy_in_force_removes_and_a_dry_run_only_says_so() {
    let broker = Broker::quick();
    broker.publish_many("t", 0..10);
    let told = print(&broker, &["policy", "set", "t", "--max-events", "4", "--dry-run"]);
    assert!(told.contains("6 events with 12 bytes") && told.contains("nothing was changed"), "{told}");
    assert_eq!(broker.json("/v1/policies"), json!({ "policies": [] }));
    assert_eq!(broker.kept("t").len(), 10);
    print(&broker, &["policy", "set", "t", "--max-events", "4"]);
    broker.until_kept("t", 4);
    print(&broker, &["policy", "set", "**", "--max-events", "1"]);
    let told = print(&broker, &["policy", "delete", "t", "--dry-run"]);
    assert!(told.contains("3 events with 6 bytes"), "{told}");
    assert_eq!(broker.kept("t").len(), 4);
}

#[test]
fn a_purge_needs_a_yes_where_nobody_can_be_asked() {
    let broker = Broker::start();
    broker.publish_many("t", 0..3);
    assert_fails(&run(broker.command(&["purge", "t"]), b"y\n"), &[2], "--yes");
    let told = print(&broker, &["purge", "t", "--dry-run"]);
    assert!(told.contains("3 events with 6 bytes"), "{told}");
    assert_eq!(broker.kept("t").len(), 3);
    print(&broker, &["purge", "t", "--yes"]);
    assert!(broker.kept("t").is_empty());
    assert_fails(&run(broker.command(&["purge", "never.there", "--yes"]), b""), &[1], "never.there");
}

#[test]
fn what_cannot_be_governed_is_wrong_usage_before_a_broker_is_asked() {
    for (arguments, cause) in [
        (&["policy"][..], "usage"),
        (&["policy", "set", "a..b"], "segment"),
        (&["policy", "set", "**.a", "--max-events", "1"], "**"),
        (&["policy", "set", "a", "--max-age", "soon"], "--max-age"),
        (&["policy", "set", "a", "--max-events", "-1"], "max-events"),
        (&["policy", "set", "a", "--max-bytes", "1GB"], "--max-bytes"),
        (&["policy", "set", "a", "--compact", "value"], "key"),
        (&["purge", "a.*", "--yes"], "pattern"),
        (&["purge", "$broker.policies", "--yes"], "$"),
        (&["purge"], "usage"),
    ] {
        let mut command = command();
        command.args(arguments).env("PERENNIAL_URL", "http://127.0.0.1:1");
        assert_fails(&run(command, b""), &[2], cause);
    }
}
