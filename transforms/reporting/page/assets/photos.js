"use strict";
/** The photos: a gallery with filters, and a viewer of photo and mask. */
(() => {
  const page = citymaskPage;
  const { report, find, element } = page;
  const NO_CLASS = 255;
  /** Where the crosshair begins, in percent of width and height: beside the divider. */
  const CROSS = 75;
  const ORDERS = {
    given: ["as listed", null],
    most: ["most first", (photo, m) => -(photo.values[m] ?? -Infinity)],
    least: ["least first", (photo, m) => photo.values[m] ?? Infinity],
    confidence: ["least confident first", (photo) => photo.confidence ?? Infinity],
    uncertainty: ["most uncertain first", (photo) => -(photo.uncertainty ?? -Infinity)],
  };

  // Gallery

  const knows = (key) => report.gallery.some((photo) => photo[key] !== null);
  /** Orders and filters by what not every run records. */
  const known = { confidence: knows("confidence"), uncertainty: knows("uncertainty") };
  let shown = report.gallery;

  /** The number in a field, in the unit of the measure; null where there is none. */
  const numberIn = (id, unit) => (find(id).value === "" ? null : find(id).valueAsNumber * unit);

  function filtered() {
    const measure = Number(find("filter-measure").value);
    const unit = report.measures[measure].share ? 0.01 : 1;
    const group = find("filter-group");
    const from = numberIn("filter-from", unit);
    const to = numberIn("filter-to", unit);
    const confidence = numberIn("filter-confidence", 0.01);
    const key = ORDERS[find("filter-order").value][1];
    const photos = report.gallery.filter((photo) => {
      const x = photo.values[measure];
      return (group.selectedIndex < 1 || photo.group === group.value)
        && (from === null || (x !== null && x >= from))
        && (to === null || (x !== null && x <= to))
        && (confidence === null || (photo.confidence !== null && photo.confidence <= confidence))
        && (find("filter-unlike").value === "" || photo.unlike);
    });
    return key ? photos.sort((a, b) => key(a, measure) - key(b, measure)) : photos;
  }

  const notes = (photo) => [
    photo.group,
    ...(photo.confidence === null ? []
      : [`Confidence: ${page.percent(photo.confidence)}`]),
    ...(photo.unlike ? ["Unlike those the model knows"] : []),
  ];

  function showGallery() {
    const measure = Number(find("filter-measure").value);
    for (const unit of document.querySelectorAll("[data-unit]")) {
      unit.textContent = report.measures[measure].share ? "%" : "";
    }
    shown = filtered();
    find("gallery").replaceChildren(...shown.map((photo) => page.card(photo, measure, notes(photo))));
    find("photos-count").textContent =
      `${page.count(shown.length)} of ${page.plural(report.gallery.length, "photo", "photos")} shown`;
  }

  function aboutGallery(photos, done) {
    if (!photos) return "This report holds no photos.";
    if (photos === done) return "All photos of the archive.";
    return `A choice of ${page.count(photos)} of the ${page.plural(done, "photo", "photos")}: those with the most and `
      + "the least of each class and indicator, and some for an overview.";
  }

  function startGallery() {
    find("photos-about").textContent = aboutGallery(report.gallery.length, report.images.done);
    const groups = [...new Set(report.gallery.map((photo) => photo.group))].sort((a, b) => a.localeCompare(b));
    find("filter-group").append(...groups.map((group) => element("option", { value: group }, group)));
    page.offerMeasures(find("filter-measure"), page.firstMeasure());
    find("filter-order").append(...Object.entries(ORDERS).flatMap(([value, [label]]) =>
      (known[value] === false ? [] : [element("option", { value }, label)])));
    find("filter-confidence-label").hidden = !known.confidence;
    find("filter-unlike-label").hidden = !known.uncertainty;
    const form = find("filters");
    form.addEventListener("input", showGallery);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      const measure = find("filter-measure").value;
      for (const field of form.elements) if (field.matches("input")) field.value = "";
      find("filter-group").selectedIndex = 0;
      find("filter-unlike").value = "";
      find("filter-order").value = "given";
      find("filter-measure").value = measure;
      showGallery();
    });
    showGallery();
  }

  // Masks

  /** Those who wait for masks, by photo. The files call `citymaskMask` when they are loaded. */
  const waiting = new Map();
  globalThis.citymaskMask = (id, url) => waiting.get(id)?.(url);

  function maskAddress(id) {
    return new Promise((resolve, reject) => {
      waiting.set(id, resolve);
      const script = element("script", { src: `photos/${id}.mask.js` });
      script.addEventListener("load", () => script.remove());
      script.addEventListener("error", () => reject(new Error("The mask of this photo is not there.")));
      document.head.append(script);
    }).finally(() => waiting.delete(id));
  }

  /**
   * The class of each pixel of a photo.
   * @returns {Promise<{width: number, height: number, classes: Uint8Array}>}
   */
  async function loadMask(id) {
    const image = element("img", { src: await maskAddress(id) });
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const canvas = element("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return { width, height, classes: Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]) };
  }

  // Viewer

  const viewer = find("viewer");
  const slider = find("viewer-slider");
  const canvas = find("viewer-canvas");
  const hidden = new Set();
  let photo = null;
  let mask = null;

  function paintMask() {
    if (!mask) return;
    canvas.width = mask.width;
    canvas.height = mask.height;
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(mask.width, mask.height);
    const palette = new Uint8Array(4 * 256);
    report.classes.forEach(({ colour }, c) => {
      if (!hidden.has(c)) palette.set([...colour, 255], 4 * c);
    });
    const colours = new Uint32Array(palette.buffer);
    const painted = new Uint32Array(pixels.data.buffer);
    mask.classes.forEach((c, i) => { painted[i] = colours[c]; });
    context.putImageData(pixels, 0, 0);
  }

  /** Name the class at a point of the picture; across and down are from 0 to 1. */
  function nameClass(across, down) {
    if (!mask) return;
    const column = Math.min(Math.floor(across * mask.width), mask.width - 1);
    const row = Math.min(Math.floor(down * mask.height), mask.height - 1);
    const c = mask.classes[row * mask.width + column];
    const cross = find("viewer-cross");
    cross.style.left = `${across * 100}%`;
    cross.style.top = `${down * 100}%`;
    find("viewer-class").replaceChildren(
      ...(c === NO_CLASS ? ["No class"] : [page.swatch(report.classes[c].colour), report.classes[c].name]));
  }

  function nameClassAt(event) {
    const { left, top, width, height } = slider.getBoundingClientRect();
    const across = Math.min(Math.max((event.clientX - left) / width, 0), 1);
    const down = Math.min(Math.max((event.clientY - top) / height, 0), 1);
    find("viewer-across").value = across * 100;
    find("viewer-down").value = down * 100;
    nameClass(across, down);
  }

  const nameClassAtCross = () =>
    nameClass(find("viewer-across").valueAsNumber / 100, find("viewer-down").valueAsNumber / 100);

  function showClasses() {
    const present = report.classes.map((_, c) => c).filter((c) => photo.values[c] > 0)
      .sort((a, b) => photo.values[b] - photo.values[a]);
    find("viewer-classes").replaceChildren(...present.map((c) => {
      const box = element("input", { type: "checkbox", checked: !hidden.has(c) });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(c);
        else hidden.add(c);
        paintMask();
      });
      return element("li", {}, element("label", {}, box, page.swatch(report.classes[c].colour),
        element("span", {}, report.classes[c].name),
        element("span", { className: "number" }, page.percent(photo.values[c]))));
    }));
  }

  function reason(text) {
    const [end, key] = text.split(":");
    const name = report.measures.find((measure) => measure.key === key)?.name ?? key;
    const reasons = {
      coverage: "overview", low_confidence: "among the least confident",
      unlike_training: "unlike those the model knows",
    };
    return reasons[end] ?? `${end} ${name}`;
  }

  function showFacts() {
    const indicators = report.measures.flatMap((measure, m) =>
      (measure.kind === "indicator" ? [[measure.name, page.value(m, photo.values[m])]] : []));
    page.definitions([
      ["Group", photo.group],
      ["Size", `${page.count(photo.width)} × ${page.count(photo.height)} pixels`],
      ["Captured", photo.captured_at && page.time(photo.captured_at)],
      ["Position", photo.position && photo.position.map((x) => x.toFixed(5)).join(", ")],
      ["Heading", photo.heading !== null && `${page.ratio(photo.heading)}°`],
      ["Projection", photo.projection],
      ["Confidence", photo.confidence !== null && page.percent(photo.confidence)],
      ["Uncertainty", photo.uncertainty !== null
        && page.percent(photo.uncertainty) + (photo.unlike ? ", unlike those the model knows" : "")],
      ...indicators,
      ["Here for", photo.reasons.map(reason).join(", ")],
    ].filter(([, text]) => text), find("viewer-facts"));
  }

  function showDivider() {
    slider.setAttribute("aria-valuenow", Math.round(slider.value));
    slider.setAttribute("aria-valuetext", `${Math.round(slider.value)} % photo`);
  }

  async function openPhoto(id) {
    photo = page.photos.get(id);
    mask = null;
    find("viewer-title").textContent = photo.image;
    find("viewer-note").hidden = photo.photo;
    find("viewer-note").textContent = "The photo is gone or has changed: this is its mask alone.";
    for (const image of [find("viewer-photo"), find("viewer-under")]) {
      image.hidden = !photo.photo;
      if (photo.photo) image.src = `photos/${id}.jpg`;
    }
    find("viewer-photo").alt = `The photo ${photo.image}`;
    slider.style.aspectRatio = `${photo.width} / ${photo.height}`;
    find("viewer-picture").style.setProperty("--aspect", photo.width / photo.height);
    slider.value = 50;
    showDivider();
    showClasses();
    showFacts();
    canvas.width = 0;
    find("viewer-class").textContent = "The mask is being read.";
    if (!viewer.open) viewer.showModal();
    try {
      const loaded = await loadMask(id);
      if (photo.id !== id) return;
      mask = loaded;
      paintMask();
      find("viewer-across").value = CROSS;
      find("viewer-down").value = CROSS;
      nameClassAtCross();
    } catch (error) {
      if (photo.id === id) find("viewer-class").textContent = error.message;
    }
  }

  /** Open the photo some places further in the gallery as it is shown. */
  function step(by) {
    const list = shown.includes(photo) ? shown : report.gallery;
    const next = (list.indexOf(photo) + by + list.length) % list.length;
    openPhoto(list[next].id);
  }

  function showAllClasses(visible) {
    hidden.clear();
    if (!visible) report.classes.forEach((_, c) => hidden.add(c));
    showClasses();
    paintMask();
  }

  find("viewer-close").addEventListener("click", () => viewer.close());
  find("viewer-previous").addEventListener("click", () => step(-1));
  find("viewer-next").addEventListener("click", () => step(1));
  find("viewer-all").addEventListener("click", () => showAllClasses(true));
  find("viewer-none").addEventListener("click", () => showAllClasses(false));
  find("viewer-across").addEventListener("input", nameClassAtCross);
  find("viewer-down").addEventListener("input", nameClassAtCross);
  slider.addEventListener("pointermove", nameClassAt);
  slider.addEventListener("pointerdown", nameClassAt);
  slider.addEventListener("slide", showDivider);

  page.openPhoto = openPhoto;
  startGallery();
})();
