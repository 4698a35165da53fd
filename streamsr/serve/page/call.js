// WHIP (RFC 9725) and WHEP: one POST each; candidates are gathered before it.

import { ask } from "./ask.js";

const GATHER_MS = 1500;

/** The STUN and TURN servers that the endpoint names in its Link headers. */
export async function iceServers(path, token) {
  const response = await ask(path, token, { method: "OPTIONS" });
  const links = response.headers.get("Link") ?? "";
  return [...links.matchAll(/<((?:stun|turn)s?:[^>]+)>((?:\s*;\s*[\w-]+="(?:[^"\\]|\\.)*")*)/g)].map((link) => {
    const values = [...link[2].matchAll(/([\w-]+)="((?:[^"\\]|\\.)*)"/g)];
    const found = Object.fromEntries(values.map(([, name, text]) => [name, text.replace(/\\(.)/g, "$1")]));
    const server = { urls: link[1] };
    if (found.username) Object.assign(server, { username: found.username, credential: found.credential });
    return server;
  });
}

/** One peer connection and its session on the server. */
export class Call {
  constructor(servers, token) {
    this.peer = new RTCPeerConnection({ iceServers: servers, bundlePolicy: "max-bundle" });
    this.token = token;
    this.session = null;
  }

  /** Send these tracks to /whip/NAME. */
  async publish(path, stream) {
    for (const track of stream.getTracks()) {
      if (track.kind === "video") track.contentHint = "motion";
      this.peer.addTransceiver(track, { direction: "sendonly", streams: [stream] });
    }
    await this.#offer(path);
  }

  /** Receive from /whep/NAME into a MediaStream. */
  async watch(path) {
    const stream = new MediaStream();
    this.peer.ontrack = ({ track }) => stream.addTrack(track);
    this.peer.addTransceiver("video", { direction: "recvonly" });
    this.peer.addTransceiver("audio", { direction: "recvonly" });
    await this.#offer(path);
    for (const receiver of this.peer.getReceivers()) receiver.jitterBufferTarget = 0;
    return stream;
  }

  /** Delete the session and close. Works while the page goes away, and twice. */
  close() {
    if (this.session !== null) ask(this.session, this.token, { method: "DELETE", keepalive: true }).catch(() => {});
    this.session = null;
    this.peer.close();
  }

  async #offer(path) {
    await this.peer.setLocalDescription();
    await this.#gathered();
    const response = await ask(path, this.token, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: this.peer.localDescription.sdp,
    });
    this.session = response.headers.get("Location");
    await this.peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  }

  #gathered() {
    if (this.peer.iceGatheringState === "complete") return undefined;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, GATHER_MS);
      this.peer.addEventListener("icegatheringstatechange", () => {
        if (this.peer.iceGatheringState !== "complete") return;
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** Bytes and frames of a peer so far, for rates. */
export async function counted(peer) {
  const sums = { sent: 0, received: 0, frames: 0 };
  for (const one of (await peer.getStats()).values()) {
    if (one.type === "outbound-rtp") sums.sent += one.bytesSent;
    if (one.type === "inbound-rtp") sums.received += one.bytesReceived;
    if (one.type === "inbound-rtp" && one.kind === "video") sums.frames += one.framesDecoded ?? 0;
  }
  return sums;
}
