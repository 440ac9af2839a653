//! A chart of latency against load as SVG: both axes logarithmic, one line a series.

use std::fmt::Write;

use super::stats::short;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
const COLOURS: [&str; 6] = [
    "#0b6e4f", "#0b6e4f", "#b3541e", "#b3541e", "#3c5a99", "#3c5a99",
];

/// One line of the chart.
pub struct Series {
    pub name: String,
    /// Load, and latency.
    pub points: Vec<(f64, f64)>,
}

/// A chart's words.
pub struct Words<'a> {
    pub title: &'a str,
    pub load: &'a str,
    pub latency: &'a str,
}

/// Draws solid and dashed lines in turn, two to a colour.
pub fn draw(words: &Words<'_>, series: &[Series]) -> String {
    let points = || series.iter().flat_map(|one| one.points.iter());
    let loads = range(points().map(|point| point.0));
    let times = range(points().map(|point| point.1));
    let x = |load: f64| LEFT + (WIDTH - LEFT - RIGHT) * share(load, loads);
    let y = |time: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share(time, times);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{}</text>\n",
        words.title
    );
    for tick in ticks(loads) {
        let (at, low) = (x(tick), HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{low}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            low + 16.0,
            label(tick)
        );
    }
    for tick in ticks(times) {
        let (at, right) = (y(tick), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            label(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        words.load,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        words.latency
    );
    for (number, one) in series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let dashes = ["", " stroke-dasharray=\"5 4\""][number % 2];
        let path: Vec<String> = one
            .points
            .iter()
            .map(|(load, time)| format!("{:.1} {:.1}", x(*load), y(*time)))
            .collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
            path.join("L")
        );
        let at = TOP + 14.0 + 20.0 * number as f64;
        let from = WIDTH - RIGHT + 12.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{from} {at}h26\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>\
             <text x=\"{}\" y=\"{}\">{}</text>",
            from + 32.0,
            at + 4.0,
            one.name
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    (least * 0.8, most * 1.25)
}

fn share(value: f64, (least, most): (f64, f64)) -> f64 {
    (value / least).ln() / (most / least).ln()
}

/// 1, 2 and 5 of every power of ten.
fn ticks((least, most): (f64, f64)) -> Vec<f64> {
    let (first, last) = (least.log10().floor() as i32, most.log10().ceil() as i32);
    (first..=last)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)))
        .filter(|tick| (least..=most).contains(tick))
        .collect()
}

fn label(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{} k", value / 1e3)
    } else if value >= 1.0 {
        format!("{value}")
    } else {
        short(value)
    }
}
