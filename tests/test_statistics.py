"""Statistics of repeats: against scipy, closed forms and published numbers, and by what they promise: intervals cover,
and Holm's correction errs as seldom as it says."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxvision.report.statistics import contrast, effect_weights, holm, mean_interval

LEVELS = (("without", "with"), ("small", "middle", "large"), ("x", "y"))
CELLS = list(itertools.product(*LEVELS))


def by_seed(array: np.ndarray) -> dict[int, float]:
    return dict(enumerate(array.tolist()))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_means_have_scipys_t_interval(n):
    values = np.random.default_rng(n).normal(0.9, 0.01, n)
    found = mean_interval(values.tolist())
    expected = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), *expected), rel=1e-12)
    narrow = mean_interval(values.tolist(), confidence=0.5)
    assert (narrow.high - narrow.low) / (found.high - found.low) == pytest.approx(
        stats.t.ppf(0.75, n - 1) / stats.t.ppf(0.975, n - 1)
    )


def test_the_interval_of_gossets_own_data():
    """Student 1908, the additional hours of sleep by two drugs: mean difference 1.58, p 0.0028."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = contrast({"a": dict(enumerate(first)), "b": dict(enumerate(second))}, {"b": 1, "a": -1})
    assert (found.mean, found.low, found.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)
    assert found.p == pytest.approx(0.00283289, abs=1e-7)


def test_differences_are_paired_by_seed():
    random = np.random.default_rng(3)
    shared = random.normal(0, 1, 6)
    a, b = shared + random.normal(0.3, 0.1, 6), shared + random.normal(0, 0.1, 6)
    found = contrast({"a": by_seed(a), "b": dict(reversed(by_seed(b).items()))}, {"a": 1, "b": -1})
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_rel(a, b).confidence_interval()), rel=1e-9)
    assert found.high - found.low < 0.5, "what seeds share is no spread of the difference"


def test_only_seeds_that_all_have_count():
    values = {"a": {0: 1.0, 1: 2.0, 3: 9.0}, "b": {3: 4.0, 0: 0.5, 2: 7.0}}
    found = contrast(values, {"a": 1, "b": -1})
    assert (found.seeds, found.n, found.mean) == ((0, 3), 2, 2.75)
    assert contrast({"a": {0: 1.0}, "b": {1: 1.0}}, {"a": 1, "b": -1}) is None
    assert contrast({"a": {0: 1.0}}, {"a": 1, "b": -1}) is None


def test_one_seed_or_no_spread_gives_no_interval():
    one = mean_interval([0.9])
    assert (one.mean, one.low, one.high, one.n) == (0.9, None, None, 1)
    single = contrast({"a": {5: 0.9}, "b": {5: 0.7}}, {"a": 1, "b": -1})
    assert single.mean == pytest.approx(0.2)
    assert (single.low, single.high, single.p) == (None, None, None)
    # Differences of 0.02 each, but for the rounding of floats, which would make a p of 1e-30.
    base = {0: 0.91, 1: 0.3, 2: 0.77}
    same = contrast({"a": {seed: value + 0.02 for seed, value in base.items()}, "b": base}, {"a": 1, "b": -1})
    assert same.mean == pytest.approx(0.02)
    assert (same.low, same.p, same.n) == (None, None, 3)
    for wrong in ([], [0.5, float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            mean_interval(wrong)


def test_effects_of_a_two_by_two_design_are_those_of_the_textbook():
    y = {("0", "0"): 10.0, ("1", "0"): 14.0, ("0", "1"): 11.0, ("1", "1"): 20.0}
    levels, values = (("0", "1"), ("0", "1")), {cell: {0: value} for cell, value in y.items()}
    assert contrast(values, effect_weights(levels, {0: "1"})).mean == (4 + 9) / 2
    assert contrast(values, effect_weights(levels, {1: "1"})).mean == (1 + 6) / 2
    assert contrast(values, effect_weights(levels, {0: "1", 1: "1"})).mean == 9 - 4


def test_effects_of_more_levels_find_what_was_planted_and_nothing_else():
    """Main effects sum to zero over levels, so that a level's difference to the first is as planted."""
    planted = {"with": 0.3, "middle": 0.2, "large": -0.4, ("with", "large"): 0.6}
    values = {}
    for cell in CELLS:
        effect = sum(planted.get(level, 0.0) for level in cell) + planted.get((cell[0], cell[1]), 0.0)
        values[cell] = {0: 5 + effect}

    def effect(chosen):
        return contrast(values, effect_weights(LEVELS, chosen)).mean

    assert effect({0: "with"}) == pytest.approx(0.3 + 0.6 / 3), "a third of the sizes has the interaction"
    assert effect({1: "middle"}) == pytest.approx(0.2)
    assert effect({1: "large"}) == pytest.approx(-0.4 + 0.6 / 2)
    assert effect({2: "y"}) == pytest.approx(0, abs=1e-12)
    assert effect({0: "with", 1: "large"}) == pytest.approx(0.6)
    assert effect({0: "with", 1: "middle"}) == pytest.approx(0, abs=1e-12)
    assert effect({1: "large", 2: "y"}) == pytest.approx(0, abs=1e-12)


def test_holm_on_published_numbers():
    # The example of the Holm-Bonferroni method in Wikipedia and in many courses: at 5 %, the fourth and the first fall.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7]) == [0.7]
    assert holm([0.9, 0.9]) == [1.0, 1.0]


def test_holm_is_the_closed_test_of_bonferroni():
    """A hypothesis falls where all sets of hypotheses that hold it do: (size of the set) x (its smallest p)."""
    random = np.random.default_rng(0)
    for count in (2, 3, 6):
        p = random.uniform(0, 0.3, count)
        sets = [s for size in range(1, count + 1) for s in itertools.combinations(range(count), size)]
        expected = [max(min(1, len(s) * p[list(s)].min()) for s in sets if place in s) for place in range(count)]
        assert holm(p.tolist()) == pytest.approx(expected)


SIMULATIONS = 1000
TRUE = {"with": 0.03, "middle": 0.01, "large": -0.02, "y": 0.0, ("with", "large"): 0.05}


def simulated(random: np.random.Generator, seeds: int) -> dict[tuple[str, ...], dict[int, float]]:
    """Cells with planted effects; seeds have something in common, and arms spread differently."""
    shared = random.normal(0, 0.05, seeds)
    values = {}
    for number, cell in enumerate(CELLS):
        mean = 0.8 + sum(TRUE.get(level, 0.0) for level in cell) + TRUE.get((cell[0], cell[1]), 0.0)
        values[cell] = by_seed(mean + shared + random.normal(0, 0.01 * (1 + number % 3), seeds))
    return values


def test_intervals_cover_at_their_rate():
    """Of 95 % intervals in 1,000 simulations, 95 % hold what was planted, give or take 2 % (three standard errors)."""
    random, base, other = np.random.default_rng(8), CELLS[0], ("with", "large", "x")
    asked = {
        "arm": (0.8, None),
        "paired difference": (0.03 - 0.02 + 0.05, {other: 1, base: -1}),
        "factor of two levels": (0.03 + 0.05 / 3, effect_weights(LEVELS, {0: "with"})),
        "level of three": (-0.02 + 0.05 / 2, effect_weights(LEVELS, {1: "large"})),
        "no effect": (0.0, effect_weights(LEVELS, {2: "y"})),
        "interaction": (0.05, effect_weights(LEVELS, {0: "with", 1: "large"})),
        "no interaction": (0.0, effect_weights(LEVELS, {1: "middle", 2: "y"})),
    }
    hits = dict.fromkeys(asked, 0)
    for _ in range(SIMULATIONS):
        values = simulated(random, seeds=4)
        for name, (truth, weights) in asked.items():
            found = mean_interval(list(values[base].values())) if weights is None else contrast(values, weights)
            hits[name] += found.low <= truth <= found.high
    rates = {name: count / SIMULATIONS for name, count in hits.items()}
    assert all(0.93 <= rate <= 0.97 for rate in rates.values()), rates


def test_holm_keeps_the_error_of_the_whole_family():
    """No arm differs from the base: without correction one of six seems to in far more than 5 % of 1,000 reports."""
    random, arms = np.random.default_rng(9), "abcdef"
    plain = corrected = 0
    for _ in range(SIMULATIONS):
        values = {arm: by_seed(random.normal(0.9, 0.01, 5)) for arm in ("base", *arms)}
        p = [contrast(values, {arm: 1, "base": -1}).p for arm in arms]
        plain += min(p) < 0.05
        corrected += min(holm(p)) < 0.05
    assert plain / SIMULATIONS > 0.12
    assert 0.01 < corrected / SIMULATIONS < 0.07
