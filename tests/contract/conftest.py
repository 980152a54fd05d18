"""Marks the expected failures of the contract, by the name of the check and of the object."""

from __future__ import annotations

import pytest

from contract.objects import expected


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        if "subject" not in params or "contract" not in item.path.parts:
            continue
        others = [str(v) for k, v in params.items() if k != "subject"]
        check = getattr(item, "originalname", item.name) + (f"[{','.join(others)}]" if others else "")
        reason = expected(check, params["subject"].name)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
