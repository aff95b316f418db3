"""What is saved comes back, bit for bit; what is damaged is named."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.serialization import load, save


def test_a_state_dict_is_a_plain_safetensors_file(tmp_path):
    from safetensors.numpy import load_file

    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    save(net.state_dict(), tmp_path / "net.safetensors")
    raw = load_file(tmp_path / "net.safetensors")
    assert sorted(raw) == sorted(net.state_dict())
    twin = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    twin.load_state_dict(load(tmp_path / "net.safetensors"))
    for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        assert a.equal(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape


def test_nests_of_plain_data_come_back(tmp_path):
    nest = {
        "epoch": 3,
        "lr": 0.1,
        "done": False,
        "name": "β",
        "none": None,
        4: [mg.arange(3), (1, "x"), {"deep": mg.tensor(2.5)}],
        "empty": mg.zeros(0, 2),
        "half": mg.ones(2, dtype=mg.float16),
    }
    save(nest, tmp_path / "all.safetensors")
    back = load(tmp_path / "all.safetensors")
    assert list(back) == list(nest)
    assert back["epoch"] == 3
    assert back["name"] == "β"
    assert back["none"] is None
    assert back["done"] is False
    assert back[4][1] == (1, "x")
    assert back[4][0].tolist() == [0, 1, 2]
    assert back[4][2]["deep"].item() == 2.5
    assert back["empty"].shape == (0, 2)
    assert back["half"].dtype == mg.float16


def test_optimizer_and_model_resume_bit_for_bit(tmp_path):
    def make():
        mg.manual_seed(1)
        net = nn.Linear(3, 2)
        return net, mg.optim.Adam(net.parameters(), lr=0.1)

    def step(net, optimizer, seed):
        x = mg.randn(4, 3, generator=mg.Generator().manual_seed(seed))
        optimizer.zero_grad()
        (net(x) ** 2).sum().backward()
        optimizer.step()

    net, optimizer = make()
    for i in range(3):
        step(net, optimizer, i)
    save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c")
    for i in range(3, 6):
        step(net, optimizer, i)

    twin, other = make()
    state = load(tmp_path / "c")
    twin.load_state_dict(state["net"])
    other.load_state_dict(state["optimizer"])
    for i in range(3, 6):
        step(twin, other, i)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


def test_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path"):
        load(tmp_path / "none")
    (tmp_path / "text").write_text("this is no model")
    with pytest.raises(mg.CheckpointError, match="not a whole safetensors file"):
        load(tmp_path / "text")
    save({"x": mg.ones(100)}, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-50])
    with pytest.raises(mg.CheckpointError):
        load(tmp_path / "cut")
    with pytest.raises(TypeError, match=r"cannot save Linear at model.*state_dict"):
        save({"model": nn.Linear(2, 2)}, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == whole, "a failed save leaves the old file"
    assert not list(tmp_path.glob("*.part"))
