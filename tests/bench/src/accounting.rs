//! What the kernel says a process used.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The processor time of a process at one moment, thread by thread.
pub(crate) struct Sample {
    at: Instant,
    /// By thread id.
    threads: BTreeMap<u32, Used>,
    /// Clock ticks in the kernel and in all, for the share only.
    ticks: (u64, u64),
}

/// Nanoseconds of one thread (`/proc/PID/task/TID/schedstat`).
#[derive(Clone, Copy, Default)]
struct Used {
    /// On a processor.
    ran: u64,
    /// Ready to run, while the processor was another's.
    waited: u64,
}

/// What was used between two samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Time passed.
    pub(crate) wall: Duration,
    /// Processor time of all threads.
    pub(crate) cpu: Duration,
    /// The busiest thread's share of the time on a processor.
    pub(crate) ran: f64,
    /// The same thread's share in which it was ready and had to wait.
    pub(crate) waited: f64,
    /// The kernel's part of the processor time.
    pub(crate) kernel: f64,
}

impl Sample {
    /// Of the process with this id.
    pub(crate) fn take(pid: u32) -> anyhow::Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            // A thread that ends in between is none.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let mut numbers = text.split_whitespace().map(str::parse);
            let (Some(Ok(ran)), Some(Ok(waited))) = (numbers.next(), numbers.next()) else {
                anyhow::bail!("the kernel keeps no scheduler statistics");
            };
            let id = entry.file_name().to_string_lossy().parse()?;
            threads.insert(id, Used { ran, waited });
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let ticks = ticks(&stat).context("/proc/PID/stat is not as expected")?;
        Ok(Self {
            at: Instant::now(),
            threads,
            ticks,
        })
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Spent {
        let wall = self.at - before.at;
        let used = |(id, now): (&u32, &Used)| {
            let before = before.threads.get(id).copied().unwrap_or_default();
            Used {
                ran: now.ran.saturating_sub(before.ran),
                waited: now.waited.saturating_sub(before.waited),
            }
        };
        let threads: Vec<Used> = self.threads.iter().map(used).collect();
        let busiest = threads
            .iter()
            .max_by_key(|used| used.ran)
            .copied()
            .unwrap_or_default();
        let share = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() / wall.as_secs_f64();
        let kernel = self.ticks.0.saturating_sub(before.ticks.0);
        let all = self.ticks.1.saturating_sub(before.ticks.1);
        Spent {
            wall,
            cpu: Duration::from_nanos(threads.iter().map(|used| used.ran).sum()),
            ran: share(busiest.ran),
            waited: share(busiest.waited),
            kernel: ratio(kernel, all),
        }
    }
}

/// A quotient of counts; 0 where there is nothing to divide by.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// `stime` and `utime + stime`. The second field, the name, may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some((kernel, user + kernel))
}

/// Memory in KiB, from `/proc/PID/status`: resident in all, and the part that is not backed by files.
pub(crate) fn memory(pid: u32) -> anyhow::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> anyhow::Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number
            .context("a field is missing in /proc/PID/status")?
            .parse()?)
    };
    Ok((field("VmRSS:")?, field("RssAnon:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_shows_in_the_sample() {
        let pid = std::process::id();
        let before = Sample::take(pid).unwrap();
        let began = Instant::now();
        let mut sum = 0_u64;
        while began.elapsed() < Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let spent = Sample::take(pid).unwrap().since(&before);
        assert!(spent.cpu > Duration::ZERO && spent.wall >= Duration::from_millis(20));
        assert!(spent.ran > 0.0);
        let (resident, anonymous) = memory(pid).unwrap();
        assert!(resident > 0 && anonymous <= resident);
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 0 0 0 0 12 34 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some((34, 46)));
    }
}
