"""Seeds by name."""

from __future__ import annotations

from pipeline.seeds import seed_for


def test_a_seed_is_the_same_in_every_run_and_on_every_machine() -> None:
    assert seed_for(20180924, "fit", "deepfd", "dcgan", 0) == 6829484917219226117


def test_every_name_and_the_base_change_the_seed() -> None:
    calls = [(0, "fit", "a"), (1, "fit", "a"), (0, "split", "a"), (0, "fit", "b"), (0, "fit")]
    assert len({seed_for(*call) for call in calls}) == len(calls)


def test_names_do_not_run_together() -> None:
    assert seed_for(0, "ab", "c") != seed_for(0, "a", "bc")
    assert seed_for(0, "a", 11) != seed_for(0, "a", 1, 1)


def test_seeds_fit_a_signed_64_bit_column_and_fill_its_range() -> None:
    seeds = [seed_for(0, "row", index) for index in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 0.99 * 2**63
    assert min(seeds) < 0.01 * 2**63
