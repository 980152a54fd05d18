"""Find what is wrong, from good pictures alone: the source of `notebooks/anomaly.ipynb`."""
# ruff: noqa: E501

# %% [markdown]
# # Find what is wrong, from good pictures alone
#
# The detector sees good pictures of a washer, holds some of them out to set its threshold, and then looks at
# pictures that it never saw. No picture of a defect is needed. Here the pictures are drawn on the spot; a folder of
# your own goes in the same place.
# %%
from wildsight import AnomalyDetector
from wildsight.anomaly.data import read_source

data = read_source("world").select(["washer"])
detector = AnomalyDetector("padim", false_alarm_rate=0.05, calibration=0.3).fit(data, progress=False)
# %% [markdown]
# One call looks at many pictures. A score at or above the threshold is an anomaly; the map says where.
# %%
bad = [s.image for s in data.test if s.label == 1][:4]
results, errors = detector.predict_files(bad)
for result in results:
    print(result.image.name, "ANOMALOUS" if result.anomalous else "good", round(result.score, 2))
results[0].overlay()
# %% [markdown]
# Where masks exist, `evaluate` says how good that is. The methods are one argument apart: `ras` (the paper),
# `uniad`, `patchcore`, `padim`.
# %%
detector.evaluate(data).rows[-1]
