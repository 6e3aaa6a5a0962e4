// Live charts: a card with a title, the newest values, and lines over time, drawn by uPlot.

import { h, setText } from "./dom.js";
import { colour, themeChanged } from "./theme.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";

const HEIGHT = 168;
const FONT = "11px system-ui, sans-serif";

/// A chart. `series` are `{ name, colour, show }`, where `show` makes a text of a value.
export class Chart {
  constructor(title, series, about) {
    this.series = series;
    this.values = series.map(() => h("strong", {}, "–"));
    this.canvas = h("div", { class: "chart-canvas", role: "img", "aria-label": about });
    this.element = h(
      "section",
      { class: "card chart", "aria-label": title },
      h("h2", {}, title),
      h(
        "p",
        { class: "legend" },
        series.map((one, n) => h("span", { class: `series ${one.colour}` }, one.name, " ", this.values[n])),
      ),
      this.canvas,
    );
    this.data = [[], ...series.map(() => [])];
    this.redraw = () => this.draw();
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.canvas);
    themeChanged.addEventListener("changed", this.redraw);
  }

  /// Shows lines anew: times in seconds, then the values of each series.
  update(data) {
    this.data = data;
    this.series.forEach((one, n) => {
      const newest = data[n + 1].at(-1);
      setText(this.values[n], newest === undefined || newest === null ? "–" : one.show(newest));
    });
    this.plot ? this.plot.setData(data) : this.draw();
  }

  draw() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    this.plot = new uPlot(this.options(width), this.data, this.canvas);
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    this.plot ? this.plot.setSize({ width, height: HEIGHT }) : this.draw();
  }

  options(width) {
    const [soft, line] = [colour("--soft"), colour("--line")];
    const { show } = this.series[0];
    return {
      width,
      height: HEIGHT,
      padding: [8, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, least, most) => [0, Math.max(most * 1.1, 4)] } },
      axes: [
        {
          stroke: soft,
          font: FONT,
          grid: { show: false },
          ticks: { show: false },
          size: 24,
          space: 70,
          values: times,
        },
        {
          stroke: soft,
          font: FONT,
          size: 56,
          space: 36,
          grid: { stroke: line, width: 1 },
          ticks: { show: false },
          values: (_, all) => all.map(show),
        },
      ],
      series: [{}, ...this.series.map((one) => lineOf(one.colour))],
    };
  }

  destroy() {
    this.resized.disconnect();
    themeChanged.removeEventListener("changed", this.redraw);
    this.plot?.destroy();
  }
}

function lineOf(name) {
  const stroke = colour(`--${name}`);
  const [red, green, blue] = stroke.match(/[\d.]+/g);
  return { stroke, width: 1.75, fill: `rgba(${red}, ${green}, ${blue}, 0.1)`, points: { show: false } };
}

function times(_, seconds) {
  return seconds.map((second) => new Date(second * 1000).toLocaleTimeString("en-GB"));
}
