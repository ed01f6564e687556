// Live pages: one stream of events; when rows have changed, the part marked data-refresh is loaded again.
// Without JavaScript every page is whole, and shows the state of its loading.
"use strict";
(() => {
  const source = document.body.dataset.live;
  const part = document.querySelector("[data-refresh]");
  if (!source || !part || !window.EventSource || !window.htmx) return;
  let waits = false;
  const refresh = () => {
    if (waits || document.hidden) return;
    const active = document.activeElement;
    const busy = document.getElementById("live")?.contains(active) && active.matches("input, select, textarea");
    if (busy) return;
    waits = true;
    window.setTimeout(() => {
      waits = false;
      window.htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "outerHTML" });
    }, 50);
  };
  const stream = new EventSource(source);
  let first = true;
  stream.addEventListener("changed", () => {
    if (!first) refresh();
    first = false;
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  window.addEventListener("pagehide", () => stream.close());
})();
