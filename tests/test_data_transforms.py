"""Transforms of tensors and of data sets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import minigrad as mg
from minigrad.data import (
    Compose,
    MinMax,
    Normalize,
    PCAWhitening,
    Standardize,
    Subset,
    TensorDataset,
    Transform,
    ZCAWhitening,
)


def drawn(*shape, dtype=np.float32):
    return mg.from_numpy(np.random.default_rng(0).normal(3, 2, shape).astype(dtype))


# ---- Standardize --------------------------------------------------------------------------------


@pytest.mark.parametrize(("per", "axes"), [("feature", (0,)), ("channel", (0, 2, 3))])
@pytest.mark.parametrize("n", [3, 1024, 2500])  # less than a part, one, several
def test_standardize_against_numpy(per, axes, n):
    x = drawn(n, 3, 4, 2)
    standardize = Standardize(per).fit(x)
    y = standardize(x)
    exact = x.numpy().astype(np.float64)
    mean, std = (f(exact, axes, keepdims=True) for f in (np.mean, np.std))
    assert y.dtype == mg.float32
    np.testing.assert_allclose(y.numpy(), (exact - mean) / std, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y.numpy().mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.numpy().std(axes), 1, rtol=1e-5)
    assert np.allclose(standardize(x[0]).numpy(), y.numpy()[0])


@given(
    arrays(
        np.float64,
        array_shapes(min_dims=1, max_dims=3, max_side=6),
        elements=st.floats(-1e6, 1e6, width=32),
    )
)
def test_standardize_is_finite_and_centred(x):
    y = Standardize().fit(mg.from_numpy(x))(mg.from_numpy(x)).numpy()
    assert np.isfinite(y).all()
    assert np.abs(y.mean(0)).max() < 1e-3
    assert (y.std(0) < 1.001).all()


def test_standardize_only_centres_what_is_constant():
    x = mg.tensor([[0.1, 1e6, 1.0], [0.1, 1e6, 3.0], [0.1, 1e6, 5.0]])
    standardize = Standardize().fit(x)
    assert standardize.std.tolist()[:2] == [1, 1]
    y = standardize(mg.tensor([0.6, 1e6 + 2, 3.0]))
    np.testing.assert_allclose(y.numpy(), [0.5, 2, 0], atol=1e-6)
    wide = Standardize(eps=2.0).fit(x)  # a deviation of 1.6 is below it
    assert wide.std.tolist() == [1, 1, 1]


def test_standardize_uses_the_training_set_only():
    train, test = TensorDataset(drawn(20, 3), mg.arange(20)), TensorDataset(drawn(5, 3) + 7)
    standardize = Standardize().fit(train)
    mean = standardize.mean.tolist()
    applied = standardize.apply(test)
    assert isinstance(applied, TensorDataset)
    assert standardize.mean.tolist() == mean
    assert applied.tensors[0].mean().item() > 1
    assert standardize.apply(train).tensors[1] is train.tensors[1]
    half = Subset(train, range(0, 20, 2))
    assert np.allclose(Standardize().fit(half).mean, train.tensors[0].numpy()[::2].mean(0))
    assert len(standardize.apply(half)) == 10


def test_standardize_of_integers_and_dtypes():
    pixels = mg.from_numpy(np.array([[0], [200], [100]], np.uint8))
    y = Standardize().fit(pixels)(pixels)
    assert y.dtype == mg.float32
    np.testing.assert_allclose(y.numpy()[:, 0], [-(1.5**0.5), 1.5**0.5, 0], rtol=1e-6)
    assert Standardize().fit(drawn(4, 2, dtype=np.float64)).mean.dtype == mg.float64


def test_standardize_lets_gradients_through():
    standardize = Standardize().fit(drawn(9, 2))
    x = drawn(2, 2).requires_grad_()
    standardize(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.tile(1 / standardize.std.numpy(), (2, 1)))


def test_standardize_refuses():
    with pytest.raises(ValueError, match='"feature" or "channel", got \'pixel\''):
        Standardize("pixel")
    with pytest.raises(ValueError, match="eps must be at least 0, got -1"):
        Standardize(eps=-1)
    with pytest.raises(RuntimeError, match=r"call \.fit\(train\) first"):
        Standardize()(mg.ones(2))
    with pytest.raises(
        TypeError, match=r"Standardize\.fit\(\) expects a TensorDataset .* got list"
    ):
        Standardize().fit([1, 2])
    for per, shape in ("feature", ()), ("feature", (0, 3)), ("channel", (4,)):
        with pytest.raises(mg.errors.ShapeError, match="is fitted on samples"):
            Standardize(per).fit(mg.zeros(shape))
    for per, shape in ("feature", (5, 4)), ("channel", (5, 4, 3)), ("feature", (1, 1, 5, 3)):
        with pytest.raises(mg.errors.ShapeError, match="expects such a sample"):
            Standardize(per).fit(drawn(4, 5, 3))(drawn(*shape))


def test_standardize_per_channel_takes_other_sizes():
    standardize = Standardize("channel").fit(drawn(4, 2, 8, 8))
    assert standardize(drawn(3, 2, 5, 5)).shape == (3, 2, 5, 5)
    assert standardize(drawn(2, 5, 5)).shape == (2, 5, 5)


def test_a_round_error_surface():
    """A linear model's Hessian XᵀX / N: standardized, its condition number is near 1."""
    x = drawn(500, 3, dtype=np.float64) * mg.tensor([1.0, 10.0, 0.1]).double()
    before, after = (
        np.linalg.cond(z.numpy().T @ z.numpy() / 500) for z in (x, Standardize().fit(x)(x))
    )
    assert before > 1e4
    assert after < 1.5


# ---- inverses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Standardize(),
        lambda: Standardize("channel"),
        lambda: MinMax(low=-1.0),
        lambda: MinMax("channel", 0.1, 0.9),
        lambda: PCAWhitening(),
        lambda: PCAWhitening(eps=0.0),
        lambda: ZCAWhitening(eps=0.3),
    ],
)
def test_there_and_back(make):
    train, test = drawn(40, 2, 3, dtype=np.float64), drawn(5, 2, 3, dtype=np.float64) * 3
    transform = make()
    assert transform.fit(TensorDataset(train, mg.arange(40))) is transform
    np.testing.assert_allclose(transform.inverse(transform(test)).numpy(), test.numpy(), rtol=1e-9)
    one = transform.inverse(transform(test[0]))
    np.testing.assert_allclose(one.numpy(), test[0].numpy(), rtol=1e-9)
    assert transform(test.float()).shape == transform(test).shape
    assert type(transform).__name__ in repr(transform)


@pytest.mark.parametrize("make", [MinMax, PCAWhitening, ZCAWhitening, Standardize])
def test_unfitted_or_misshapen(make):
    with pytest.raises(RuntimeError, match=r"call \.fit\(train\) first"):
        make()(mg.ones(2, 3))
    with pytest.raises(RuntimeError, match=r"call \.fit\(train\) first"):
        make().inverse(mg.ones(2, 3))
    with pytest.raises(TypeError, match=r"fit\(\) expects a TensorDataset"):
        make().fit([1, 2])
    with pytest.raises(mg.errors.ShapeError, match="is fitted on"):
        make().fit(mg.zeros(0, 3))
    with pytest.raises(mg.errors.ShapeError, match="expects such a sample"):
        make().fit(drawn(9, 3))(drawn(9, 4))


# ---- MinMax -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per", "axes"), [("feature", (0,)), ("channel", (0, 2))])
def test_min_max_against_numpy(per, axes):
    train, test = drawn(30, 3, 4, dtype=np.float64), drawn(6, 3, 4, dtype=np.float64) * 2
    scale = MinMax(per, -2.0, 3.0).fit(train)
    least, most = (f(train.numpy(), axes, keepdims=True) for f in (np.min, np.max))
    expected = -2 + 5 * (test.numpy() - least) / (most - least)
    np.testing.assert_allclose(scale(test).numpy(), expected, rtol=1e-12, atol=1e-12)
    inside = scale(train).numpy()
    np.testing.assert_allclose([inside.min(), inside.max()], [-2, 3])
    clipped = MinMax(per, -2.0, 3.0, clip=True).fit(train)(test).numpy()
    np.testing.assert_allclose(clipped, expected.clip(-2, 3), rtol=1e-12, atol=1e-12)


def test_min_max_of_constants_and_integers():
    scale = MinMax().fit(mg.from_numpy(np.array([[0, 7], [200, 7]], np.uint8)))
    y = scale(mg.from_numpy(np.array([[100, 7], [50, 8]], np.uint8)))
    assert y.dtype == mg.float32
    np.testing.assert_allclose(y.numpy(), [[0.5, 0], [0.25, 1]])
    assert repr(MinMax("channel", clip=True)) == (
        "MinMax(per='channel', low=0.0, high=1.0, clip=True)"
    )
    with pytest.raises(ValueError, match="low < high, got 1 and 0"):
        MinMax(low=1, high=0)
    with pytest.raises(ValueError, match='"feature" or "channel"'):
        MinMax("image")


# ---- whitening ----------------------------------------------------------------------------------


def mixed(n=600, d=5):
    """Correlated features of very different size."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + np.arange(d) * 10


@pytest.mark.parametrize("make", [PCAWhitening, ZCAWhitening])
@pytest.mark.parametrize("n", [600, 1500])  # one part, and two
def test_white_is_without_correlation_and_of_variance_1(make, n):
    x = mixed(n)
    y = make(eps=0.0).fit(mg.tensor(x))(mg.tensor(x)).numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(y.T, ddof=0), np.eye(5), atol=1e-9)


@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_whitening_against_its_formulas(eps):
    x = mixed()
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    pca, zca = (make(eps=eps).fit(mg.tensor(x)) for make in (PCAWhitening, ZCAWhitening))
    np.testing.assert_allclose(pca.variances.numpy(), values[::-1], rtol=1e-10)
    expected = centred @ vectors[:, ::-1] / np.sqrt(values[::-1] + eps)
    found = pca(mg.tensor(x)).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-7, atol=1e-9)
    assert (pca.directions.numpy().max(1) >= -pca.directions.numpy().min(1)).all()
    np.testing.assert_allclose(
        zca(mg.tensor(x)).numpy(),
        centred @ vectors @ np.diag(1 / np.sqrt(values + eps)) @ vectors.T,
        rtol=1e-8,
        atol=1e-9,
    )


def test_zca_stays_nearest_to_its_input():
    """Of all whitenings: turned by any rotation, the samples are farther from themselves."""
    x = mixed()
    centred = x - x.mean(0)
    y = ZCAWhitening(eps=0.0).fit(mg.tensor(x))(mg.tensor(x)).numpy()
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))
    assert ((y - centred) ** 2).sum() < ((y @ turn - centred) ** 2).sum()
    pca = PCAWhitening(eps=0.0).fit(mg.tensor(x))(mg.tensor(x)).numpy()
    assert ((y - centred) ** 2).sum() < ((pca - centred) ** 2).sum()


def test_components():
    x = mg.tensor(mixed())
    values = PCAWhitening().fit(x).variances.numpy()
    two = PCAWhitening(components=2).fit(x)
    assert two(x).shape == (600, 2) and two(x[0]).shape == (2,)
    share = PCAWhitening(components=float(values[:3].sum() / values.sum()) - 1e-9).fit(x)
    assert len(share.variances) == 3
    # what is lost on the way back is the variance of the directions that were left out
    lost = ((two.inverse(two(x)) - x) ** 2).sum(1).mean().item()
    assert lost == pytest.approx(values[2:].sum(), rel=1e-4)
    for wrong in (0, -1, 1.0, 0.0, "2", True):
        with pytest.raises(ValueError, match="a number of directions from 1, or a share"):
            PCAWhitening(components=wrong)
    with pytest.raises(mg.errors.ShapeError, match="keep at most as many"):
        PCAWhitening(components=6).fit(x)
    with pytest.raises(mg.errors.ShapeError, match=r"expects \(N, 2\) or \(2,\), got \(600, 5\)"):
        two.inverse(x)


def test_directions_without_variance():
    x = mg.tensor(np.c_[mixed(), np.ones(600), mixed()[:, 0]])  # a constant, and a copy
    for make in (PCAWhitening, ZCAWhitening):
        with pytest.raises(ValueError, match=r"2 of 7 directions .* no variance.* eps > 0"):
            make(eps=0.0).fit(x)
        y = make(eps=1e-3).fit(x)(x).numpy()
        assert np.isfinite(y).all() and y.var(0).max() < 1.001
    assert PCAWhitening(eps=0.0, components=5).fit(x)(x).shape == (600, 5)
    with pytest.raises(mg.errors.ShapeError, match="at least two samples"):
        ZCAWhitening().fit(x[:1])
    with pytest.raises(ValueError, match="eps must be at least 0"):
        ZCAWhitening(eps=-1)


def test_whitened_images_are_images():
    images = drawn(300, 1, 4, 4)
    data = TensorDataset(images, mg.arange(300))
    white = ZCAWhitening(eps=0.01).fit(data).apply(data).tensors[0]
    assert white.shape == images.shape and white.dtype == mg.float32
    assert PCAWhitening().fit(images)(images[0]).shape == (16,)


# ---- Normalize ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5)])
def test_normalize_per_channel(shape):
    x = drawn(*shape)
    mean, std = [0.1, 0.2, 0.3], (2.0, 4.0, 8.0)
    y = Normalize(mean, std)(x)
    expected = (x.numpy() - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert y.dtype == mg.float32
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_normalize_by_numbers_takes_any_shape():
    for mean, std in (0.5, 2.0), ((0.5,), (2.0,)), (mg.tensor(0.5), 2):
        assert Normalize(mean, std)(mg.tensor([1.5, 2.5])).tolist() == [0.5, 1.0]
    assert Normalize([1.0, 2.0], 1)(mg.zeros(2, 1, 1)).reshape(-1).tolist() == [-1, -2]


def test_normalize_refuses():
    with pytest.raises(ValueError, match=r"must not be 0, got \[1, 0\]"):
        Normalize(0, [1, 0])
    with pytest.raises(mg.errors.ShapeError, match="expects mean as a number or one a channel"):
        Normalize([[1, 2]], 1)
    with pytest.raises(mg.errors.ShapeError, match=r"expects std .* got shape"):
        Normalize(1, [])
    with pytest.raises(mg.errors.DtypeError, match=r"got uint8; scale them first"):
        Normalize(0.5, 0.5)(mg.zeros(1, 2, 2, dtype=mg.uint8))
    for shape in (4, 5, 5), (3, 3):
        with pytest.raises(mg.errors.ShapeError, match=r"expects \(\.\.\., 3, H, W\), got"):
            Normalize([1, 2, 3], 1)(mg.zeros(shape))


# ---- Compose and the base class -----------------------------------------------------------------


def test_compose_of_transforms_and_functions():
    pipeline = Compose([Normalize(1, 2), lambda x: x.flatten(-3), mg.exp])
    data = TensorDataset(mg.ones(4, 1, 2, 2), mg.arange(4))
    applied = pipeline.apply(data)
    assert applied.tensors[0].tolist() == [[1.0] * 4] * 4
    assert applied.tensors[1].tolist() == [0, 1, 2, 3]
    assert Compose([])(data.tensors[0]) is data.tensors[0]


def test_transforms_show_themselves():
    shown = repr(Compose([Normalize([1, 2], 0.5), Standardize("channel")]))
    assert shown == (
        "Compose([Normalize(mean=[1.0, 2.0], std=0.5), Standardize(per='channel', eps=1e-08)])"
    )


def test_base_class():
    with pytest.raises(NotImplementedError, match="Transform needs a method __call__"):
        Transform()(mg.ones(1))
    with pytest.raises(TypeError, match=r"Compose\.apply\(\) expects a TensorDataset"):
        Compose([]).apply(range(3))
