//! The performance goals and whether they are met, as a table.

use std::fmt::Write;

use super::report::{Metric, Report};
use super::stats::short;

/// What a figure is held to.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// As a multiple of the floor.
    TimesAtMost(f64),
    TimesAtLeast(f64),
}

/// One row: a figure of the daemon.
pub struct Goal {
    pub work: &'static str,
    pub case: String,
    pub metric: Metric,
    /// Whose figure it stands beside.
    pub beside: Option<String>,
    pub bound: Bound,
}

impl Goal {
    /// Whether a figure reaches it, given how many times its floor that is.
    fn is_reached(&self, figure: f64, times: Option<f64>) -> Option<bool> {
        match self.bound {
            Bound::AtMost(limit) => Some(figure <= limit),
            Bound::AtLeast(limit) => Some(figure >= limit),
            Bound::TimesAtMost(limit) => times.map(|times| times <= limit),
            Bound::TimesAtLeast(limit) => times.map(|times| times >= limit),
        }
    }

    fn words(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("at most {}", in_units(limit, self.metric)),
            Bound::AtLeast(limit) => format!("at least {}", in_units(limit, self.metric)),
            Bound::TimesAtMost(limit) => format!("at most {limit} times"),
            Bound::TimesAtLeast(limit) => format!("at least {limit} times"),
        }
    }
}

/// The table in Markdown, of those that were measured.
pub fn table(report: &Report, daemon: &str, goals: &[Goal]) -> String {
    let mut text = String::from(
        "| work | figure | | beside it | times that | goal | reached |\n|---|---|---|---|---|---|---|\n",
    );
    for goal in goals {
        let value = |who: &str| report.value(goal.work, &goal.case, goal.metric, who);
        let Some(figure) = value(daemon) else {
            continue;
        };
        let beside = goal
            .beside
            .as_deref()
            .and_then(|who| Some((who, value(who)?)));
        let times = beside.map(|(_, base)| figure / base);
        let reached = match goal.is_reached(figure, times) {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => continue,
        };
        let _ = writeln!(
            text,
            "| {}: {} | {} | {} | {} | {} | {} | {reached} |",
            goal.work,
            goal.case,
            goal.metric.name,
            in_units(figure, goal.metric),
            beside.map_or(String::new(), |(who, base)| format!(
                "{who}: {}",
                in_units(base, goal.metric)
            )),
            times.map_or(String::new(), |times| format!("{times:.2}")),
            goal.words(),
        );
    }
    text
}

fn in_units(value: f64, metric: Metric) -> String {
    match metric.unit {
        "us" if value >= 1000.0 => format!("{} ms", short(value / 1000.0)),
        "KiB" if value >= 1024.0 => format!("{} MiB", short(value / 1024.0)),
        "1/s" => format!("{}/s", short(value)),
        unit => format!("{} {unit}", short(value)).trim_end().to_owned(),
    }
}
