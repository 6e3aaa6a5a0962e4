//! The curves of a run as one picture: disk beside what is kept, memory, rates and latencies, with a mark for every kill.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::samples::{MIB, Sample, allowed};

/// One curve: what it shows, its colour, and how it is taken from a sample.
type Curve = (&'static str, RGBColor, fn(&Sample) -> f64);

const RED: RGBColor = RGBColor(200, 40, 40);
const GREEN: RGBColor = RGBColor(30, 130, 60);
const BLUE: RGBColor = RGBColor(30, 80, 180);
const ORANGE: RGBColor = RGBColor(220, 130, 20);
const GREY: RGBColor = RGBColor(170, 170, 170);

const DISK: [Curve; 3] = [
    ("allowed", GREY, |s| (allowed(s.kept_bytes) / MIB) as f64),
    ("on disk", RED, |s| (s.disk_bytes / MIB) as f64),
    ("kept", GREEN, |s| (s.kept_bytes / MIB) as f64),
];
const MEMORY: [Curve; 1] = [("resident", BLUE, |s| (s.resident_bytes / MIB) as f64)];
const RATES: [Curve; 3] = [
    ("delivered", BLUE, |s| s.delivered_per_second),
    ("published", GREEN, |s| s.published_per_second),
    ("removed", ORANGE, |s| s.removed_per_second),
];
const LATENCIES: [Curve; 2] =
    [("p99 of one event", RED, |s| s.single_p99_ms), ("p50 of one event", GREEN, |s| s.single_p50_ms)];

type Failure = Box<dyn std::error::Error>;

/// Draws the samples into a file.
pub(crate) fn draw(samples: &[Sample], path: &Path) -> Result<(), Failure> {
    let Some(path) = path.to_str() else { return Err("the path is not UTF-8".into()) };
    let area = SVGBackend::new(path, (1_000, 1_200)).into_drawing_area();
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    let parts = area.split_evenly((4, 1));
    panel(&parts[0], "Disk, MiB", samples, &DISK)?;
    panel(&parts[1], "Memory, MiB", samples, &MEMORY)?;
    panel(&parts[2], "Events a second", samples, &RATES)?;
    panel(&parts[3], "Publish, milliseconds", samples, &LATENCIES)?;
    area.present().map_err(|error| error.to_string().into())
}

/// One picture with a common axis of time.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    samples: &[Sample],
    curves: &[Curve],
) -> Result<(), Failure> {
    let seconds: Range<f64> = 0.0..samples.last().map_or(1.0, |sample| sample.seconds.max(1.0));
    let all = curves.iter().flat_map(|(_, _, value)| samples.iter().map(value));
    let top = all.fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(seconds, 0.0..top)?;
    chart.configure_mesh().light_line_style(TRANSPARENT).x_desc("seconds; dashes: kill -9").draw()?;
    for kill in samples.iter().filter(|sample| sample.is_kill) {
        let dashes = (0..20).map(|n| f64::from(n) * top / 20.0);
        for from in dashes {
            let line = [(kill.seconds, from), (kill.seconds, from + top / 45.0)];
            chart.draw_series(std::iter::once(PathElement::new(line, GREY.stroke_width(1))))?;
        }
    }
    for (name, colour, value) in curves {
        let points = samples.iter().map(|sample| (sample.seconds, value(sample)));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(1)))?
            .label(*name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(GREY).draw()?;
    Ok(())
}
