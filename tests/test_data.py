"""Datasets, samplers and the loader."""

import threading
import time
import warnings
from collections import namedtuple
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from minigrad.data.dataset import Rows


def numbered(n):
    """Sample i is (2-vector of i, i)."""
    return TensorDataset(mg.arange(2 * n).reshape(n, 2).float(), mg.arange(n))


class Squares(Dataset):
    """A dataset as users write them: sample by sample, no tensors."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index, float(index**2)

    def __len__(self):
        return self.n


def visited(loader):
    """The labels an epoch visits, in order."""
    return [label for *_, labels in loader for label in labels.tolist()]


# ---- datasets -----------------------------------------------------------------------------------


def test_tensor_dataset_indexes_every_tensor():
    data = numbered(4)
    x, y = data[2]
    assert (x.tolist(), y.item(), len(data)) == ([4.0, 5.0], 2, 4)
    x, y = data[1:3]
    assert (x.shape, y.tolist()) == ((2, 2), [1, 2])
    assert [y.item() for _, y in data] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("tensors", "error", "says"),
    [
        ((), TypeError, "at least one tensor"),
        ((mg.zeros(3), mg.zeros(4)), mg.errors.ShapeError, r"equal length, got \[3, 4\]"),
        ((mg.zeros(3), np.zeros(3)), TypeError, "got ndarray as argument 1"),
        ((mg.tensor(1.0),), mg.errors.ShapeError, "argument 0 is 0-d"),
    ],
)
def test_tensor_dataset_refuses(tensors, error, says):
    with pytest.raises(error, match=says):
        TensorDataset(*tensors)


def test_dataset_without_getitem_or_len():
    with pytest.raises(NotImplementedError, match="Dataset needs a method __getitem__"):
        Dataset()[0]
    with pytest.raises(TypeError, match="got Dataset without __len__"):
        DataLoader(Dataset())


def test_subset_and_nested_subset():
    data = numbered(10)
    subset = Subset(data, [7, 3, 5])
    assert [y.item() for _, y in subset] == [7, 3, 5]
    assert subset[[0, 2]][1].tolist() == [7, 5]
    assert Subset(subset, [2, 0])[0][1].item() == 5
    assert len(subset) == 3


def test_concat_dataset_counts_through():
    joined = numbered(3) + numbered(2) + numbered(4)
    assert isinstance(joined, ConcatDataset)
    assert len(joined) == 9
    labels = [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert [joined[i][1].item() for i in range(9)] == labels
    assert [joined[i - 9][1].item() for i in range(9)] == labels
    for index in 9, -10:
        with pytest.raises(IndexError, match=f"index {index} is out of range .* 9 samples"):
            joined[index]
    with pytest.raises(ValueError, match="at least one dataset"):
        ConcatDataset([])


@given(st.lists(st.integers(0, 5), min_size=1), st.data())
def test_concat_is_a_list_of_all_samples(lengths, data):
    parts = [list(range(10 * i, 10 * i + n)) for i, n in enumerate(lengths)]
    whole = list(chain(*parts))
    joined = ConcatDataset(parts)
    assert len(joined) == len(whole)
    if whole:
        i = data.draw(st.integers(-len(whole), len(whole) - 1))
        assert joined[i] == whole[i]


@given(st.integers(0, 40), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans())
def test_random_split_is_a_partition(n, weights, fractions):
    lengths = [w / sum(weights) for w in weights]
    if not fractions:
        lengths = [n * w // sum(weights) for w in weights]
        lengths[0] += n - sum(lengths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts = random_split(range(n), lengths, mg.Generator().manual_seed(3))
    assert sorted(i for part in parts for i in part) == list(range(n))
    if not fractions:
        assert [len(part) for part in parts] == lengths


def test_random_split_follows_the_seed():
    def split():
        return [list(part) for part in random_split(range(20), [15, 5])]

    first = [mg.manual_seed(1), split()][1]
    other = split()
    again = [mg.manual_seed(1), split()][1]
    assert first == again != other
    given = [random_split(range(20), [15, 5], mg.Generator().manual_seed(1)) for _ in range(2)]
    assert list(given[0][0]) == list(given[1][0]) == first[0]


@pytest.mark.parametrize("lengths", [[5, 4], [5, 6], [0.5, 0.6], [5.0, 5.0], [12, -2], []])
def test_random_split_refuses(lengths):
    with pytest.raises(ValueError, match="random_split expects"):
        random_split(range(10), lengths)


def test_random_split_warns_of_an_empty_part():
    with pytest.warns(UserWarning, match="leaves part 1 empty"):
        assert [len(part) for part in random_split(range(3), [0.9, 0.1])] == [3, 0]


def test_random_split_takes_fractions_that_round_to_more_than_one():
    fractions = [0.5, 0.5 + 2**-52]
    assert sum(fractions) > 1
    assert [len(part) for part in random_split(range(20), fractions)] == [10, 10]


@pytest.mark.parity
@pytest.mark.parametrize("n", [1, 7, 10, 101])
@pytest.mark.parametrize(
    "lengths", [[1.0], [0.5, 0.5], [0.8, 0.2], [0.1] * 10, [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0]]
)
@pytest.mark.filterwarnings("ignore")
def test_random_split_sizes_are_pytorchs(n, lengths):
    tud = pytest.importorskip("torch.utils.data")
    expected = [len(part) for part in tud.random_split(range(n), lengths)]
    assert [len(part) for part in random_split(range(n), lengths)] == expected


# ---- samplers -----------------------------------------------------------------------------------


def test_sequential_and_base_sampler():
    assert list(SequentialSampler("abc")) == [0, 1, 2]
    assert len(SequentialSampler("abc")) == 3
    with pytest.raises(NotImplementedError, match="Sampler needs a method __iter__"):
        iter(Sampler())


@given(st.integers(1, 20), st.integers(1, 60))
def test_random_sampler_without_replacement(n, num_samples):
    sampler = RandomSampler(range(n), num_samples=num_samples)
    places = list(sampler)
    assert len(places) == len(sampler) == num_samples
    for start in range(0, num_samples, n):
        part = places[start : start + n]
        assert len(set(part)) == len(part)
        assert set(part) <= set(range(n))


def test_random_sampler_with_replacement():
    places = list(RandomSampler(range(4), replacement=True, num_samples=1000))
    counts = np.bincount(places, minlength=4)
    assert counts.sum() == 1000
    assert counts.min() > 200  # 250 expected, standard deviation 14
    assert len(list(RandomSampler(range(4), replacement=True))) == 4


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"replacement": 1}, TypeError, "replacement must be True or False, got 1"),
        ({"num_samples": 0}, ValueError, "num_samples must be .* at least 1, got 0"),
        ({"num_samples": 2.5}, ValueError, "num_samples must be .* got 2.5"),
        ({"data_source": []}, ValueError, "at least one sample"),
        ({"data_source": iter("ab")}, TypeError, "without __len__"),
    ],
)
def test_random_sampler_refuses(options, error, says):
    with pytest.raises(error, match=says):
        RandomSampler(**{"data_source": range(3), **options})


@given(st.integers(0, 30), st.integers(1, 10), st.booleans())
def test_batch_sampler(n, batch_size, drop_last):
    sampler = BatchSampler(range(n), batch_size, drop_last)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    places = list(chain(*batches))
    assert places == list(range(n - n % batch_size if drop_last else n))


def test_batch_sampler_takes_an_endless_sampler():
    def forever():
        while True:
            yield 5

    batches = iter(BatchSampler(forever(), 2, True))
    assert [next(batches), next(batches)] == [[5, 5], [5, 5]]


@pytest.mark.parametrize(
    ("size", "drop"), [(0, False), (-1, False), (True, False), (2.0, False), (None, False), (2, 1)]
)
def test_batch_sampler_refuses(size, drop):
    with pytest.raises(ValueError, match="must be"):
        BatchSampler(range(4), size, drop)


@pytest.mark.parity
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("n", "batch_size"), [(0, 3), (2, 3), (3, 3), (10, 3), (12, 4)])
def test_batches_are_pytorchs(n, batch_size, drop_last):
    tud = pytest.importorskip("torch.utils.data")
    ours, theirs = (
        kind(range(n), batch_size, drop_last) for kind in (BatchSampler, tud.BatchSampler)
    )
    assert list(ours) == list(theirs)
    assert len(ours) == len(theirs)


# ---- the loader ---------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans())
def test_an_epoch_visits_every_sample_once(n, batch_size, shuffle, drop_last):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loader = DataLoader(numbered(n), batch_size, shuffle=shuffle, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader)
    labels = visited(batches)
    kept = n - n % batch_size if drop_last else n
    assert len(set(labels)) == len(labels) == kept
    assert shuffle or labels == list(range(kept))
    for x, y in batches:
        assert x[:, 0].tolist() == [2.0 * i for i in y.tolist()]


def test_every_epoch_reshuffles_and_the_seed_repeats_it():
    loader = DataLoader(numbered(30), batch_size=4, shuffle=True)
    mg.manual_seed(7)
    first, second = visited(loader), visited(loader)
    assert sorted(first) == sorted(second) == list(range(30))
    assert first != second
    mg.manual_seed(7)
    assert [visited(loader), visited(loader)] == [first, second]


def test_a_generator_of_its_own_keeps_the_order_apart():
    def epoch(draws):
        mg.randn(draws)
        loader = DataLoader(numbered(30), 4, shuffle=True, generator=mg.Generator().manual_seed(1))
        return visited(loader)

    assert epoch(0) == epoch(5)


def of_all_kinds():
    """The same samples behind a fast path and without one."""

    class Own(TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)

    data = numbered(11)
    order = [3, 9, 1, 4, 0, 10]
    half = Subset(Subset(data, order), np.array([5, 1, -2, 3]))
    slow_half = Subset(Subset(Own(*data.tensors), order), [5, 1, -2, 3])
    return [
        (data, Own(*data.tensors)),
        (Subset(data, order), Subset(Own(*data.tensors), order)),
        (half, slow_half),
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_fast_path_equals_the_plain_one(which):
    fast, slow = of_all_kinds()[which]
    assert Rows.of(fast) is not None
    assert Rows.of(slow) is None
    for options in {"batch_size": 3}, {"sampler": [2, 0, 2, -1], "batch_size": 2}:
        ours, theirs = DataLoader(fast, **options), DataLoader(slow, **options)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert type(a) is type(b) is list
            for left, right in zip(a, b, strict=True):
                assert left.dtype == right.dtype
                assert left.tolist() == right.tolist()


def test_fast_path_is_left_where_a_class_fetches_its_own_way():
    class Doubled(Subset):
        def __getitem__(self, idx):
            x, y = super().__getitem__(idx)
            return x, 2 * y

    class Listed(TensorDataset):
        def __getitems__(self, indices):
            return [(i, -i) for i in indices]

    assert visited(DataLoader(Doubled(numbered(4), [3, 1]), 2)) == [6, 2]
    assert visited(DataLoader(Listed(mg.zeros(3)), 2)) == [0, -1, -2]
    assert Rows.of(Subset(numbered(4), [[0, 1], [2, 3]])) is None


def test_a_batch_shares_no_memory_with_the_data():
    data = numbered(4)
    for x, _ in DataLoader(data, batch_size=2):
        x.zero_()
    assert data.tensors[0].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_gradients_flow_through_a_batch():
    x = mg.ones(4, 2, requires_grad=True)
    for (batch,) in DataLoader(TensorDataset(x), batch_size=3):
        (2 * batch).sum().backward()
    assert x.grad.tolist() == [[2, 2]] * 4


def test_empty_data():
    assert list(DataLoader(numbered(0), batch_size=4)) == []
    assert list(DataLoader(Subset(numbered(3), []))) == []
    with pytest.raises(ValueError, match="at least one sample"):
        DataLoader(numbered(0), shuffle=True)
    for data in numbered(3), Squares(3):
        with pytest.raises(ValueError, match="got an empty batch"):
            list(DataLoader(data, batch_sampler=[[]]))


def test_plain_sequences_and_own_datasets():
    assert [b.tolist() for b in DataLoader([1, 2, 3], batch_size=2)] == [[1, 2], [3]]
    assert [b.tolist() for b in DataLoader(mg.arange(3), batch_size=2)] == [[0, 1], [2]]
    i, square = next(iter(DataLoader(Squares(5), batch_size=4)))
    assert (i.dtype, square.dtype) == (mg.int64, mg.float64)
    assert square.tolist() == [0, 1, 4, 9]


def test_sampler_batch_sampler_and_collate_fn():
    data = numbered(6)
    assert visited(DataLoader(data, 2, sampler=[5, 0, 0])) == [5, 0, 0]
    assert visited(DataLoader(data, 2, sampler=mg.tensor([4, 1]))) == [4, 1]
    loader = DataLoader(data, batch_sampler=[[1], [4, 2]])
    assert [y.tolist() for _, y in loader] == [[1], [4, 2]]
    assert (len(loader), loader.batch_size) == (2, None)
    assert DataLoader(data, batch_sampler=BatchSampler([1], 2, False)).batch_size is None
    assert list(DataLoader(Squares(3), 2, collate_fn=len)) == [2, 1]
    with pytest.raises(TypeError, match="without __len__"):
        len(DataLoader(data, sampler=iter([1, 2])))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dataset": iter([1])}, TypeError, r"dataset\[i\], got list_iterator"),
        ({"batch_size": 0}, ValueError, "batch_size must be .* got 0"),
        ({"batch_size": None}, ValueError, "batch_size must be .* got None"),
        ({"num_workers": 2}, ValueError, "num_workers must be 0, or 1 for a thread .* got 2"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor=2 needs num_workers=1"),
        ({"num_workers": 1, "prefetch_factor": 0}, ValueError, "prefetch_factor must be a whole"),
        ({"sampler": [0], "shuffle": True}, ValueError, "exclude each other"),
        ({"batch_sampler": [[0]], "batch_size": 2}, ValueError, "batch_sampler= excludes"),
        ({"batch_sampler": [[0]], "shuffle": True}, ValueError, "batch_sampler= excludes"),
        ({"batch_sampler": [[0]], "sampler": [0]}, ValueError, "batch_sampler= excludes"),
        ({"batch_sampler": [[0]], "drop_last": True}, ValueError, "batch_sampler= excludes"),
        ({"persistent_workers": True}, TypeError, "persistent_workers"),
    ],
)
def test_loader_refuses(options, error, says):
    with pytest.raises(error, match=says):
        DataLoader(**{"dataset": range(4), **options})


def test_a_place_out_of_range_is_an_index_error():
    for data in numbered(3), Squares(3), Subset(numbered(3), [0, 1, 2]):
        with pytest.raises(IndexError):
            list(DataLoader(data, sampler=[0, 3]))


def test_a_training_loader_warns_of_a_last_batch_of_one():
    with pytest.warns(UserWarning, match="9 samples in batches of 4 .* drop_last=True") as caught:
        loader = DataLoader(numbered(9), batch_size=4, shuffle=True)
        assert len(list(loader)) == len(list(loader)) == 3
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (9, {"batch_size": 4}),
        (9, {"batch_size": 4, "shuffle": True, "drop_last": True}),
        (8, {"batch_size": 4, "shuffle": True}),
        (9, {"batch_size": 1, "shuffle": True}),
        (1, {"batch_size": 4, "shuffle": True}),
    ],
)
def test_other_loaders_do_not_warn(n, options):
    DataLoader(numbered(n), **options)  # a warning would be an error


# ---- batches made ahead -------------------------------------------------------------------------


def loading():
    """Whether the thread of a loader runs."""
    return any(t.name == "DataLoader" for t in threading.enumerate())


class Noisy(Squares):
    """Samples with random numbers; where they were made is noted."""

    def __init__(self, n):
        super().__init__(n)
        self.made = []

    def __getitem__(self, index):
        self.made.append((index, threading.current_thread()))
        return mg.randn(2) + index


@pytest.mark.parametrize("stop", [None, 0, 3])
@pytest.mark.parametrize(
    "make",
    [lambda: numbered(23), lambda: Squares(23), lambda: Noisy(23)],
    ids=["rows", "samples", "random"],
)
def test_batches_made_ahead_are_the_same(make, stop):
    """Also the random numbers of dataset, loop and what follows, wherever the loop is left."""
    found = []
    for options in ({}, {"num_workers": 1}, {"num_workers": 1, "prefetch_factor": 5}):
        mg.manual_seed(3)
        data, numbers = make(), []
        for _ in range(2):
            sampler = RandomSampler(data, num_samples=60)
            for i, batch in enumerate(DataLoader(data, 4, sampler=sampler, **options)):
                numbers.append([t.tolist() for t in ([batch] if mg.is_tensor(batch) else batch)])
                numbers.append(mg.rand(1).item())
                if i == stop:
                    break
        numbers.append(mg.rand(1).item())
        found.append(numbers)
    assert found[0] == found[1] == found[2]


def test_a_loader_within_a_loader_draws_in_turn():
    class Inner(Squares):
        def __init__(self, n, workers):
            super().__init__(n)
            self.workers = workers

        def __getitem__(self, index):
            return mg.cat(list(DataLoader(Noisy(3), 2, num_workers=self.workers)))

    found = []
    for workers in (0, 1):
        mg.manual_seed(5)
        numbers = []
        for batch in DataLoader(Inner(6, workers), num_workers=workers):
            time.sleep(0.01)  # for the threads to run ahead, if they did
            numbers.append((batch.tolist(), mg.rand(2).tolist()))
        found.append(numbers)
    assert found[0] == found[1] and not loading()


@pytest.mark.parametrize("count", [1, 3])
def test_a_thread_is_ahead_by_so_many(count):
    here, made, enough = threading.current_thread(), [], threading.Event()

    class Noted(Squares):
        def __getitem__(self, index):
            assert threading.current_thread() is not here
            made.append(index)
            if len(made) == 1 + count:
                enough.set()
            return super().__getitem__(index)

    batches = iter(DataLoader(Noted(20), num_workers=1, prefetch_factor=count))
    next(batches)
    assert enough.wait(10), "made while nobody asked"
    for i in range(1, 20):
        assert len(made) <= i + count
        assert next(batches)[0].tolist() == [i]
    assert list(batches) == [] and made == list(range(20))


def test_a_batch_that_draws_is_made_when_it_is_asked_for():
    data = Noisy(5)
    batches = iter(DataLoader(data, num_workers=1))
    next(batches)
    state = mg.get_rng_state()
    mg.rand(1)
    assert data.made[0][1] is not threading.current_thread()
    assert len(data.made) <= 2, "the second sample waits where it draws"
    batches.close()
    mg.set_rng_state(state)


def test_errors_of_the_thread_are_raised_in_the_loop():
    class Broken(Squares):
        def __getitem__(self, index):
            if index == 3:
                raise RuntimeError("sample 3 cannot be read")
            return super().__getitem__(index)

    seen = []
    with pytest.raises(RuntimeError, match="sample 3 cannot be read"):
        for i, _ in DataLoader(Broken(6), num_workers=1):
            seen += i.tolist()
    assert seen == [0, 1, 2] and not loading()


@pytest.mark.parametrize("data", [Squares(50), Noisy(50)], ids=["ahead", "waits to draw"])
def test_a_loop_that_is_left_ends_the_thread(data):
    for _ in DataLoader(data, num_workers=1):
        assert loading()
        break
    assert not loading()
    batches = iter(DataLoader(data, num_workers=1))
    assert not loading(), "nothing begins before the first batch"
    next(batches)
    assert loading()
    del batches
    assert not loading()


def test_the_thread_has_the_settings_of_the_loop():
    class Recorded(Squares):
        def __getitem__(self, index):
            return mg.is_grad_enabled()

    with mg.no_grad():
        assert [b.item() for b in DataLoader(Recorded(3), num_workers=1)] == [False] * 3


# ---- default_collate ----------------------------------------------------------------------------

Point = namedtuple("Point", "x y")


def test_default_collate_of_each_kind():
    stacked = default_collate([mg.ones(2), mg.zeros(2)])
    assert stacked.tolist() == [[1, 1], [0, 0]]
    for array in np.ones((2, 3), np.int16), np.float32(2), np.float64(2), np.bool_(True):
        batch = default_collate([array, array])
        assert (batch.dtype, batch.shape) == (array.dtype, (2, *np.shape(array)))
    assert default_collate([1.5, 2.5]).dtype == mg.float64
    assert default_collate([1, 2]).dtype == mg.int64
    assert default_collate([True, False]).dtype == mg.bool
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([b"a", b"b"]) == [b"a", b"b"]
    pair = default_collate([(1, "a"), (2, "b")])
    assert type(pair) is list
    assert (pair[0].tolist(), pair[1]) == ([1, 2], ["a", "b"])
    point = default_collate([Point(1, 2.0), Point(3, 4.0)])
    assert type(point) is Point
    assert point.y.tolist() == [2.0, 4.0]
    nested = default_collate([{"a": (1, {"b": 2})}, {"a": (3, {"b": 4})}])
    assert nested["a"][1]["b"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        ([], ValueError, "empty batch"),
        ([mg.ones(2), mg.ones(3)], mg.errors.ShapeError, r"one shape, got \(2,\) and \(3,\)"),
        ([np.ones(2), np.ones((2, 1))], mg.errors.ShapeError, "one shape"),
        ([(1, 2), (1,)], mg.errors.ShapeError, "equally many fields, got 1 and 2"),
        ([{"a": 1, "b": 2}, {"a": 1}], KeyError, r"one lacks \['b'\]; pass a collate_fn="),
        ([None, None], TypeError, "got NoneType; pass a collate_fn="),
        ([(1, object())], TypeError, "got object; pass a collate_fn="),
    ],
)
def test_default_collate_refuses(batch, error, says):
    with pytest.raises(error, match=says):
        default_collate(batch)


samples = st.recursive(
    st.one_of(
        st.tuples(st.just("int"), st.integers(-9, 9)),
        st.tuples(st.just("float"), st.floats(-9, 9)),
        st.tuples(st.just("bool"), st.booleans()),
        st.tuples(st.just("str"), st.text(max_size=3)),
        st.tuples(st.just("array"), st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=3)),
        st.tuples(st.just("tensor"), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
    ),
    lambda inner: st.one_of(
        st.tuples(st.just("tuple"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("list"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("dict"), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    ),
    max_leaves=6,
)


def built(plan, tensor):
    """The sample that a plan describes, with tensors of either library."""
    kind, value = plan
    if kind == "tuple":
        return tuple(built(v, tensor) for v in value)
    if kind == "list":
        return [built(v, tensor) for v in value]
    if kind == "dict":
        return {k: built(v, tensor) for k, v in value.items()}
    if kind == "array":
        return np.array(value, np.float32)
    return tensor(value) if kind == "tensor" else value


def plain(batch):
    """A batch of either library as comparable Python objects."""
    if isinstance(batch, dict):
        return {k: plain(v) for k, v in batch.items()}
    if isinstance(batch, list | tuple):
        return [plain(v) for v in batch]
    if isinstance(batch, str):
        return batch
    return str(batch.dtype).removeprefix("torch."), batch.tolist()


@pytest.mark.parity
@given(samples, st.integers(1, 3))
def test_default_collate_is_pytorchs(plan, n):
    torch = pytest.importorskip("torch")
    ours = default_collate([built(plan, mg.tensor)] * n)
    theirs = torch.utils.data.default_collate([built(plan, torch.tensor)] * n)
    assert type(ours) is type(theirs) or isinstance(ours, mg.Tensor)
    assert plain(ours) == plain(theirs)


@pytest.mark.parity
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 20])
def test_loader_yields_what_pytorchs_yields(batch_size, drop_last):
    torch = pytest.importorskip("torch")
    tud = torch.utils.data
    data = numbered(11)
    twin = tud.TensorDataset(*(torch.from_numpy(t.numpy()) for t in data.tensors))
    ours = DataLoader(data, batch_size, drop_last=drop_last)
    theirs = tud.DataLoader(twin, batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    assert plain(list(ours)) == plain(list(theirs))
