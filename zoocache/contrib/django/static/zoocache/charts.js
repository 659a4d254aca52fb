// Charts of the status page: a few lines of SVG. Attributes and classes only, so that a strict
// Content-Security-Policy has nothing to forbid.
"use strict";

const zooCharts = (() => {
  const HEIGHT = 150, LEFT = 44, RIGHT = 6, TOP = 8, BOTTOM = 18;

  function svg(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function html(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // A round number at or above n: 1, 2 or 5 times a power of ten.
  function roundUp(n) {
    const power = 10 ** Math.floor(Math.log10(n));
    return [1, 2, 5, 10].map((step) => step * power).find((limit) => limit >= n * 0.999);
  }

  function linear(lowest, highest, ticks) {
    const scale = (value) => (value - lowest) / (highest - lowest);
    scale.ticks = Array.from({length: ticks + 1}, (_, i) => lowest + (i * (highest - lowest)) / ticks);
    return scale;
  }

  function logarithmic(lowest, highest) {
    const first = Math.floor(Math.log10(lowest)), last = Math.max(first + 1, Math.ceil(Math.log10(highest)));
    const scale = (value) => (Math.log10(value) - first) / (last - first);
    scale.ticks = Array.from({length: last - first + 1}, (_, i) => 10 ** (first + i));
    return scale;
  }

  // Runs of points, without the gaps between them.
  function runs(points) {
    const found = [];
    let open = false;
    for (const point of points) {
      if (point === null) {
        open = false;
      } else {
        if (!open) found.push([]);
        found[found.length - 1].push(point);
        open = true;
      }
    }
    return found;
  }

  // series: [{name, kind: a class, values: [number or null], area, dashed}]; times in seconds.
  function line(place, {label, times, span, series, scale, format}) {
    const WIDTH = Math.max(220, place.clientWidth); // text stays as large as the page's
    const now = times.length ? times[times.length - 1] : 0;
    const x = (time) => LEFT + (WIDTH - LEFT - RIGHT) * (1 - (now - time) / span);
    const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * Math.min(1, Math.max(0, scale(value)));
    const drawn = svg("svg", {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label});
    for (const tick of scale.ticks) {
      const at = y(tick).toFixed(1);
      drawn.append(
        svg("line", {class: "zoo-grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at}),
        svg("text", {class: "zoo-axis zoo-axis-right", x: LEFT - 6, y: +at + 3.5}, format(tick)),
      );
    }
    drawn.append(
      svg("text", {class: "zoo-axis", x: LEFT, y: HEIGHT - 4}, `${+(span / 60).toFixed(1)} min ago`),
      svg("text", {class: "zoo-axis zoo-axis-right", x: WIDTH - RIGHT, y: HEIGHT - 4}, "now"),
    );
    for (const one of series) {
      const points = one.values.map((value, i) => (value === null ? null : [x(times[i]), y(value)]));
      for (const run of runs(points)) {
        const path = run.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`);
        if (run.length === 1) {
          drawn.append(svg("circle", {class: `zoo-dot ${one.kind}`, cx: run[0][0], cy: run[0][1], r: 2}));
          continue;
        }
        if (one.area) {
          const floor = HEIGHT - BOTTOM;
          const area = `M${run[0][0]},${floor} L${path.join(" ")} L${run[run.length - 1][0]},${floor} Z`;
          drawn.append(svg("path", {class: `zoo-area ${one.kind}`, d: area}));
        }
        const dashed = one.dashed ? " zoo-dashed" : "";
        drawn.append(svg("path", {class: `zoo-series ${one.kind}${dashed}`, d: `M${path.join(" L")}`}));
      }
    }
    const legend = html("div", {class: "zoo-legend"});
    for (const one of series)
      legend.append(html("span", {class: `${one.kind}${one.dashed ? " zoo-dashed" : ""}`}, one.name));
    place.replaceChildren(drawn, legend);
  }

  // The logs as rows of cells: how much of each would be served, and how much is dead.
  function map(place, logs, formatSize) {
    const wide = 960, left = 78, right = 70, tall = 22, gap = 12;
    const cell = (wide - left - right) / 64;
    const height = logs.length * (tall + gap);
    const drawn = svg("svg", {
      viewBox: `0 0 ${wide} ${height}`, role: "img",
      "aria-label": "How much of each part of the logs would be served",
    });
    logs.forEach((log, row) => {
      const top = row * (tall + gap) + 4, each = log.size / 64;
      drawn.append(svg("text", {class: "zoo-label", x: 0, y: top + 15}, log.name));
      drawn.append(svg("text", {class: "zoo-label", x: wide - right + 8, y: top + 15}, formatSize(log.size)));
      for (let i = 0; i < 64; i++) {
        const x = (left + i * cell).toFixed(2), width = (cell - 1.5).toFixed(2);
        drawn.append(svg("rect", {class: "zoo-bed", x, y: top, width, height: tall, rx: 1.5}));
        const dead = Math.min(1, log.other[i] / each), fresh = Math.min(1 - dead, log.fresh[i] / each);
        if (fresh > 0.005)
          drawn.append(svg("rect", {
            class: "zoo-cell zoo-hit", x, width, rx: 1.5, y: top + tall * (1 - fresh), height: tall * fresh,
          }));
        if (dead > 0.005)
          drawn.append(svg("rect", {
            class: "zoo-cell zoo-dead", x, width, rx: 1.5, y: top + tall * (1 - fresh - dead), height: tall * dead,
          }));
      }
      const head = left + log.head * 64 * cell;
      drawn.append(svg("rect", {class: "zoo-head", x: head - 1, y: top - 3, width: 2, height: tall + 6}));
    });
    const legend = html("div", {class: "zoo-legend"},
      html("span", {class: "zoo-hit"}, "would be served"),
      html("span", {class: "zoo-dead"}, "invalidated or expired"),
      html("span", {}, "| the head: the next entry goes here, over the oldest"));
    place.replaceChildren(drawn, legend);
  }

  return {html, line, linear, logarithmic, map, roundUp};
})();
