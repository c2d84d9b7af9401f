import collections

from fv import record
from fv.conversion import sampling


def sample(count, seed, records):
    taken = sampling.PairSample(count, seed)
    for number in range(records):
        taken.add({record.LABEL: number % 2, "number": number})
    return [pair["number"] for pair in taken.pairs()]


def test_half_of_the_sample_is_genuine_and_each_half_in_order():
    numbers = sample(10, 0, 1000)
    assert [number % 2 for number in numbers] == [1] * 5 + [0] * 5
    assert numbers[:5] == sorted(numbers[:5]) and numbers[5:] == sorted(numbers[5:])


def test_the_seed_and_the_records_decide():
    assert sample(10, 3, 500) == sample(10, 3, 500) != sample(10, 4, 500)


def test_every_record_is_as_likely():
    thirds = collections.Counter(
        number // 20 for seed in range(300) for number in sample(6, seed, 60)
    )
    assert all(480 < thirds[third] < 720 for third in range(3))


def test_fewer_records_than_wanted_are_all_taken():
    assert sample(24, 0, 6) == [1, 3, 5, 0, 2, 4]
    assert sample(24, 0, 0) == []
