// Live pages: one stream of events; when rows have changed, the part marked data-refresh is loaded again.
// A tab that nobody sees has no stream: a browser has six connections for all tabs of an origin (HTTP/1.1).
// Without JavaScript every page is whole, and shows the state of its loading.
"use strict";
(() => {
  const source = document.body.dataset.live;
  if (!source || !document.querySelector("[data-refresh]") || !window.EventSource || !window.htmx) return;
  const STEPS = "#live a[href], #live button, #live summary";
  let stream = null;
  let waits = false;

  // What a person had open, and where the keyboard was, stay as they were.
  const keep = () => {
    const open = [...document.querySelectorAll("#live details[open] > summary")].map((it) => it.textContent);
    const active = document.activeElement;
    const same = active && active.matches(STEPS) ? [active.textContent, active.getAttribute("href")] : null;
    return () => {
      for (const it of document.querySelectorAll("#live details > summary")) {
        if (open.includes(it.textContent)) it.parentElement.open = true;
      }
      if (!same) return;
      const steps = [...document.querySelectorAll(STEPS)];
      const found = steps.find((it) => it.textContent === same[0] && it.getAttribute("href") === same[1]);
      if (found) found.focus({ preventScroll: true });
    };
  };
  const refresh = () => {
    if (waits || document.hidden) return;
    const active = document.activeElement;
    if (active && active.matches("#live input, #live select, #live textarea")) return;
    waits = true;
    window.setTimeout(() => {
      waits = false;
      const restore = keep();
      window.htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "outerHTML" }).then(restore);
    }, 50);
  };
  const close = () => {
    if (stream) stream.close();
    stream = null;
  };
  let address = source;  // it says what this page shows already
  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource(address);
    stream.addEventListener("changed", (event) => {
      address = `/events?seen=${encodeURIComponent(event.lastEventId)}`;
      refresh();
    });
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else open();
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
})();
