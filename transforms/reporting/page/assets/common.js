"use strict";
/**
 * What the sections share: the report's data, numbers as text, elements, tables and charts.
 *
 * Everything in the data may come from strangers (names of files, messages of errors). It reaches
 * the page as text nodes and attributes only, never as HTML.
 *
 * @typedef {{key: string, name: string, kind: "class"|"indicator", share: boolean,
 *            colour: number[]|null, description: string, source: string}} Measure
 * @typedef {{id: string, image: string, group: string, width: number, height: number,
 *            position: number[]|null, captured_at: string|null, heading: number|null,
 *            projection: string|null, confidence: number|null, values: (number|null)[],
 *            reasons: string[], photo: boolean}} Photo
 * @typedef {{title: string, text: function(Object): (string|Node),
 *            sort?: function(Object): (string|number|null)}} Column  sort: only columns with it can
 *            be sorted; a column is set as numbers where it gives numbers
 */
globalThis.citymaskPage = (() => {
  const FORMAT = 1;
  const report = globalThis.citymaskReport;
  const find = (id) => document.getElementById(id);
  if (report?.format !== FORMAT) {
    find("missing").hidden = false;
    for (const section of document.querySelectorAll("section")) section.hidden = true;
    throw new Error("data.js is missing or of another format");
  }

  const whole = new Intl.NumberFormat();
  const decimal = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3 });
  const percentage = new Intl.NumberFormat(undefined, {
    style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1,
  });
  const MINUTE = { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" };
  const localTime = new Intl.DateTimeFormat(undefined, { ...MINUTE, timeZoneName: "short" });
  const cameraTime = new Intl.DateTimeFormat(undefined, MINUTE);
  const SMALLEST_SHARE = 0.001;
  const NONE = "–";
  const FONT_SIZE = 13;

  /** A share as "12.3 %". */
  function percent(share) {
    if (!Number.isFinite(share)) return NONE;
    if (share > 0 && share < SMALLEST_SHARE) return `< ${percentage.format(SMALLEST_SHARE)}`;
    return percentage.format(share);
  }

  const count = (n) => (Number.isFinite(n) ? whole.format(n) : NONE);
  const ratio = (x) => (Number.isFinite(x) ? decimal.format(x) : NONE);

  /** A time of the day in the reader's time zone; without an offset, as the camera wrote it. */
  function time(iso) {
    if (!iso) return NONE;
    return (/(Z|[+-]\d\d:?\d\d)$/.test(iso) ? localTime : cameraTime).format(new Date(iso));
  }

  const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many}`;

  /** A value of a measure as text. */
  const value = (measure, x) => (report.measures[measure].share ? percent(x) : ratio(x));

  /** A colour for CSS and for ECharts, which knows the form with commas only. */
  const css = (colour) => `rgb(${colour.join(", ")})`;

  /**
   * A new element.
   * @param {string} tag
   * @param {Object<string, *>} properties  its DOM properties; with a hyphen, attributes
   * @param {...(string|Node)} children  strings become text
   */
  function element(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, content] of Object.entries(properties)) {
      if (name.includes("-") || name === "role") node.setAttribute(name, content);
      else node[name] = content;
    }
    node.append(...children);
    return node;
  }

  /** A small square in a class's colour. */
  function swatch(colour) {
    const node = element("span", { className: "swatch", "aria-hidden": "true" });
    if (colour) node.style.background = css(colour);
    return node;
  }

  /**
   * A sortable table with caption, in a region that scrolls.
   * @param {string} caption
   * @param {Column[]} columns  the first one names the row
   * @param {Object[]} rows
   */
  function table(caption, columns, rows) {
    const numeric = columns.map((column) =>
      Boolean(column.sort) && rows.some((row) => typeof column.sort(row) === "number"));
    const head = columns.map((column, c) => element(
      "th", { scope: "col", className: (numeric[c] ? "number" : "") + (column.sort ? "" : " no-sort") },
      column.sort ? element("button", { type: "button" }, column.title) : column.title));
    const body = rows.map((row) => element("tr", {}, ...columns.map((column, c) => {
      const cell = element(c ? "td" : "th", { className: numeric[c] ? "number" : "" }, column.text(row));
      if (!c) cell.scope = "row";
      if (column.sort) cell.dataset.sort = column.sort(row) ?? "";
      return cell;
    })));
    return element(
      "div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
      element("table", { className: "sortable n-last" }, element("caption", {}, caption),
        element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
  }

  /** A list of terms and what they are. */
  function definitions(entries, list = element("dl")) {
    list.replaceChildren(...entries.flatMap(([term, text]) => [
      element("dt", {}, term), element("dd", {}, text)]));
    return list;
  }

  /** Offer all measures, or those of some kind, in a <select>; its value is a measure's position. */
  function offerMeasures(select, chosen) {
    for (const [kind, label] of [["indicator", "Indicators"], ["class", "Classes"]]) {
      const options = report.measures.flatMap((measure, position) => measure.kind === kind
        ? [element("option", { value: position }, measure.name)] : []);
      if (options.length) select.append(element("optgroup", { label }, ...options));
    }
    select.value = chosen;
  }

  /** What a measure means, in a sentence, and where it comes from. */
  function about(position) {
    const { name, kind, description, source } = report.measures[position];
    const meaning = description || (kind === "class"
      ? `Share of the photo that is ${name}.` : "");
    return source ? `${meaning} Source: ${source}` : meaning;
  }

  /** The measure to begin with: the first indicator, else the class with most pixels. */
  function firstMeasure() {
    const indicator = report.measures.findIndex((measure) => measure.kind === "indicator");
    return indicator >= 0 ? indicator : Math.max(classesByShare()[0], 0);
  }

  /** Positions of the classes, largest mean share first. */
  function classesByShare() {
    const shares = report.totals.values;
    return report.classes.map((_, c) => c).sort((a, b) => (shares[b] ?? 0) - (shares[a] ?? 0));
  }

  /** The photo blended with its mask, small. */
  const thumbnail = (photo) =>
    element("img", { className: "thumbnail", loading: "lazy", alt: "", src: `photos/${photo.id}.overlay.jpg` });

  /** A name in one or two lines: what comes last in a path, and the folders before it. */
  function named(path) {
    const cut = path.lastIndexOf("/") + 1;
    return [
      element("strong", { className: "name" }, path.slice(cut)),
      ...(cut ? [element("span", { className: "detail folder" }, path.slice(0, cut))] : []),
    ];
  }

  /** A photo in a list: a button that opens the viewer. */
  function card(photo, measure, also = []) {
    const lines = [
      `${report.measures[measure].name}: ${value(measure, photo.values[measure])}`, ...also,
      ...(photo.photo ? [] : ["The photo is gone: its mask alone"]),
    ];
    const button = element(
      "button", { type: "button", title: photo.image }, thumbnail(photo), ...named(photo.image),
      ...lines.map((line) => element("span", { className: "detail" }, line)));
    button.addEventListener("click", () => citymaskPage.openPhoto(photo.id));
    return element("li", {}, button);
  }

  const charts = [];
  const paper = {
    surface: "#ffffff", text: "#1d2733", muted: "#55606e", line: "#d5dae0", accent: "#1f6f8b", alarm: "#b3261e",
  };

  function screenTheme() {
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(
      Object.keys(paper).map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  function redraw(theme) {
    for (const { chart, option } of charts) chart.setOption(option(theme), { notMerge: true });
  }

  /**
   * A chart that follows its box's width, the colour scheme and the printer.
   * @param {HTMLElement} box
   * @param {string} description  the chart in words, for those who do not see it
   * @param {function(Object): Object} option  from the colours of the page to ECharts' option
   */
  function draw(box, description, option) {
    let entry = charts.find((known) => known.box === box);
    if (!entry) {
      const chart = echarts.init(box);
      new ResizeObserver(() => chart.resize()).observe(box);
      entry = { box, chart };
      charts.push(entry);
    }
    entry.option = (theme) => ({
      animation: false,
      textStyle: { fontFamily: getComputedStyle(box).fontFamily, fontSize: FONT_SIZE, color: theme.text },
      aria: { enabled: true, label: { description }, decal: { show: true } },
      ...option(theme),
    });
    entry.chart.resize();
    entry.chart.setOption(entry.option(screenTheme()), { notMerge: true });
    box.setAttribute("role", "img");
    return entry.chart;
  }

  /** A tooltip drawn as text on the canvas. */
  const tooltip = (theme, formatter, more = {}) => ({
    renderMode: "richText", confine: true, formatter, backgroundColor: theme.surface, borderColor: theme.muted,
    textStyle: { color: theme.text, fontSize: FONT_SIZE }, ...more,
  });

  /** An axis in the page's colours. */
  const axis = (theme, more = {}) => ({
    axisLine: { lineStyle: { color: theme.line } },
    axisTick: { show: false },
    splitLine: { lineStyle: { color: theme.line } },
    nameTextStyle: { color: theme.muted, fontSize: FONT_SIZE },
    ...more,
    axisLabel: { color: theme.muted, fontSize: FONT_SIZE, ...more.axisLabel },
  });

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw(screenTheme()));
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    redraw(paper);
  });
  addEventListener("afterprint", () => redraw(screenTheme()));

  /** From here on, images may come from beside the page and from the map's tile server alone. */
  function restrictImages() {
    const { tiles } = report.map ?? {};
    const server = tiles && new URL(tiles.url.replace("{s}", "*").replace(/{\w+}/g, "0"), location).origin;
    document.head.append(element("meta", {
      httpEquiv: "Content-Security-Policy",
      content: `img-src 'self' file: data: ${server && server !== "null" ? server : ""}`,
    }));
  }

  restrictImages();
  const { done, failed } = report.images;
  document.title = `${report.output}: citymask report`;
  find("title").textContent = report.output;
  find("version").textContent = report.citymask;
  find("made").textContent = [
    plural(done, "photo", "photos"), `${count(failed)} failed`,
    `model ${report.model.name}`, time(report.created_at),
  ].join(" · ");

  return {
    report, find, percent, count, ratio, time, plural, value, css, element, swatch, table, definitions,
    offerMeasures, about, firstMeasure, classesByShare, thumbnail, named, card, draw, tooltip, axis,
    photos: new Map(report.gallery.map((photo) => [photo.id, photo])),
    reducedMotion: matchMedia("(prefers-reduced-motion: reduce)").matches,
  };
})();
