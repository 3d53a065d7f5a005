import itertools

import numpy as np

from igpt.randomness import Stream, stream, stream_seed


def test_no_two_streams_share_their_numbers():
    paths = [
        (name, *numbers)
        for name in Stream
        for length in range(4)
        for numbers in itertools.product(range(3), repeat=length + 1)  # a seed and what follows
    ]
    first = {stream(*path).bytes(16) for path in paths}
    assert len(first) == len(paths)
    assert len({stream_seed(*path) for path in paths}) == len(paths)


def test_a_stream_is_the_same_whenever_it_is_asked_for():
    again = [stream(Stream.ORDER, 7, 3).permutation(50) for _ in range(2)]
    assert np.array_equal(*again)
    assert stream_seed(Stream.MASKS, 7, 3) == stream_seed(Stream.MASKS, 7, 3)


def test_seeds_have_as_many_bits_as_are_wanted():
    seeds = [stream_seed(Stream.FOLDS, seed, bits=32) for seed in range(100)]
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert max(seeds) > 2**31
    assert max(stream_seed(Stream.MASKS, seed) for seed in range(100)) > 2**62
