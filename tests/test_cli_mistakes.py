"""Everyday mistakes at the command line: one sentence, exit code 2, no traceback, and nothing written."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wildsight.cli import main

PLACES = {
    "SET": "set", "MASKS": "masks", "ABSENT": "absent", "FILE": "file", "EMPTY": "empty", "MODEL": "model",
    "PNG": "a.png", "OUT": "out",
}  # fmt: skip
SETS = Path(__file__).parent / "regression" / "sets"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set, a picture, and what users name in place of them."""
    root = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(SETS / "anomaly", root / "set")
    shutil.copytree(SETS / "segmentation", root / "masks")
    for name in ("empty", "model", "classes"):
        (root / name).mkdir()
    (root / "model" / "config.json").write_text("{}")
    (root / "file").write_text("x")
    (root / "words.csv").write_text("a,b\n1,2\n")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "a.png")
    os.mkfifo(root / "pipe.png")
    return root


MISTAKES = {
    # the command itself
    "anomly fit SET": "no command is called 'anomly'",
    "anomaly train SET": "no such command 'train'",
    "anomaly fit SET --epoch 3": "no such option: --epoch",
    "anomaly fit SET SET": "unexpected extra argument",
    "anomaly predict MODEL": "missing argument",
    "anomaly fit SET --out": "requires an argument",
    "check": "missing argument",
    "check anomoly SET": "no task is called 'anomoly'",
    "check SET anomaly": "no task is called",
    "methods nosuch": "no task is called 'nosuch'",
    "doctor please": "unexpected extra argument",
    "tour --nosuch": "no such option",
    "world nosuch": "no such command",
    "inspect nosuch": "no such command",
    "report nosuch": "no such command",
    # what is read
    "anomaly fit ABSENT --out OUT": "no such folder",
    "anomaly fit FILE --out OUT": "not a folder",
    "anomaly fit PNG --out OUT": "not a folder",
    "anomaly fit EMPTY --out OUT": "holds no folder layout",
    "anomaly fit mvtec:SET --out OUT": "no reader is called 'mvtec'",
    "anomaly fit visa:ABSENT --out OUT": "no such folder",
    "composition fit EMPTY --out OUT": "holds no pairs",
    "retrieval fit SET --out OUT": "holds no",
    "discovery fit SET --out OUT": "holds neither",
    "discovery sort SET ABSENT --out OUT": "no such folder",
    "continual fit EMPTY --out OUT": "holds no task",
    "segmentation fit EMPTY --out OUT": "holds no defect",
    "fusion fit MASKS --modality rgb --out OUT": "modality",
    "spatial fit SET --out OUT": "no such file",
    "check anomaly ABSENT": "no such folder",
    "check anomaly EMPTY": "holds no folder layout",
    "check discovery SET": "holds neither",
    "check fusion PNG": "not a folder",
    "bench anomaly ABSENT --out OUT": "no such folder",
    # swapped, and what is no model
    "anomaly predict PNG SET --out OUT": "no such checkpoint folder",
    "anomaly predict ABSENT PNG --out OUT": "no such checkpoint folder",
    "anomaly predict MODEL PNG --out OUT": "no manifest.json",
    "anomaly predict SET PNG --out OUT": "no manifest.json",
    "anomaly predict MODEL EMPTY --out OUT": "no picture found",
    "anomaly predict MODEL ABSENT/*.png --out OUT": "no picture found",
    "anomaly evaluate ABSENT SET --out OUT": "no such checkpoint folder",
    "anomaly evaluate SET MODEL --out OUT": "no manifest.json",
    "anomaly export ABSENT --out OUT": "no such checkpoint folder",
    "retrieval index ABSENT SET": "no such checkpoint folder",
    "segmentation predict MODEL PNG --out OUT": "no box and no point",
    "segmentation predict MODEL PNG --box 1,2,3 --out OUT": "is not 4 numbers",
    "segmentation predict MODEL PNG --prompts FILE --out OUT": "not a readable JSON file",
    "fusion predict MODEL PNG --out OUT": "names no modality",
    "fusion predict MODEL rgb=PNG rgb=PNG --out OUT": "given twice",
    "fusion predict MODEL rgb=PNG depth=SET --out OUT": "mixed with folders",
    "spatial predict MODEL PNG cube --box 1,b --out OUT": "is no box",
    "discovery apply ABSENT --to OUT": "no such file",
    "discovery undo EMPTY": "no such file",
    "inspect look ABSENT PNG": "holds no project",
    # where it is written
    "anomaly fit SET --out FILE": "cannot write",
    "anomaly fit SET --out SET/run": "lies inside",
    "anomaly fit SET --out SET": "lies inside",
    "anomaly predict MODEL SET --out SET/run": "lies inside",
    "anomaly predict MODEL SET --out FILE": "cannot write",
    "anomaly evaluate MODEL SET --out SET/run": "lies inside",
    # settings, before any work
    "anomaly fit SET --false-alarm-rate 5 --out OUT": "false_alarm_rate=5.0 is outside its range",
    "anomaly fit SET --seed -1 --out OUT": "--seed",
    "anomaly fit SET --image-size 3 --out OUT": "--image-size",
    "anomaly fit SET --epochs 0 --out OUT": "--epochs",
    "anomaly fit SET --epochs many --out OUT": "valid integer",
    "anomaly fit SET --lr -1 --out OUT": "lr=-1.0 is outside its range",
    "anomaly fit SET --precision fp8 --out OUT": "fp8",
    "anomaly fit SET --device gpus --out OUT": "gpus",
    "anomaly fit SET --method rass --out OUT": "did you mean 'ras'",
    "anomaly fit SET --method ras[dd=3] --out OUT": "did you mean 'd'",
    "anomaly fit SET --set dd=3 --out OUT": "unknown option 'dd'",
    "anomaly fit SET --set d --out OUT": "needs a name and a value",
    "anomaly fit SET --set d=big --out OUT": "is not a whole number",
    "anomaly fit SET --select test --out OUT": "test pictures select nothing",
    "anomaly fit SET --full-scale 0 --out OUT": "full_scale=0",
    "anomaly fit SET --backbone nano-cnn --out OUT": "no nano checkpoint",
    "anomaly fit SET --backbone nano-sam --out OUT": "no features of pictures",
    "composition fit SET --backbone nano-conv --method csp --out OUT": "has no text tower",
    "composition fit SET --abstain 7 --out OUT": "abstain=7.0 is outside its range",
    "retrieval fit SET --bits 3 --out OUT": "multiple of 8",
    "discovery fit SET --k zero --out OUT": "k='zero'",
    "discovery fit SET --preset nice --out OUT": "no preset is called",
    "continual fit SET --max-drop -1 --out OUT": "--max-drop",
    "segmentation fit MASKS --train-fraction 2 --out OUT": "train_fraction=2.0 is outside",
    "segmentation fit MASKS --base nano-conv --out OUT": "takes no boxes or points",
    "segmentation fit MASKS --base nano-sam --backbone nano-sam --out OUT": "name the same thing",
    "bench anomaly SET --method nosuch --out OUT": "unknown method 'nosuch'",
    "bench anomaly SET --seeds 0 --out OUT": "--seeds",
    "app --port 0": "--port",
    "app --port http": "valid integer",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence(line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = re.sub("|".join(PLACES), lambda word: str(place / PLACES[word[0]]), line)
    before = set(place.rglob("*"))
    with pytest.raises(SystemExit) as stop:
        main(typed.split())
    err = capsys.readouterr().err
    assert stop.value.code == 2, err
    said = [text for text in err.splitlines() if text.startswith("error: ")]
    assert len(said) == 1 and err.rstrip().endswith(said[0]), err
    assert MISTAKES[line].lower() in said[0].lower() and "Traceback" not in err
    written = {p for p in place.rglob("*") if p.is_file() or p.is_fifo()} - before
    assert not written, written
    shutil.rmtree(place / "out", ignore_errors=True)
