//! The picture of a run: panels with curves, as SVG.

use std::ops::Range;

use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::meter::{Sample, millis};
use super::report::shown;

const COLOURS: [RGBColor; 3] = [RGBColor(30, 80, 180), RGBColor(200, 40, 40), RGBColor(30, 130, 60)];
const GREY: RGBColor = RGBColor(170, 170, 170);
/// Pixels.
const WIDTH: u32 = 1_000;
const PANEL_HEIGHT: u32 = 320;
const TITLE_HEIGHT: u32 = 40;
/// The steepest part of a distribution lies at its end, so its last steps are finer.
const DISTRIBUTION_STEPS: u32 = 100;

/// Curves with common axes.
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) is_x_logarithmic: bool,
    pub(super) curves: Vec<Curve>,
    /// Moments that are marked.
    pub(super) marks: Vec<f64>,
}

pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// The rate over time, and the latencies if they mean something.
pub(super) fn over_time(what: &str, samples: &[Sample], with_latencies: bool) -> Vec<Panel> {
    let curve = |name, value: fn(&Sample) -> Option<f64>| Curve {
        name,
        points: samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?))).collect(),
    };
    let panel = |title: String, curves| Panel {
        title,
        x: "seconds",
        is_x_logarithmic: false,
        curves,
        marks: Vec::new(),
    };
    let rate = curve("a second", |sample| Some(sample.events_per_second));
    let mut panels = vec![panel(format!("{what} a second"), vec![rate])];
    if with_latencies {
        let curves = vec![curve("p50", |sample| sample.p50_ms), curve("p99", |sample| sample.p99_ms)];
        panels.push(panel("Latency, milliseconds".to_owned(), curves));
    }
    panels
}

/// How many in a hundred took at most how long.
pub(super) fn distribution(title: &str, curves: &[(&'static str, &Histogram<u64>)]) -> Panel {
    let curves = curves.iter().map(|(name, latencies)| {
        let steps = latencies
            .iter_quantiles(DISTRIBUTION_STEPS)
            .map(|step| (millis(step.value_iterated_to().max(1)), 100.0 * step.quantile()));
        Curve { name, points: steps.collect() }
    });
    Panel {
        title: title.to_owned(),
        x: "milliseconds",
        is_x_logarithmic: true,
        curves: curves.collect(),
        marks: Vec::new(),
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws panels below each other.
pub(super) fn draw(title: &str, panels: &[Panel]) -> anyhow::Result<String> {
    let mut svg = String::new();
    try_to_draw(&mut svg, title, panels)
        .map_err(|error| anyhow::anyhow!("the picture cannot be drawn: {error}"))?;
    Ok(svg)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn try_to_draw(svg: &mut String, title: &str, panels: &[Panel]) -> Result<(), Failure> {
    let count = panels.len().max(1) as u32;
    let size = (WIDTH, TITLE_HEIGHT + PANEL_HEIGHT * count);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let area = area.titled(title, ("sans-serif", 22))?;
    for (panel, part) in panels.iter().zip(area.split_evenly((count as usize, 1))) {
        let x = range(panel, |(x, _)| *x);
        match panel.is_x_logarithmic {
            true => draw_panel(&part, panel, decades(x).log_scale())?,
            false => draw_panel(&part, panel, 0.0..x.end)?,
        }
    }
    area.present()?;
    Ok(())
}

fn draw_panel<X>(area: &Area<'_>, panel: &Panel, x: X) -> Result<(), Failure>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let top = range(panel, |(_, y)| *y).end * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(10)
        .margin_right(35)
        .x_label_area_size(35)
        .y_label_area_size(70)
        .build_cartesian_2d(x, 0.0..top)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(panel.x)
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| label(*y))
        .draw()?;
    draw_curves(&mut chart, panel, top)?;
    if panel.curves.len() > 1 {
        let labels = &mut chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).border_style(GREY);
        labels.draw()?;
    }
    Ok(())
}

type Chart<'a, 'b, X> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, RangedCoordf64>>;

fn draw_curves<'b, X: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, 'b, X>,
    panel: &Panel,
    top: f64,
) -> Result<(), Failure> {
    for mark in &panel.marks {
        let line = PathElement::new([(*mark, 0.0), (*mark, top)], GREY.stroke_width(2));
        chart.draw_series(std::iter::once(line))?;
    }
    for (curve, colour) in panel.curves.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(1)))?
            .label(curve.name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    Ok(())
}

/// From the least to the largest value of all curves, and never empty.
fn range(panel: &Panel, value: impl Fn(&(f64, f64)) -> f64) -> Range<f64> {
    let values = || panel.curves.iter().flat_map(|curve| &curve.points).map(&value);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let most = if most > 0.0 { most } else { 1.0 };
    if least < most { least..most } else { most / 2.0..most * 2.0 }
}

/// Whole decades around a range, which have lines and labels.
fn decades(range: Range<f64>) -> Range<f64> {
    10_f64.powf(range.start.max(1e-3).log10().floor())..10_f64.powf(range.end.log10().ceil())
}

/// A number at an axis, with no more digits than it needs.
fn label(value: f64) -> String {
    let shown = shown(value);
    match shown.contains('.') {
        true => shown.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::meter::histogram;

    fn samples(count: u32) -> Vec<Sample> {
        let sample = |n: u32| Sample {
            seconds: f64::from(n) / 10.0,
            events_per_second: f64::from(n * 100),
            p50_ms: n.is_multiple_of(2).then_some(f64::from(n)),
            p99_ms: None,
        };
        (1..=count).map(sample).collect()
    }

    #[test]
    fn an_axis_has_short_numbers_and_whole_decades() {
        for (value, text) in [(16_000.0, "16,000"), (0.1 + 0.2, "0.3"), (10.0, "10"), (2.5, "2.5")] {
            assert_eq!(label(value), text);
        }
        assert_eq!((decades(40.0..46.0), decades(0.0..1.0)), (10.0..100.0, 0.001..1.0));
    }

    #[test]
    fn a_picture_has_a_panel_for_each_and_survives_that_there_is_nothing() {
        for count in [0, 1, 2, 100] {
            let mut latencies = histogram();
            samples(count).iter().for_each(|s| latencies.saturating_record(s.events_per_second as u64));
            let mut panels = over_time("Events", &samples(count), true);
            panels.push(distribution("All <latencies> & more", &[("answers", &latencies)]));
            panels[0].marks.push(0.05);
            let svg = draw("a title", &panels).unwrap();
            assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for text in ["a title", "Events a second", "All &lt;latencies&gt; &amp; more", "milliseconds"] {
                assert!(svg.contains(text), "{count} samples, no {text:?}: {svg}");
            }
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
