// Keys: "?" lists them. They do nothing while somebody types into a field, or holds a modifier.
"use strict";
(() => {
  const list = document.getElementById("keys");
  if (!list) return;
  let after = "";  // "g" was pressed
  const go = (selector) => {
    const link = document.querySelector(selector);
    if (link) link.click();
  };
  const move = (by) => {
    const links = [...document.querySelectorAll("main a[href], main button, main summary, main input, main select")];
    const at = links.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by;
    if (links[next]) links[next].focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (event.target.matches("input, select, textarea") && event.target.type !== "checkbox") return;
    const key = event.key;
    if (after === "g") {
      after = "";
      if (/^[a-z]$/.test(key)) go(`nav a[data-key="${key}"]`);
      return;
    }
    if (key === "?") list.open ? list.close() : list.showModal();
    else if (list.open) return;
    else if (key === "g") after = "g";
    else if (key === "/") {
      const field = document.querySelector("main input[type=search]");
      if (field) field.focus();
      event.preventDefault();
    }
    else if (key === "n") go("a[rel=next]");
    else if (key === "p") go("a[rel=prev]");
    else if (key === "j") move(1);
    else if (key === "k") move(-1);
  });
})();
