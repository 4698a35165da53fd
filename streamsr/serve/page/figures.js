// The plot of delays.

const SPAN_MS = 60_000;

/** samples: { at, delay } in ms, oldest first; budget: a line, if known. */
export function drawPlot(canvas, samples, budget, now) {
  const style = getComputedStyle(canvas);
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `12px ${style.fontFamily}`;
  pen.textBaseline = "middle";

  const most = Math.max(budget ?? 0, ...samples.map((one) => one.delay), 40);
  const top = Math.ceil((most * 1.15) / 40) * 40;
  const left = 34;
  const bottom = height - 20;
  const x = (at) => left + (width - left - 6) * (1 - (now - at) / SPAN_MS);
  const y = (delay) => bottom - (bottom - 8) * (delay / top);
  const ink = style.color;

  pen.lineWidth = 1;
  for (let delay = 0; delay <= top; delay += top / 4) {
    line(pen, left, y(delay), width - 6, y(delay), ink, 0.14);
    pen.globalAlpha = 0.6;
    pen.fillStyle = ink;
    pen.textAlign = "right";
    pen.fillText(String(delay), left - 8, y(delay));
  }
  pen.textAlign = "left";
  pen.fillText("ms, 60 s ago", left, height - 6);
  pen.textAlign = "right";
  pen.fillText("now", width - 6, height - 6);
  pen.globalAlpha = 1;
  if (budget) {
    pen.setLineDash([4, 4]);
    line(pen, left, y(budget), width - 6, y(budget), ink, 0.45);
    pen.setLineDash([]);
    pen.globalAlpha = 0.6;
    pen.textAlign = "left";
    pen.fillText("budget", left + 2, y(budget) - 9);
    pen.globalAlpha = 1;
  }
  if (samples.length) {
    const accent = resolved(canvas, "--accent");
    pen.strokeStyle = accent;
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.beginPath();
    for (const one of samples) pen.lineTo(x(one.at), y(one.delay));
    pen.stroke();
    const end = samples.at(-1);
    pen.fillStyle = accent;
    pen.beginPath();
    pen.arc(x(end.at), y(end.delay), 3.5, 0, 2 * Math.PI);
    pen.fill();
    canvas.setAttribute("aria-label", `Delay on the server: ${Math.round(end.delay)} ms now`);
  }
}

function line(pen, x0, y0, x1, y1, colour, alpha) {
  pen.globalAlpha = alpha;
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.moveTo(x0, Math.round(y0) + 0.5);
  pen.lineTo(x1, Math.round(y1) + 0.5);
  pen.stroke();
  pen.globalAlpha = 1;
}

/** A custom property may hold light-dark(): only a real property has the colour itself. */
function resolved(element, name) {
  element.style.outlineColor = `var(${name})`;
  return getComputedStyle(element).outlineColor;
}
