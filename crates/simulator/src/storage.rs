//! The storage: the engine and sled as they are, on files whose every change is recorded, so that what a power cut may leave of
//! them can be laid out again and opened.

mod disk;
mod fault;
mod history;
mod interpose;
mod journal;
mod phase;
mod profile;
pub(crate) mod seed;
mod twin;

/// Lives the life that a file describes, and ends the process.
pub(crate) fn phase(file: &std::path::Path) -> anyhow::Result<()> {
    let phases: Vec<phase::Phase> = journal::read(file)?;
    let phase = phases.into_iter().next().ok_or_else(|| anyhow::anyhow!("the file holds no life"))?;
    phase::run(phase)
}

/// Prints a journal, an entry a line, without the bytes.
pub(crate) fn print(file: &std::path::Path) -> anyhow::Result<()> {
    let entries: Vec<journal::Entry> = journal::read(file)?;
    for (number, entry) in entries.iter().enumerate() {
        match entry {
            journal::Entry::Write(file, offset, bytes) => {
                println!("{number} Write({file}, {offset}, {} bytes)", bytes.len())
            }
            entry => println!("{number} {entry:?}"),
        }
    }
    Ok(())
}
