// Draws the plots of a report from the JSON in the page; uPlot does the drawing.
(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const paperWidth = 680; // CSS pixels of a page of A4 between its margins
  let charts = [];

  // color reads a colour of the style sheet, which knows of light and dark.
  const color = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  function digits(v) {
    return v < 9.995 ? +v.toFixed(2) : v < 99.95 ? +v.toFixed(1) : Math.round(v).toLocaleString("en");
  }
  // time writes microseconds.
  function time(us) {
    if (us == null) return "–";
    if (us < 1) return digits(us * 1e3) + " ns";
    if (us < 999.5) return digits(us) + " µs";
    if (us < 999.5e3) return digits(us / 1e3) + " ms";
    return digits(us / 1e6) + " s";
  }
  const rate = (v) => (v == null ? "–" : digits(v) + "/s");
  const clock = (v) => (v == null ? "–" : v.toFixed(2) + " s");
  // percent writes the percentile at which there are so many nines.
  function percent(nines) {
    return +(100 * (1 - Math.pow(10, -nines))).toFixed(Math.max(0, Math.ceil(nines) - 1)) + " %";
  }

  function axis(more) {
    return Object.assign({
      stroke: color("soft"), font: "12px system-ui, sans-serif",
      grid: { stroke: color("grid"), width: 1 }, ticks: { stroke: color("grid"), width: 1, size: 5 },
    }, more);
  }

  const yWidth = 68, xHeight = 34; // pixels for the axes; the same for all, so that the plots lie below each other
  const labelRow = 17; // pixels for a row of labels above a plot
  const labelRows = 2;

  // faultMarks shades the time in which a fault was in effect and writes its number and name above, as far as there is room.
  function faultMarks() {
    const dpr = () => devicePixelRatio || 1;
    // within lets paint draw each fault, but not beyond the plot.
    function within(u, paint) {
      const ctx = u.ctx, b = u.bbox;
      ctx.save();
      ctx.beginPath();
      ctx.rect(b.left, b.top, b.width, b.height);
      ctx.clip();
      for (const f of data.faults) paint(ctx, b, u.valToPos(f.at, "x", true), f);
      ctx.restore();
    }
    const bands = (u) => within(u, (ctx, b, from, f) => {
      if (f.healed == null) return;
      ctx.fillStyle = color("mark-back");
      ctx.fillRect(from, b.top, Math.max(u.valToPos(f.healed, "x", true) - from, 1), b.height);
    });
    const lines = (u) => within(u, (ctx, b, from) => {
      ctx.fillStyle = color("mark");
      ctx.fillRect(from - dpr() / 2, b.top, dpr(), b.height);
    });
    function labels(u) {
      const ctx = u.ctx, b = u.bbox, end = Array(labelRows).fill(-Infinity);
      ctx.save();
      ctx.font = 12 * dpr() + "px system-ui, sans-serif";
      ctx.fillStyle = color("mark");
      ctx.textAlign = "left";
      ctx.textBaseline = "middle";
      data.faults.forEach((f, i) => {
        const x = u.valToPos(f.at, "x", true);
        if (x < b.left || x > b.left + b.width) return;
        for (const text of [i + 1 + " " + f.label, String(i + 1)]) {
          const width = ctx.measureText(text).width;
          const left = Math.min(x, b.left + b.width - width);
          const row = end.findIndex((e) => e < left);
          if (row < 0) continue;
          end[row] = left + width + 8 * dpr();
          ctx.fillText(text, left, b.top - (row + 0.5) * labelRow * dpr() - 2 * dpr());
          return;
        }
      });
      ctx.restore();
    }
    return { hooks: { drawClear: bands, drawAxes: lines, draw: labels } };
  }

  function draw(id, height, options, columns) {
    const place = document.getElementById(id);
    place.textContent = "";
    if (columns[0].length < 2) {
      const p = document.createElement("p");
      p.className = "empty";
      p.textContent = columns[0].length ? "There is one interval only: see the table." : "Nothing was measured.";
      place.append(p);
      return;
    }
    const width = root.classList.contains("paper") ? paperWidth : place.clientWidth;
    charts.push({ place, chart: new uPlot(Object.assign({ width, height }, options), columns, place) });
  }

  function line(label, stroke, value, more) {
    return Object.assign({ label, stroke, width: 1.75, value: (u, v) => value(v), points: { show: false } }, more);
  }

  // wholeRun lets a plot that is not zoomed begin and end with the run, not with the middle of its first and last interval.
  function wholeRun(u, min, max) {
    const at = data.series.at;
    return min <= at[0] && max >= at[at.length - 1] ? [0, data.length] : [min, max];
  }

  // overTime are the options of a plot whose x is the time of the run; the cursors of all of these move together.
  function overTime(series, y, scale) {
    return {
      scales: { x: { time: false, range: wholeRun }, y: scale },
      cursor: { sync: { key: "time" }, drag: { x: true, y: false } },
      padding: [data.faults.length ? labelRows * labelRow + 6 : 10, 14, 0, 0],
      axes: [axis({ values: (u, vs) => vs.map((v) => +v.toFixed(3) + " s"), space: 60, size: xHeight }), axis(y)],
      plugins: [faultMarks()],
      series: [{ label: "at", value: (u, v) => clock(v) }, ...series],
    };
  }

  function throughput() {
    const s = data.series, columns = [s.at], series = [];
    const add = (values, l) => { columns.push(values); series.push(l); };
    if (s.asked.some((v) => v != null)) {
      add(s.asked, line("asked", color("c7"), rate, { dash: [6, 4], width: 1.25 }));
    }
    add(s.rate, line("good", color("c1"), rate, { fill: color("c1") + "22" }));
    add(s.failed, line("failed", color("c2"), rate, { fill: color("c2") + "44" }));
    const y = { values: (u, vs) => vs.map((v) => v.toLocaleString("en") + "/s"), size: yWidth };
    draw("throughput", 300, overTime(series, y, { range: (u, min, max) => [0, Math.max(max * 1.08, 1)] }), columns);
  }

  function latency() {
    const s = data.series;
    const series = [
      line("max", color("c7"), time, { width: 1 }),
      line("p99.9", color("c4"), time),
      line("p99", color("c2"), time),
      line("p50", color("c1"), time, { width: 2.25 }),
    ];
    const measured = s.p50.some((v) => v != null);
    const columns = measured ? [s.at, s.max, s.p999, s.p99, s.p50] : [[]];
    draw("latency", 320, overTime(series, timeAxis(), logarithmic), columns);
  }

  const logarithmic = {
    distr: 3,
    // A decade at least, so that there are ticks to read.
    range: (u, min, max) => {
      if (!(min > 0)) return [1, 1000];
      const low = Math.pow(10, Math.floor(Math.log10(min) * 2) / 2), high = Math.pow(10, Math.ceil(Math.log10(max) * 2) / 2);
      return [low, Math.max(high, low * 10)];
    },
  };

  // timeAxis has a line for 1 to 9 of each decade, and a text at some of them.
  function timeAxis() {
    const decades = (u) => Math.log10(u.scales.y.max / u.scales.y.min);
    return {
      size: yWidth,
      filter: (u, splits) => splits,
      splits: (u) => {
        const { min, max } = u.scales.y, splits = [];
        for (let decade = Math.pow(10, Math.floor(Math.log10(min))); decade <= max; decade *= 10) {
          for (let n = 1; n < 10; n++) if (n * decade >= min * 0.999 && n * decade <= max * 1.001) splits.push(n * decade);
        }
        return splits;
      },
      values: (u, splits) => splits.map((v) => {
        const first = Math.round(v / Math.pow(10, Math.floor(Math.log10(v * 1.001))));
        return first === 1 || (decades(u) <= 3 && (first === 2 || first === 5)) ? time(v) : "";
      }),
    };
  }

  function percentiles() {
    const hues = 8, dashes = [[], [3, 3], [10, 4, 3, 4]];
    let phases = 0, baselines = 0;
    const series = data.curves.map((c, i) => {
      const n = c.baseline ? baselines++ : phases++;
      return line(c.name, color("c" + (i % hues + 1)), time, {
        dash: c.baseline ? [8, 5] : dashes[Math.floor(n / hues) % dashes.length],
        show: c.baseline || n < hues, // the others on a click
        spanGaps: true,
      });
    });
    const ticks = [Math.log10(2)];
    for (let n = 1; n <= 7; n++) ticks.push(n);
    const columns = data.curves.length ? [data.nines, ...data.curves.map((c) => c.y)] : [[]];
    draw("percentiles", 340, {
      scales: { x: { time: false }, y: logarithmic },
      cursor: { drag: { x: true, y: false } },
      padding: [10, 22, 0, 0],
      axes: [
        axis({ size: xHeight, splits: (u) => ticks.filter((n) => n >= u.scales.x.min && n <= u.scales.x.max), values: (u, vs) => vs.map(percent) }),
        axis(timeAxis()),
      ],
      series: [{ label: "percentile", value: (u, v) => (v == null ? "–" : percent(v)) }, ...series],
    }, columns);
  }

  function drawAll() {
    for (const c of charts) c.chart.destroy();
    charts = [];
    throughput();
    latency();
    percentiles();
  }

  function resize() {
    if (root.classList.contains("paper")) return;
    for (const c of charts) {
      const width = c.place.clientWidth;
      if (width && width !== c.chart.width) c.chart.setSize({ width, height: c.chart.height });
    }
  }

  function paper(on) {
    root.classList.toggle("paper", on);
    drawAll();
  }

  drawAll();
  new ResizeObserver(resize).observe(document.querySelector("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => paper(true));
  addEventListener("afterprint", () => paper(false));
})();
