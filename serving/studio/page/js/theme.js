// Runs before the page is drawn, so that it does not flash in the other colours.
(() => {
  "use strict";
  let kept = "";
  try {
    kept = localStorage.getItem("sparseclip-theme") ?? "";
  } catch {
    // No storage: the system's colours.
  }
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
})();
