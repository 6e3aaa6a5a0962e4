use std::path::PathBuf;

use super::*;

struct Scene {
    _directory: tempfile::TempDir,
    out: PathBuf,
    cursor: PathBuf,
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let (out, cursor) = (directory.path().join("out"), directory.path().join("cursor"));
    Scene { _directory: directory, out, cursor }
}

fn appending(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn id(n: u64) -> String {
    format!("{n}-7f3a9c1e")
}

impl Scene {
    fn open(&self) -> Output {
        Output::new(appending(&self.out), Some(&self.cursor)).unwrap()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    fn first_line(&self) -> String {
        std::fs::read_to_string(&self.cursor).unwrap().lines().next().unwrap().to_owned()
    }

    /// The state of a run that was killed after it had written so many bytes of events 2 and 3 ("two\n", "three\n").
    fn killed_after(&self, bytes: usize) {
        let mut output = self.open();
        output.event(id(1), "one");
        output.flush().unwrap();
        let target = Target {
            path: Some(self.out.to_str().unwrap().to_owned()),
            ..Target::of(&output.file).unwrap().unwrap()
        };
        assert_eq!(target.before, 4);
        let marks =
            vec![Mark { id: id(2), end: 8 }, Mark { id: id(3), end: 14 }, Mark { id: id(7), end: 14 }];
        output.record(Some(Intent { target, marks })).unwrap();
        output.file.write_all(&b"two\nthree\n"[..bytes]).unwrap();
    }
}

#[test]
fn events_are_written_and_the_file_says_how_far() {
    let scene = scene();
    let mut output = scene.open();
    output.pass(id(5));
    output.flush().unwrap();
    assert_eq!((scene.text().as_str(), scene.first_line()), ("", id(5)));
    output.event(id(6), "six");
    output.event(id(8), "eight\nand more");
    output.pass(id(9));
    output.flush().unwrap();
    assert_eq!((scene.text().as_str(), scene.first_line()), ("six\neight\nand more\n", id(9)));
    drop(output);
    assert_eq!(scene.open().cursor(), Some(&*id(9)));
}

#[test]
fn a_killed_run_goes_on_exactly_wherever_it_was_killed() {
    for (bytes, text, cursor) in [
        (0, "one\n", 1),
        (1, "one\n", 1),
        (3, "one\n", 1),
        (4, "one\ntwo\n", 2),
        (5, "one\ntwo\n", 2),
        (9, "one\ntwo\n", 2),
        (10, "one\ntwo\nthree\n", 7),
    ] {
        let scene = scene();
        scene.killed_after(bytes);
        let mut output = scene.open();
        assert_eq!(
            (scene.text().as_str(), output.cursor()),
            (text, Some(&*id(cursor))),
            "after {bytes} bytes"
        );
        assert_eq!(scene.first_line(), id(cursor));
        output.event(id(20), "next");
        output.flush().unwrap();
        assert_eq!(scene.text(), format!("{text}next\n"));
    }
}

#[test]
fn the_next_run_may_write_elsewhere() {
    let scene = scene();
    scene.killed_after(6);
    let other = scene.out.with_file_name("other");
    let mut output = Output::new(appending(&other), Some(&scene.cursor)).unwrap();
    assert_eq!((scene.text().as_str(), output.cursor()), ("one\ntwo\n", Some(&*id(2))));
    output.event(id(3), "three");
    output.flush().unwrap();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "three\n");
}

#[test]
fn an_output_opened_without_append_goes_on_at_its_end() {
    let scene = scene();
    scene.killed_after(6);
    let mut file = OpenOptions::new().write(true).open(&scene.out).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    let mut output = Output::new(file, Some(&scene.cursor)).unwrap();
    output.event(id(3), "three");
    output.flush().unwrap();
    assert_eq!(scene.text(), "one\ntwo\nthree\n");
}

#[test]
fn when_the_output_is_gone_nothing_is_lost() {
    let scene = scene();
    scene.killed_after(10);
    std::fs::remove_file(&scene.out).unwrap();
    assert_eq!(scene.open().cursor(), Some(&*id(1)));

    let scene = self::scene();
    scene.killed_after(10);
    File::create(&scene.out).unwrap();
    assert_eq!(scene.open().cursor(), Some(&*id(1)), "the file was emptied");
}

#[test]
fn what_somebody_else_appended_is_left_alone() {
    let scene = scene();
    scene.killed_after(10);
    appending(&scene.out).write_all(b"restarted\n").unwrap();
    assert_eq!(scene.open().cursor(), Some(&*id(7)));
    assert_eq!(scene.text(), "one\ntwo\nthree\nrestarted\n");
}

#[test]
fn many_events_go_in_several_records() {
    let scene = scene();
    let mut output = scene.open();
    let mut expected = String::new();
    for n in 1..=5_000 {
        output.event(id(n), &format!("event {n}"));
        expected += &format!("event {n}\n");
    }
    output.flush().unwrap();
    assert_eq!((scene.text(), scene.first_line()), (expected, id(5_000)));
}

#[test]
fn a_pipe_gets_every_event_too() {
    let scene = scene();
    let (mut reader, writer) = io::pipe().unwrap();
    let owned: std::os::fd::OwnedFd = writer.into();
    let mut output = Output::new(owned.into(), Some(&scene.cursor)).unwrap();
    for n in 1..=3 {
        output.event(id(n), "x");
    }
    output.flush().unwrap();
    drop(output);
    let mut text = String::new();
    io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!((text.as_str(), scene.first_line()), ("x\nx\nx\n", id(3)));
}
