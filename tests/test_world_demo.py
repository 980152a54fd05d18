"""The world's stop of the tour."""

from wildsight.report import Report
from wildsight.world.demo import demo


def test_the_demo_shows_sheets_and_asks(tmp_path):
    report = Report("tour")
    demo(report, tmp_path, quick=True)
    page = report.save(tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 4
    assert "how many" in page and "comparison" in page
    assert (tmp_path / "world-scenes.png").is_file()
