"""The browser app: one page, a tab per task. Started by ``wildsight app``; needs the extra ``[app]``.

It works offline, loads nothing from elsewhere, and listens on the loopback address unless told otherwise.
"""

from __future__ import annotations
