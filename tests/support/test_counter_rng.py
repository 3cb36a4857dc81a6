import torch

from trm.support import counter_rng


def test_mix_is_splitmix64():
    # The first outputs of SplitMix64 from seeds 0 and 1234567, as published with the algorithm.
    seeds = torch.tensor([0, 1234567])
    expected = [0xE220A8397B1DCDAF, 6457827717110365317]
    assert [value % 2**64 for value in counter_rng.mix(seeds).tolist()] == expected


def test_a_draw_depends_on_its_own_key_only():
    keys = torch.arange(100)
    assert counter_rng.draws(keys, 3)[17].equal(counter_rng.draws(keys[17:18], 5)[0, :3])


def test_draws_fill_their_range_evenly():
    keys = counter_rng.key(3, torch.arange(70_000))
    counts = counter_rng.below(keys, 7).bincount(minlength=7)
    assert ((counts - 10_000).abs() < 500).all()  # five standard deviations
    uniform = counter_rng.uniform(keys)
    assert 0 <= uniform.min() < 1e-3
    assert 0.999 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 6e-3


def test_words_of_a_key_do_not_commute():
    assert counter_rng.key(1, 2) != counter_rng.key(2, 1)
