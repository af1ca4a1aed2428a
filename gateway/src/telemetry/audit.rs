//! The audit log: one JSON record per decision, on its own stream, without waiting for it.
//!
//! A request formats its record into the buffer of the thread it runs on: no allocation, no queue node, no wake-up per
//! record, and a lock that only the writer ever contends for, a few times a second. One thread swaps the buffers out
//! and writes them in large pieces. When it cannot keep up, records are dropped and counted, never waited for.
//! The schema is documented in `docs/audit.md`; [`SCHEMA`] changes with it.

mod record;

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use crate::clock;

pub use record::{Decision, Record, SCHEMA};

use record::Stamp;

/// Bytes that may wait in one thread's buffer.
const BUFFER: usize = 2 << 20;
/// A buffer that grew beyond this in a burst is given back.
const KEEP: usize = 256 << 10;
/// How long records gather before they are written together.
const GATHER: Duration = Duration::from_millis(25);
/// How often a failing sink is complained about.
const COMPLAIN: Duration = Duration::from_secs(60);

thread_local! {
    /// Which buffer this thread writes to; `usize::MAX` until it first does.
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Takes records. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Audit {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
}

#[derive(Debug)]
struct Shared {
    shards: Box<[Mutex<Buffer>]>,
    next_shard: AtomicUsize,
    enabled: AtomicBool,
    /// Something was recorded since the writer last looked.
    pending: AtomicBool,
    stopping: AtomicBool,
    failing: AtomicBool,
    written: Counter,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    records: u64,
    stamp: Stamp,
}

#[derive(Debug)]
struct Writer {
    thread: Thread,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Starts the writer. `sink` should be unbuffered: what it gets is already gathered.
    pub fn start(
        sink: impl Write + Send + 'static,
        written: Counter,
        dropped: Counter,
    ) -> std::io::Result<Self> {
        let shards = std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(16));
        let shared = Arc::new(Shared {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            next_shard: AtomicUsize::new(0),
            enabled: AtomicBool::new(true),
            pending: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            written,
            dropped,
        });
        let for_thread = Arc::clone(&shared);
        let handle = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write_all(&for_thread, sink))?;
        Ok(Self {
            shared,
            writer: Arc::new(Writer {
                thread: handle.thread().clone(),
                handle: Mutex::new(Some(handle)),
            }),
        })
    }

    /// Are records taken at all?
    pub fn set_enabled(&self, enabled: bool) {
        self.shared.enabled.store(enabled, Ordering::Relaxed);
    }

    /// The same question, for whoever would have to prepare a record.
    pub fn is_enabled(&self) -> bool {
        self.shared.enabled.load(Ordering::Relaxed)
    }

    /// Did the last write fail?
    pub fn is_failing(&self) -> bool {
        self.shared.failing.load(Ordering::Relaxed)
    }

    /// Takes a record. False: it was dropped, because the writer is too far behind.
    pub fn record(&self, record: &Record<'_>) -> bool {
        let shared = &*self.shared;
        if !self.is_enabled() {
            return true;
        }
        let now = clock::since_epoch();
        let mut buffer = shared.shard();
        if buffer.bytes.len() >= BUFFER {
            drop(buffer);
            shared.dropped.inc();
            return false;
        }
        let Buffer {
            bytes,
            records,
            stamp,
        } = &mut *buffer;
        record.write(bytes, stamp.at(now));
        *records += 1;
        drop(buffer);
        // Correct without a fence: the writer clears the flag before it takes a buffer's lock, so whoever fills the
        // buffer after that has also seen the flag cleared.
        if !shared.pending.load(Ordering::Relaxed) && !shared.pending.swap(true, Ordering::AcqRel) {
            self.writer.thread.unpark();
        }
        true
    }

    /// Writes what is there and ends the writer. Blocks for at most `limit`; false when that was not enough.
    pub fn finish(&self, limit: Duration) -> bool {
        self.shared.stopping.store(true, Ordering::Release);
        self.writer.thread.unpark();
        let handle = self
            .writer
            .handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(handle) = handle else { return true };
        let deadline = Instant::now() + limit;
        while !handle.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        handle.join().is_ok()
    }
}

impl Shared {
    /// This thread's buffer.
    fn shard(&self) -> MutexGuard<'_, Buffer> {
        let index = SHARD.with(|shard| {
            if shard.get() == usize::MAX {
                shard.set(self.next_shard.fetch_add(1, Ordering::Relaxed));
            }
            shard.get()
        });
        let shard = self
            .shards
            .get(index % self.shards.len())
            .expect("an index modulo the length is within it");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer thread.
fn write_all(shared: &Shared, mut sink: impl Write) {
    let mut spare = Vec::new();
    let mut complained: Option<Instant> = None;
    // After a failure the last line may be torn: an empty line keeps the next one whole.
    let mut torn = false;
    loop {
        // Read first: what was recorded before the end was announced is in the buffers by now.
        let stopping = shared.stopping.load(Ordering::Acquire);
        shared.pending.store(false, Ordering::Release);
        let mut any = false;
        for shard in &shared.shards {
            let mut buffer = shard.lock().unwrap_or_else(PoisonError::into_inner);
            if buffer.bytes.is_empty() {
                continue;
            }
            any = true;
            std::mem::swap(&mut buffer.bytes, &mut spare);
            let records = std::mem::take(&mut buffer.records);
            drop(buffer);
            let newline = if torn { sink.write_all(b"\n") } else { Ok(()) };
            match newline
                .and_then(|()| sink.write_all(&spare))
                .and_then(|()| sink.flush())
            {
                Ok(()) => {
                    torn = false;
                    shared.failing.store(false, Ordering::Relaxed);
                    shared.written.inc_by(records);
                }
                Err(err) => {
                    torn = true;
                    shared.failing.store(true, Ordering::Relaxed);
                    shared.dropped.inc_by(records);
                    if complained.is_none_or(|at| at.elapsed() >= COMPLAIN) {
                        complained = Some(Instant::now());
                        tracing::error!(error = %err, records, "audit records could not be written");
                    }
                }
            }
            spare.clear();
            spare.shrink_to(KEEP);
        }
        if stopping {
            return;
        }
        if !any && !shared.pending.load(Ordering::Acquire) {
            std::thread::park();
        }
        // Slept, not parked: a record must not cut the gathering of the next ones short.
        if !shared.stopping.load(Ordering::Acquire) {
            std::thread::sleep(GATHER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A sink that hands on what it gets, and can be made to block or to fail.
    #[derive(Clone, Default)]
    struct Sink {
        bytes: Arc<Mutex<Vec<u8>>>,
        block: Arc<Mutex<()>>,
        fail: Arc<AtomicBool>,
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _unblocked = self.block.lock().unwrap();
            if self.fail.load(Ordering::SeqCst) {
                return Err(std::io::Error::other("no space"));
            }
            self.bytes.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<serde_json::Value> {
            let bytes = self.bytes.lock().unwrap();
            bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect()
        }
    }

    fn start(sink: &Sink) -> (Audit, Counter, Counter) {
        let (written, dropped) = (Counter::default(), Counter::default());
        let audit = Audit::start(sink.clone(), written.clone(), dropped.clone()).unwrap();
        (audit, written, dropped)
    }

    #[test]
    fn every_record_of_every_thread_is_written_before_the_end() {
        let sink = Sink::default();
        let (audit, written, dropped) = start(&sink);
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let audit = audit.clone();
                std::thread::spawn(move || {
                    for n in 0..500 {
                        let id = format!("{thread}-{n}");
                        assert!(audit.record(&Record {
                            request_id: &id,
                            ..Record::default()
                        }));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(audit.finish(Duration::from_secs(10)));
        let mut ids: Vec<_> = sink
            .lines()
            .iter()
            .map(|line| line["requestId"].to_string())
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 2000);
        assert_eq!((written.get(), dropped.get()), (2000, 0));
    }

    #[test]
    fn a_record_is_written_without_waiting_for_more() {
        let sink = Sink::default();
        let (audit, written, _) = start(&sink);
        for expected in 1..=3 {
            audit.record(&Record::default());
            let began = Instant::now();
            while written.get() < expected {
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "record {expected} was not written"
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_stuck_sink_drops_records_and_counts_them_and_never_blocks() {
        let sink = Sink::default();
        let (audit, written, dropped) = start(&sink);
        let stuck = sink.block.lock().unwrap();
        let long = "x".repeat(400);
        let mut taken = 0;
        let shards = audit.shared.shards.len();
        // One batch is in the writer's hands, one buffer fills up behind it.
        for _ in 0..(3 * BUFFER / 400) {
            taken += u64::from(audit.record(&Record {
                tool: Some(&long),
                ..Record::default()
            }));
        }
        assert!(dropped.get() > 0, "nothing was dropped with {shards} buffers");
        drop(stuck);
        assert!(audit.finish(Duration::from_secs(10)));
        assert_eq!(written.get(), taken);
        assert_eq!(sink.lines().len() as u64, taken);
    }

    #[test]
    fn after_a_failure_the_next_line_is_whole() {
        let sink = Sink::default();
        let (audit, written, dropped) = start(&sink);
        sink.fail.store(true, Ordering::SeqCst);
        audit.record(&Record::default());
        let (tx, rx) = mpsc::channel::<()>();
        while dropped.get() == 0 {
            assert!(rx.recv_timeout(Duration::from_millis(1)).is_err());
        }
        drop(tx);
        assert!(audit.is_failing());
        sink.fail.store(false, Ordering::SeqCst);
        audit.record(&Record {
            request_id: "after",
            ..Record::default()
        });
        assert!(audit.finish(Duration::from_secs(10)));
        assert!(!audit.is_failing());
        assert_eq!((written.get(), dropped.get()), (1, 1));
        assert!(sink.bytes.lock().unwrap().starts_with(b"\n{"));
    }

    #[test]
    fn switched_off_it_takes_nothing() {
        let sink = Sink::default();
        let (audit, written, dropped) = start(&sink);
        audit.set_enabled(false);
        assert!(audit.record(&Record::default()));
        assert!(audit.finish(Duration::from_secs(10)));
        assert_eq!((written.get(), dropped.get(), sink.lines().len()), (0, 0, 0));
    }
}
