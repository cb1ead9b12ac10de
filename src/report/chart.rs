//! Curves as SVG, in the page's colours.

use std::fmt::Write;

use super::page::text;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
/// Left, top, right, bottom of the area that curves have.
const AREA: [f64; 4] = [54.0, 10.0, 630.0, 268.0];

/// Colours that the page has.
const COLOURS: usize = 8;

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A figure of `curves` under `title`, over `x`; nothing where no curve has a point.
pub fn figure(title: &str, x: &str, curves: &[Curve]) -> String {
    let finite = |place: usize| {
        let curve = &curves[place];
        let points: Vec<_> = curve.points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
        (!points.is_empty()).then_some((place % COLOURS, curve.name.as_str(), points))
    };
    let drawn: Vec<_> = (0..curves.len()).filter_map(finite).collect();
    let all = || drawn.iter().flat_map(|(_, _, points)| points.iter().copied());
    let Some(first) = all().next() else { return String::new() };
    let range = |of: fn((f64, f64)) -> f64| {
        all().map(of).fold((of(first), of(first)), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (xs, ys) = (Axis::of(range(|point| point.0)), Axis::of(range(|point| point.1)));
    let [left, top, right, bottom] = AREA;
    let place = |(x, y): (f64, f64)| (left + xs.share(x) * (right - left), bottom - ys.share(y) * (bottom - top));
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", text(title));
    for tick in ys.ticks() {
        let (_, y) = place((xs.low, tick));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            ys.shown(tick)
        );
    }
    for tick in xs.ticks() {
        let (x, _) = place((tick, ys.low));
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            xs.shown(tick)
        );
    }
    let _ = write!(svg, "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", bottom + 30.0, text(x));
    for (colour, _, points) in &drawn {
        if let [point] = points[..] {
            let (x, y) = place(point);
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" style=\"fill:var(--c{colour})\"/>");
            continue;
        }
        let path: Vec<String> =
            points.iter().map(|&point| place(point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ =
            write!(svg, "<polyline class=\"data\" style=\"stroke:var(--c{colour})\" points=\"{}\"/>", path.join(" "));
    }
    svg += "</svg>";
    let mut legend = String::new();
    if drawn.len() > 1 {
        legend += "<div class=\"legend\">";
        for (colour, name, _) in &drawn {
            let _ = write!(legend, "<span><i style=\"background:var(--c{colour})\"></i>{}</span>", text(name));
        }
        legend += "</div>";
    }
    format!("<figure><figcaption>{}</figcaption>{svg}{legend}</figure>\n", text(title))
}

/// A range of values, cut into whole steps of 1, 2 or 5 tenths of a power of ten.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    fn of((low, high): (f64, f64)) -> Self {
        let (low, high) =
            if high > low { (low, high) } else { (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0)) };
        let rough = (high - low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        Self { low, high, step: step.unwrap_or(rough) }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil();
        (0..12)
            .map(|i| (first + f64::from(i)) * self.step)
            .take_while(|tick| *tick <= self.high * (1.0 + 1e-12))
            .collect()
    }

    fn shown(&self, tick: f64) -> String {
        let digits = (-self.step.log10().floor()).clamp(0.0, 9.0) as usize;
        match tick.abs() {
            large if large >= 1e6 => format!("{:.1}M", tick / 1e6),
            large if large >= 1e4 => format!("{:.0}k", tick / 1e3),
            small if small < 1e-4 && small > 0.0 => format!("{tick:.0e}"),
            _ => format!("{tick:.digits$}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        for (low, high) in
            [(0.0, 1.0), (0.013, 0.0171), (-3.0, 250.0), (5.0, 5.0), (0.0, 0.0), (1e6, 3e6), (1e-7, 4e-7)]
        {
            let axis = Axis::of((low, high));
            let ticks = axis.ticks();
            assert!((2..=11).contains(&ticks.len()), "{low} to {high}: {ticks:?}");
            assert!(
                ticks.iter().all(|tick| (0.0..=1.0 + 1e-9).contains(&axis.share(*tick))),
                "{low} to {high}: {ticks:?}"
            );
        }
        let shown = |low: f64, high: f64| {
            let axis = Axis::of((low, high));
            axis.ticks().into_iter().map(|tick| axis.shown(tick)).collect::<Vec<_>>()
        };
        assert_eq!(shown(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(shown(0.0, 90_000.0), ["0", "20k", "40k", "60k", "80k"]);
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let curve = |points: &[(f64, f64)]| Curve { name: "<a>".into(), points: points.to_vec() };
        assert_eq!(figure("loss", "step", &[curve(&[(0.0, f64::NAN)])]), "");
        let drawn =
            figure("loss", "step", &[curve(&[(0.0, 1.0), (1.0, f64::INFINITY), (2.0, 2.0)]), curve(&[(1.0, 1.5)])]);
        assert!(drawn.contains("54.0,268.0 630.0,10.0") && drawn.contains("<circle"), "{drawn}");
        assert!(drawn.contains("&lt;a&gt;") && !drawn.contains("<a>"), "{drawn}");
    }
}
