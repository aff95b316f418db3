"""Tensors and whole networks carried over from PyTorch: memory, dtypes, files, results."""

import json

import numpy as np
import pytest

import minigrad as mg
from minigrad import interchange, nn
from tests.printed import as_in_pytorch

rng = np.random.default_rng(11)


def torch_or_skip():
    return pytest.importorskip("torch")


# ---- single tensors -----------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_memory_is_shared_both_ways(dtype, shape):
    torch = torch_or_skip()
    theirs = torch.ones(shape, dtype=getattr(torch, dtype))
    ours = mg.from_torch(theirs)
    assert str(ours.dtype) == dtype
    assert ours.shape == shape
    back = mg.to_torch(ours)
    assert back.dtype == theirs.dtype
    theirs.zero_()
    assert not ours.any()
    assert not back.any()
    ours.fill_(1)
    assert back.all()
    assert theirs.all()


@pytest.mark.parity
def test_strides_are_kept():
    torch = torch_or_skip()
    theirs = torch.arange(12.0).reshape(3, 4).t()[1:]
    ours = mg.from_torch(theirs)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    ours[0, 0] = 99
    assert theirs[0, 0] == 99
    assert mg.to_torch(ours.t()).stride() == theirs.t().stride()


@pytest.mark.parity
def test_bfloat16_becomes_float32():
    torch = torch_or_skip()
    theirs = torch.randn(5).bfloat16()
    assert mg.from_torch(theirs).dtype == mg.float32
    np.testing.assert_array_equal(mg.from_torch(theirs).numpy(), theirs.float().numpy())


@pytest.mark.parity
def test_no_gradient_flows_between_the_two():
    torch = torch_or_skip()
    leaf = torch.ones(2, requires_grad=True)
    ours = mg.from_torch(leaf)
    assert not ours.requires_grad
    assert not mg.from_torch(torch.nn.Parameter(leaf)).requires_grad
    with pytest.raises(RuntimeError, match="detach"):
        mg.to_torch(mg.ones(2, requires_grad=True))


@pytest.mark.parity
def test_stretched_memory_is_copied():
    torch_or_skip()
    theirs = mg.to_torch(mg.ones(3).expand(2, 3))
    theirs[0] = 5
    assert theirs[1].sum() == 3


@pytest.mark.parity
def test_what_cannot_be_carried_over():
    torch = torch_or_skip()
    for wrong in (torch.ones(2, dtype=torch.complex64), torch.ones(2).to(torch.float8_e5m2)):
        with pytest.raises(TypeError, match="no dtype for"):
            mg.from_torch(wrong)
    with pytest.raises(TypeError, match="to_dense"):
        mg.from_torch(torch.ones(2, 2).to_sparse())
    with pytest.raises(RuntimeError, match="cpu"):
        mg.from_torch(torch.ones(2, device="meta"))


def test_what_is_no_tensor():
    for wrong in ([1.0], np.ones(2), mg.ones(2)):
        with pytest.raises(TypeError, match="expects a PyTorch tensor"):
            mg.from_torch(wrong)
    with pytest.raises(TypeError, match="expects a Tensor"):
        mg.to_torch(np.ones(2))


def test_to_torch_without_pytorch(monkeypatch):
    def missing(name):
        raise ImportError("PyTorch is not there")

    monkeypatch.setattr(interchange, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs PyTorch .*numpy\(\)"):
        mg.to_torch(mg.ones(2))


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parity
def test_a_file_of_every_dtype(tmp_path):
    torch = torch_or_skip()
    save_file = pytest.importorskip("safetensors.torch").save_file
    tensors = {
        "half": torch.randn(3, 2).half(),
        "brain": torch.randn(2, 3).bfloat16(),
        "scalar": torch.tensor(-1.5, dtype=torch.bfloat16),
        "empty": torch.ones(0, 2).bfloat16(),
        "edges": torch.tensor([float("inf"), -float("inf"), -0.0, 1e-40, 3e38]).bfloat16(),
        "double": torch.randn(2).double(),
        "bool": torch.tensor([True, False]),
        "long": torch.arange(3),
    }
    save_file(tensors, tmp_path / "all.safetensors")
    loaded = mg.load(tmp_path / "all.safetensors")
    assert set(loaded) == set(tensors)
    for key, value in tensors.items():
        wanted = value.float() if value.dtype == torch.bfloat16 else value
        assert str(loaded[key].dtype) == str(wanted.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(loaded[key].numpy(), wanted.numpy())


def test_bfloat16_by_its_bits(tmp_path):
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    bits = np.array([0x3FC0, 0xC000], "<u2")  # 1.5 and -2
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits.tobytes())
    assert mg.load(path)["w"].tolist() == [1.5, -2.0]
    assert mg.load(path)["w"].dtype == mg.float32


def test_a_file_of_a_dtype_there_is_none_for(tmp_path):
    header = json.dumps({"w": {"dtype": "U16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(mg.CheckpointError, match=r"w in .* is U16"):
        mg.load(path)


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("assign", [True, False])
def test_a_state_dict_of_pytorch_as_it_is(dtype, assign):
    torch = torch_or_skip()
    theirs = torch.nn.BatchNorm1d(3).to(getattr(torch, dtype))
    torch.nn.init.normal_(theirs.weight)
    ours = nn.BatchNorm1d(3)
    assert "successfully" in repr(ours.load_state_dict(theirs.state_dict(), assign=assign))
    exact = theirs.weight.detach().to(torch.float64).numpy()
    np.testing.assert_array_equal(
        ours.weight.detach().numpy(), exact.astype(str(ours.weight.dtype))
    )
    kept = "float32" if dtype == "bfloat16" else dtype
    assert str(ours.weight.dtype) == (kept if assign else "float32")
    ours.load_state_dict({k: v.clone() for k, v in theirs.named_parameters()}, strict=False)
    ours.load_state_dict({"weight": np.ones(3)}, strict=False)
    assert ours.weight.sum().item() == 3


# ---- a network ----------------------------------------------------------------------------------


def resnet(n):
    """ResNet-18 at a quarter of its width, for 32 x 32 images, in the framework whose nn is n."""

    class BasicBlock(n.Module):
        def __init__(self, inside, out, stride):
            super().__init__()
            self.conv1 = n.Conv2d(inside, out, 3, stride, 1, bias=False)
            self.bn1 = n.BatchNorm2d(out)
            self.relu = n.ReLU(inplace=True)
            self.conv2 = n.Conv2d(out, out, 3, 1, 1, bias=False)
            self.bn2 = n.BatchNorm2d(out)
            self.downsample = None
            if stride != 1 or inside != out:
                self.downsample = n.Sequential(
                    n.Conv2d(inside, out, 1, stride, bias=False), n.BatchNorm2d(out)
                )

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y = y + (x if self.downsample is None else self.downsample(x))
            return self.relu(y)

    class ResNet(n.Module):
        def __init__(self, widths=(16, 32, 64, 128), classes=10):
            super().__init__()
            self.conv1 = n.Conv2d(3, widths[0], 7, 2, 3, bias=False)
            self.bn1 = n.BatchNorm2d(widths[0])
            self.relu = n.ReLU(inplace=True)
            self.maxpool = n.MaxPool2d(3, 2, 1)
            inside = widths[0]
            for i, out in enumerate(widths):
                layer = n.Sequential(
                    BasicBlock(inside, out, 1 if i == 0 else 2), BasicBlock(out, out, 1)
                )
                setattr(self, f"layer{i + 1}", layer)
                inside = out
            self.avgpool = n.AdaptiveAvgPool2d((1, 1))
            self.fc = n.Linear(inside, classes)

        def forward(self, x):
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
                x = layer(x)
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet()


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_resnet_trained_here_and_there(tmp_path, dtype):
    """PyTorch's weights through a file: the same logits, statistics and gradients."""
    torch = torch_or_skip()
    save_file = pytest.importorskip("safetensors.torch").save_file
    torch.manual_seed(0)
    theirs, ours = resnet(torch.nn).to(getattr(torch, dtype)), resnet(nn).to(dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert as_in_pytorch(ours) == repr(theirs)
    images = rng.standard_normal((8, 3, 32, 32)).astype(dtype)
    classes = rng.integers(0, 10, 8)
    tolerance = {"float32": 1e-4, "float64": 1e-9}[dtype]

    with torch.no_grad():
        for _ in range(3):
            theirs(torch.tensor(images) * 2 + 1)  # running statistics of their own
    save_file(theirs.state_dict(), tmp_path / "resnet.safetensors")
    ours.load_state_dict(mg.load(tmp_path / "resnet.safetensors"))

    def close(a, b, name):
        a, b = a.detach().numpy(), b.detach().numpy()
        scale = np.abs(a).max() if a.size else 0
        np.testing.assert_allclose(
            b, a, rtol=tolerance, atol=tolerance * scale + 1e-12, err_msg=name
        )

    theirs.eval(), ours.eval()
    close(theirs(torch.tensor(images)), ours(mg.tensor(images)), "logits in eval mode")

    theirs.train(), ours.train()
    y, z = theirs(torch.tensor(images)), ours(mg.tensor(images))
    close(y, z, "logits in train mode")
    torch.nn.functional.cross_entropy(y, torch.tensor(classes)).backward()
    nn.functional.cross_entropy(z, mg.tensor(classes)).backward()
    for key, value in theirs.state_dict().items():
        close(value, ours.state_dict()[key], key)
    for (key, p), q in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        close(p.grad, q.grad, f"gradient of {key}")
