//! What processes have used, as the operating system accounts for it.

use std::time::Duration;

/// CPU time of a process, user and system, to 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything; utime and stime are the 12th and 13th field after it.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // USER_HZ is 100 on Linux, whatever the kernel's own tick is.
    Duration::from_millis(ticks * 10)
}

/// The highest resident memory of a process so far (bytes).
pub fn peak_memory(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// The resident memory of a process now (bytes).
pub fn memory(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

/// The part of the resident memory that is no file's (bytes).
pub fn anonymous_memory(pid: u32) -> u64 {
    status(pid, "RssAnon:")
}

fn status(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What a number of processes had used when it was asked first.
pub struct Since {
    pids: Vec<u32>,
    before: Duration,
}

impl Since {
    pub fn now(pids: Vec<u32>) -> Since {
        let before = pids.iter().map(|pid| cpu(*pid)).sum();
        Since { pids, before }
    }

    /// CPU time since then, for each of `each` (µs).
    pub fn us_each(&self, each: u64) -> f64 {
        let now: Duration = self.pids.iter().map(|pid| cpu(*pid)).sum();
        now.saturating_sub(self.before).as_micros() as f64 / each.max(1) as f64
    }
}

/// What the machine's CPUs had done when it was asked first.
pub struct MachineSince([u64; 8]);

impl MachineSince {
    pub fn now() -> MachineSince {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut ticks = [0; 8];
        // user, nice, system, idle, iowait, irq, softirq and steal of all of them; what follows is a part of these.
        let fields = stat.lines().next().unwrap_or_default().split_whitespace();
        for (ticks, field) in ticks.iter_mut().zip(fields.skip(1)) {
            *ticks = field.parse().unwrap_or(0);
        }
        MachineSince(ticks)
    }

    /// How much of the time since then a virtual machine's host gave to others, in percent.
    pub fn stolen_percent(&self) -> f64 {
        let now = MachineSince::now().0;
        let passed: Vec<u64> = (now.iter().zip(self.0))
            .map(|(now, before)| now.saturating_sub(before))
            .collect();
        let all: u64 = passed.iter().sum();
        passed[7] as f64 * 100.0 / all.max(1) as f64
    }
}

/// The machine, in a line.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = after_colon(&read("/proc/cpuinfo"), "model name");
    let memory = after_colon(&read("/proc/meminfo"), "MemTotal");
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {memory}, Linux {}", kernel.trim())
}
