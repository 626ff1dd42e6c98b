//! The process as the operating system sees it, under the names that Prometheus clients use.
//!
//! Read here and not by `metrics-process`, which brings `procfs` (7,500 lines), builds DataFusion anew for more features of
//! `rustix`, and knows no peak of memory.

use std::fs;

use metrics::{Unit, describe_gauge};

/// Linux reports times in hundredths of a second to user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
const BYTES_PER_KIB: f64 = 1024.0;

/// One look at the process. Fields that the system does not tell are `None`.
#[derive(Debug, Default, PartialEq)]
struct Sample {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    resident_bytes_peak: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    open_fds: Option<f64>,
}

/// Says what the gauges mean.
pub(crate) fn describe() {
    describe_gauge!("process_cpu_seconds_total", Unit::Seconds, "User and system CPU time of the process");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "Start of the process, in Unix time");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "Resident memory of the process");
    describe_gauge!("process_resident_memory_peak_bytes", Unit::Bytes, "Peak resident memory of the process");
    describe_gauge!("process_virtual_memory_bytes", Unit::Bytes, "Virtual memory of the process");
    describe_gauge!("process_threads", "Threads of the process");
    describe_gauge!("process_open_fds", "Open file descriptors of the process");
    describe_gauge!(
        "tracehouse_memory_allocated_bytes",
        Unit::Bytes,
        "Memory that the process has allocated and not freed"
    );
    describe_gauge!(
        "tracehouse_memory_limit_bytes",
        Unit::Bytes,
        "Maximum memory that the process may allocate; 0: unlimited"
    );
}

/// Reads the process's figures and sets the gauges. Takes some tens of microseconds.
pub(crate) fn record() {
    let sample = Sample::read();
    let gauges = [
        ("process_cpu_seconds_total", sample.cpu_seconds),
        ("process_start_time_seconds", sample.start_seconds),
        ("process_resident_memory_bytes", sample.resident_bytes),
        ("process_resident_memory_peak_bytes", sample.resident_bytes_peak),
        ("process_virtual_memory_bytes", sample.virtual_bytes),
        ("process_threads", sample.threads),
        ("process_open_fds", sample.open_fds),
    ];
    let limit = tracehouse_memory::limit_bytes();
    metrics::gauge!("tracehouse_memory_allocated_bytes").set(tracehouse_memory::in_use_bytes() as f64);
    metrics::gauge!("tracehouse_memory_limit_bytes").set(if limit == usize::MAX { 0.0 } else { limit as f64 });
    for (name, value) in gauges {
        if let Some(value) = value {
            metrics::gauge!(name).set(value);
        }
    }
}

impl Sample {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let mut sample = Self::parse(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/stat"));
        sample.open_fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        sample
    }

    fn parse(stat: &str, status: &str, system_stat: &str) -> Self {
        // The second field is the name in parentheses and may hold spaces, so fields are counted from behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let seconds = |at: usize| ticks(at).map(|ticks| ticks / TICKS_PER_SECOND);
        let value = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<f64>().ok()
        };
        let bytes = |key: &str| value(key).map(|kib| kib * BYTES_PER_KIB);
        let boot = system_stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            cpu_seconds: seconds(11).zip(seconds(12)).map(|(user, system)| user + system),
            start_seconds: boot.zip(seconds(19)).map(|(boot, after)| boot + after),
            resident_bytes: bytes("VmRSS"),
            resident_bytes_peak: bytes("VmHWM"),
            virtual_bytes: bytes("VmSize"),
            threads: value("Threads"),
            open_fds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "4711 (trace) house) S 1 4711 4711 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 12345 1000 200 0";
        let status =
            "Name:\tx\nVmPeak:\t 9 kB\nVmSize:\t  3000 kB\nVmHWM:\t  2000 kB\nVmRSS:\t  1000 kB\nThreads:\t9\n";
        let sample = Sample::parse(stat, status, "cpu 1 2\nbtime 1700000000\n");
        let expected = Sample {
            cpu_seconds: Some(3.0),
            start_seconds: Some(1_700_000_123.45),
            resident_bytes: Some(1_024_000.0),
            resident_bytes_peak: Some(2_048_000.0),
            virtual_bytes: Some(3_072_000.0),
            threads: Some(9.0),
            open_fds: None,
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn tells_nothing_rather_than_something_wrong() {
        assert_eq!(Sample::parse("", "", ""), Sample::default());
    }
}
