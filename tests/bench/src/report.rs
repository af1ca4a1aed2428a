//! From rounds to tables: Markdown for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::call::Era;
use crate::footprint::Footprint;
use crate::rounds::Round;

/// The most CPU per call that the gateway may take, in terms of nginx's.
const MOST_CPU: f64 = 1.5;
/// The least throughput, likewise.
const LEAST_CALLS: f64 = 0.7;

/// Everything of one run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// When.
    pub(crate) date: String,
    /// On what, and with which versions.
    pub(crate) circumstances: BTreeMap<&'static str, String>,
    /// One row for each proxy, era and number of connections.
    pub(crate) rows: Vec<Row>,
    /// Memory, start and size.
    pub(crate) footprint: Footprint,
    /// One audit record of the run.
    pub(crate) audit_sample: String,
    /// Every round.
    pub(crate) rounds: Vec<Round>,
}

/// The rounds of one proxy under the same load.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    era: Era,
    connections: usize,
    proxy: &'static str,
    cpu_micros: Spread,
    /// Of the rounds in which throughput may be judged; none if there was no such round.
    calls_per_second: Option<f64>,
    /// Rounds in which it may.
    judged: usize,
    /// Of all rounds.
    calls_per_second_of_all: f64,
    p50_micros: f64,
    p99_micros: f64,
    kernel_share: f64,
    /// The median over nginx's median.
    cpu_ratio: Option<f64>,
    /// The least over nginx's least.
    cpu_ratio_of_least: Option<f64>,
    calls_ratio: Option<f64>,
}

/// Least and median.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    least: f64,
    median: f64,
}

impl Row {
    fn new(era: Era, connections: usize, proxy: &'static str, rounds: &[&Round]) -> Self {
        let of = |value: fn(&Round) -> f64| rounds.iter().map(|round| value(round)).collect::<Vec<_>>();
        let judged: Vec<f64> = rounds
            .iter()
            .filter(|round| round.undisturbed)
            .map(|round| round.calls_per_second)
            .collect();
        let cpu = of(|round| round.cpu_micros_per_call);
        Self {
            era,
            connections,
            proxy,
            cpu_micros: Spread {
                least: cpu.iter().copied().fold(f64::INFINITY, f64::min),
                median: median(cpu),
            },
            judged: judged.len(),
            calls_per_second: (!judged.is_empty()).then(|| median(judged)),
            calls_per_second_of_all: median(of(|round| round.calls_per_second)),
            p50_micros: median(of(|round| round.p50_micros)),
            p99_micros: median(of(|round| round.p99_micros)),
            kernel_share: median(of(|round| round.kernel_share)),
            cpu_ratio: None,
            cpu_ratio_of_least: None,
            calls_ratio: None,
        }
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = middle.checked_sub(1).and_then(|at| values.get(at)).copied();
    f64::midpoint(lower.unwrap_or(upper), upper)
}

/// Sums rounds up, in the order in which they ran.
pub(crate) fn rows(rounds: &[Round], yardstick: &str) -> Vec<Row> {
    let mut groups: Vec<(Era, usize, &'static str, Vec<&Round>)> = Vec::new();
    for round in rounds {
        let known = groups.iter_mut().find(|(era, connections, proxy, _)| {
            (*era, *connections, *proxy) == (round.era, round.connections, round.proxy)
        });
        match known {
            Some((.., group)) => group.push(round),
            None => groups.push((round.era, round.connections, round.proxy, vec![round])),
        }
    }
    let rows: Vec<Row> = groups
        .iter()
        .map(|(era, connections, proxy, rounds)| Row::new(*era, *connections, proxy, rounds))
        .collect();
    let with_ratios = |row: &Row| {
        let same = |other: &&Row| (other.era, other.connections) == (row.era, row.connections);
        let base = rows.iter().filter(|other| other.proxy == yardstick).find(same);
        let mut row = row.clone();
        if let Some(base) = base.filter(|base| base.proxy != row.proxy) {
            row.cpu_ratio = Some(row.cpu_micros.median / base.cpu_micros.median);
            row.cpu_ratio_of_least = Some(row.cpu_micros.least / base.cpu_micros.least);
            row.calls_ratio = row
                .calls_per_second
                .zip(base.calls_per_second)
                .map(|(own, base)| own / base);
        }
        row
    };
    rows.iter().map(with_ratios).collect()
}

impl Report {
    /// Did every row reach the target? None: nothing to compare with.
    pub(crate) fn verdict(&self) -> Option<bool> {
        let compared: Vec<&Row> = self.rows.iter().filter(|row| row.cpu_ratio.is_some()).collect();
        let holds = |row: &&Row| {
            row.cpu_ratio.is_none_or(|ratio| ratio <= MOST_CPU)
                && row.calls_ratio.is_none_or(|ratio| ratio >= LEAST_CALLS)
        };
        (!compared.is_empty()).then(|| compared.iter().all(holds))
    }

    /// For people.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).expect("writing to a String does not fail");
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "# Benchmark of {}\n", self.date)?;
        for (name, value) in &self.circumstances {
            writeln!(out, "- {name}: {value}")?;
        }
        for era in Era::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.era == era).collect();
            if rows.is_empty() {
                continue;
            }
            writeln!(
                out,
                "\n## `tools/call`, {} era\n\n\
                 | connections | proxy | CPU per call, least / median (us) | x nginx, least / median | calls/s | x nginx | p50 (us) | p99 (us) | in the kernel |\n\
                 |---:|---|---:|---:|---:|---:|---:|---:|---:|",
                era.as_str()
            )?;
            for row in rows {
                let ratios = match (row.cpu_ratio_of_least, row.cpu_ratio) {
                    (Some(least), Some(median)) => format!("{least:.2} / {median:.2}"),
                    _ => "1".into(),
                };
                let calls = match row.calls_per_second {
                    Some(calls) => format!("{calls:.0}"),
                    None => format!("({:.0})", row.calls_per_second_of_all),
                };
                let calls_ratio = row
                    .calls_ratio
                    .map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}"));
                writeln!(
                    out,
                    "| {} | {} | {:.1} / {:.1} | {ratios} | {calls} | {calls_ratio} | {:.0} | {:.0} | {:.0} % |",
                    row.connections,
                    row.proxy,
                    row.cpu_micros.least,
                    row.cpu_micros.median,
                    row.p50_micros,
                    row.p99_micros,
                    row.kernel_share * 100.0,
                )?;
            }
        }
        writeln!(
            out,
            "\nCalls per second in parentheses are not judged: in no round was the proxy's core both saturated (the \
             proxy ran or waited to run in 95 % of the time) and left to it (others took at most 10 %). CPU per call \
             is the gate."
        )?;
        let verdict = match self.verdict() {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "not compared",
        };
        writeln!(
            out,
            "Target (CPU per call at most {MOST_CPU} x nginx's by the median, at least {LEAST_CALLS} x its calls per second): **{verdict}**."
        )?;
        self.write_footprint(out)
    }

    fn write_footprint(&self, out: &mut String) -> std::fmt::Result {
        let footprint = &self.footprint;
        let least = footprint
            .start_millis
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min);
        let mib = |(resident, anonymous): (u64, u64)| {
            let mib = |kib: u64| crate::accounting::ratio(kib, 1024);
            format!("{:.1} MiB ({:.1} anonymous)", mib(resident), mib(anonymous))
        };
        writeln!(
            out,
            "\n## Footprint\n\n| | |\n|---|---:|\n\
             | binary | {:.1} MiB |\n\
             | start to ready, least / median of {} | {least:.1} / {:.1} ms |\n\
             | resident memory, idle | {} |\n\
             | resident memory, after load | {} |\n\
             | nginx, after the same load | {} |\n\
             | an idle session, of {} | {:.0} bytes |\n\
             | a session whose client listens, of {}, with its connection | {:.0} bytes |\n\
             | left of one when it has ended | {:.0} bytes |",
            crate::accounting::ratio(footprint.binary_bytes, 1 << 20),
            footprint.start_millis.len(),
            median(footprint.start_millis.clone()),
            mib(footprint.idle_kib),
            mib(footprint.loaded_kib),
            mib(footprint.nginx_loaded_kib),
            footprint.sessions,
            footprint.session_bytes,
            footprint.listening,
            footprint.listening_bytes,
            footprint.listening_left_bytes,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(proxy: &'static str, cpu: f64, calls: f64, undisturbed: bool) -> Round {
        Round {
            proxy,
            era: Era::Session,
            connections: 16,
            calls: 1,
            cpu_micros_per_call: cpu,
            calls_per_second: calls,
            p50_micros: 1.0,
            p99_micros: 1.0,
            kernel_share: 0.5,
            ran: 1.0,
            waited: 0.0,
            load_ran: 0.5,
            saturated: undisturbed,
            undisturbed,
        }
    }

    #[test]
    fn ratios_are_of_medians_and_throughput_only_of_rounds_that_count() {
        let rounds = [
            round("gateway", 30.0, 900.0, true),
            round("nginx", 20.0, 1000.0, true),
            round("gateway", 40.0, 1.0, false),
            round("nginx", 20.0, 1000.0, true),
            round("gateway", 20.0, 800.0, true),
            round("nginx", 10.0, 1.0, false),
        ];
        let rows = rows(&rounds, "nginx");
        let gateway = rows.iter().find(|row| row.proxy == "gateway").unwrap();
        assert!((gateway.cpu_ratio.unwrap() - 1.5).abs() < 1e-9);
        assert!((gateway.cpu_ratio_of_least.unwrap() - 2.0).abs() < 1e-9);
        assert!((gateway.calls_ratio.unwrap() - 0.85).abs() < 1e-9);
        assert_eq!(gateway.judged, 2);
        assert!(
            rows.iter()
                .all(|row| row.proxy != "nginx" || row.cpu_ratio.is_none())
        );
    }

    #[test]
    fn without_a_round_that_counts_throughput_is_not_judged() {
        let rows = rows(
            &[round("gateway", 1.0, 1.0, false), round("nginx", 1.0, 9.0, true)],
            "nginx",
        );
        assert_eq!(rows[0].calls_ratio, None);
    }

    #[test]
    fn medians() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
    }
}
