// The page: a camera before and after, its controls, and what the server says of it.

import { Refused, ask } from "./ask.js";
import { Call, counted, iceServers } from "./call.js";
import { drawPlot } from "./figures.js";
import { drawLegend, drawRungs } from "./rungs.js";
import "./theme.js";
import { askToken, knownToken } from "./token.js";

const POLL_MS = 1000;
const STALL_MS = 5000; // without a new picture
const BACKOFF_MS = [300, 800, 2000, 4000, 8000];
const CAMERA = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 25, max: 30 } };

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const watched = asked.get("watch");
const name = watched ?? asked.get("stream") ?? `call-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
const memory = { token: knownToken() };

let camera = null; // the MediaStream of getUserMedia
let calls = []; // those that are open now
let wanted = false; // the user wants to be in the call
let attempt = 0; // counts up with every failure in a row
let generation = 0; // of connections: what belongs to an older one stops
let poll = null;

// -- calls ------------------------------------------------------------------------------------------

async function start() {
  wanted = true;
  attempt = 0;
  show();
  await connect();
}

function stop() {
  wanted = false;
  disconnect();
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  $("before").srcObject = null;
  $("stage").dataset.live = "false";
  say("idle", "Stopped");
  show();
}

function disconnect() {
  generation += 1;
  clearTimeout(poll);
  for (const call of calls) call.close();
  calls = [];
}

async function connect() {
  disconnect();
  const mine = generation;
  say("busy", attempt ? "Connecting again…" : "Connecting…");
  try {
    if (!watched) await openCamera();
    if (mine !== generation) return;
    const servers = await iceServers(`/${watched ? "whep" : "whip"}/${name}`, memory.token);
    if (mine !== generation) return;
    if (!watched) await open(servers, (call) => call.publish(`/whip/${name}`, camera));
    if (mine !== generation) return;
    const after = await open(servers, (call) => call.watch(`/whep/${name}`));
    if (mine !== generation) return;
    $("after").srcObject = after;
    follow(mine);
  } catch (error) {
    if (mine === generation) await fail(error);
  }
}

async function open(servers, begin) {
  const call = new Call(servers, memory.token);
  calls.push(call);
  const mine = generation;
  call.peer.onconnectionstatechange = () => {
    const lost = call.peer.connectionState === "failed" || call.peer.connectionState === "closed";
    if (lost && mine === generation) retry("The connection was lost");
  };
  return begin(call);
}

async function openCamera() {
  const chosen = $("camera").value;
  const audio = pressed("microphone") ? { echoCancellation: true } : false;
  if (camera?.active && camera.chosen === chosen && camera.getAudioTracks().length === (audio ? 1 : 0)) return;
  for (const track of camera?.getTracks() ?? []) track.stop();
  const video = { ...CAMERA, ...(chosen && { deviceId: { exact: chosen } }) };
  camera = await navigator.mediaDevices.getUserMedia({ video, audio });
  camera.chosen = chosen;
  camera.getVideoTracks()[0].addEventListener("ended", () => wanted && stop());
  $("before").srcObject = camera;
  $("stage").dataset.live = "true";
  await listCameras();
}

async function fail(error) {
  if (error instanceof Refused && error.status === 401) {
    disconnect();
    memory.token = await askToken(memory.token !== null);
    if (memory.token === null) return stop();
    return connect();
  }
  const passing = error instanceof Refused && [0, 404, 409, 429, 503].includes(error.status);
  if (passing) return retry(sentence(error.message), error.retryAfterS);
  const refusedCamera = error.name === "NotAllowedError";
  stop();
  say("bad", refusedCamera ? "The browser was not allowed to use the camera" : sentence(error.message));
}

function retry(why, afterS) {
  disconnect();
  if (!wanted) return;
  const ms = afterS ? 1000 * afterS : BACKOFF_MS[Math.min(attempt, BACKOFF_MS.length - 1)] * (0.8 + 0.4 * Math.random());
  attempt += 1;
  say("busy", `${why}; trying again`);
  const mine = generation;
  poll = setTimeout(() => mine === generation && connect(), ms);
}

// -- figures ----------------------------------------------------------------------------------------

let last = null; // the figures a second ago, for what is said per second
const delays = []; // of the last minute: { at, delay }

function follow(mine) {
  last = null;
  delays.length = 0;
  let moved = performance.now();
  const step = async () => {
    try {
      const known = saying;
      await known; // the answer shall know of all that was changed until here
      const [stats, sums] = await Promise.all([
        ask(`/stats/${name}`, memory.token).then((response) => response.json()),
        sum(),
      ]);
      if (mine !== generation) return;
      const now = performance.now();
      if (sums.frames !== last?.sums.frames) moved = now;
      if (now - moved > STALL_MS) return void retry("The picture stands still");
      if (sums.frames > 0) {
        attempt = 0;
        $("stage").dataset.live = "true";
        say("live", watched ? `Watching ${name}` : "Live");
      }
      figures(stats, sums, now);
      if (stats.controls && known === saying) followControls(stats.controls);
      poll = setTimeout(step, POLL_MS);
    } catch (error) {
      if (mine === generation) await fail(error);
    }
  };
  step();
}

async function sum() {
  const all = await Promise.all(calls.map((call) => counted(call.peer)));
  const total = (key) => all.reduce((soFar, one) => soFar + one[key], 0);
  return { sent: total("sent"), received: total("received"), frames: total("frames") };
}

function figures(stats, sums, now) {
  const report = stats.report;
  const before = last;
  last = { report, sums, now };
  if (!report) return;
  const seconds = before ? (now - before.now) / 1000 : 0;
  const rate = (key) => (seconds ? (sums[key] - before.sums[key]) / seconds : null);
  const recent = (counts, old) =>
    Object.fromEntries(Object.entries(counts).map(([key, n]) => [key, n - (old?.[key] ?? 0)]));
  const total = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);
  const rungs = recent(report.rungs, before?.report?.rungs);
  const nfe = recent(report.nfe, before?.report?.nfe);
  const evaluations = Object.entries(nfe).reduce((n, [steps, count]) => n + steps * count, 0);
  const restored = total(rungs) ? (100 * rungs.restored) / total(rungs) : null;

  put("fps", rate("frames"), 1);
  put("age50", report.age_ms?.p50, 0);
  put("age95", report.age_ms?.p95, 0);
  put("restored", restored, 0);
  put("nfe", rungs.restored ? evaluations / rungs.restored : null, 1);
  put("t0", report.t0_mean, 2);
  put("dropped", report.frames_dropped, 0);
  put("up", seconds && rate("sent") / 125_000, 2);
  put("down", seconds && rate("received") / 125_000, 2);
  put("rms", report.certificate_rms, 2);
  $("size-in").textContent = report.input_px?.join("×") ?? "–";
  $("size-out").textContent = report.output_px?.join("×") ?? "–";
  if (total(rungs)) {
    drawRungs($("rungs"), rungs);
    drawLegend($("legend"), rungs);
  }
  if (stats.delay_ms) delays.push({ at: now, delay: stats.delay_ms });
  while (delays.length && now - delays[0].at > 60_000) delays.shift();
  drawPlot($("plot"), delays, report.budget_ms, now);
}

function followControls(controls) {
  if (controls.fidelity !== null && !$("fidelity").matches(":active")) {
    $("fidelity").value = controls.fidelity;
    $("fidelity-value").textContent = Number(controls.fidelity).toFixed(2);
  }
  press("enabled", controls.enabled);
  const chosen = document.querySelector(`input[name="steps"][value="${controls.steps ?? "auto"}"]`);
  if (chosen) chosen.checked = true;
}

function put(id, value, digits) {
  $(id).textContent = value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);
}

// -- controls ---------------------------------------------------------------------------------------

let saying = Promise.resolve(); // until the last change is answered: they go out in the order they were made

function control(change) {
  if (calls.length) saying = saying.then(() => send(change));
}

async function send(change) {
  try {
    const body = JSON.stringify(change);
    await ask(`/controls/${name}`, memory.token, {
      method: "PATCH",
      headers: { "Content-Type": "application/json" },
      body,
    });
  } catch (error) {
    say("bad", sentence(error.message));
  }
}

const pressed = (id) => $(id).getAttribute("aria-pressed") === "true";
const press = (id, on) => $(id).setAttribute("aria-pressed", String(on));

function toggles(id, change) {
  $(id).addEventListener("click", () => {
    press(id, !pressed(id));
    change(pressed(id));
  });
}

toggles("enabled", (enabled) => control({ enabled }));
toggles("mirror", (mirror) => { $("stage").dataset.mirror = String(mirror); });
toggles("microphone", () => wanted && connect());
toggles("mute", (muted) => { $("after").muted = muted; });

$("full").addEventListener("click", () => {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("stage").requestFullscreen();
});
document.addEventListener("fullscreenchange", () => press("full", document.fullscreenElement !== null));

$("split").addEventListener("input", () => $("stage").style.setProperty("--at", `${$("split").value}%`));
$("fidelity").addEventListener("input", () => {
  $("fidelity-value").textContent = Number($("fidelity").value).toFixed(2);
});
$("fidelity").addEventListener("change", () => control({ fidelity: Number($("fidelity").value) }));
for (const radio of document.querySelectorAll('input[name="steps"]')) {
  radio.addEventListener("change", () => control({ steps: radio.value === "auto" ? "auto" : Number(radio.value) }));
}
$("camera").addEventListener("change", () => wanted && connect());
$("begin").addEventListener("click", start);
$("toggle").addEventListener("click", () => (wanted ? stop() : start()));

addEventListener("pagehide", () => wanted && disconnect());
addEventListener("pageshow", (event) => event.persisted && wanted && connect());
addEventListener("online", () => wanted && attempt && connect());
navigator.mediaDevices?.addEventListener("devicechange", listCameras);

// -- small things -----------------------------------------------------------------------------------

async function listCameras() {
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter((one) => one.kind === "videoinput");
  const chosen = $("camera").value;
  const options = devices.map((one, index) => new Option(one.label || `Camera ${index + 1}`, one.deviceId));
  $("camera").replaceChildren(new Option("Default camera", ""), ...options);
  $("camera").value = devices.some((one) => one.deviceId === chosen) ? chosen : "";
}

function say(state, text) {
  if ($("status").textContent !== text) $("status").textContent = text;
  $("status").dataset.state = state;
}

function show() {
  $("toggle").textContent = wanted ? "Stop" : "Start";
  $("begin").disabled = wanted;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function prepare() {
  $("stage").dataset.mirror = String(!watched);
  const link = new URL(`?watch=${encodeURIComponent(name)}`, location.origin);
  $("share").hidden = watched !== null;
  $("share-link").href = link;
  $("share-link").textContent = link.host + link.pathname + link.search;
  if (watched) {
    $("stage").dataset.watch = "true";
    $("invitation").textContent = `Watch ${name}.`;
    $("begin").textContent = "Watch";
    for (const id of ["camera", "microphone", "mirror", "enabled", "knobs"]) $(id).hidden = true;
    $("panels").dataset.watch = "true";
  }
  if (!watched && !navigator.mediaDevices) {
    say("bad", "A browser gives a page its camera over https or on localhost only");
    $("begin").disabled = $("toggle").disabled = true;
  }
  drawPlot($("plot"), [], null, performance.now());
}

prepare();
