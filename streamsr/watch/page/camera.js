// One camera on the wall: its pictures before and after, its state and figures.

import { ask } from "./ask.js";
import { drawRungs } from "./rungs.js";
import { DOTS, SINK, TONES, count, duration, number, ofCamera } from "./words.js";

const MINUTE_MS = 60_000;
const LINGER_MS = 10_000; // a camera that was in trouble keeps its place for so long
const ANSWER_MS = 5000; // longest wait for one

/** Cards that are on the screen now: only their pictures are asked for. */
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) cards.get(entry.target).visible = entry.isIntersecting;
}, { rootMargin: "120px" });
const cards = new WeakMap();

export class Card {
  constructor(name) {
    this.name = name;
    this.element = document.getElementById("camera").content.firstElementChild.cloneNode(true);
    this.element.id = `camera-${name}`;
    this.find = (selector) => this.element.querySelector(selector);
    this.find("h3").textContent = name;
    this.canvases = { before: this.find(".before canvas"), after: this.find("canvas.after") };
    this.canvases.before.setAttribute("aria-label", `${name}, as the camera gives it`);
    this.canvases.after.setAttribute("aria-label", `${name}, enhanced`);
    this.split = this.find(".split");
    this.split.setAttribute("aria-label", `${name}: where the camera's picture ends and the enhanced one begins`);
    this.split.addEventListener("input", () => this.find(".view").style.setProperty("--at", `${this.split.value}%`));
    this.find("summary").setAttribute("aria-label", `More about ${name}`);
    this.find("details").addEventListener("toggle", () => this.#more());
    this.etags = {};
    this.samples = []; // of the last minute: { at, rungs, process }
    this.troubles = []; // { at, rank }
    this.visible = false;
    this.pictured = false;
    this.find(".view").dataset.picture = "none";
    cards.set(this.element, this);
    seen.observe(this.element);
  }

  /** Take it off the wall. */
  remove() {
    seen.unobserve(this.element);
    this.element.remove();
  }

  /** camera: a CameraStatus; now: of performance. */
  update(camera, now) {
    const { words, tone } = ofCamera(camera);
    this.camera = camera;
    this.tone = tone;
    this.element.dataset.tone = tone;
    this.#rank(TONES.indexOf(tone), now);
    const status = this.find(".status");
    status.dataset.state = DOTS[tone];
    const since = camera.state === "streaming" ? "" : `, ${duration(camera.since_s)}`;
    put(status, words + since);
    this.#trouble(camera, tone);
    this.#figures(camera, now);
    this.#showPicture();
    this.#more();
  }

  /** Where it belongs on the wall: below 0 if in front of the other. */
  order(other) {
    return this.rank - other.rank || this.camera.priority - other.camera.priority || compare(this.name, other.name);
  }

  /** Ask for new pictures, if anybody can see them. */
  async picture(token) {
    if (!this.visible || this.asking || document.hidden) return;
    this.asking = true;
    try {
      const [before, after] = await Promise.all(["before", "after"].map((which) => this.#fetch(which, token)));
      draw(this.canvases.before, before);
      draw(this.canvases.after, after);
      if (before || after) this.pictured = true;
      this.#showPicture();
    } catch {
      this.etags = {}; // the page says that the server is gone, from its own question
    } finally {
      this.asking = false;
    }
  }

  /** Null: the same as before, or none. */
  async #fetch(which, token) {
    const headers = this.etags[which] ? { "If-None-Match": this.etags[which] } : {};
    const response = await ask(`/api/cameras/${this.name}/${which}.jpg`, token, {
      headers,
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (response.status !== 200) return null;
    this.etags[which] = response.headers.get("ETag");
    return createImageBitmap(await response.blob());
  }

  #rank(rank, now) {
    this.troubles = this.troubles.filter((one) => now - one.at < LINGER_MS);
    this.troubles.push({ at: now, rank });
    this.rank = Math.min(...this.troubles.map((one) => one.rank));
  }

  #trouble(camera, tone) {
    const sinks = camera.sinks.filter((sink) => sink.error && sink.state !== "writing");
    const said = [camera.state === "streaming" || tone === "off" ? null : camera.error, ...sinks.map((sink) => sink.error)];
    const text = said.filter(Boolean).join("; ");
    this.find(".trouble").hidden = !text;
    put(this.find(".trouble"), text);
  }

  #figures(camera, now) {
    const lively = camera.state === "streaming";
    const rungs = this.#recentRungs(camera, now);
    const faces = Object.values(rungs).reduce((a, b) => a + b, 0);
    this.#put("fps", lively ? number(camera.fps, 1) : "–");
    this.#put("age", lively ? number(camera.age_ms?.p95) : "–");
    this.#put("restored", faces ? number((100 * rungs.restored) / faces) : "–");
    this.#put("rms", lively ? number(camera.certificate_rms, 2) : "–");
    drawRungs(this.find(".rungs"), faces ? rungs : null);
  }

  /** Faces of the last minute by what became of them. */
  #recentRungs(camera, now) {
    const sum = Object.values(camera.rungs).reduce((a, b) => a + b, 0);
    const last = this.samples.at(-1);
    if (last && (last.process !== camera.process_id || sum < last.sum)) this.samples.length = 0;
    this.samples.push({ at: now, rungs: camera.rungs, sum, process: camera.process_id });
    while (this.samples.length > 1 && now - this.samples[0].at > MINUTE_MS) this.samples.shift();
    const oldest = this.samples[0].rungs;
    return Object.fromEntries(Object.entries(camera.rungs).map(([rung, n]) => [rung, n - (oldest[rung] ?? 0)]));
  }

  #showPicture() {
    const off = this.camera.state === "stopped";
    const state = !this.pictured || off ? "none" : this.camera.state === "streaming" ? "new" : "old";
    this.find(".view").dataset.picture = state;
    put(this.find(".blank"), off ? "Switched off" : state === "old" ? "Last picture" : "No picture yet");
  }

  #put(figure, text) {
    put(this.find(`[data-of="${figure}"]`), text);
  }

  #more() {
    if (!this.find("details").open) return;
    const camera = this.camera;
    const source = camera.source;
    const rows = {
      From: source?.url,
      Codec: source?.codec?.toUpperCase(),
      Size: camera.input_px && `${camera.input_px.join("×")} to ${camera.output_px?.join("×") ?? "–"}`,
      "Age, median": camera.age_ms && `${number(camera.age_ms.p50)} ms`,
      Priority: camera.priority,
      Frames: `${count(camera.frames_in)} in, ${count(camera.frames_out)} out, ${count(camera.frames_dropped)} dropped`,
      Lost: source && `${count(source.drops)} replaced, ${count(source.late)} late, ${count(source.damaged)} packets damaged`,
      "Came back": `${count(camera.reconnects)} reconnects, ${count(camera.restarts)} restarts`,
      Watchdog: source && `${count(source.stalls)} stalls, ${count(source.frozen)} freezes, ${count(source.jumps)} clock jumps`,
      Changes: source && `${count(source.resized)} of size, ${count(source.recoded)} of codec, ${count(source.resets)} decoder resets`,
      "Restored at": Object.entries(camera.restored_px).map(([px, n]) => `${px} px ${count(n)}`).join(", ") || null,
      "Missing, t0": camera.t0_mean === null ? null : number(camera.t0_mean, 2),
      "Certificate, most": camera.certificate_max === null ? null : `${number(camera.certificate_max, 1)} / 255`,
      Machine: camera.node,
      Process: camera.process_id && `${camera.process_id}, ${number(camera.rss_mb)} MB, ${number(camera.cpu_s)} s of CPU`,
      "Last error": camera.error,
    };
    const known = Object.entries(rows).filter(([, text]) => text !== null && text !== undefined);
    fill(this.find(".more"), known.flat().map(String), (text, index) => [index % 2 ? "dd" : "dt", text]);
    const sinks = this.find(".sinks");
    while (sinks.childElementCount > camera.sinks.length) sinks.lastElementChild.remove();
    camera.sinks.forEach((sink, index) => {
      const item = sinks.children[index] ?? sinks.appendChild(document.createElement("li"));
      const what = sink.state === "writing" ? "" : `${SINK[sink.state] ?? sink.state}; `;
      fill(item, [sink.url, `${what}${count(sink.written)} frames written, ${count(sink.dropped)} dropped`, sink.error ?? ""], (text, n) => [["b", "div", "span"][n], text]);
      item.children[2].className = "trouble";
      item.children[2].hidden = !sink.error || sink.state === "writing";
    });
  }
}

/** Children of parent with these texts; made once, then changed only where they differ. */
function fill(parent, texts, shape) {
  while (parent.childElementCount > texts.length) parent.lastElementChild.remove();
  texts.forEach((one, index) => {
    const [tag, text] = shape(one, index);
    const child = parent.children[index] ?? parent.appendChild(document.createElement(tag));
    put(child, text);
  });
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function draw(canvas, picture) {
  if (!picture) return;
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    canvas.width = picture.width;
    canvas.height = picture.height;
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}

const compare = (a, b) => a.localeCompare(b, "en", { numeric: true });
