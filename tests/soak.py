"""``streamsr watch`` among faults: ``python tests/soak.py [--seconds 1800] [--every 20] [--cameras 4]``.

Every so many seconds something breaks, for a few seconds: a server, a network, a process, a disk. After its
end the camera concerned must send again to all its outputs within ten seconds, and no other may have been
touched. A process that was killed has twice the time that the whole took to begin, where that is longer: this
machine may be slow or busy; the model process, without which the cameras go on, has 30 s. Prints a line for
each fault and, last, one of JSON; exit status 1 if anything was not as it should.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from processes import descendants
from soak_faults import FAULTS, Fault, Scene
from watch_process import Status

RECOVERY_S = 10.0
MODEL_S = 30.0
STUCK_S = 60.0  # not waited for any longer
SETTLE_S = 20.0  # what was given up has ended by then
STEADY_S = 2.0  # a stream that is back stays: looked at for so long
MEMORY = 1.25, 40.0  # the end may have so many times what was before, and so many MB more


@dataclass
class Outcome:
    """recovery_s: per fault, from its end. wrong: what should not have been, a line each."""

    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    start_s: float = 0.0  # from the beginning of watch until all cameras streamed
    faults: int = 0
    wrong: list[str] = field(default_factory=list)
    camera_kills: int = 0
    model_kills: int = 0
    others_frames: int = 0  # of the cameras that were not hit, while others were; and of those, left out
    others_lost: int = 0


def soak(seconds: float, every_s: float, cameras: int, say: Any = print) -> dict[str, Any]:
    """Raises AssertionError if the cameras do not even begin."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder, Scene(Path(folder), cameras) as scene:
        began = time.monotonic()
        scene.watch.streaming(*scene.names, timeout_s=120)
        outcome.start_s = time.monotonic() - began
        _until_all_well(scene, 60)
        before = _resources(scene)
        began = time.monotonic()
        kinds = [fault for fault in FAULTS if fault.of(scene)]
        for turn, fault in enumerate(cycle(kinds)):
            due = began + turn * every_s
            if due > began + seconds:
                break
            time.sleep(max(0.0, due - time.monotonic()))
            names = fault.of(scene)
            _suffer(scene, fault, names[(turn + turn // len(kinds)) % len(names)], outcome, say)
        _until_all_well(scene, STUCK_S)
        after = _settled(scene, before)
        _compare(before, after, outcome)
        died = [(what, len(scene.watch.events(f"{what}_died"))) for what in ("camera", "model")]
        kills = {"camera": outcome.camera_kills, "model": outcome.model_kills}
        crashes = sum(count - kills[what] for what, count in died)
        if crashes:
            outcome.wrong.append(f"processes died of themselves: {crashes}")
        if scene.watch.stop() != 0:
            outcome.wrong.append("watch did not end with status 0")
    harmless = {fault.name for fault in FAULTS if fault.harmless}
    everything = sorted(
        second for name, found in outcome.recovery_s.items() if name not in harmless for second in found
    )
    return {
        "soak_s": round(time.monotonic() - began),
        "cameras": cameras,
        "every_s": every_s,
        "start_s": round(outcome.start_s, 1),
        "faults": outcome.faults,
        "left_out": [fault.name for fault in FAULTS if fault not in kinds],
        "recovery_s": {
            "p50": round(statistics.median(everything), 2) if everything else None,
            "p95": _percentile(everything, 0.95),
            "max": everything[-1] if everything else None,
            "n": len(everything),
        },
        "slowest_s": {name: max(found) for name, found in outcome.recovery_s.items()},
        "others": {"frames": outcome.others_frames, "lost": outcome.others_lost},
        "crashes": crashes,
        "before": before,
        "after": after,
        "wrong": outcome.wrong,
    }


def _suffer(scene: Scene, fault: Fault, name: str, outcome: Outcome, say: Any) -> None:
    before = scene.watch.status()
    outcome.faults += 1
    outcome.camera_kills += fault.name == "camera process killed"
    outcome.model_kills += fault.name == "model process killed"
    with fault.on(scene, name, before):
        time.sleep(fault.lasts_s)
    ended = time.monotonic()
    at_end = scene.watch.status()
    hit = _hit(scene, fault, name)
    try:
        scene.watch.until(lambda now: all(_is_well(now, at_end, before, fault, one) for one in hit), STUCK_S)
    except AssertionError:
        outcome.wrong.append(f"{fault.name} at {name}: stuck: {_short(scene.watch.status(), hit)}")
        say(outcome.wrong[-1])
        return
    took_s = round(time.monotonic() - ended, 2)
    outcome.recovery_s.setdefault(fault.name, []).append(took_s)
    say(f"{fault.name} at {name}: back {took_s:.1f} s after its end")
    limit_s = MODEL_S if fault.name == "model process killed" else RECOVERY_S
    if fault.name.endswith("process killed"):
        limit_s = max(limit_s, 2 * outcome.start_s)
    if took_s > limit_s:
        outcome.wrong.append(f"{fault.name} at {name}: back only after {took_s:.1f} s")
    time.sleep(STEADY_S)
    now = scene.watch.status()
    for other in set(scene.names) - set(hit):
        early, late = before["by_name"][other], now["by_name"][other]
        outcome.others_frames += late["source"]["frames"] - early["source"]["frames"]
        outcome.others_lost += _lost(late) - _lost(early)
        if not _is_untouched(early, late):
            outcome.wrong.append(f"{fault.name} at {name} touched {other}: {_short(now, [other])}")


def _hit(scene: Scene, fault: Fault, name: str) -> list[str]:
    """The cameras that are to suffer: of what they share, all."""
    if fault.name == "disk full":
        return scene.names
    return scene.publishing if fault.name.startswith("sink") else [name]


def _is_well(now: Status, at_end: Status, before: Status, fault: Fault, name: str) -> bool:
    """Pictures go to all outputs that were not there yet when the cause ended."""
    camera, then = now["by_name"][name], at_end["by_name"][name]
    if fault.name == "model process killed" and (
        now["model"]["state"] != "ready" or now["model"]["process_id"] == before["model"]["process_id"]
    ):
        return False
    if (
        fault.name == "camera process killed"
        and camera["process_id"] == before["by_name"][name]["process_id"]
    ):
        return False
    if camera["state"] != "streaming":
        return False
    if camera["process_id"] != then["process_id"]:
        return bool(camera["sinks"]) and all(sink["written"] for sink in camera["sinks"])
    pairs = zip(camera["sinks"], then["sinks"], strict=True)
    return all(sink["state"] == "writing" and sink["written"] > early["written"] for sink, early in pairs)


def _is_untouched(then: dict[str, Any], now: dict[str, Any]) -> bool:
    same = all(then[key] == now[key] for key in ("process_id", "restarts", "reconnects"))
    for early, late in zip(then["sinks"], now["sinks"], strict=True):
        same = same and early["reconnects"] == late["reconnects"] and late["state"] == "writing"
    return same and now["state"] == "streaming" and now["frames_out"] > then["frames_out"]


def _lost(camera: dict[str, Any]) -> int:
    return int(camera["source"]["drops"] + camera["frames_dropped"])


def _until_all_well(scene: Scene, timeout_s: float) -> None:
    start = scene.watch.status()
    scene.watch.until(
        lambda now: all(_is_well(now, start, start, FAULTS[0], name) for name in scene.names), timeout_s
    )


def _resources(scene: Scene) -> dict[str, dict[str, float]]:
    """Memory (MB) and descriptors of each role's largest process, and the number of processes."""
    now = scene.watch.status()
    cameras = [now["by_name"][name] for name in scene.names]
    roles = {
        "supervisor": [(now["rss_mb"], scene.watch.process.pid)],
        "model": [(now["model"]["rss_mb"], now["model"]["process_id"])],
        "camera": [(camera["rss_mb"], camera["process_id"]) for camera in cameras],
    }
    found: dict[str, dict[str, float]] = {
        role: {
            "rss_mb": round(max(rss or 0.0 for rss, _ in processes), 1),
            "descriptors": max(len(os.listdir(f"/proc/{pid}/fd")) for _, pid in processes),
            "threads": max(len(os.listdir(f"/proc/{pid}/task")) for _, pid in processes),
        }
        for role, processes in roles.items()
    }
    found["all"] = {"processes": len(descendants(scene.watch.process.pid))}
    return found


def _settled(scene: Scene, before: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    until = time.monotonic() + SETTLE_S
    while True:
        after = _resources(scene)
        trial = Outcome()
        _compare(before, after, trial)
        if not trial.wrong or time.monotonic() > until:
            return after
        time.sleep(0.5)


def _compare(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]], outcome: Outcome
) -> None:
    times, more_mb = MEMORY
    for role, early in before.items():
        for what, value in early.items():
            allowed = value * times + more_mb if what == "rss_mb" else value
            if after[role][what] > allowed:
                outcome.wrong.append(f"{role}: {what} went from {value:g} to {after[role][what]:g}")


def _percentile(values: list[float], share: float) -> float | None:
    return values[min(len(values) - 1, round(share * (len(values) - 1)))] if values else None


def _short(now: Status, names: list[str]) -> str:
    cameras = [now["by_name"][name] for name in names]
    sinks = [[(sink["state"], sink["error"]) for sink in camera["sinks"]] for camera in cameras]
    return str(
        [(camera["state"], camera["error"], found) for camera, found in zip(cameras, sinks, strict=True)]
    )


def main() -> int:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--seconds", type=float, default=1800)
    words.add_argument("--every", type=float, default=20, help="seconds from one fault to the next")
    words.add_argument("--cameras", type=int, default=4)
    options = words.parse_args()
    found = soak(options.seconds, options.every, options.cameras, lambda line: print(line, flush=True))
    print(json.dumps(found))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
