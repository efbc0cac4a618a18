// How long a redraw takes: from the event that asked for it to the end of the drawing, which runs
// in the next frame. Tests and the benchmark read `sparseclipStudio.redraws`.

const KEPT = 1000;
const redraws = [];
const marks = {};

globalThis.sparseclipStudio = { redraws, marks };

/** Notes a moment of a page's life, such as the first bars. */
export function mark(name) {
  marks[name] = performance.now();
}

/** A function that asks for one run of `draw` in the next frame, however often it is called. */
export function inOneFrame(draw) {
  let askedAt = 0;
  return () => {
    if (askedAt) return;
    askedAt = performance.now();
    requestAnimationFrame(() => {
      const began = performance.now();
      const asked = askedAt;
      askedAt = 0;
      draw();
      const ended = performance.now();
      redraws.push({ total: ended - asked, drawing: ended - began });
      if (redraws.length > KEPT) redraws.shift();
    });
  };
}
