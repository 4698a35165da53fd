// The dashboard: asks once a second how everything is, trouble first.

import { Refused, ask } from "./ask.js";
import { Card } from "./camera.js";
import { drawLegend } from "./rungs.js";
import "./theme.js";
import { askToken, knownToken } from "./token.js";
import { duration, number, ofModel } from "./words.js";

const POLL_MS = 1000;
const ANSWER_MS = 5000; // longest wait for one
const RATE_MS = 10_000; // over which rates are taken

const $ = (id) => document.getElementById(id);
const cards = new Map(); // by name
let token = knownToken();
let answered = null; // when the server last did, as Date
let samples = []; // of the model process: { at, restored, refused, batches, process }

async function poll() {
  let pause = POLL_MS;
  try {
    const response = await ask("/api/status", token, { signal: AbortSignal.timeout(ANSWER_MS) });
    show(await response.json());
    answered = new Date();
    back();
  } catch (error) {
    if (error.status === 401) {
      token = await askToken(token !== null);
      if (token === null) return needsToken();
      pause = 0;
    } else {
      gone(error.status ? error.message : null);
      if (!(error instanceof Refused)) console.warn(error); // an answer that ends in its middle, say
    }
  }
  setTimeout(poll, pause);
}

function needsToken() {
  say("bad", "A token is needed: reload the page to give it");
}

// -- what there is ----------------------------------------------------------------------------------

function show(status) {
  const now = performance.now();
  for (const [name, card] of cards) {
    if (status.cameras.some((camera) => camera.name === name)) continue;
    card.remove();
    cards.delete(name);
  }
  for (const camera of status.cameras) {
    if (!cards.has(camera.name)) cards.set(camera.name, new Card(camera.name));
    cards.get(camera.name).update(camera, now);
  }
  Object.assign($("wall").dataset, { one: cards.size === 1, few: cards.size > 1 && cards.size <= 4 });
  arrange();
  summary();
  model(status, now);
  const weights = status.model_sha256 ? `, weights ${status.model_sha256.slice(0, 8)}` : "";
  text("version", `Version ${status.version}${weights}.`);
  $("model").hidden = $("cameras").hidden = false;
  for (const card of cards.values()) card.picture(token);
}

/** Trouble first. Moves nothing that stands where it belongs; what has the focus keeps it. */
function arrange() {
  const wall = $("wall");
  const only = pressed("trouble");
  const sorted = [...cards.values()].sort((a, b) => a.order(b));
  const focused = document.activeElement;
  sorted.forEach((card, index) => {
    card.element.hidden = only && card.rank > 1;
    if (wall.children[index] !== card.element) wall.insertBefore(card.element, wall.children[index] ?? null);
  });
  if (document.activeElement !== focused && wall.contains(focused)) focused.focus({ preventScroll: true });
  $("nothing").hidden = !only || sorted.some((card) => !card.element.hidden);
}

function summary() {
  const tones = [...cards.values()].map((card) => card.tone);
  const of = (tone) => tones.filter((one) => one === tone).length;
  const all = `${tones.length} camera${tones.length === 1 ? "" : "s"}`;
  const parts = [];
  if (of("bad")) parts.push(`${of("bad")} in trouble`);
  if (of("warn")) parts.push(`${of("warn")} to watch`);
  if (of("off")) parts.push(`${of("off")} switched off`);
  if (!of("bad") && !of("warn") && of("good")) parts.unshift(of("off") ? `${of("good")} streaming` : tones.length > 1 ? "all streaming" : "streaming");
  say(of("bad") ? "bad" : of("warn") ? "busy" : "live", [all, ...parts].join(", "));
  document.title = of("bad") ? `(${of("bad")}) streamsr watch` : "streamsr watch";
}

function model({ model, cameras, ...status }, now) {
  const { words, dot } = ofModel(model);
  $("model-state").dataset.state = dot;
  text("model-state", model.state === "ready" ? words : `${words}, ${duration(model.since_s)}`);
  const batches = Object.entries(model.batches);
  const calls = batches.reduce((n, [, count]) => n + count, 0);
  const faces = batches.reduce((n, [size, count]) => n + size * count, 0);
  if (samples.at(-1)?.process !== model.process_id || samples.at(-1)?.faces > faces) samples = [];
  samples.push({ at: now, process: model.process_id, refused: model.refused, calls, faces });
  while (samples.length > 2 && now - samples[0].at > RATE_MS) samples.shift();
  const [first, last] = [samples[0], samples.at(-1)];
  const rate = (key) => (first === last ? null : (1000 * (last[key] - first[key])) / (last.at - first.at));
  const ready = model.state === "ready";
  text("busy", ready ? number(100 * model.busy_share) : "–");
  text("batch", last.calls > first.calls ? number((last.faces - first.faces) / (last.calls - first.calls), 1) : "–");
  text("restored", ready ? number(rate("faces"), 1) : "–");
  text("refused", ready ? number(rate("refused"), 1) : "–");
  text("queue", ready ? String(model.queue) : "–");
  text("restarts", String(model.restarts));
  text("memory", number([status, model, ...cameras].reduce((mb, one) => mb + (one.rss_mb ?? 0), 0)));
  text("uptime", duration(status.uptime_s));
  trouble("model-error", ready ? null : model.error);
  trouble("reload-error", status.reload_error && `The configuration was not reloaded: ${status.reload_error}`);
}

// -- small things -----------------------------------------------------------------------------------

/** There is no answer that can be shown. refusal: what the server said instead, if anything. */
function gone(refusal) {
  const then = answered ? ` What stands below is as it was at ${answered.toLocaleTimeString()}.` : "";
  text("gone", `${refusal ? `The server refuses: ${refusal}` : "The server does not answer"}; trying again.${then}`);
  $("all").dataset.gone = "true";
  $("gone").hidden = false;
  say("bad", "No connection");
  document.title = "(!) streamsr watch";
}

function back() {
  $("all").dataset.gone = "false";
  $("gone").hidden = true;
}

function trouble(id, why) {
  $(id).hidden = !why;
  text(id, why ?? "");
}

function text(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function say(state, words) {
  text("status", words);
  $("status").dataset.state = state;
}

const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";

/** A button that stays down, now and when the page is opened again. */
function toggles(id, change) {
  const press = (on) => {
    $(id).setAttribute("aria-pressed", String(on));
    localStorage.setItem(id, String(on));
    change(on);
  };
  press(localStorage.getItem(id) === "true");
  $(id).addEventListener("click", () => press(!pressed(id)));
}

toggles("both", (on) => { $("wall").dataset.both = String(on); });
toggles("trouble", arrange);
drawLegend($("legend"));
poll();
