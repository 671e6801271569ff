"""The order of items, and batches that threads, order of requests and resuming do not change."""

import collections
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from trainkit.batches import Balanced, Batches, InOrder, Shuffled, Weighted


class Numbers(Batches):
    """Batches of (item, random number) pairs."""

    def sample(self, item, rng):
        return np.array([item, rng.integers(1000)])

    def collate(self, samples):
        return np.stack(samples), np.zeros(len(samples))


def make(workers=0, count=7, seed=3, **settings):
    return Numbers(
        Shuffled(range(count), seed), **{"batch_size": 2, "steps": 4, "seed": seed, **settings}, workers=workers
    )


def items(order, count):
    return [order[position] for position in range(count)]


def test_in_order_goes_round():
    assert items(InOrder("abc"), 7) == list("abcabca")


def test_shuffled_brings_all_before_any_comes_again():
    order = Shuffled(range(7), 5)
    seen = items(order, 70)
    rounds = [tuple(seen[start : start + 7]) for start in range(0, 70, 7)]
    assert all(sorted(round_) == list(range(7)) for round_ in rounds) and len(set(rounds)) > 5
    assert [order[position] for position in (69, 3, 12)] == [seen[69], seen[3], seen[12]]
    assert items(Shuffled(range(7), 5), 70) == seen != items(Shuffled(range(7), 6), 70)


def test_balanced_brings_every_group_and_every_member_equally_often():
    groups = {"large": range(12), "small": (20, 21, 22), "single": [30]}
    seen = items(Balanced(groups, 4), 36 * 5)
    group_of = {item: name for name, members in groups.items() for item in members}
    rounds = [sorted(group_of[item] for item in seen[start : start + 3]) for start in range(0, len(seen), 3)]
    assert all(round_ == ["large", "single", "small"] for round_ in rounds)
    assert len({tuple(group_of[item] for item in seen[start : start + 3]) for start in range(0, 60, 3)}) > 3
    counts = collections.Counter(seen)
    assert {counts[item] for item in range(12)} == {5}
    assert {counts[item] for item in (20, 21, 22)} == {20} and counts[30] == 60
    assert items(Balanced(groups, 4), 50) == seen[:50] != items(Balanced(groups, 5), 50)
    assert Balanced(groups, 4)[100] == seen[100], "any place can be asked for at once"


def test_nothing_to_choose_from_is_refused():
    for order in (
        lambda: InOrder([]),
        lambda: Shuffled([], 0),
        lambda: Balanced({}, 0),
        lambda: Balanced({"a": []}, 0),
    ):
        with pytest.raises(ValueError, match="no items"):
            order()


def test_threads_order_of_asking_and_resuming_change_nothing():
    plain, threaded, resumed = make(), make(workers=3), make(workers=2)
    expected = [[plain.batch(epoch, index) for index in range(4)] for epoch in range(3)]
    for epoch in range(3):
        threaded.on_epoch_begin()
        for index in range(4):
            np.testing.assert_array_equal(threaded[index][0], expected[epoch][index][0])
        threaded.on_epoch_end()
    assert threaded.epoch == 3
    resumed.epoch = 2
    for index in (2, 0, 0, 3, 1):
        np.testing.assert_array_equal(resumed[index][0], expected[2][index][0])
    drawn = np.concatenate([batch[0][:, 1] for epoch in expected for batch in epoch])
    assert len(set(drawn)) > 20, "every sample draws for itself"


def test_peeking_does_not_count_as_an_epoch():
    batches = make()
    batches.on_epoch_end()
    batches.on_epoch_begin()
    batches[0]
    batches.on_epoch_end()
    assert batches.epoch == 0


def test_what_is_no_tuple_are_the_inputs():
    class Inputs(Numbers):
        def collate(self, samples):
            return {"x": np.stack(samples)}

    (batch,) = Inputs(InOrder(range(3)), batch_size=3, steps=1)[0]
    assert batch["x"][:, 0].tolist() == [0, 1, 2]


def test_threads_work_at_once_and_only_the_next_batches_are_held():
    alive, most, running, together = weakref.WeakSet(), 0, set(), 0
    lock = threading.Lock()

    class Sample:
        pass

    class Tracked(Batches):
        def sample(self, item, rng):
            nonlocal most, together
            made = Sample()
            with lock:
                alive.add(made)
                running.add(threading.get_ident())
                together = max(together, len(running))
                most = max(most, len(alive))
            time.sleep(0.002)
            with lock:
                running.discard(threading.get_ident())
            return made

        def collate(self, samples):
            return tuple(samples)

    batches = Tracked(InOrder(range(1000)), batch_size=4, steps=40, workers=2)
    for index in range(40):
        batch = batches[index]
        assert len(batch) == 4
    del batch
    gc.collect()
    assert together == 2
    assert most <= 4 * (1 + 1 + 3), "the batch in use, the one before it, and the next three"


def test_error_in_a_thread_reaches_the_caller():
    class Broken(Numbers):
        def sample(self, item, rng):
            raise ValueError(f"image-{item}.png is truncated")

    with pytest.raises(ValueError, match=r"image-0\.png is truncated"):
        Broken(InOrder([0]), batch_size=1, steps=2, workers=2)[0]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"steps": 0}, {"seed": -1}, {"workers": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="Received"):
        Numbers(InOrder([1]), **{"batch_size": 1, "steps": 1, **wrong})


def test_an_epoch_has_its_steps():
    batches = make()
    assert len(batches) == 4
    with pytest.raises(IndexError, match="4 batches"):
        batches[4]


def test_weighted_groups_come_in_their_shares_and_each_item_once_before_any_again():
    groups = {"many": list(range(50)), "few": [100, 101, 102]}
    order = Weighted(groups, {"many": 3.0, "few": 1.0}, seed=5)
    drawn = [order[position] for position in range(4096)]
    assert sum(item >= 100 for item in drawn) == 1024
    for members in groups.values():
        own = [item for item in drawn if item in members]
        for start in range(0, len(own) - len(members), len(members)):
            assert sorted(own[start : start + len(members)]) == members
    # Any place can be asked for alone, and in any order.
    again = Weighted(groups, {"many": 3.0, "few": 1.0}, seed=5)
    assert [again[position] for position in (4000, 3, 2050)] == [drawn[position] for position in (4000, 3, 2050)]
    assert [Weighted(groups, {"many": 3.0, "few": 1.0}, seed=6)[position] for position in range(50)] != drawn[:50]


def test_a_group_of_a_tiny_share_still_comes():
    order = Weighted({"a": [1], "b": [2]}, {"a": 1.0, "b": 1e-9}, seed=0)
    assert sum(order[position] == 2 for position in range(2 * 1025)) == 2


def test_groups_without_a_share_are_refused():
    with pytest.raises(ValueError, match="share above 0"):
        Weighted({"a": [1]}, {"a": 0.0}, seed=0)
    with pytest.raises(ValueError, match="no items"):
        Weighted({"a": [1], "b": []}, {"a": 1.0, "b": 1.0}, seed=0)
