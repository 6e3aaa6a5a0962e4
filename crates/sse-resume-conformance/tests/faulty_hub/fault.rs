//! The faults that can be planted, each a way in which hubs are known to fail.

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Events between the end of a replay and the registration are lost.
    LostAtHandoff,
    /// A reader registers before its replay, and gets what came meanwhile again.
    RepeatedAtHandoff,
    /// A replay ends after so many events, and goes on with what happens next.
    HistoryCut(u64),
    /// The event of the id comes again: `>=` for `>`.
    OffByOne,
    /// The event behind a page of 100 is lost.
    LostBehindPage,
    /// A topic without events is refused.
    RefusesEmptyTopic,
    /// A live event moves the id of a reader that is still in its replay.
    LiveMovesCursor,
    /// It is told between two pages of the replay.
    LiveIdBetweenPages,
    /// A reader that is slow goes on at the head, without a word.
    SlowReaderSkips,
    /// A reader that does not read holds up publishers.
    SlowReaderBlocks,
    /// After a start nothing is replayed until something is published.
    NoReplayUntilPublish,
    /// Each start begins a history of its own.
    NewEpochAtStart,
    /// After a start the events are gone, and the first id is given again.
    IdsUsedAgain,
    /// Events are acknowledged before they are written.
    AcknowledgedBeforeWritten,
    /// Events are shown before they are written.
    VisibleBeforeWritten,
    /// An id that says nothing is taken for "from now on".
    UnknownIdIsNow,
    /// The part of the id that names the log is not looked at.
    EpochNotLookedAt,
    /// A text that is no id is refused.
    MalformedRefused,
    /// A reader whose history was trimmed is not told.
    GapUntold,
    /// It is told at the beginning of a stream only.
    GapUntoldLater,
    /// It is told although it missed nothing.
    GapAtBoundary,
    /// A stream does not say where it begins.
    StartUnnamed,
    /// Where the address says to begin wins over the id of who comes back.
    StartBeforeId,
    /// A replay is sorted in another way than the live stream.
    ReplaySorted,
    /// The id counts for the topic of its event only; the others begin with what happens next.
    IdOfOneTopic,
    /// The id is told in a block of its own, before the event.
    IdBeforeEvent,
    /// What is longer than 8 KiB is cut.
    LongDataCut,
    /// Data is split at LF only.
    CrInjected,
    /// A stream on which nothing happened for half a second gets nothing any more.
    IdleForgotten,
}
