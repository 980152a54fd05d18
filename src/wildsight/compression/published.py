"""Published PrefixKV layer sizes of LLaVA-1.5-7B, to three decimals: the share that each layer forgets."""

from __future__ import annotations

from wildsight.compression.profile import Profile

LLAVA_15_7B: dict[float, str] = {
    0.2: ".007 .089 .115 .220 .204 .311 .175 .169 .174 .150 .136 .104 .169 .194 .193 .178 "
    ".202 .207 .229 .272 .181 .377 .268 .312 .281 .242 .286 .250 .187 .248 .143 .099",
    0.5: ".114 .240 .345 .576 .569 .701 .489 .447 .454 .378 .342 .294 .428 .469 .494 .443 "
    ".523 .533 .565 .636 .503 .765 .644 .676 .669 .609 .677 .643 .481 .600 .386 .279",
    0.8: ".280 .434 .649 .910 .931 .977 .843 .784 .759 .673 .623 .574 .675 .742 .801 .714 "
    ".840 .856 .883 .935 .871 .990 .972 .971 .981 .959 .985 .984 .804 .942 .713 .527",
}


def llava_15_7b() -> Profile:
    """The published profile of LLaVA-1.5-7B at three budgets."""
    budgets = {
        round(1.0 - forgotten, 6): tuple(1.0 - float(v) for v in text.split())
        for forgotten, text in LLAVA_15_7B.items()
    }
    return Profile("llava-v1.5-7b", "published", budgets, source="arXiv 2412.03409, its repository")
