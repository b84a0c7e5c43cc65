"use strict";
/** The archive: counts, class shares, distributions, extremes and groups. */
(() => {
  const page = citymaskPage;
  const { report, find, element } = page;
  const CHART_CLASSES = 30;
  const COLUMN_CLASSES = 8;
  const ROW_HEIGHT = 26;

  function showCounts() {
    const { done, failed, skipped, positioned, unlike } = report.images;
    const figures = [
      [done, "done"], [failed, "failed"], [skipped, "skipped, done before"],
      [positioned, "with a position"],
      ...(unlike === null ? [] : [[unlike, "unlike those the model knows"]]),
    ];
    find("unlike-about").hidden = unlike === null;
    find("counts").append(...figures.map(([n, label]) => element(
      "li", {}, element("strong", {}, page.count(n)), ` ${label}`)));
  }

  function showShares() {
    const shares = report.totals.values;
    const shown = page.classesByShare().slice(0, CHART_CLASSES);
    const rest = report.classes.length - shown.length;
    const box = find("shares-chart");
    box.style.height = `${shown.length * ROW_HEIGHT + 20}px`;
    const words = shown.map((c) => `${report.classes[c].name} ${page.percent(shares[c])}`).join(", ");
    const others = rest ? ` ${page.plural(rest, "smaller class is", "smaller classes are")} in the table.` : "";
    page.draw(box, `Bar chart of mean class shares: ${words}.${others}`, (theme) => ({
      grid: { left: 8, right: 64, top: 4, bottom: 4, containLabel: true },
      tooltip: page.tooltip(theme, (item) => `${item.name}: ${page.percent(item.value)}`),
      xAxis: page.axis(theme, { type: "value", axisLabel: { show: false } }),
      yAxis: page.axis(theme, {
        type: "category", inverse: true, data: shown.map((c) => report.classes[c].name),
        axisLabel: { color: theme.text, width: 140, overflow: "truncate" },
      }),
      series: [{
        type: "bar", colorBy: "data", barCategoryGap: "22%",
        label: {
          show: true, position: "right", color: theme.text,
          formatter: (item) => page.percent(item.value),
        },
        data: shown.map((c) => ({
          value: shares[c],
          itemStyle: { color: page.css(report.classes[c].colour), borderColor: theme.muted },
        })),
      }],
    }));
    if (rest) box.after(element("p", { className: "hint" }, others.trim()));

    const { pixels, images } = report.totals;
    const all = pixels.reduce((sum, n) => sum + n, 0);
    find("shares-details").append(page.table("Class shares of the archive", [
      {
        title: "Class", sort: (c) => report.classes[c].name,
        text: (c) => element("span", {}, page.swatch(report.classes[c].colour), report.classes[c].name),
      },
      { title: "Mean share", sort: (c) => shares[c], text: (c) => page.percent(shares[c]) },
      { title: "Share of all pixels", sort: (c) => pixels[c] / all, text: (c) => page.percent(pixels[c] / all) },
      { title: "Pixels", sort: (c) => pixels[c], text: (c) => page.count(pixels[c]) },
      { title: "Photos that show it", sort: (c) => images[c], text: (c) => page.count(images[c]) },
    ], page.classesByShare()));
  }

  function showIndicators() {
    const positions = report.measures.flatMap((m, position) => (m.kind === "indicator" ? [position] : []));
    find("indicators").append(positions.length
      ? page.table("Indicators of the archive", [
        { title: "Indicator", sort: (m) => report.measures[m].name, text: (m) => report.measures[m].name },
        {
          title: "Mean", sort: (m) => report.totals.values[m],
          text: (m) => page.value(m, report.totals.values[m]),
        },
        { title: "Meaning", text: (m) => report.measures[m].description },
      ], positions)
      : element("p", {}, "None is defined for the classes of this model."));
  }

  function showDistribution(m) {
    const { name } = report.measures[m];
    const { edges, counts } = report.distributions[m];
    const spans = counts.map((_, b) => `${page.value(m, edges[b])} to ${page.value(m, edges[b + 1])}`);
    find("distribution-title").textContent = `Photos by ${name}`;
    const most = counts.indexOf(Math.max(...counts));
    const words = counts.length
      ? `Histogram of ${name} over ${page.plural(counts.reduce((sum, n) => sum + n, 0), "photo", "photos")}: `
        + `from ${page.value(m, edges[0])} to ${page.value(m, edges.at(-1))}, `
        + `most photos (${page.count(counts[most])}) at ${spans[most]}.`
      : `No photo has a value of ${name}.`;
    page.draw(find("distribution-chart"), words, (theme) => ({
      grid: { left: 8, right: 16, top: 30, bottom: 28, containLabel: true },
      tooltip: page.tooltip(theme, ([item]) =>
        `${spans[item.dataIndex]}: ${page.plural(item.value, "photo", "photos")}`, { trigger: "axis" }),
      xAxis: [
        { type: "category", data: spans, show: false },
        page.axis(theme, {
          type: "value", position: "bottom", min: 0, max: counts.length, minInterval: 1, name,
          nameLocation: "middle", nameGap: 30, splitLine: { show: false },
          axisTick: { show: true, lineStyle: { color: theme.line } },
          axisLabel: { formatter: (bin) => page.value(m, edges[bin]), hideOverlap: true },
        }),
      ],
      yAxis: page.axis(theme, {
        type: "value", name: "photos", minInterval: 1,
        axisLabel: { formatter: (n) => page.count(n) },
      }),
      series: [{ type: "bar", data: counts, barCategoryGap: "4%", itemStyle: { color: theme.accent } }],
    }));
    const details = find("distribution-details");
    details.replaceChildren(details.firstElementChild, page.table(`Photos by ${name}`, [
      { title: name, sort: (b) => edges[b], text: (b) => spans[b] },
      { title: "Photos", sort: (b) => counts[b], text: (b) => page.count(counts[b]) },
    ], counts.map((_, b) => b)));
  }

  function showExtremes(m) {
    const { name, kind } = report.measures[m];
    const words = kind === "class" ? { most: "most", least: "least" } : { most: "highest", least: "lowest" };
    for (const end of ["most", "least"]) {
      find(`${end}-title`).textContent = `Photos with the ${words[end]} ${name}`;
      const photos = report.extremes[m][end].flatMap((id) => page.photos.get(id) ?? []);
      find(end).replaceChildren(...photos.map((photo) => page.card(photo, m)));
    }
  }

  function showMeasure() {
    const measure = Number(find("archive-measure").value);
    find("measure-about").textContent = page.about(measure);
    showDistribution(measure);
    showExtremes(measure);
  }

  const columnChoices = () => {
    const indicators = report.measures.flatMap((m, i) => (m.kind === "indicator" ? [i] : []));
    const classes = page.classesByShare();
    return [
      indicators.length && ["Indicators", indicators],
      classes.length > COLUMN_CLASSES
        && [`The ${COLUMN_CLASSES} largest classes`, classes.slice(0, COLUMN_CLASSES)],
      ["All classes", classes],
    ].filter(Boolean);
  };

  function showGroups(measures) {
    const { rows } = report.groups;
    find("groups").replaceChildren(page.table("Groups: photos and mean values", [
      { title: "Group", sort: (group) => group.name, text: (group) => group.name },
      { title: "Photos", sort: (group) => group.images, text: (group) => page.count(group.images) },
      ...measures.map((m) => ({
        title: report.measures[m].name, sort: (group) => group.values[m],
        text: (group) => page.value(m, group.values[m]),
      })),
    ], rows));
  }

  function offerGroups() {
    const choices = columnChoices();
    const select = find("group-columns");
    select.append(...choices.map(([label], i) => element("option", { value: i }, label)));
    select.addEventListener("change", () => showGroups(choices[Number(select.value)][1]));
    showGroups(choices[0][1]);
    const { left_out: leftOut } = report.groups;
    if (leftOut) {
      find("groups-left-out").textContent =
        `${page.plural(leftOut, "smaller group is", "smaller groups are")} not shown.`;
    }
  }

  showCounts();
  showShares();
  showIndicators();
  page.offerMeasures(find("archive-measure"), page.firstMeasure());
  find("archive-measure").addEventListener("change", showMeasure);
  showMeasure();
  offerGroups();
})();
