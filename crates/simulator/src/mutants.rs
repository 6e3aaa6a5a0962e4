//! Planted bugs: each patch in `mutations/` breaks a promise, and what judges that part must see it: some seed of the simulator
//! (`storage/`, `serving/`), or the models of interleavings. A checker that catches nothing proves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use clap::Args;

/// The folders of `mutations/`: who is to see the bugs in them.
const STORAGE: &str = "storage";
const SERVING: &str = "serving";
const INTERLEAVINGS: &str = "interleavings";
/// So many seeds above the log take about as long as one on disks.
const SEEDS_ABOVE: u64 = 20;

/// Which planted bugs are looked for.
#[derive(Debug, Args)]
pub(crate) struct Mutants {
    /// This one alone, or those of a folder.
    #[arg(long)]
    only: Option<String>,
    /// How many seeds each may take; twenty times as many above the log, where one takes hundredths of a second.
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
    println!("| planted bug | caught | by | what was said |\n|---|---|---|---|");
    for (folder, patch) in patches(own)? {
        let name = format!("{folder}/{}", patch.file_stem().unwrap_or_default().to_string_lossy());
        if mutants.only.as_ref().is_some_and(|only| *only != name && *only != folder) {
            continue;
        }
        let began = Instant::now();
        let seeds = if folder == SERVING { mutants.seeds * SEEDS_ABOVE } else { mutants.seeds };
        apply(copy.path(), &patch, &[])?;
        let caught = match folder {
            INTERLEAVINGS => explore(copy.path(), &target),
            part => build_and_run(copy.path(), &target, part, seeds),
        };
        apply(copy.path(), &patch, &["--reverse"])?;
        match caught.with_context(|| name.clone())? {
            Some((by, what)) => {
                println!("| `{name}` | in {:.0} s | {by} | {what} |", began.elapsed().as_secs_f64());
            }
            None => {
                println!("| `{name}` | **no** | of {seeds} | |");
                missed.push(name);
            }
        }
    }
    ensure!(missed.is_empty(), "nobody saw {missed:?}");
    Ok(())
}

fn patches(own: &Path) -> anyhow::Result<Vec<(&'static str, PathBuf)>> {
    let mut patches = Vec::new();
    for folder in [STORAGE, SERVING, INTERLEAVINGS] {
        for entry in std::fs::read_dir(own.join("mutations").join(folder))? {
            patches.push((folder, entry?.path()));
        }
    }
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
fn build_and_run(
    tree: &Path,
    target: &Path,
    part: &str,
    seeds: u64,
) -> anyhow::Result<Option<(String, String)>> {
    must_build(&mut cargo(tree, target, &["build", "--package", "simulator"]))?;
    let ran = Command::new(target.join("release/simulator"))
        .args(["simulate", "--only", part, "--seeds", &seeds.to_string(), "--discard"])
        .output()?;
    if ran.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8(ran.stdout)?;
    let mut lines = said.lines().skip_while(|line| !line.starts_with("seed "));
    let first = lines.next().with_context(|| format!("it ended without a seed that failed: {said}"))?;
    let seed = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let is_reason = |line: &&str| {
        !line.is_empty() && !["thread ", "note:", "run it again"].iter().any(|other| line.starts_with(other))
    };
    // Above the log, and where no promise was broken in a process of its own, the first line ends with it.
    let reason = match first.split_once("a promise was broken:") {
        Some(_) => lines.find(is_reason),
        None => first.rsplit_once("]: ").or(first.split_once("above the log: ")).map(|(_, reason)| reason),
    };
    Ok(Some((format!("seed {seed}"), in_short(reason.unwrap_or_default()))))
}

/// The first model that failed, and the line that says why.
fn explore(tree: &Path, target: &Path) -> anyhow::Result<Option<(String, String)>> {
    let model = ["test", "--package", "broker", "--features", "interleavings", "--lib"];
    must_build(cargo(tree, target, &model).arg("--no-run"))?;
    let ran = cargo(tree, target, &model).arg("interleavings::").output()?;
    if ran.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    // A model that ends in a deadlock takes its process with it, before it is reported as failed: then its thread has its name.
    let failed =
        said.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED")).or_else(|| {
            let panicked = said.lines().find_map(|line| line.split_once("thread '")?.1.split_once("' "));
            panicked.map(|(name, _)| name).filter(|name| name.starts_with("interleavings::"))
        });
    let failed = failed.with_context(|| format!("no model failed: {said}"))?;
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    let reason = lines.nth(1).unwrap_or_default();
    Ok(Some((failed.trim_start_matches("interleavings::").replace('_', " "), in_short(reason))))
}

fn cargo(tree: &Path, target: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(arguments)
        .args(["--release", "--locked"])
        .current_dir(tree)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    command
}

fn must_build(command: &mut Command) -> anyhow::Result<()> {
    let built = command.output()?;
    match built.status.success() {
        true => Ok(()),
        false => bail!("it does not build: {}", String::from_utf8_lossy(&built.stderr)),
    }
}

fn in_short(reason: &str) -> String {
    reason.chars().take(90).collect::<String>().replace('|', "/")
}
