//! Planted bugs: each patch in `mutations/` breaks a promise, and some seed must see it. A checker that catches nothing proves
//! nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;

/// Which planted bugs are looked for.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// This one alone.
    #[arg(long)]
    only: Option<String>,
    /// How many seeds each may take.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
}

/// Plants each bug in a copy of the tree, and runs seeds until one fails. A bug that none sees is an error.
pub(crate) fn run(mutants: &Mutants) -> anyhow::Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).context("the crate lies in a workspace")?;
    let copy = tempfile::tempdir()?;
    // One folder for all, so that what does not change is built once.
    let target = std::env::current_exe()?.ancestors().nth(2).context("a target directory")?.join("mutants");
    copy_tree(root, copy.path())?;
    let mut missed = Vec::new();
    println!("| planted bug | caught | seed | what the simulator said |\n|---|---|---|---|");
    for patch in patches(own)? {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if mutants.only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let began = Instant::now();
        apply(copy.path(), &patch, &[])?;
        let caught = build_and_run(copy.path(), &target, mutants.seeds).with_context(|| name.clone());
        apply(copy.path(), &patch, &["--reverse"])?;
        match caught? {
            Some((seed, what)) => {
                println!("| {name} | in {:.0} s | {seed} | {what} |", began.elapsed().as_secs_f64());
            }
            None => {
                println!("| {name} | **no** | of {} | |", mutants.seeds);
                missed.push(name);
            }
        }
    }
    ensure!(missed.is_empty(), "nobody saw {missed:?}");
    Ok(())
}

fn patches(own: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(own.join("mutations"))?;
    let mut patches = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    patches.sort();
    Ok(patches)
}

/// Copies what git has, as it is now.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(from).output()?;
    ensure!(listed.status.success(), "git cannot list the files of {}", from.display());
    for name in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        let target = to.join(name);
        std::fs::create_dir_all(target.parent().context("a file lies somewhere")?)?;
        std::fs::copy(from.join(name), target)?;
    }
    Ok(())
}

fn apply(tree: &Path, patch: &Path, options: &[&str]) -> anyhow::Result<()> {
    let applied = Command::new("git").arg("apply").args(options).arg(patch).current_dir(tree).output()?;
    let said = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "{} does not apply: {said}", patch.display());
    Ok(())
}

/// The first seed that failed, and the line that says why.
fn build_and_run(tree: &Path, target: &Path, seeds: u64) -> anyhow::Result<Option<(u64, String)>> {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--package", "simulator"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .output()?;
    if !built.status.success() {
        bail!("it does not build: {}", String::from_utf8_lossy(&built.stderr));
    }
    let ran = Command::new(target.join("release/simulator"))
        .args(["simulate", "--seeds", &seeds.to_string(), "--discard"])
        .output()?;
    if ran.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8(ran.stdout)?;
    let mut lines = said.lines().skip_while(|line| !line.starts_with("seed "));
    let seed = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let seed = seed.with_context(|| format!("it ended without a seed that failed: {said}"))?;
    let is_reason =
        |line: &&str| !line.is_empty() && !line.starts_with("thread ") && !line.starts_with("note:");
    let reason: String = lines.find(is_reason).unwrap_or_default().chars().take(90).collect();
    Ok(Some((seed, reason.replace('|', "/"))))
}
