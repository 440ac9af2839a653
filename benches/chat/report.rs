//! The results as a table and as JSON: the median of all runs, their spread, and the ratio to the lower bound in the same
//! runs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::stats::{median, short};

/// What a number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    pub unit: &'static str,
}

struct Line {
    work: &'static str,
    case: String,
    metric: Metric,
    who: String,
    values: Vec<f64>,
}

/// All lines, in the order in which they came.
#[derive(Default)]
pub struct Report {
    lines: Vec<Line>,
    floors: Vec<(&'static str, &'static str, String)>,
    failures: Vec<String>,
}

impl Report {
    /// One more value of one run.
    pub fn add(&mut self, work: &'static str, case: &str, metric: Metric, who: &str, value: f64) {
        let same = |line: &&mut Line| {
            line.work == work && line.case == case && line.metric == metric && line.who == who
        };
        match self.lines.iter_mut().find(same) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line {
                work,
                case: case.to_owned(),
                metric,
                who: who.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// Whose value a metric of this work is compared with.
    pub fn floor(&mut self, work: &'static str, metric: Metric, who: &str) {
        self.floors.push((work, metric.name, who.to_owned()));
    }

    /// A run that found something wrong.
    pub fn fail(&mut self, what: String) {
        eprintln!("FAILED: {what}");
        self.failures.push(what);
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Median of a line.
    pub fn value(&self, work: &str, case: &str, metric: Metric, who: &str) -> Option<f64> {
        let line = self.lines.iter().find(|line| {
            line.work == work && line.case == case && line.metric == metric && line.who == who
        })?;
        Some(median(&line.values))
    }

    fn ratio(&self, line: &Line) -> Option<f64> {
        let (_, _, floor) = self
            .floors
            .iter()
            .find(|(work, metric, _)| *work == line.work && *metric == line.metric.name)?;
        let base = self.value(line.work, &line.case, line.metric, floor)?;
        (line.who != *floor).then(|| median(&line.values) / base)
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut work = "";
        for line in &self.lines {
            if line.work != work {
                work = line.work;
                let _ = writeln!(
                    text,
                    "\n{work}\n  {:<34} {:<28} {:<18} {:>9} {:>19} {:>8}",
                    "case", "metric", "who", "median", "least .. most", "of floor"
                );
            }
            let (least, most) = line.values.iter().fold(
                (f64::INFINITY, f64::NEG_INFINITY),
                |(least, most), value| (least.min(*value), most.max(*value)),
            );
            let ratio = self
                .ratio(line)
                .map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(
                text,
                "  {:<34} {:<28} {:<18} {:>9} {:>19} {:>8}",
                line.case,
                format!("{} [{}]", line.metric.name, line.metric.unit),
                line.who,
                short(median(&line.values)),
                format!("{} .. {}", short(least), short(most)),
                ratio
            );
        }
        for failure in &self.failures {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        text
    }

    /// The same for programs.
    pub fn json(&self, machine: Value) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                json!({
                    "work": line.work,
                    "case": line.case,
                    "metric": line.metric.name,
                    "unit": line.metric.unit,
                    "who": line.who,
                    "median": median(&line.values),
                    "values": line.values,
                    "ratio_to_floor": self.ratio(line),
                })
            })
            .collect();
        json!({"machine": machine, "results": lines, "failures": self.failures})
    }
}
