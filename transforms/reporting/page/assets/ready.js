"use strict";
/**
 * Says when everything has been drawn, two frames after the last script: `<html data-ready="true">`,
 * and in `citymaskPage.readyAfter` the milliseconds since the navigation began.
 */
requestAnimationFrame(() => requestAnimationFrame(() => {
  citymaskPage.readyAfter = performance.now();
  document.documentElement.dataset.ready = "true";
}));
