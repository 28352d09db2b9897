"use strict";
// A help, not a need: the time and the value under the pointer, and all of the page on paper.
(() => {
  const readout = document.getElementById("readout");
  const clock = (s) => {
    const ms = Math.round(Math.abs(s) * 1000), two = (n) => String(n).padStart(2, "0");
    const text = `${two(Math.floor(ms / 3600000))}:${two(Math.floor(ms / 60000) % 60)}:${two(Math.floor(ms / 1000) % 60)}`;
    return `${s < 0 && ms ? "-" : ""}${text}.${String(ms % 1000).padStart(3, "0")}`;
  };
  const points = new WeakMap();
  const pointsOf = (plot) => {
    if (!points.has(plot)) {
      const path = plot.querySelector(".line");
      const found = path ? [...path.getAttribute("d").matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)] : [];
      points.set(plot, found.map((m) => [Number(m[1]), Number(m[2])]));
    }
    return points.get(plot);
  };
  const valueAt = (plot, fraction) => {
    const near = pointsOf(plot), x = fraction * 1000;
    let low = 0, high = near.length - 1;
    while (low < high) { const mid = (low + high) >> 1; if (near[mid][0] < x) low = mid + 1; else high = mid; }
    const best = [near[low - 1], near[low]].filter(Boolean).sort((a, b) => Math.abs(a[0] - x) - Math.abs(b[0] - x))[0];
    if (!best || Math.abs(best[0] - x) > 6) return null;
    const bottom = Number(plot.dataset.low), top = Number(plot.dataset.high);
    return top - (best[1] / 100) * (top - bottom);
  };
  for (const group of document.querySelectorAll(".timeline")) {
    const plots = [...group.querySelectorAll(".plot")];
    const cursors = plots.map((plot) => {
      const cursor = document.createElement("i");
      cursor.className = "cursor"; cursor.hidden = true; plot.append(cursor);
      return cursor;
    });
    const leave = () => { readout.hidden = true; for (const cursor of cursors) cursor.hidden = true; };
    group.addEventListener("pointerleave", leave);
    group.addEventListener("pointermove", (event) => {
      const box = plots[0].getBoundingClientRect();
      const fraction = (event.clientX - box.left) / box.width;
      if (fraction < 0 || fraction > 1) return leave();
      const start = Number(group.dataset.start), end = Number(group.dataset.end);
      for (const cursor of cursors) { cursor.hidden = false; cursor.style.left = `${fraction * 100}%`; }
      const over = plots.find((plot) => plot.contains(event.target));
      const value = over && over.dataset.label ? valueAt(over, fraction) : null;
      readout.textContent = clock(start + fraction * (end - start)) + (value === null ? "" : `   ${over.dataset.label} ${value.toFixed(2)}`);
      readout.hidden = false;
      readout.style.left = `${Math.max(0, Math.min(event.clientX + 14, innerWidth - readout.offsetWidth - 8))}px`;
      readout.style.top = `${Math.max(4, event.clientY - 34)}px`;
    });
  }
  addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });
})();
