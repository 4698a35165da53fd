"""An aiortc application with its two lines for streamsr: ``python demos/call_filter.py``, open the page."""

from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription

import streamsr
from streamsr.rtc import tune, with_start_bitrate

ENHANCER = web.AppKey("enhancer", streamsr.Enhancer)
PEERS = web.AppKey("peers", set)
PAGE = """<!doctype html><title>streamsr in a call</title><video id=v autoplay playsinline></video>
<script type=module>
const peer = new RTCPeerConnection(), video = { width: 640, height: 360 };
for (const track of (await navigator.mediaDevices.getUserMedia({ video })).getTracks()) peer.addTrack(track);
peer.ontrack = event => v.srcObject = new MediaStream([event.track]);
await peer.setLocalDescription(await peer.createOffer());
while (peer.iceGatheringState != "complete") await new Promise(done => setTimeout(done, 50));
const answer = await fetch("/offer", { method: "POST", body: peer.localDescription.sdp });
await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
</script>"""


async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


async def offer(request: web.Request) -> web.Response:
    peer = RTCPeerConnection()
    request.app[PEERS].add(peer)

    @peer.on("track")
    def on_track(track) -> None:
        peer.addTrack(streamsr.EnhancedTrack(track, request.app[ENHANCER], size=(1280, 720)))  # was: track

    await peer.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
    await peer.setLocalDescription(await peer.createAnswer())
    return web.Response(text=with_start_bitrate(peer.localDescription.sdp, 2500))


async def hang_up(app: web.Application) -> None:
    for peer in app[PEERS]:
        await peer.close()
    app[ENHANCER].close()


def application() -> web.Application:
    tune()  # aiortc: rates for 720p, a frame of delay less
    app = web.Application()
    app[ENHANCER], app[PEERS] = streamsr.Enhancer(), set()
    app.add_routes([web.get("/", page), web.post("/offer", offer)])
    app.on_shutdown.append(hang_up)
    return app


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=8080)
