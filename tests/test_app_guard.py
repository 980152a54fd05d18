"""What stands between a click and the library, and how the page is served; without a browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("gradio")

import gradio as gr
import httpx
import numpy as np

from wildsight.app import guard
from wildsight.app.server import QUEUE, UPLOAD_MB, serve
from wildsight.app.tabs import anomaly, composition, compression, discovery, fusion, segmentation, spatial
from wildsight.files import load_checkpoint, save_checkpoint
from wildsight.fusion import drawing
from wildsight.images import from_array


def message(job: Callable[..., Any], *values: Any, seconds: float = 60.0) -> str:
    """What the page says of a job that fails."""
    with pytest.raises(gr.Error) as caught:
        guard.guarded(job, seconds=seconds)(None, *values)
    return str(caught.value.message)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    file = tmp_path / "grey.png"
    from_array(torch.full((64, 64, 3), 0.5).numpy()).save(file)
    return str(file)


def test_an_empty_folder_box_is_one_sentence_in_every_tab(picture: str) -> None:
    jobs: dict[Callable[..., Any], tuple[Any, ...]] = {
        anomaly.look_at: (anomaly.CHECKPOINT, None, "", "bolt", "padim", [picture]),
        segmentation.outline_box: (segmentation.ADAPTER, " ", picture, 0, 0, 9, 9),
        composition.recognise: (composition.CHECKPOINT, "", [picture], ""),
        fusion.fuse_scene: (fusion.CHECKPOINT, "", "clear", 0, ["rgb"], None),
        spatial.find_it: (spatial.CHECKPOINT, "", picture, "the cube", None, {}),
    }
    for job, values in jobs.items():
        assert message(job, *values) == "no checkpoint is named; name the folder of the checkpoint"
    assert "no model is named" in message(compression.answer, "", picture, "what ?", 0.5, 0.5)


def test_a_folder_that_is_no_checkpoint_is_a_sentence(tmp_path: Path, picture: str) -> None:
    text = message(composition.recognise, composition.CHECKPOINT, str(tmp_path / "none"), [picture], "")
    assert "no such checkpoint folder" in text


def test_a_model_that_is_fitted_again_in_its_folder_is_read_again(tmp_path: Path) -> None:
    def save(value: float) -> None:
        save_checkpoint(tmp_path / "model", {"w": torch.tensor([value])}, {})

    def load(folder: Path) -> Any:
        return load_checkpoint(folder)[0]["w"]

    save(1.0)
    first = guard.fitted("test", str(tmp_path / "model"), load)
    assert guard.fitted("test", f" {tmp_path / 'model'} ", load) is first
    save(2.0)
    assert guard.fitted("test", str(tmp_path / "model"), load).item() == 2.0


def test_a_plain_folder_of_a_model_is_told_from_what_stood_there_before(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"one")
    before = guard.state_of(tmp_path)
    assert guard.state_of(tmp_path) == before
    (tmp_path / "weights.bin").write_bytes(b"three")
    assert guard.state_of(tmp_path) != before


@pytest.fixture
def hang() -> Iterator[Callable[[], None]]:
    """A job that never ends by itself."""
    end = threading.Event()

    def hung() -> None:
        end.wait(60)

    yield hung
    end.set()
    for future in guard._late:
        future.result(timeout=60)


def test_after_a_hung_job_the_next_one_gets_its_turn(hang: Callable[[], None]) -> None:
    assert "took more than 0 seconds" in message(hang, seconds=0.1)
    assert guard.guarded(lambda: "answer", seconds=10)(None) == "answer"


def test_too_many_hung_jobs_are_a_sentence_until_they_end(hang: Callable[[], None]) -> None:
    for _ in range(guard.LATE):
        message(hang, seconds=0.1)
    assert "start the server again" in message(lambda: "answer")
    assert not guard._busy.locked()


def test_a_job_that_waits_for_its_turn_too_long_is_a_sentence() -> None:
    with guard._busy:
        assert "another job is still running" in message(lambda: "answer", seconds=0.1)


def test_a_timeout_of_the_job_itself_is_a_fault_and_not_a_late_job() -> None:
    def faulty() -> None:
        raise TimeoutError("of its own")

    assert "of its own" in message(faulty)
    assert guard._late == []


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Any, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    blocks, url = serve(port=port, upload_mb=1, block=False)
    yield blocks, url
    blocks.close()


def test_it_listens_on_the_loopback_and_its_queue_is_short(served: tuple[Any, str]) -> None:
    blocks, url = served
    assert (blocks.server_name, UPLOAD_MB, QUEUE) == ("127.0.0.1", 64, 16)
    assert url.startswith("http://127.0.0.1:") and not blocks.share
    assert blocks._queue.max_size == QUEUE
    assert {f.concurrency_limit for f in blocks.fns.values()} <= {1, None, "default"}
    assert blocks._queue.default_concurrency_limit == 1


def test_an_upload_above_the_limit_is_refused(served: tuple[Any, str]) -> None:
    _, url = served
    for size, refused in ((1000, False), (2 * 2**20, True)):
        files = {"files": ("a.png", bytes(size), "image/png")}
        answer = httpx.post(f"{url}gradio_api/upload", files=files, timeout=60)
        assert (answer.status_code >= 400) is refused, answer.text


def test_what_could_not_be_read_is_named_by_discovery(tmp_path: Path, picture: str) -> None:
    words = tmp_path / "words.png"
    words.write_bytes(b"this is no picture")
    text = message(discovery.sort_pictures, discovery.OWN, [picture], [str(words)], "auto")
    assert text.startswith("no unlabelled picture could be read") and "words.png" in text


def test_a_checkpoint_with_event_and_lidar_answers_about_its_own_sensors(tmp_path: Path) -> None:
    from wildsight.fusion import FusionSegmenter
    from wildsight.fusion.data import SENSORS, world

    data = world(32, 0.02)
    segmenter = FusionSegmenter("pwrf", "nano-conv", image_size=32)
    model = str(segmenter.fit(data, progress=False, epochs=1).save_pretrained(tmp_path / "model"))
    assert fusion.sensors(fusion.CHECKPOINT, model)["choices"] == list(SENSORS)
    files = [tmp_path / f"hall_{name}.png" for name in ("rgb", "event", "lidar")]
    for file in files:
        from_array(data.part("test")[0].pictures[file.stem[5:]]).save(file)
    given = ("clear", 0, [*SENSORS], [str(f) for f in files])
    text, tiles, taken = guard.guarded(fusion.fuse_scene)(None, fusion.CHECKPOINT, model, *given)
    assert "event contributed" in text
    captions = [caption for _, caption in tiles]
    assert captions[:4] == ["rgb", "event", "lidar", "prediction"]
    assert [c.split(":")[0] for c in captions[4:]] == ["rgb", "event", "lidar"]
    assert all(" to " in c and c.endswith("%") for c in captions[4:])
    assert {Path(f).suffix for f in taken} == {".html", ".csv", ".png"}
    other = tmp_path / "sonar.png"
    other.write_bytes(files[0].read_bytes())
    text = message(fusion.fuse_scene, fusion.CHECKPOINT, model, *given[:3], [str(other)])
    assert "tells no sensor" in text and "event" in text


def test_a_map_runs_over_its_own_range_and_a_flat_one_is_not_blown_up() -> None:
    heat = np.array([[0.30, 0.40]], np.float32)
    pixels = np.asarray(drawing.spectrum(heat, (10, 20)))
    assert pixels[0, 0].tolist() == list(drawing.SCALE[0])
    assert pixels[0, -1].tolist() == list(drawing.SCALE[-1])
    flat = np.asarray(drawing.spectrum(np.array([[0.3, 0.301]], np.float32), (10, 20)))
    assert flat[0, -1, 2] > 90 and flat[0, -1, 0] > 40
