"""The classical features: statistics against SciPy, descriptions in their places."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from stages.embed.backbones.fma_features import FmaFeaturesConfig
from stages.embed.inputs.classical import COEFFICIENTS, DIM, NOTES, ROWS, STATISTICS, describe, statistics
from store.errors import RequestError

RATE_HZ = 22_050


def test_statistics_are_scipys() -> None:
    rows = np.random.default_rng(0).gamma(2.0, size=(5, 400)).astype(np.float32)
    rows[4] = 3.25
    values = statistics(rows)
    varying = rows[:4].astype(np.float64)
    expected = [
        *(varying.mean(1), varying.std(1), scipy.stats.skew(varying, axis=1), scipy.stats.kurtosis(varying, axis=1)),
        *(np.median(varying, 1), varying.min(1), varying.max(1)),
    ]
    np.testing.assert_allclose(values[:, :4], expected, rtol=1e-5)
    assert values[:, 4].tolist() == [3.25, 0, 0, 0, 3.25, 3.25, 3.25]


def test_descriptions_stand_in_their_places() -> None:
    """A steady A: the chroma say A, the centroid lies among its partials, its loudness is that of the wave."""
    time_s = np.arange(8 * RATE_HZ) / RATE_HZ
    wave = sum(0.2 / k * np.sin(2 * np.pi * 440 * k * time_s) for k in (1, 2, 3)).astype(np.float32)
    values = describe(wave, RATE_HZ)
    assert values.shape == (DIM,) == (518,)
    assert np.isfinite(values).all()
    means, deviations = values.reshape(STATISTICS, ROWS)[:2]
    a = 9  # from C
    for first in range(0, 3 * NOTES, NOTES):
        assert means[first : first + NOTES].argmax() == a
    rms, crossings, centroid, bandwidth = means[3 * NOTES + 6 + COEFFICIENTS :][:4]
    assert rms == pytest.approx(np.sqrt(3 / 8 * (wave**2).mean()), rel=0.02)  # a Hann window's mean square is 3/8
    assert crossings == pytest.approx(2 * 440 / RATE_HZ, rel=0.02)
    assert 440 < centroid < 1320
    assert bandwidth > 0
    assert deviations[3 * NOTES + 6 + COEFFICIENTS] < 0.1 * rms  # steady, but for the edges
    louder = describe(2 * wave, RATE_HZ).reshape(STATISTICS, ROWS)[0]
    np.testing.assert_allclose(louder[: 3 * NOTES], means[: 3 * NOTES], atol=1e-3)


@pytest.mark.parametrize("wrong", [{"window_s": 1.0}, {"window_s": 601.0}])
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        FmaFeaturesConfig(**wrong)
