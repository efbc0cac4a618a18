// How long a redraw takes: from the event that asked for it to the end of the frame that shows it,
// layout and paint included. Tests and the benchmark read `sparseclipStudio.redraws`.

const KEPT = 1000;
const redraws = [];
const marks = {};

globalThis.sparseclipStudio = { redraws, marks };

/** Notes a moment of a page's life, such as the first bars. */
export function mark(name) {
  marks[name] = performance.now();
}

/** Calls `task` after the frame: a message comes behind the layout and paint of what was drawn. */
function afterFrame(task) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    task();
  };
  port2.postMessage(null);
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
      const drawing = performance.now() - began;
      afterFrame(() => {
        redraws.push({ total: performance.now() - asked, drawing });
        if (redraws.length > KEPT) redraws.shift();
      });
    });
  };
}
