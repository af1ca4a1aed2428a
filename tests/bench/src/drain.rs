//! Takes the audit records off the gateway's standard output as a container runtime does, and counts them.

use std::io::Read;
use std::process::ChildStdout;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What every record begins with.
const MARK: &[u8] = b"{\"log\":\"audit\"";

/// Reads a pipe until it is closed.
pub(crate) struct Drain {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    records: AtomicU64,
    sample: Mutex<String>,
}

impl Drain {
    /// Begins to read.
    pub(crate) fn start(pipe: ChildStdout) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let for_thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("drain".into())
            .spawn(move || read(pipe, &for_thread))?;
        Ok(Self { shared })
    }

    /// Audit records so far.
    pub(crate) fn records(&self) -> u64 {
        self.shared.records.load(Ordering::Acquire)
    }

    /// One of them.
    pub(crate) fn sample(&self) -> String {
        self.shared
            .sample
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn read(mut pipe: impl Read, shared: &Shared) {
    let mut buffer = vec![0; 256 << 10];
    let mut filled = 0;
    loop {
        let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) else {
            // A line longer than the buffer is no record.
            filled = 0;
            continue;
        };
        match pipe.read(room) {
            Ok(0) | Err(_) => return,
            Ok(read) => filled += read,
        }
        let text = buffer.get(..filled).unwrap_or_default();
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
            continue;
        };
        let whole = text.get(..=end).unwrap_or_default();
        let mut records = 0;
        let mut last = None;
        for line in whole
            .split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(MARK))
        {
            records += 1;
            last = Some(line);
        }
        if let Some(line) = last {
            *shared.sample.lock().unwrap_or_else(PoisonError::into_inner) =
                String::from_utf8_lossy(line).into_owned();
        }
        shared.records.fetch_add(records, Ordering::Release);
        let done = whole.len();
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what it has in pieces of this size.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let size = self.1.min(self.0.len()).min(to.len());
            let (now, later) = self.0.split_at(size);
            to[..size].copy_from_slice(now);
            self.0 = later;
            Ok(size)
        }
    }

    #[test]
    fn records_are_counted_however_they_are_cut_and_log_lines_are_not() {
        let text =
            b"{\"log\":\"audit\",\"n\":1}\n{\"level\":\"INFO\"}\n\n{\"log\":\"audit\",\"n\":2}\n{\"log\":\"au";
        for size in 1..text.len() {
            let shared = Shared::default();
            read(Pieces(text, size), &shared);
            assert_eq!(shared.records.into_inner(), 2, "pieces of {size}");
            assert_eq!(shared.sample.into_inner().unwrap(), "{\"log\":\"audit\",\"n\":2}");
        }
    }
}
