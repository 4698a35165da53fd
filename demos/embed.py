"""Enhance in a loop of your own: ``python demos/embed.py IN OUT``; one line a frame on what was done."""

import sys
from dataclasses import replace

import streamsr
from streamsr.io import open_sink, open_source

SCALE = 2


def main(source_path: str, sink_path: str) -> None:
    source, sink = open_source(source_path), open_sink(sink_path, source_url=source_path)
    enhancer = streamsr.Enhancer()
    session = enhancer.session(scale=SCALE)
    try:
        info = source.open()
        sink.open(replace(info, width=SCALE * info.width, height=SCALE * info.height))
        while (frame := source.read()) is not None:
            image, report = session.process(frame.image)
            sink.write(frame.with_image(image))
            faces = ", ".join(f"face {f.track_id} {f.outcome} t0={f.t0 or 0:.2f}" for f in report.faces)
            print(f"{frame.time_s:7.3f} s  certificate {report.certificate.rms:.2f}/255  {faces}")
        sink.close()
    finally:
        sink.abort()  # after close: nothing to do
        source.close()
        session.close()
        enhancer.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
