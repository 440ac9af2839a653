//! Percentiles, medians, and readable numbers.

use std::time::Duration;

/// Times of which percentiles are asked.
#[derive(Default)]
pub struct Times(Vec<u32>);

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.0
            .push(u32::try_from(time.as_nanos() / 100).unwrap_or(u32::MAX));
    }

    /// In microseconds; `share` from 0 to 1.
    pub fn percentile(&mut self, share: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        self.0.sort_unstable();
        let place = ((self.0.len() as f64 * share).ceil() as usize).clamp(1, self.0.len());
        f64::from(self.0[place - 1]) / 10.0
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Three significant digits, with a unit's prefix where the number is large.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        size if size >= 1e6 => format!("{:.2} M", value / 1e6),
        size if size >= 1e5 => format!("{:.0} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
