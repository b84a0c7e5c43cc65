"use strict";
/**
 * The map: points or hexagons on a canvas, coloured by a measure.
 *
 * @typedef {{position: number[], cell: number[][]|null, name: string, images: number,
 *            values: (number|null)[], photo: string|null}} Feature
 */
(() => {
  const page = citymaskPage;
  const { report, find, element } = page;
  /** viridis, perceptually uniform, at 16 even steps (N. Smith, S. van der Walt, E. Firing; CC0). */
  const VIRIDIS = [
    "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
  ];
  const UNDEFINED_COLOUR = "#9aa0a6";
  const OUTLINE_COLOUR = "#1d2733";
  const MAX_ZOOM = 20;
  const LISTED = 50;
  /** The colours end at these quantiles, so that a few outliers do not swallow the rest. */
  const QUANTILES = [0.02, 0.98];

  if (!report.map) {
    find("map-absent").hidden = false;
    find("map-present").hidden = true;
    return;
  }
  const { features, bounds, tiles, kind } = report.map;
  const place = kind === "hexagons" ? "hexagon" : "photo";
  let measure = page.firstMeasure();
  let range = [0, 1];

  const map = L.map("map-box", {
    attributionControl: false,
    fadeAnimation: !page.reducedMotion,
    inertia: !page.reducedMotion,
    maxZoom: MAX_ZOOM,
    renderer: L.canvas({ padding: 0.3, tolerance: kind === "points" ? 3 : 0 }),
    zoomAnimation: !page.reducedMotion,
  });
  const box = map.getContainer();
  // Who scrolls down the page is not caught by the map: the wheel zooms once the map has the focus.
  map.scrollWheelZoom.disable();
  map.on("focus", () => map.scrollWheelZoom.enable());
  map.on("blur", () => map.scrollWheelZoom.disable());
  box.setAttribute("role", "application");
  box.setAttribute("aria-label", `Map of ${page.plural(features.length, place, `${place}s`)}`);
  box.setAttribute("aria-describedby", "map-help");
  const [south, west, north, east] = bounds;
  map.fitBounds([[south, west], [north, east]], { maxZoom: 17, padding: [16, 16] });
  L.control.scale({ imperial: false, maxWidth: 150 }).addTo(map);
  if (tiles) {
    L.tileLayer(tiles.url, { maxZoom: MAX_ZOOM }).addTo(map);
    const words = new DOMParser().parseFromString(tiles.attribution ?? "", "text/html");
    find("map-attribution").textContent = words.body.textContent;
  }

  /** The corners of a cell on the same side of the 180th meridian as its centre. */
  const corners = ({ cell, position }) => cell.map(
    ([latitude, longitude]) => [latitude, longitude + 360 * Math.round((position[1] - longitude) / 360)]);

  const layers = features.map((feature) => {
    const layer = feature.cell
      ? L.polygon(corners(feature), { fillOpacity: tiles ? 0.7 : 1, opacity: tiles ? 0 : 1, smoothFactor: 0, weight: 0.5 })
      : L.circleMarker(feature.position, { radius: 7, weight: 1.5, fillOpacity: 0.9 });
    layer.feature = feature;
    return layer;
  });

  function colour(x) {
    if (x === null) return UNDEFINED_COLOUR;
    const [low, high] = range;
    const part = high > low ? (x - low) / (high - low) : 0.5;
    return VIRIDIS[Math.round(Math.min(Math.max(part, 0), 1) * (VIRIDIS.length - 1))];
  }

  function style({ feature }) {
    const x = feature.values[measure];
    return { color: feature.cell ? colour(x) : OUTLINE_COLOUR, fillColor: colour(x) };
  }

  /** What a tooltip or popup says of a place. */
  function description(feature) {
    const photo = page.photos.get(feature.photo);
    return element("div", { className: "place" },
      ...(photo ? [page.thumbnail(photo)] : []),
      ...page.named(feature.name),
      element("span", {}, `${report.measures[measure].name}: ${page.value(measure, feature.values[measure])}`),
      element("span", {}, page.plural(feature.images, "photo", "photos")));
  }

  function popup({ feature }) {
    const node = description(feature);
    if (page.photos.has(feature.photo)) {
      const button = element("button", { type: "button" }, kind === "hexagons" ? "Open a photo" : "Open the photo");
      button.addEventListener("click", () => page.openPhoto(feature.photo));
      node.append(button);
    }
    return node;
  }

  const group = L.featureGroup(layers)
    .bindTooltip((layer) => description(layer.feature), { sticky: true, opacity: 1 })
    .bindPopup(popup, { minWidth: 180, maxWidth: 260 })
    .addTo(map);
  group.on("popupopen", () => group.closeTooltip());

  /** Open the popup of a place and read it out; for the keyboard. */
  function visit(layer) {
    const { feature } = layer;
    layer.fire("click", { latlng: L.latLng(feature.position) }, true);
    find("map-status").textContent = `${feature.name}. ${report.measures[measure].name}: `
      + `${page.value(measure, feature.values[measure])}. ${page.plural(feature.images, "photo", "photos")}.`;
    box.querySelector(".leaflet-popup button")?.focus();
  }

  map.on("keydown", ({ originalEvent: event }) => {
    if (event.key === "Enter" && event.target === box) {
      event.preventDefault();
      const distance = new Map(layers.map(
        (layer) => [layer, map.getCenter().distanceTo(layer.feature.position)]));
      visit(layers.reduce((best, layer) => (distance.get(layer) < distance.get(best) ? layer : best)));
    } else if (event.key === "Escape") {
      map.closePopup();
      box.focus();
    }
  });

  function setRange() {
    const values = features.flatMap((feature) => feature.values[measure] ?? []).sort((a, b) => a - b);
    const at = (quantile) => values[Math.round(quantile * (values.length - 1))];
    range = values.length ? QUANTILES.map(at) : [0, 1];
  }

  function showLegend() {
    const { name } = report.measures[measure];
    const values = features.map((feature) => feature.values[measure]);
    const known = values.filter((x) => x !== null);
    const [low, high] = range;
    const below = known.some((x) => x < low) ? "≤ " : "";
    const above = known.some((x) => x > high) ? "≥ " : "";
    const bar = element("div", { className: "ramp", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${VIRIDIS.join(", ")})`;
    const missing = values.length - known.length;
    const undefinedSwatch = page.swatch(null);
    undefinedSwatch.style.background = UNDEFINED_COLOUR;
    find("map-legend").replaceChildren(
      element("p", {}, element("strong", {}, name), known.length
        ? ", from dark to light (colour map: viridis)" : ": no value here"),
      ...(known.length ? [bar, element("div", { className: "ticks" },
        ...[below + page.value(measure, low), page.value(measure, (low + high) / 2),
          above + page.value(measure, high)].map((text) => element("span", {}, text)))] : []),
      ...(missing ? [element("p", {}, undefinedSwatch,
        `grey: not defined (${page.plural(missing, place, `${place}s`)})`)] : []));
  }

  function showPlaces() {
    const ranked = layers.filter(({ feature }) => feature.values[measure] !== null)
      .sort((a, b) => b.feature.values[measure] - a.feature.values[measure]);
    const listed = ranked.slice(0, LISTED);
    const { name } = report.measures[measure];
    find("map-summary").textContent =
      `Places as a table: the ${page.count(listed.length)} with the highest ${name}, of ${page.count(layers.length)}`;
    const details = find("map-details");
    details.replaceChildren(details.firstElementChild, page.table(`Places with the highest ${name}`, [
      { title: "Place", sort: ({ feature }) => feature.name, text: ({ feature }) => feature.name },
      {
        title: name, sort: ({ feature }) => feature.values[measure],
        text: ({ feature }) => page.value(measure, feature.values[measure]),
      },
      { title: "Photos", sort: ({ feature }) => feature.images, text: ({ feature }) => page.count(feature.images) },
      { title: "Position", text: ({ feature }) => feature.position.map((x) => x.toFixed(5)).join(", ") },
      {
        title: "On the map",
        text: (layer) => {
          const button = element(
            "button", { type: "button", "aria-label": `Show ${layer.feature.name} on the map` }, "Show");
          button.addEventListener("click", () => {
            map.setView(layer.feature.position, Math.max(map.getZoom(), 15), { animate: !page.reducedMotion });
            box.scrollIntoView({ block: "nearest" });
            visit(layer);
          });
          return button;
        },
      },
    ], listed));
  }

  function showMeasure() {
    measure = Number(find("map-measure").value);
    map.closePopup();
    setRange();
    for (const layer of layers) layer.setStyle(style(layer));
    find("map-about").textContent = page.about(measure);
    showLegend();
    showPlaces();
  }

  page.offerMeasures(find("map-measure"), measure);
  find("map-measure").addEventListener("change", showMeasure);
  showMeasure();
  page.map = map;
})();
