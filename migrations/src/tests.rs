use super::*;

mod keys;
mod segments;

fn store() -> (tempfile::TempDir, sled::Db) {
    let directory = tempfile::tempdir().unwrap();
    let config = sled::Config::new().path(directory.path().join("sled")).segment_size(4 << 20);
    let db = config.flush_every_ms(None).open().unwrap();
    (directory, db)
}

#[test]
fn a_new_store_is_brought_to_the_newest_version_once() {
    let (directory, db) = store();
    assert_eq!(run(&db, directory.path()).unwrap(), 0);
    assert_eq!(db.get(STAMP_KEY).unwrap().unwrap(), &KNOWN.to_be_bytes());
    assert_eq!(db.first().unwrap().unwrap().0, &STAMP_KEY, "the stamp is the very first row");
    assert_eq!(run(&db, directory.path()).unwrap(), KNOWN);
}

#[test]
fn a_store_that_a_newer_program_wrote_is_refused_and_left_alone() {
    let (directory, db) = store();
    db.insert(STAMP_KEY, &(KNOWN + 1).to_be_bytes()).unwrap();
    let refused = run(&db, directory.path()).unwrap_err();
    assert!(matches!(refused, Error::FormatTooNew { found, known } if (found, known) == (KNOWN + 1, KNOWN)));
    assert!(refused.to_string().contains("newer program"));
    assert_eq!(db.len(), 1);
}

#[test]
fn a_store_with_rows_but_without_a_stamp_is_refused() {
    let (directory, db) = store();
    db.insert(b"theirs", b"1").unwrap();
    assert!(matches!(run(&db, directory.path()), Err(Error::NoStamp)));
    assert_eq!(db.len(), 1);
}

#[test]
fn a_stamp_that_is_none_is_refused() {
    for bytes in [&b""[..], &[0, 0, 0, 0], &[1], &[0, 0, 0, 1, 0]] {
        let (directory, db) = store();
        db.insert(STAMP_KEY, bytes).unwrap();
        assert!(matches!(run(&db, directory.path()), Err(Error::BadStamp(_))), "{bytes:?}");
    }
}
