//! Damage of a data directory, seen from outside: whatever becomes of any file, `serve` refuses it or reads it with an error that
//! names the place, or it answers what it answered before; and `verify` says the same.
//!
//! The engine's own suite goes through many more places, of logs that were killed and packed too; this one looks at what reaches
//! a user. Every run takes other places: `CORRUPTION_SEED` repeats one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use crate::harness::broker::command;
use crate::harness::heavy;
use crate::harness::{Broker, Connection, PATIENCE, Request};

/// What is asked of a log: all its events, those of the broker itself, its topics and its policies.
const QUESTIONS: [(&str, &str); 4] = [
    ("/v1/events?topic=**&from=earliest", "application/x-ndjson"),
    ("/v1/events?topic=$broker.**&from=earliest", "application/x-ndjson"),
    ("/v1/topics", "application/json"),
    ("/v1/policies", "application/json"),
];
/// What a message may name: what lies in a data directory, and what is in it.
const PLACES: [&str; 8] = ["events", "witness", "store", "index", "engine", "epochs", "archive", "sled"];
/// Places that are damaged in each file, each in one way.
const DAMAGES_PER_FILE: usize = 12;

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A place in a file, and what becomes of it.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize),
    Zero(usize),
    Cut(usize),
    Remove,
}

/// What is said of a damaged directory.
enum Said {
    AsBefore,
    Damaged(String),
}

/// What must not be.
type Wrong = String;

/// A stopped log with everything in it, and what it answers.
struct Original {
    files: Files,
    answers: Vec<Vec<u8>>,
}

fn publish_with_key(broker: &Broker, key: &str) -> u16 {
    let request = Request::new("POST", "/v1/topics/once/events").header("Idempotency-Key", key).body("once");
    broker.send(&request).status
}

impl Original {
    fn make() -> Self {
        let mut broker = Broker::quick();
        publish_with_key(&broker, "first");
        for round in 0..20 {
            broker.publish_many("log", round * 40..(round + 1) * 40);
            for key in 0..5 {
                broker.publish_state("states", &format!("k{key}"), &format!("{round} {}", "x".repeat(300)));
            }
        }
        broker.put_policy("states", r#"{"compact":"key"}"#);
        broker.put_policy("log", r#"{"max_events":500}"#);
        broker.until_kept("states", 5);
        broker.until_kept("log", 500);
        broker.publish_many("purged", 0..30);
        broker.purge("purged");
        assert!(broker.terminate().success());
        broker.restart();
        publish_with_key(&broker, "last");
        broker.publish_many("log", 800..820);
        broker.until_kept("log", 500);
        let answers = QUESTIONS.iter().map(|question| ask(broker.port(), *question).expect("an answer"));
        let answers = answers.collect();
        assert!(broker.terminate().success());
        let mut files = Files::new();
        collect(&broker.data(), Path::new(""), &mut files);
        Original { files, answers }
    }

    /// All ways in which each file is damaged.
    fn damages(&self, seed: u64) -> Vec<(PathBuf, Damage)> {
        let mut all = Vec::new();
        for (path, bytes) in &self.files {
            all.push((path.clone(), Damage::Remove));
            // Spread over the file, with a step that is another in each run.
            let part = (bytes.len() / DAMAGES_PER_FILE).max(1);
            for (number, begin) in (0..bytes.len()).step_by(part).take(DAMAGES_PER_FILE).enumerate() {
                let at = begin + seed as usize % part.min(bytes.len() - begin);
                let kinds = [Damage::Flip(at), Damage::Zero(at), Damage::Cut(at)];
                all.push((path.clone(), kinds[(number + seed as usize) % 3].clone()));
            }
        }
        all
    }

    fn write_damaged(&self, data: &Path, damaged: &Path, damage: &Damage) {
        for (path, bytes) in &self.files {
            let place = data.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            let mut bytes = bytes.clone();
            match damage {
                _ if path != damaged => {}
                Damage::Flip(at) => bytes[*at] ^= 0x10,
                Damage::Zero(at) => {
                    let end = bytes.len().min(at + 64);
                    bytes[*at..end].fill(0);
                }
                Damage::Cut(at) => bytes.truncate(*at),
                Damage::Remove => continue,
            }
            fs::write(place, bytes).unwrap();
        }
    }

    /// What `serve` makes of a damaged directory.
    fn serve(&self, damaged: &Path, damage: &Damage) -> Result<Said, Wrong> {
        let place = TempDir::new().unwrap();
        self.write_damaged(&place.path().join("data"), damaged, damage);
        let mut broker = match Broker::try_in(place) {
            Ok(broker) => broker,
            Err((status, log)) if status.code() == Some(1) => return Ok(Said::Damaged(log)),
            Err((status, log)) => return Err(format!("serve ended with {status}: {log}")),
        };
        for (question, before) in QUESTIONS.iter().zip(&self.answers) {
            match ask(broker.port(), *question) {
                Some(answer) if answer != *before => return Err(format!("another answer to {question:?}")),
                Some(_) => {}
                None => return Ok(Said::Damaged(broker.log())),
            }
        }
        for key in ["first", "last"] {
            match publish_with_key(&broker, key) {
                200 => {}
                201 => return Err(format!("the key {key:?} is forgotten")),
                _ => return Ok(Said::Damaged(broker.log())),
            }
        }
        match broker.terminate().code() {
            Some(0) => Ok(Said::AsBefore),
            _ => Err(broker.log()),
        }
    }

    /// What `verify` says of it.
    fn verify(&self, damaged: &Path, damage: &Damage) -> Result<Said, Wrong> {
        let place = TempDir::new().unwrap();
        self.write_damaged(&place.path().join("data"), damaged, damage);
        let output = command().arg("verify").arg("--data").arg(place.path().join("data")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => Ok(Said::AsBefore),
            Some(1) => Ok(Said::Damaged(said)),
            _ => Err(format!("verify ended with {}: {said}", output.status)),
        }
    }

    /// Whether anybody says that it is damaged.
    fn judge(&self, damaged: &Path, damage: &Damage) -> Result<bool, Wrong> {
        let (served, verified) = (self.serve(damaged, damage)?, self.verify(damaged, damage)?);
        for said in [&served, &verified] {
            if let Said::Damaged(said) = said
                && (said.contains("panicked") || !PLACES.iter().any(|place| said.contains(place)))
            {
                return Err(format!("it names no place: {said}"));
            }
        }
        match (served, verified) {
            (Said::Damaged(said), Said::AsBefore) => {
                Err(format!("verify finds it sound, and serve says: {said}"))
            }
            (Said::AsBefore, Said::AsBefore) => Ok(false),
            (_, Said::Damaged(_)) => Ok(true),
        }
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(root.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => collect(root, &path, files),
            false => drop(files.insert(path, fs::read(entry.path()).unwrap())),
        }
    }
}

/// The whole of an answer, or nothing if it is an error or breaks off.
fn ask(port: u16, (path, accept): (&str, &str)) -> Option<Vec<u8>> {
    let mut connection = Connection::try_open(port).ok()?;
    connection.send(&Request::new("GET", path).header("Accept", accept).bytes(port));
    let head = connection.try_head(false).ok()?;
    assert!(head.status == 200 || head.status >= 500, "{}", head.status);
    let mut body = Vec::new();
    while let Some(piece) = connection.piece(PATIENCE).ok()? {
        body.extend(piece);
    }
    (head.status == 200).then_some(body)
}

#[test]
fn a_damaged_directory_is_refused_with_the_place_or_answers_as_before() {
    let _turn = heavy::turn();
    let seed = std::env::var("CORRUPTION_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |seed| seed.parse().expect("a number"));
    println!("CORRUPTION_SEED={seed}");
    let original = Original::make();
    let damages = original.damages(seed);
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((path, damage)) = damages.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match original.judge(path, damage) {
                        Ok(is_found) => drop(found.fetch_add(usize::from(is_found), Ordering::SeqCst)),
                        Err(what) => {
                            wrong.lock().unwrap().push(format!("{} {damage:?}: {what}", path.display()));
                        }
                    }
                }
            });
        }
    });
    let (wrong, found) = (wrong.into_inner().unwrap(), found.into_inner());
    println!("{} damages, of which {found} were found", damages.len());
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    assert!(found > damages.len() / 10, "damage is met");
}
