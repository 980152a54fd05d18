"""What stands between a click and the library, and how the page is served; without a browser."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("gradio")

import gradio as gr
import httpx
import numpy as np

from wildsight.app import jobs, models
from wildsight.app.models import CHECKPOINT, Chosen
from wildsight.app.server import QUEUE, UPLOAD_MB, serve
from wildsight.app.tabs import anomaly, composition, compression, discovery, fusion, segmentation, spatial
from wildsight.files import load_checkpoint, save_checkpoint
from wildsight.fusion import drawing
from wildsight.images import from_array
from wildsight.training.progress import Meter


def message(job: Callable[..., Any], *values: Any, seconds: float = 60.0, tab: str = "") -> str:
    """What the page says of a job that fails."""
    with pytest.raises(gr.Error) as caught:
        jobs.guarded(job, seconds=seconds, tab=tab)(None, *values)
    assert caught.value.duration >= jobs.SHOWN, "it goes away, but not before it can be read"
    return str(caught.value.message)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    file = tmp_path / "grey.png"
    from_array(torch.full((64, 64, 3), 0.5).numpy()).save(file)
    return str(file)


def test_an_empty_folder_box_is_one_sentence_in_every_tab(picture: str) -> None:
    asked: dict[Callable[..., Any], tuple[Any, ...]] = {
        anomaly.look_at: (None, "bolt", 5, [picture]),
        segmentation.outline_box: (picture, 0, 0, 9, 9),
        composition.recognise: ([picture], ""),
        fusion.fuse_scene: ("clear", 0, ["rgb"], None),
        spatial.find_it: (picture, "the cube", None, {}),
    }
    for job, values in asked.items():
        said = message(job, Chosen(CHECKPOINT, " "), *values)
        assert said == "no checkpoint is named; name the folder of the checkpoint"
    assert "no model is named" in message(compression.answer, "", picture, "what ?", 0.5, 0.5)


def test_a_folder_that_is_no_checkpoint_is_a_sentence(tmp_path: Path, picture: str) -> None:
    text = message(composition.recognise, Chosen(CHECKPOINT, str(tmp_path / "none")), [picture], "")
    assert "no such checkpoint folder" in text


def test_a_model_that_is_fitted_again_in_its_folder_is_read_again(tmp_path: Path) -> None:
    def save(value: float) -> None:
        save_checkpoint(tmp_path / "model", {"w": torch.tensor([value])}, {})

    def load(folder: Path) -> Any:
        return load_checkpoint(folder)[0]["w"]

    save(1.0)
    first = models.fitted("test", str(tmp_path / "model"), load)
    assert models.fitted("test", f" {tmp_path / 'model'} ", load) is first
    save(2.0)
    assert models.fitted("test", str(tmp_path / "model"), load).item() == 2.0


def test_a_plain_folder_of_a_model_is_told_from_what_stood_there_before(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"one")
    before = models.state_of(tmp_path)
    assert models.state_of(tmp_path) == before
    (tmp_path / "weights.bin").write_bytes(b"three")
    assert models.state_of(tmp_path) != before


@pytest.fixture
def hang() -> Iterator[Callable[[], None]]:
    """A job that never ends by itself."""
    end = threading.Event()

    def hung() -> None:
        end.wait(60)

    yield hung
    end.set()
    for future in jobs._late:
        future.result(timeout=60)


def test_after_a_hung_job_the_next_one_gets_its_turn(hang: Callable[[], None]) -> None:
    assert "took more than 0 seconds" in message(hang, seconds=0.1)
    assert jobs.guarded(lambda: "answer", seconds=10)(None) == "answer"


def test_too_many_hung_jobs_are_a_sentence_until_they_end(hang: Callable[[], None]) -> None:
    for _ in range(jobs.LATE):
        message(hang, seconds=0.1)
    assert "start the server again" in message(lambda: "answer")
    assert not jobs.ANSWERS


def test_a_job_that_waits_for_its_turn_too_long_is_a_sentence() -> None:
    first = jobs.Job()
    jobs.ANSWERS.enter(first)
    assert "another job is still running" in message(lambda: "answer", seconds=0.1)
    assert jobs.running() == "Running or waiting on this server now: 1 job."
    sample = jobs.guarded(lambda: "sample", queue=jobs.SAMPLES, seconds=10)
    assert sample(None) == "sample", "a sample does not wait behind it"
    jobs.ANSWERS.leave(first)


def test_a_question_does_not_wait_behind_a_training() -> None:
    begun, end = threading.Event(), threading.Event()

    def train() -> str:
        with jobs.learning():
            begun.set()
            end.wait(60)
        return "trained"

    with ThreadPoolExecutor(2) as pool:
        training = pool.submit(jobs.guarded(train, seconds=0.5), None)
        assert begun.wait(60)
        assert jobs.guarded(lambda: "answer", seconds=10)(None) == "answer"
        end.set()
        assert training.result(60) == "trained", "a training has no time limit"
    assert not jobs.ANSWERS and not jobs.TRAININGS


def test_stop_ends_the_jobs_of_its_tab_alone() -> None:
    begun = threading.Event()

    def steps() -> str:
        with Meter("steps", 3000, enabled=False) as meter:
            for _ in range(3000):
                meter.add(1)
                begun.set()
                time.sleep(0.01)
        return "whole"

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(message, steps, tab="one")
        assert begun.wait(60)
        waiting = pool.submit(message, lambda: "answer", tab="waits")
        while len(jobs.ANSWERS) < 2:
            time.sleep(0.01)
        assert jobs.stop("waits", "") == 1
        assert waiting.result(60) == "stopped"
        assert jobs.stop("one", "another session") == 0
        assert jobs.stop("one", "") == 1
        assert one.result(60) == "stopped"
    assert not jobs.ANSWERS and not jobs._late


def test_a_timeout_of_the_job_itself_is_a_fault_and_not_a_late_job() -> None:
    def faulty() -> None:
        raise TimeoutError("of its own")

    assert "of its own" in message(faulty)
    assert jobs._late == []


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


def test_an_upload_above_the_limit_is_refused(served: tuple[Any, str]) -> None:
    _, url = served
    for size, refused in ((1000, False), (2 * 2**20, True)):
        files = {"files": ("a.png", bytes(size), "image/png")}
        answer = httpx.post(f"{url}gradio_api/upload", files=files, timeout=60)
        assert (answer.status_code >= 400) is refused, answer.text


def test_what_could_not_be_read_is_named_by_discovery(tmp_path: Path, picture: str) -> None:
    words = tmp_path / "words.png"
    words.write_bytes(b"this is no picture")
    text = message(discovery.sort_pictures, Chosen(discovery.OWN), [picture], [str(words)], "auto")
    assert text.startswith("no unlabelled picture could be read") and "words.png" in text


def test_a_checkpoint_with_event_and_lidar_answers_about_its_own_sensors(tmp_path: Path) -> None:
    from wildsight.fusion import FusionSegmenter
    from wildsight.fusion.data import SENSORS, world

    data = world(32, 0.02)
    segmenter = FusionSegmenter("pwrf", "nano-conv", image_size=32)
    model = str(segmenter.fit(data, progress=False, epochs=1).save_pretrained(tmp_path / "model"))
    chosen = Chosen(CHECKPOINT, model)
    assert fusion.sensors(CHECKPOINT, model)["choices"] == list(SENSORS)
    files = [tmp_path / f"hall_{name}.png" for name in ("rgb", "event", "lidar")]
    for file in files:
        from_array(data.part("test")[0].pictures[file.stem[5:]]).save(file)
    given = ("clear", 0, [*SENSORS], [str(f) for f in files])
    text, tiles, taken = jobs.guarded(fusion.fuse_scene)(None, chosen, *given)
    assert "event contributed" in text
    captions = [caption for _, caption in tiles]
    assert captions[:4] == ["rgb", "event", "lidar", "prediction"]
    assert [c.split(":")[0] for c in captions[4:]] == ["rgb", "event", "lidar"]
    assert all(" to " in c and c.endswith("%") for c in captions[4:])
    assert {Path(f).suffix for f in taken} == {".html", ".csv", ".png"}
    other = tmp_path / "sonar.png"
    other.write_bytes(files[0].read_bytes())
    text = message(fusion.fuse_scene, chosen, *given[:3], [str(other)])
    assert "tells no sensor" in text and "event" in text


def test_a_map_runs_over_its_own_range_and_a_flat_one_is_not_blown_up() -> None:
    heat = np.array([[0.30, 0.40]], np.float32)
    pixels = np.asarray(drawing.spectrum(heat, (10, 20)))
    assert pixels[0, 0].tolist() == list(drawing.SCALE[0])
    assert pixels[0, -1].tolist() == list(drawing.SCALE[-1])
    flat = np.asarray(drawing.spectrum(np.array([[0.3, 0.301]], np.float32), (10, 20)))
    assert flat[0, -1, 2] > 90 and flat[0, -1, 0] > 40
