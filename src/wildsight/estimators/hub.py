"""How checkpoints travel: a card in every folder, fetched from and pushed to a hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wildsight.errors import CheckpointError, ConfigError
from wildsight.estimators.tasks import TASKS
from wildsight.files import MANIFEST

CARD = "README.md"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_repository(name: str | Path) -> bool:
    """Whether a name is that of a repository (``user/name``) and of no folder here.

    >>> is_repository("facebook/dinov2-small"), is_repository("nano-conv")
    (True, False)
    """
    return _REPO.fullmatch(str(name)) is not None and not Path(name).exists()


def fetched(name: str | Path, revision: str | None) -> Path:
    """The local folder of a checkpoint; a repository is downloaded, or taken from the cache.

    Raises:
        CheckpointError: no folder and no repository of that name, or it cannot be fetched.
    """
    if not is_repository(name):
        if revision is not None:
            raise CheckpointError("a folder has no revisions", where=name, hint="leave out revision=")
        return Path(name)
    from huggingface_hub import snapshot_download

    from wildsight.backbones.hub import reason

    try:
        return Path(snapshot_download(str(name), revision=revision))
    except Exception as error:
        hint = "check the name, the revision, the token (HF_TOKEN) and the network"
        raise CheckpointError(f"cannot be fetched ({reason(error)})", where=name, hint=hint) from error


def pushed(folder: Path, repo: str, private: bool, revision: str | None) -> str:
    """Upload a checkpoint folder; returns the commit's address.

    Raises:
        ConfigError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    from wildsight.backbones.hub import reason

    if _REPO.fullmatch(repo) is None:
        raise ConfigError(f"{repo!r} names no repository", hint="write user/name")
    api = HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(folder_path=folder, repo_id=repo, revision=revision)
    except Exception as error:
        hint = "check the name, the token (HF_TOKEN) and the network"
        raise ConfigError(f"cannot be pushed to {repo} ({reason(error)})", hint=hint) from error
    return str(getattr(done, "commit_url", repo))


def card(config: Mapping[str, Any], method: str, backbone: str, title: str) -> str:
    """The model card of a checkpoint: metadata that hubs read, then what it is and how to load it.

    Args:
        config: what the checkpoint's JSON says.
        method: name of the method.
        backbone: name of the frozen network.
        title: of the public object.
    """
    from huggingface_hub import ModelCardData

    from wildsight.backbones.hub import split_name

    task, base = str(config["task"]), split_name(backbone)[0]
    data = ModelCardData(
        library_name="wildsight",
        pipeline_tag=TASKS[task].pipeline,
        tags=["wildsight", task, method],
        **({"base_model": base} if is_repository(base) else {}),
    )
    fitted = {k: v for k, v in dict(config.get("fitted_on", {})).items() if not isinstance(v, Mapping)}
    facts = "\n".join(f"- {name}: {value}" for name, value in fitted.items())
    return f"""---
{data.to_yaml()}
---

# {title}: {method} on {backbone}

{TASKS[task].problem[:1].upper()}{TASKS[task].problem[1:]}.

```python
from wildsight import {title}

model = {title}.from_pretrained("this/folder")
```

## Fitted on

{facts}

Settings and hyper-parameters are in the JSON file beside this card; `{MANIFEST}` holds every file's SHA-256.
The licence is that of the pictures it was fitted on and of its backbone.
"""
