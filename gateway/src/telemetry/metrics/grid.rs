//! Counters with two labels whose values are all known at compile time: an increment is one atomic add, without lock,
//! hash or allocation.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// A closed set of label values.
pub trait Label: Copy + 'static {
    /// All of them.
    const ALL: &'static [Self];
    /// Position in [`Label::ALL`].
    fn index(self) -> usize;
    /// As it stands in the metric.
    fn as_str(self) -> &'static str;
}

/// Makes a closed set of label values.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $crate::telemetry::metrics::grid::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];
            fn index(self) -> usize { self as usize }
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}
pub(crate) use label;

/// A counter for each pair of values of `A` and `B`. Those that never counted are not printed.
pub struct Grid<A, B> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; 2],
    cells: Box<[AtomicU64]>,
    types: std::marker::PhantomData<fn(A, B)>,
}

impl<A: Label, B: Label> Grid<A, B> {
    /// All counters at zero.
    pub fn new(name: &'static str, help: &'static str, labels: [&'static str; 2]) -> Self {
        let cells = A::ALL.iter().flat_map(|_| B::ALL).map(|_| AtomicU64::new(0));
        Self {
            name,
            help,
            labels,
            cells: cells.collect(),
            types: std::marker::PhantomData,
        }
    }

    /// Counts one.
    pub fn inc(&self, a: A, b: B) {
        if let Some(cell) = self.cells.get(a.index() * B::ALL.len() + b.index()) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were counted.
    pub fn get(&self, a: A, b: B) -> u64 {
        self.cells
            .get(a.index() * B::ALL.len() + b.index())
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

impl<A, B> fmt::Debug for Grid<A, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grid")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<A: Label, B: Label> Collector for Grid<A, B> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let [first, second] = self.labels;
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, MetricType::Counter)?;
        for a in A::ALL {
            for b in B::ALL {
                let count = self.get(*a, *b);
                if count > 0 {
                    let labels = [(first, a.as_str()), (second, b.as_str())];
                    ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
