// What states are called, and how figures are written.

/** Of a camera: its words, and how bad it is. */
const CAMERA = {
  streaming: ["Streaming", "good"],
  starting: ["Starting", "warn"],
  connecting: ["Connecting", "warn"],
  stalled: ["No pictures come", "bad"],
  backoff: ["Not reached", "bad"],
  frozen: ["Picture stands still", "bad"],
  failed: ["Process died", "bad"],
  stopped: ["Switched off", "off"],
};

const MODEL = {
  ready: ["ready", "live"],
  starting: ["starting", "busy"],
  backoff: ["died, will be started again", "bad"],
  stopped: ["stopped", "bad"],
};

export const SINK = {
  opening: "connecting",
  writing: "written",
  backoff: "not reached",
  full: "disk full",
  hung: "hangs",
  closed: "closed",
  failed: "failed",
};

/** In the order in which cameras are shown. */
export const TONES = ["bad", "warn", "good", "off"];
export const DOTS = { bad: "bad", warn: "busy", good: "live", off: "idle" }; // of .status

/** What to say of a camera: { words, tone }. */
export function ofCamera(camera) {
  const [words, tone] = CAMERA[camera.state] ?? [camera.state, "bad"];
  const failing = camera.sinks.filter((sink) => !["writing", "closed", "opening"].includes(sink.state));
  if (tone !== "good" || failing.length === 0) return { words, tone };
  return { words: failing.length === camera.sinks.length ? "No output" : "An output fails", tone: "warn" };
}

/** What to say of the model process: { words, dot }. */
export function ofModel(model) {
  const [words, dot] = MODEL[model.state] ?? [model.state, "bad"];
  return { words: model.device && model.state === "ready" ? `${words}, on ${model.device.toUpperCase()}` : words, dot };
}

/** 75 -> "1 min 15 s": the two largest units. */
export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor(s / 3600) % 24} h`;
}

export function number(value, digits = 0) {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

/** 1234567 -> "1 234 567", so that long counts can be read. */
export const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
