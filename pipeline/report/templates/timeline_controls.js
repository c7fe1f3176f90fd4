// Mouse and touch on the time axis and the overview of a recording, and the text of a position.
"use strict";

const DRAG_PIXELS = 4, READOUT_CLASSES = 3;

// Show time, frequency and the highest scores in words.
function describePosition(readout, view, time, frequency, digits) {
  const texts = view.scoresAt(time).slice(0, READOUT_CLASSES).map(([i, score]) => `${view.data.names[i]} ${(score / 10).toFixed(0)}\u202f%`);
  if (frequency != null) texts.unshift(frequency < 1000 ? `${frequency.toFixed(0)} Hz` : `${(frequency / 1000).toFixed(2)} kHz`);
  const bold = document.createElement("b");
  bold.textContent = clockTime(time, digits, view.data.seconds);
  readout.replaceChildren(bold, texts.length ? ` · ${texts.join(" · ")}` : "");
}

// Let the pointer move a position: a click seeks or plays an event, dragging scrolls, two fingers zoom.
function controlTimeline(timeline, view, { seek, playEvent, redraw, describe, leave }) {
  const pointers = new Map();
  let dragged = false, first = 0;

  const offset = (event) => {
    const box = timeline.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return { distance: Math.max(10, Math.abs(a - b)), center: (a + b) / 2 };
  };

  timeline.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    timeline.setPointerCapture(event.pointerId);
    if (!pointers.size) dragged = false;
    first = offset(event)[0];
    pointers.set(event.pointerId, first);
  });
  timeline.addEventListener("pointermove", (event) => {
    const [x, y] = offset(event);
    if (!pointers.has(event.pointerId)) {
      describe(view.time(x), view.frequencyAt(y));
      timeline.style.cursor = view.eventAt(x, y) < 0 ? "" : "pointer";
      return;
    }
    const before = pointers.size === 2 ? spread() : null;
    const moved = x - pointers.get(event.pointerId);
    if (Math.abs(x - first) > DRAG_PIXELS) dragged = true;
    if (!dragged) return;
    pointers.set(event.pointerId, x);
    if (before) {
      const after = spread();
      view.axis.zoom(after.distance / before.distance, view.time(after.center));
    } else {
      view.axis.pan((-moved / view.plotWidth) * view.axis.span);
    }
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    timeline.addEventListener(name, (event) => {
      if (!pointers.delete(event.pointerId) || dragged || name === "pointercancel") return;
      const [x, y] = offset(event);
      const index = view.eventAt(x, y);
      const isBar = y >= view.areas.events.top;
      if (index >= 0 && isBar && y < view.areas.annotations.top) return playEvent(index);
      view.selected = index;
      seek(view.time(x));
    });
  }
  timeline.addEventListener("pointerleave", leave);
  timeline.addEventListener("wheel", (event) => {
    const isZoom = event.ctrlKey || event.metaKey;
    const amount = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    if (!isZoom && Math.abs(amount) <= (event.shiftKey ? 0 : Math.abs(event.deltaY))) return; // scrolls the page
    event.preventDefault();
    if (isZoom) view.axis.zoom(Math.exp(-event.deltaY / 300), view.time(offset(event)[0]));
    else view.axis.pan((amount / view.plotWidth) * view.axis.span);
    redraw();
  }, { passive: false });
}

// Move the part that is shown to the pointer on the overview.
function controlOverview(overview, view, { seek, redraw }) {
  const move = (event) => {
    const box = overview.getBoundingClientRect();
    const time = ((event.clientX - box.left - MARGIN.left) / view.plotWidth) * view.data.seconds;
    view.axis.show(time - view.axis.span / 2, view.axis.span);
    if (view.axis.span >= view.data.seconds) seek(clamp(time, 0, view.data.seconds));
    redraw();
  };
  overview.addEventListener("pointerdown", (event) => (overview.setPointerCapture(event.pointerId), move(event)));
  overview.addEventListener("pointermove", (event) => event.buttons && move(event));
}
