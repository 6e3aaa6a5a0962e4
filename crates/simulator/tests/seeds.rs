//! A few seeds of the long hunt, in each run of the tests.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests stop where they cannot go on, as tests do")]

use std::process::Command;

fn simulate(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_simulator")).args(arguments).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn a_few_seeds_keep_the_promises() {
    simulate(&["simulate", "--seeds", "24"]);
}

#[test]
fn every_planted_bug_still_fits_the_code() {
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: &str| std::fs::read_dir(own.join("mutations").join(folder)).unwrap();
    let patches: Vec<_> = ["storage", "serving", "interleavings"]
        .into_iter()
        .flat_map(files)
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(patches.len() >= 20, "{patches:?}");
    for patch in patches {
        let checked = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(own.join("../.."))
            .output();
        let checked = checked.unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
