"""Metrics as Prometheus reads them: names, types, units, and counters that only rise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed
from watch_status import camera, model, status

from streamsr.watch import metrics
from streamsr.watch.metrics import Metrics
from streamsr.watch.status import SinkStatus, WatchStatus

TYPES = {"0 or 1": "gauge", "1": "gauge"}
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def documented() -> dict[str, str]:
    """Names and types in the table of the module's docstring."""
    rows = re.findall(r"^\| (streamsr_\w+) \| ([^|,]+)[^|]*\| .+ \|$", metrics.__doc__ or "", re.MULTILINE)
    return {name: TYPES.get(kind.strip(), kind.strip()) for name, kind in rows}


def families(found: Metrics) -> dict[str, Metric]:
    body, content_type = found.exposition("")
    assert content_type.startswith("text/plain; version=")
    return {family.name: family for family in parsed(body.decode())}


def samples(found: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(found).values()
        for sample in family.samples
    }


def value(found: Metrics, name: str, **labels: str) -> float:
    return samples(found)[name, frozenset(labels.items())]


class Changing:
    """Metrics of a status that the test replaces."""

    def __init__(self, first: WatchStatus) -> None:
        self.now = first
        self.metrics = Metrics(lambda: self.now)

    def becomes(self, now: WatchStatus) -> None:
        self.now = now
        self.metrics.observe()


@pytest.fixture
def gate() -> Iterator[Changing]:
    yield Changing(status(camera("gate")))


def test_the_table_names_every_metric_and_its_type(gate: Changing) -> None:
    found = families(gate.metrics)
    exposed = {
        f"{name}_total" if family.type == "counter" else name: family.type for name, family in found.items()
    }
    assert exposed == documented()
    assert len(exposed) > 35
    assert all(family.documentation for family in found.values())


def test_units_are_base_units_and_at_the_end_of_the_name(gate: Changing) -> None:
    assert value(gate.metrics, "streamsr_camera_frame_age_seconds", camera="gate", quantile="0.95") == 0.092
    memory = {
        dict(labels)["process"]: bytes_
        for (name, labels), bytes_ in samples(gate.metrics).items()
        if name == "streamsr_resident_memory_bytes"
    }
    assert memory == {"supervisor": 61e6, "model": 740e6, "camera": 212e6}
    for name in documented():
        assert not re.search(r"_(ms|mb|percent|share|px)(_total)?$", name), name


def test_values_stand_under_their_labels(gate: Changing) -> None:
    found = gate.metrics
    assert value(found, "streamsr_camera_faces_total", camera="gate", rung="cached") == 20
    assert value(found, "streamsr_camera_network_evaluations_total", camera="gate") == 900
    assert value(found, "streamsr_camera_state", camera="gate", state="streaming") == 1
    assert value(found, "streamsr_camera_state", camera="gate", state="backoff") == 0
    assert value(found, "streamsr_sink_frames_written_total", camera="gate", sink="rec/gate") == 1994
    about = {"codec": "h264", "input": "640x360", "output": "1280x720", "priority": "1", "node": ""}
    assert value(found, "streamsr_camera_info", camera="gate", **about) == 1
    assert value(found, "streamsr_build_info", version="0.2.0", model_sha256="ab" * 32) == 1
    for end, count in (("1.0", 500), ("2.0", 700), ("32.0", 700), ("+Inf", 700)):
        assert value(found, "streamsr_model_batch_faces_bucket", le=end) == count
    assert value(found, "streamsr_model_batch_faces_sum") == 900
    assert value(found, "streamsr_model_batch_faces_count") == 700


def test_openmetrics_where_it_is_asked_for(gate: Changing) -> None:
    body, content_type = gate.metrics.exposition(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    names = {family.name for family in openmetrics(body.decode())}
    assert {"streamsr_camera_faces", "streamsr_model_batch_faces", "streamsr_build"} <= names


def test_counters_only_rise_while_processes_come_and_go() -> None:
    zero = camera(
        "gate",
        frames_in=0,
        frames_out=0,
        frames_dropped=0,
        rungs={},
        nfe={},
        cpu_s=0.0,
        source=None,
        sinks=(),
    )
    dead = {"state": "failed", "process_id": None, "restarts": 1}
    again = {"process_id": 101, "restarts": 1}
    steps = [
        status(camera("gate")),
        status(camera("gate", **dead)),  # what the last process said stands a while
        status(zero.model_copy(update=dead)),
        status(zero.model_copy(update=again), model=model(process_id=None, state="backoff")),
        status(
            camera("gate", **again), model=model(process_id=98, restarts=1, batches={}, refused=0, cpu_s=0.0)
        ),
        status(camera("gate", **again, frames_in=3000), model=model(process_id=98, restarts=1)),
        # within one interval: the next process has counted more than the one before it
        status(
            camera("gate", process_id=102, restarts=2, frames_in=3001), model=model(process_id=98, restarts=1)
        ),
    ]
    changing = Changing(steps[0])
    last: dict = {}
    for step in steps:
        changing.becomes(step)
        now = {
            key: count
            for key, count in samples(changing.metrics).items()
            if key[0].endswith(("_total", "_bucket", "_sum", "_count"))
        }
        assert all(now[key] >= count for key, count in last.items() if key in now)
        last = now
    changed = camera("gate", process_id=102, restarts=0, frames_in=3001)  # a reload: it is kept anew
    changing.becomes(status(changed, model=model(process_id=98, restarts=1)))
    found = changing.metrics
    assert value(found, "streamsr_camera_frames_in_total", camera="gate") == 2000 + 3000 + 3001
    assert value(found, "streamsr_camera_faces_total", camera="gate", rung="restored") == 3 * 900
    assert value(found, "streamsr_camera_restarts_total", camera="gate") == 2
    assert value(found, "streamsr_source_frames_total", camera="gate") == 3 * 2000
    assert (
        value(found, "streamsr_sink_frames_dropped_total", camera="gate", sink="rtsp://server/gate") == 3 * 4
    )
    assert value(found, "streamsr_model_refused_total") == 24
    assert value(found, "streamsr_model_batch_faces_sum") == 1800
    assert value(found, "streamsr_cpu_seconds_total", process="camera", camera="gate") == 3 * 31.5


def test_a_camera_that_leaves_the_configuration_leaves_the_metrics(gate: Changing) -> None:
    gate.metrics.observe()
    gate.becomes(status(camera("yard")))
    assert "gate" not in gate.metrics.exposition("")[0].decode()
    gate.becomes(status(camera("gate", frames_in=7), camera("yard")))
    assert value(gate.metrics, "streamsr_camera_frames_in_total", camera="gate") == 7


def test_what_is_not_known_has_no_sample() -> None:
    young = camera(
        "gate",
        state="starting",
        age_ms=None,
        t0_mean=None,
        certificate_rms=None,
        source=None,
        sinks=(),
        rss_mb=None,
    )
    found = samples(Metrics(lambda: status(young, rss_mb=None)))
    names = {name for name, _ in found}
    assert not names & {"streamsr_camera_frame_age_seconds", "streamsr_camera_t0_mean", "streamsr_sink_up"}
    assert [
        dict(labels)["process"] for name, labels in found if name == "streamsr_resident_memory_bytes"
    ] == ["model"]


def test_credentials_never_become_labels() -> None:
    urls = ("rtsp://ann:s3cret@h/1", "rtsp://bob:other@h/1")  # one address, once the credentials are gone
    sinks = tuple(SinkStatus(url=url, state="writing", written=n) for n, url in enumerate(urls, 5))
    found = Metrics(lambda: status(camera("gate", sinks=sinks)))
    body = found.exposition("")[0].decode()
    assert "s3cret" not in body and "bob" not in body
    assert value(found, "streamsr_sink_frames_written_total", camera="gate", sink="rtsp://***@h/1") == 5
    assert value(found, "streamsr_sink_frames_written_total", camera="gate", sink="rtsp://***@h/1 (2)") == 6


def expressions(dashboard: dict) -> Iterator[str]:
    """All queries of the panels, and those that fill the choices."""
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    for choice in dashboard["templating"]["list"]:
        if choice["type"] == "query":
            yield choice["definition"]


def test_the_grafana_dashboard_asks_for_metrics_that_there_are(gate: Changing) -> None:
    dashboard = json.loads(resources.files("streamsr.watch").joinpath("grafana.json").read_text())
    known: dict[str, set[str]] = {}
    for name, labels in samples(gate.metrics):
        known.setdefault(name, set()).update(dict(labels))
    asked = set()
    for expression in expressions(dashboard):
        for name, selectors in re.findall(r"(streamsr_\w+)(?:\{([^}]*)\})?", expression):
            asked.add(name)
            assert name in known, expression
            assert set(re.findall(r"(\w+)\s*[!=]~?", selectors)) <= known[name], expression
            counted = name.endswith(("_total", "_sum", "_count", "_bucket"))
            assert not counted or re.search(rf"(rate|increase)\({name}", expression), expression
    left_out = {re.sub("_(sum|count|bucket)$", "", name) for name in known.keys() - asked}
    told_otherwise = {  # by a rate, a state or a row of a table
        "streamsr_camera_frames_in_total",
        "streamsr_camera_frames_per_second",
        "streamsr_camera_certificate_max_levels",
        "streamsr_camera_state_seconds",
        "streamsr_sink_up",
        "streamsr_model_state",
        "streamsr_model_info",
        "streamsr_reloads_total",
    }
    assert left_out == told_otherwise


def test_the_grafana_dashboard_is_well_formed() -> None:
    dashboard = json.loads(resources.files("streamsr.watch").joinpath("grafana.json").read_text())
    panels = dashboard["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids)) > 25
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) == 23
    for panel in panels:
        if panel["type"] != "row":
            assert panel["title"] and panel["targets"]
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${source}"}
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs))
