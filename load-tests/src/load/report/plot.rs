//! Lines over time, as inline SVG.

use std::fmt::Write;

/// A line: its name, and its points as (seconds, value).
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A figure with a common time axis for its lines.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// True for a logarithmic scale.
    pub(super) logarithmic: bool,
    pub(super) lines: Vec<Line>,
    /// The beginnings of phases, in seconds.
    pub(super) marks: Vec<f64>,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;
/// The most points of a line; beyond that, neighbours are merged, as no screen shows them.
const MOST_POINTS: usize = 900;

impl Plot<'_> {
    /// Returns the figure with its legend, as HTML.
    pub(super) fn render(&self) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        if all().next().is_none() {
            return format!(
                "<figure><figcaption>{}</figcaption><p>No figures.</p></figure>\n",
                escape(self.title)
            );
        }
        let from = all().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let to = all().map(|(x, _)| *x).fold(from + 1.0, f64::max);
        let highest = all().map(|(_, y)| *y).fold(0.0, f64::max);
        let scale = Scale::new(highest, self.logarithmic);
        let x = |seconds: f64| LEFT + (seconds - from) / (to - from) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - scale.share(value) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            escape(self.title)
        );
        for tick in scale.ticks() {
            let at = y(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(tick)
            );
        }
        for mark in &self.marks {
            let at = x(*mark);
            let _ = writeln!(
                svg,
                "<line class=\"mark\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>",
                HEIGHT - BOTTOM
            );
        }
        for part in 0..=6 {
            let seconds = from + (to - from) * f64::from(part) / 6.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds:.0} s</text>",
                x(seconds),
                HEIGHT - 6.0
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            let mut path = String::new();
            for (seconds, value) in thin(&line.points) {
                let _ = write!(path, "{:.1},{:.1} ", x(seconds), y(value));
            }
            let _ = writeln!(
                svg,
                "<polyline class=\"c{}\" points=\"{}\"><title>{}</title></polyline>",
                index % COLOURS,
                path.trim_end(),
                escape(&line.name)
            );
        }
        svg.push_str("</svg>");
        let mut legend = String::new();
        for (index, line) in self.lines.iter().enumerate() {
            let (colour, name) = (index % COLOURS, escape(&line.name));
            let _ = write!(legend, "<li class=\"c{colour}\">{name}</li>");
        }
        format!(
            "<figure><figcaption>{} <small>({})</small></figcaption>\n{svg}\n<ul class=\"legend\">{legend}</ul></figure>\n",
            escape(self.title),
            escape(self.unit)
        )
    }
}

/// The number of colours in the style sheet.
pub(super) const COLOURS: usize = 12;

struct Scale {
    /// The value at the top.
    top: f64,
    /// The value at the bottom of a logarithmic scale; `None` for a linear one.
    bottom: Option<f64>,
}

impl Scale {
    fn new(highest: f64, logarithmic: bool) -> Self {
        if logarithmic {
            let top = 10_f64.powf(highest.max(10.0).log10().ceil());
            return Self {
                top,
                bottom: Some(1.0),
            };
        }
        let highest = highest.max(0.001);
        let magnitude = 10_f64.powf(highest.log10().floor());
        let nice = [1.0, 2.0, 2.5, 4.0, 5.0, 10.0];
        let top = nice
            .into_iter()
            .map(|factor| factor * magnitude)
            .find(|top| *top >= highest)
            .unwrap_or(magnitude * 10.0);
        Self { top, bottom: None }
    }

    /// Returns the height of a value, from 0 at the bottom to 1 at the top.
    fn share(&self, value: f64) -> f64 {
        match self.bottom {
            None => value / self.top,
            Some(bottom) => (value.max(bottom) / bottom).ln() / (self.top / bottom).ln(),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.bottom {
            None => (0..=4)
                .map(|part| self.top * f64::from(part) / 4.0)
                .collect(),
            Some(bottom) => {
                let mut ticks = vec![bottom];
                while let Some(last) = ticks.last()
                    && last * 10.0 <= self.top * 1.001
                {
                    ticks.push(last * 10.0);
                }
                ticks
            }
        }
    }
}

/// Merges neighbours until at most [`MOST_POINTS`] remain. Each stands for the greatest of its neighbours, so that no
/// peak is lost.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points
        .chunks(points.len().div_ceil(MOST_POINTS).max(1))
        .filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)))
        .collect()
}

/// Formats a number with as many digits as distinguish it from its neighbours.
fn number(value: f64) -> String {
    if value == 0.0 || value >= 10.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Escapes a text for HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        let top = |highest, logarithmic| Scale::new(highest, logarithmic).top;
        assert!((top(37.0, false) - 40.0).abs() < 1e-9);
        assert!((top(0.3, false) - 0.4).abs() < 1e-9);
        assert!((top(1234.0, true) - 10_000.0).abs() < 1e-6);
        let scale = Scale::new(1000.0, true);
        assert!((scale.share(10.0) - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 4);
    }

    #[test]
    fn thinning_keeps_peaks() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        points[5003].1 = 99.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= MOST_POINTS);
        assert!(thinned.contains(&(5003.0, 99.0)));
    }

    #[test]
    fn names_are_escaped_in_the_svg() {
        let plot = Plot {
            title: "a <b>",
            unit: "ms",
            logarithmic: false,
            lines: vec![Line {
                name: "\"><script>".into(),
                points: vec![(0.0, 1.0), (1.0, 2.0)],
            }],
            marks: Vec::new(),
        };
        let svg = plot.render();
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(svg.contains("polyline"), "{svg}");
    }
}
