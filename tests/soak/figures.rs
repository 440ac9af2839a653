//! A process's resources as the kernel counts them, and a linear fit of memory over time.

use std::fmt;
use std::fs;
use std::time::Duration;

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub resident_kb: u64,
    pub threads: u64,
    pub descriptors: usize,
}

impl Sample {
    pub fn of(pid: u32) -> Sample {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse().ok()).expect("a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("list the descriptors");
        Sample {
            resident_kb: number("VmRSS:"),
            threads: number("Threads:"),
            descriptors: descriptors.count(),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} KB resident, {} threads, {} descriptors",
            self.resident_kb, self.threads, self.descriptors
        )
    }
}

/// A slope and its standard error, in KB an hour.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    pub kb_an_hour: f64,
    pub error: f64,
}

impl Slope {
    /// The least-squares fit through these; none for fewer than three.
    pub fn fit(samples: &[(Duration, f64)]) -> Option<Slope> {
        if samples.len() < 3 {
            return None;
        }
        let count = samples.len() as f64;
        let hours = |time: &Duration| time.as_secs_f64() / 3600.0;
        let mean_x = samples.iter().map(|(time, _)| hours(time)).sum::<f64>() / count;
        let mean_y = samples.iter().map(|(_, kb)| kb).sum::<f64>() / count;
        let away = |time: &Duration| hours(time) - mean_x;
        let xx: f64 = samples.iter().map(|(time, _)| away(time).powi(2)).sum();
        let xy: f64 = samples
            .iter()
            .map(|(time, kb)| away(time) * (kb - mean_y))
            .sum();
        let slope = xy / xx;
        let rest = |(time, kb): &(Duration, f64)| kb - mean_y - slope * away(time);
        let squares: f64 = samples.iter().map(|sample| rest(sample).powi(2)).sum();
        Some(Slope {
            kb_an_hour: slope,
            error: (squares / (count - 2.0) / xx).sqrt(),
        })
    }

    /// Whether memory grows: by more than chance has it, and by more than a page or two now and then.
    pub fn is_growth(self) -> bool {
        self.kb_an_hour > 3.0 * self.error && self.kb_an_hour > 1024.0
    }
}

impl fmt::Display for Slope {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:+.0} ± {:.0} KB/h", self.kb_an_hour, self.error)
    }
}

/// Means of so many neighbours each: what one burst does to one sample is not independent of the next sample, and the
/// error of the fit counts on that.
pub fn means(samples: &[(Duration, Sample)], of: usize) -> Vec<(Duration, f64)> {
    let mean = |part: &[(Duration, Sample)]| {
        let kb: u64 = part.iter().map(|(_, sample)| sample.resident_kb).sum();
        let time: Duration = part.iter().map(|(time, _)| *time).sum();
        (time / part.len() as u32, kb as f64 / part.len() as f64)
    };
    samples.chunks(of).map(mean).collect()
}
