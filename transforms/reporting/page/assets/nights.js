"use strict";
/** The nights: runs over time, drift, failures, settings and the model. */
(() => {
  const page = citymaskPage;
  const { report, find, element } = page;
  const DRIFT_CLASSES = 8;
  const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "emptyCircle", "emptyRect", "emptyTriangle"];
  const { nights } = report;

  const failedIn = (night) => night.images.failed ?? 0;
  const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  const labels = nights.map((night) => day.format(new Date(night.started_at)));

  function legend(theme, more = {}) {
    return { top: 0, type: "scroll", textStyle: { color: theme.text }, pageTextStyle: { color: theme.text }, ...more };
  }

  function showRuns() {
    const done = nights.reduce((sum, night) => sum + night.images.done, 0);
    const failed = nights.reduce((sum, night) => sum + failedIn(night), 0);
    const last = nights.at(-1);
    page.draw(find("runs-chart"),
      `Photos done and failed, and photos per second, in each of ${page.plural(nights.length, "run", "runs")}: `
      + `${page.count(done)} done and ${page.count(failed)} failed in all; the last run did `
      + `${page.ratio(last.images_per_second)} photos per second.`,
      (theme) => ({
        legend: legend(theme),
        grid: { left: 8, right: 8, top: 64, bottom: 8, containLabel: true },
        tooltip: page.tooltip(theme, (items) => [
          page.time(nights[items[0].dataIndex].started_at),
          ...items.map((item) => `${item.seriesName}: ${page.ratio(item.value)}`),
        ].join("\n"), { trigger: "axis" }),
        xAxis: page.axis(theme, { type: "category", data: labels, axisLabel: { hideOverlap: true } }),
        yAxis: [
          page.axis(theme, {
            type: "value", name: "photos", minInterval: 1, axisLabel: { formatter: (n) => page.count(n) } }),
          page.axis(theme, { type: "value", name: "photos/s", splitLine: { show: false } }),
        ],
        series: [
          { name: "done", type: "bar", stack: "photos", barMaxWidth: 48, itemStyle: { color: theme.accent },
            data: nights.map((night) => night.images.done) },
          { name: "failed", type: "bar", stack: "photos", barMaxWidth: 48, itemStyle: { color: theme.alarm },
            data: nights.map(failedIn) },
          { name: "photos per second", type: "line", yAxisIndex: 1, symbol: "diamond", symbolSize: 9,
            lineStyle: { type: "dashed" }, color: theme.text,
            data: nights.map((night) => night.images_per_second) },
        ],
      }));
  }

  function showDrift() {
    const alarmed = nights.flatMap((night, n) => (night.alarms.length ? [n] : []));
    find("alarms-about").textContent = alarmed.length
      ? `${page.plural(alarmed.length, "run", "runs")} with an alarm: marked by an upright line, and told in the table of all runs.`
      : "No run raised an alarm.";
    const classes = page.classesByShare();
    const selected = Object.fromEntries(
      classes.map((c, rank) => [report.classes[c].name, rank < DRIFT_CLASSES]));
    page.draw(find("drift-chart"),
      `Line chart of the share of each class in each of ${page.plural(nights.length, "run", "runs")}. `
      + `${alarmed.length ? `Alarms: ${alarmed.map((n) => labels[n]).join(", ")}.` : "No alarms."}`,
      (theme) => ({
        legend: legend(theme, { selected }),
        grid: { left: 8, right: 24, top: 64, bottom: 8, containLabel: true },
        tooltip: page.tooltip(theme, (items) => [
          page.time(nights[items[0].dataIndex].started_at),
          ...items.filter((item) => item.value !== undefined && item.value !== null)
            .map((item) => `${item.seriesName}: ${page.percent(item.value)}`),
        ].join("\n"), { trigger: "axis" }),
        xAxis: page.axis(theme, { type: "category", data: labels, boundaryGap: true, axisLabel: { hideOverlap: true } }),
        yAxis: page.axis(theme, {
          type: "value", name: "share", axisLabel: { formatter: (x) => page.percent(x) } }),
        series: classes.map((c, rank) => ({
          name: report.classes[c].name, type: "line", symbol: SYMBOLS[rank % SYMBOLS.length], symbolSize: 8,
          color: page.css(report.classes[c].colour), emphasis: { disabled: true },
          itemStyle: { borderColor: theme.text, borderWidth: 0.5 },
          data: nights.map((night) => night.shares?.[c] ?? null),
          markLine: rank ? undefined : {
            symbol: "none", silent: true, lineStyle: { color: theme.alarm, type: "solid", width: 2 },
            label: { formatter: "alarm", color: theme.alarm },
            data: alarmed.map((n) => ({ xAxis: n })),
          },
        })),
      }));
    find("drift-details").append(page.table("Class shares of each run", [
      { title: "Run", sort: (night) => night.started_at, text: (night) => page.time(night.started_at) },
      ...classes.map((c) => ({
        title: report.classes[c].name, sort: (night) => night.shares?.[c] ?? null,
        text: (night) => page.percent(night.shares?.[c]),
      })),
    ], nights));
  }

  function showAllRuns() {
    find("runs").append(page.table("All runs", [
      { title: "Started", sort: (night) => night.started_at, text: (night) => page.time(night.started_at) },
      { title: "Done", sort: (night) => night.images.done, text: (night) => page.count(night.images.done) },
      { title: "Failed", sort: failedIn, text: (night) => page.count(failedIn(night)) },
      { title: "Photos/s", sort: (night) => night.images_per_second, text: (night) => page.ratio(night.images_per_second) },
      { title: "Seconds", sort: (night) => night.seconds, text: (night) => page.ratio(night.seconds) },
      { title: "Alarms", sort: (night) => night.alarms.join(" "), text: (night) => night.alarms.join(" ") || "none" },
      { title: "Ended early", sort: (night) => night.interrupted ?? "", text: (night) => night.interrupted ?? "no" },
      { title: "Run", sort: (night) => night.run_id, text: (night) => night.run_id },
    ], [...nights].reverse()));
  }

  function showFailures() {
    find("failures").append(report.failures.length
      ? page.table("Failures by reason", [
        { title: "Reason", sort: (failure) => failure.message, text: (failure) => failure.message },
        { title: "Stage", sort: (failure) => failure.stage, text: (failure) => failure.stage },
        { title: "Error", sort: (failure) => failure.error, text: (failure) => failure.error },
        { title: "Photos", sort: (failure) => failure.count, text: (failure) => page.count(failure.count) },
        {
          title: "Examples",
          text: (failure) => element("ul", { className: "plain" },
            ...failure.examples.map((image) => element("li", {}, image))),
        },
      ], report.failures)
      : element("p", {}, "No photo has failed."));
  }

  /** A setting as text or, where it is nested, as a list. */
  function text(setting) {
    if (setting === null || setting === undefined) return "none";
    if (typeof setting === "boolean") return setting ? "yes" : "no";
    if (typeof setting === "number") return Number.isInteger(setting) ? String(setting) : page.ratio(setting);
    if (Array.isArray(setting)) {
      return setting.length
        ? element("ul", { className: "plain" }, ...setting.map((entry) => element("li", {}, text(entry))))
        : "none";
    }
    if (typeof setting === "object") return outline(setting);
    return String(setting);
  }

  function outline(settings) {
    const entries = Object.entries(settings);
    if (!entries.length) return "none";
    return page.definitions(entries.map(([key, setting]) => [key.replaceAll("_", " "), text(setting)]));
  }

  function showSettings() {
    const { settings } = report;
    find("settings").append(settings
      ? page.definitions([
        ["run", settings.run_id], ["options", outline(settings.options)], ["versions", outline(settings.versions)],
      ])
      : element("p", {}, "Not known: there is no record of a run."));
  }

  function showModel() {
    const { model, totals } = report;
    const precisions = Object.entries(totals.precisions).map(([name, images]) => `${name}: ${page.count(images)}`);
    const { classes = [], ...metrics } = model.metrics;
    find("model").append(page.definitions([
      ["name", model.name], ["id", model.id], ["architecture", model.architecture],
      ["input", `${model.input[0]} × ${model.input[1]} pixels`],
      ["masks by precision", precisions.join(", ")],
      ["training", outline(model.training)], ["quality", outline(metrics)],
    ]));
    if (classes.length) {
      find("model").append(page.table("Quality of the model per class", [
        { title: "Class", sort: (entry) => entry.name, text: (entry) => entry.name },
        { title: "IoU", sort: (entry) => entry.iou, text: (entry) => page.ratio(entry.iou) },
      ], classes));
    }
  }

  if (nights.length) {
    showRuns();
    showDrift();
    showAllRuns();
  } else {
    find("nights-present").hidden = true;
    find("nights-absent").hidden = false;
  }
  showFailures();
  showSettings();
  showModel();
})();
