// Draws each <div class="chart" data-chart="URL" role="img" aria-label="…"> from the JSON at its URL:
//   {"title", "unit": "USD" | "s" | …, "kind": "bars" | "lines" | "points", "stacked": true (bars only, if at all),
//    "x": {"type": "time" | "category" | "number", "label", "unit", "values": [Unix seconds | strings | numbers]},
//    "series": [{"label", "values": [number | null, …], "x": [… of its own, for points and lines]}]}
// Times are of the zone that x.unit names ("UTC"), else of the browser. The same figures stand in a table beside it:
// without a script the page says all it has to.
(() => {
  const COLOURS = {
    light: { text: "#54606a", grid: "#e3e8eb", series: ["#0e7490", "#d97706", "#7c3aed", "#15803d", "#be185d", "#64748b"] },
    dark: { text: "#a7b4bd", grid: "#2f3b43", series: ["#2cb5c9", "#f0a63a", "#b79bff", "#5ecb86", "#f582b5", "#a8b3bd"] },
  };
  const WIDEST_BAR_PX = 48;
  const FONT = "12px system-ui, sans-serif";
  const known = new WeakSet();
  const shown = new Map(); // element → { chart, width (px), plot }
  const theme = () => COLOURS[document.documentElement.dataset.bsTheme] ?? COLOURS.light;

  // --- Figures as text
  const words = (value, digits) => Math.abs(value).toLocaleString("en", digits);

  function signed(value, unit, digits) {
    return (value < 0 ? "−" : "") + (unit === "USD" ? "$" : "") + words(value, digits);
  }
  function figure(value, unit) {
    if (value == null) return "–";
    if (unit === "USD") {
      return signed(value, unit, Math.abs(value) >= 1 ? { minimumFractionDigits: 2, maximumFractionDigits: 2 } : { maximumSignificantDigits: 3 });
    }
    return `${signed(value, unit, { maximumSignificantDigits: Math.abs(value) < 1000 ? 3 : 15 })} ${unit ?? ""}`.trim();
  }
  function ticks(unit) { // as many decimals as the step between two ticks has
    return (plot, splits, axis, space, step) => {
      let decimals = 0;
      while (decimals < 12 && Math.abs(Math.round(step * 10 ** decimals) / (step * 10 ** decimals) - 1) > 1e-6) decimals++;
      if (unit === "USD" && decimals) decimals = Math.max(2, decimals);
      const digits = step >= 1e4 ? { notation: "compact" } : { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
      return splits.map((value) => value == null ? null : signed(value, unit, digits));
    };
  }
  function clock(zone) {
    const as = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
    const [day, month, hour] = [as({ day: "numeric", month: "short" }), as({ month: "short", year: "numeric" }), as({ hour: "2-digit", minute: "2-digit" })];
    return {
      full: (seconds) => `${as({ dateStyle: "medium" }).format(seconds * 1e3)} ${hour.format(seconds * 1e3)}`.replace(" 00:00", ""),
      ticks: (plot, splits, axis, space, step) => splits.map((seconds, index) => {
        if (step >= 28 * 86400) return month.format(seconds * 1e3);
        const date = day.format(seconds * 1e3);
        if (step >= 86400) return date;
        const isNew = !index || date !== day.format(splits[index - 1] * 1e3);
        return hour.format(seconds * 1e3) + (isNew ? `\n${date}` : "");
      }),
    };
  }

  // --- From the JSON to what uPlot takes
  function columns({ kind, x, series }) { // [positions, values of series 1, …]; points are rows of their own, in order
    const positions = x.type === "category" ? x.values.map((_, index) => index) : x.values;
    if (kind !== "points" && !series.some((one) => one.x)) return [positions, ...series.map((one) => one.values)];
    const rows = series.flatMap((one, index) => one.values.map((y, row) => [(one.x ?? positions)[row], index, y]));
    rows.sort((a, b) => a[0] - b[0]);
    return [rows.map((row) => row[0]), ...series.map((_, index) => rows.map((row) => row[1] === index ? row[2] : null))];
  }
  function stack(values) { // [where each bar begins, where it ends] of each series
    let top = values[0].map(() => 0);
    return values.map((column) => {
      const bottom = top;
      top = column.map((value, row) => bottom[row] + (value ?? 0));
      return [bottom, top];
    });
  }
  function bars(index, count, xs, step, stacked) {
    const slots = (xs.at(-1) - xs[0]) / step + 1;
    const width = (plot) => (step / count) * Math.min(0.75, (WIDEST_BAR_PX * count * slots * devicePixelRatio) / plot.bbox.width);
    const place = (stacked ? 0 : index) - count / 2;
    return uPlot.paths.bars({
      disp: {
        x0: { unit: 1, values: (plot) => xs.map((x) => x + place * width(plot)) },
        size: { unit: 1, values: (plot) => [width(plot)] },
        ...(stacked && { y0: { unit: 1, values: () => stacked[index][0] }, y1: { unit: 1, values: () => stacked[index][1] } }),
      },
    });
  }
  function options(chart, [xs, ...values], width) {
    const { kind, x, unit } = chart;
    const { text, grid, series: colours } = theme();
    const [isBars, isCategory, isTime] = [kind === "bars", x.type === "category", x.type === "time"];
    const stacked = isBars && chart.stacked && stack(values);
    const heights = (stacked ? stacked.map(([, tops]) => tops) : values).flat().filter((value) => value != null);
    const [low, high] = heights.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [0, 0]);
    const gaps = xs.slice(1).map((value, index) => value - xs[index]).filter((gap) => gap > 0);
    const step = isCategory ? 1 : gaps.reduce((least, gap) => Math.min(least, gap), gaps[0] ?? (isTime ? 86400 : 1));
    const margin = isBars || isCategory ? step / 2 : kind === "points" ? (xs.at(-1) - xs[0]) * 0.04 || 1 : 0;
    const zone = isTime && /^(UTC|\w+\/.+)$/.test(x.unit ?? "") ? x.unit : undefined;
    const time = clock(zone);
    const slot = (width - 80) / xs.length;
    const isTight = isCategory && Math.max(...x.values.map((label) => label.length)) * 7 > slot;
    const short = (label) => label.length > 15 && isTight ? `${label.slice(0, 14)}…` : label;
    const every = Math.ceil((isCategory ? 20 : 50) / slot); // a label for every so many bars, or they would touch
    const longest = (labels) => Math.max(0, ...(labels ?? []).map((label) => label?.length ?? 0));
    const axis = { stroke: text, font: FONT, labelFont: FONT, labelSize: 18, ticks: { stroke: grid }, grid: { stroke: grid } };
    return {
      width, height: width < 500 ? 220 : 270, title: chart.title,
      ...(zone && { tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), zone) }),
      cursor: { y: false, drag: { x: false, y: false }, points: { show: !isBars } },
      scales: {
        x: { time: isTime, ...((margin || xs.length > 1) && { range: [xs[0] - margin, xs.at(-1) + margin] }) },
        y: { range: low === high ? [0, 1] : [low * 1.08, high * 1.08] },
      },
      axes: [
        {
          ...axis, ...(!isTight && { label: x.unit ? `${x.label} (${x.unit})` : x.label }), space: isTime ? 60 : 50,
          grid: { ...axis.grid, show: !isBars }, rotate: isTight ? 45 : 0,
          size: (plot, labels) => isTight ? 22 + 5 * longest(labels) : labels?.some((label) => label?.includes("\n")) ? 50 : 36,
          ...((isBars || isCategory) && { splits: () => xs.filter((_, index) => index % every === 0) }),
          values: isCategory ? (plot, splits) => splits.map((index) => short(x.values[index]))
            : isTime ? (...all) => time.ticks(...all.slice(0, 4), isBars ? step : all[4]) : ticks(x.unit),
        },
        {
          ...axis, values: ticks(unit), ...(unit && unit !== "USD" && { label: unit }),
          size: (plot, labels) => 20 + 7 * longest(labels),
        },
      ],
      series: [
        {
          label: x.label,
          value: (plot, value) => value == null ? "–" : isCategory ? x.values[value] : isTime ? time.full(value) : figure(value, x.unit),
        },
        ...chart.series.map((one, index) => {
          const colour = colours[index % colours.length];
          return {
            label: one.label, stroke: colour, value: (plot, value) => figure(value, unit), spanGaps: Boolean(one.x),
            ...(isBars && { fill: colour, width: 0, points: { show: false }, paths: bars(index, stacked ? 1 : values.length, xs, step, stacked) }),
            ...(kind === "lines" && { width: 2, points: { show: xs.length < 60, size: 6, fill: colour } }),
            ...(kind === "points" && { paths: () => null, points: { show: true, size: 7, fill: `${colour}99` } }),
          };
        }),
      ],
    };
  }

  // --- On the page
  function say(element, sentence) {
    const note = document.createElement("p");
    note.className = "chart-note";
    note.textContent = sentence;
    element.replaceChildren(note);
  }
  function draw(element) {
    const entry = shown.get(element);
    entry.plot?.destroy();
    const data = columns(entry.chart);
    if (data.slice(1).every((values) => values.every((value) => value == null))) return say(element, "Nothing yet");
    element.replaceChildren();
    entry.plot = new uPlot(options(entry.chart, data, entry.width), data, element);
  }
  const sizes = new ResizeObserver((entries) => requestAnimationFrame(() => entries.forEach(({ target }) => {
    const entry = shown.get(target);
    if (!target.isConnected) { // htmx has swapped it away
      sizes.unobserve(target);
      entry?.plot?.destroy();
      shown.delete(target);
    } else if (target.clientWidth && entry.width !== target.clientWidth) { // it has no width while it is hidden
      entry.width = target.clientWidth;
      draw(target);
    }
  })));
  async function load(element) {
    known.add(element);
    try {
      const answer = await fetch(element.dataset.chart, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(answer.status);
      shown.set(element, { chart: await answer.json(), width: 0 });
      sizes.observe(element);
    } catch {
      say(element, "The figures of this chart could not be loaded.");
    }
  }
  function find(root) {
    const found = [...root.querySelectorAll("[data-chart]"), ...(root.matches("[data-chart]") ? [root] : [])];
    found.filter((element) => !known.has(element)).forEach(load);
  }
  find(document.body);
  document.addEventListener("htmx:load", (event) => find(event.target));
  document.addEventListener("themechange", () => shown.forEach((entry, element) => entry.width && draw(element)));
})();
