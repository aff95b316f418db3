"""Tensor functions against PyTorch, sample by sample: values, dtypes, and gradients.

A row of ``TABLE`` is a function and its samples: expressions over ``DATA`` that mean the same with
``t = minigrad`` and with ``t = torch``. Every floating name is differentiated with a random
cotangent, in float64 and in float32; the second derivatives are held against finite differences. A
sample after ``~`` sits on a kink, or has slopes that are infinite: no finite differences there.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import functions

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

rng = np.random.default_rng(0)
DATA: dict[str, Any] = {
    "x": np.array([[0.53, -1.21, 2.07], [1.49, 0.27, -0.76]]),
    "y": np.array([[1.03, 2.12, -1.17], [0.51, -0.43, 3.06]]),
    "p": np.array([[0.53, 1.21, 2.07], [1.49, 0.27, 0.76]]),  # positive
    "f": np.array([[0.53, -0.21, 0.07], [-0.49, 0.87, -0.76]]),  # |f| < 1
    "v": np.array([0.31, -0.23, 0.94]),
    "w": np.array([1.07, 2.21]),
    "s": np.array(1.73),  # no axes
    "one": np.array([0.41]),
    "q": np.arange(24.0).reshape(2, 3, 4) / 10.3 - 1.04,
    "odd": rng.uniform(-1, 1, (5, 1, 7)),
    "m": np.array([[2.03, 1.11, 0.37], [0.51, 3.07, 1.21], [1.43, 0.29, 1.02]]),
    "z": np.array([[0.0, 1.5, 2.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.5]]),  # zeros
    "ties": np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 1.0, 2.0]]),
    "hard": np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 1e30]),
    "e": np.zeros((0, 3)),
    "i": np.array([[3, -1, 2], [0, 5, -4]]),
    "j": np.array([[2, 3, -2], [1, -3, 3]]),  # no zeros
    "n": np.array([[3, 1, 2], [7, 5, 4]], dtype=np.int32),
    "k": np.array([2, 0, 1, 2]),
    "k2": np.array([[0, 2, 1], [2, 1, 0]]),
    "c": np.array([[True, False, True], [False, False, True]]),
    "cv": np.array([True, False, True]),
    "u": np.array([3, 200, 255], dtype=np.uint8),
}

TABLE = """
abs: t.abs(x) ; x.abs() ; i.abs() ; ~z.abs() ; s.abs() ; e.abs() ; u.abs() ; x.T.abs()
abs: ~hard.nan_to_num(0).abs()
acos: t.acos(f) ; f.T.acos() ; s.mul(0.5).acos() ; i.clamp(-1, 1).acos() ; e.acos() ; ~hard.acos()
add: t.add(x, y) ; x.add(2) ; x.add(v, alpha=2) ; x + w[:, None] ; i + 2.5 ; i.add(j, alpha=3)
add: c + c ; u + i[0] ; x.add(s) ; e + v ; x.T + w ; t.add(x, y, alpha=-0.5) ; n + i ; 2 + x
add_: x.clone().add_(y) ; x.clone().add_(v, alpha=2) ; i.clone().add_(1)
add_: x.clone().sub_(y, alpha=0.5) ; x.clone().mul_(y) ; x.clone().div_(y) ; p.clone().pow_(1.5)
add_: i.clone().div_(j, rounding_mode="floor") ; i.clone().floor_divide_(2)
add_: x.clone().remainder_(y) ; x.clone().fmod_(y) ; x.clone().atan2_(y) ; x.clone().lerp_(y, 0.3)
add_: x.clone().addcmul_(y, p, value=2) ; x.clone().addcdiv_(y, p) ; m.clone().addmm_(m, m)
add_: q[:, :, :3].clone().baddbmm_(q, q.mT, alpha=2)
addcdiv: t.addcdiv(x, y, p, value=0.5) ; x.addcdiv(v, p)
addcmul: t.addcmul(x, y, v) ; x.addcmul(y, y, value=-2)
addmm: t.addmm(m, m, m) ; m.addmm(m, m.T, beta=0.5, alpha=2) ; t.addmm(v, x, m) ; s.addmm(x, m)
addmm: t.addmm(i[0], j, j.T @ j) ; t.addmm(v, x, m, beta=0) ; t.addmm(v, e, m)
all: t.all(c) ; x.all() ; c.all(1) ; c.all(0, keepdim=True) ; e.all() ; e.all(0) ; u.all()
all: s.all() ; c.all((0, 1)) ; i.all(-1) ; u.all(0) ; c.T.all(0)
allclose: t.allclose(x, x + 1e-9) ; t.allclose(x, y) ; x.allclose(x + 0.1, atol=0.2)
allclose: t.allclose(hard, hard, equal_nan=True) ; t.allclose(hard, hard) ; e.allclose(e)
amax: x.amax() ; t.amax(x, 1) ; x.amax((0, 1)) ; ~ties.amax(1, True) ; q.amax((0, -1)) ; i.amax(0)
amax: s.amax() ; ~hard.amax() ; c.amax(1) ; x.T.amax(0) ; u.amax() ; odd.amax(2) ; e.amax(1)
amin: x.amin() ; t.amin(x, 1) ; x.amin((0, 1)) ; ~ties.amin(1, True) ; q.amin((0, -1)) ; i.amin(0)
amin: s.amin() ; ~hard.amin() ; c.amin(1) ; x.T.amin(0) ; odd.amin(2, keepdim=True)
any: t.any(c) ; x.any() ; c.any(1) ; c.any(0, keepdim=True) ; e.any() ; e.any(0) ; u.any()
any: s.any() ; c.any((0, 1)) ; i.any(-1) ; u.any(0)
argmax: t.argmax(x) ; x.argmax(1) ; x.argmax(0, keepdim=True) ; ties.argmax(1) ; s.argmax()
argmax: i.argmax() ; x.argmax(-1) ; hard.argmax() ; x.argmax(keepdim=True) ; x.T.argmax()
argmax: odd.argmax(2)
argmin: t.argmin(x) ; x.argmin(1) ; x.argmin(0, keepdim=True) ; i.argmin(-1) ; s.argmin(0)
argmin: hard.argmin()
argsort: t.argsort(x) ; x.argsort(0) ; x.argsort(1, descending=True) ; i.argsort() ; s.argsort()
argsort: t.argsort(ties, dim=1, stable=True) ; ties.argsort(dim=-1, descending=True, stable=True)
argsort: e.argsort() ; u.argsort() ; hard.argsort(stable=True) ; q.argsort(1)
asin: t.asin(f) ; f.T.asin() ; s.mul(0.5).asin() ; c.asin() ; e.asin() ; ~hard.asin()
atan: t.atan(x) ; x.T.atan() ; s.atan() ; i.atan() ; e.atan() ; ~hard.atan()
atan2: t.atan2(x, y) ; x.atan2(v) ; i.atan2(j) ; t.atan2(s, x) ; e.atan2(v) ; w.atan2(x.T)
baddbmm: t.baddbmm(m, q, q.mT[..., :3]) ; t.baddbmm(s, q.mT, q, beta=0.5, alpha=-2)
baddbmm: q[:, :, :3].baddbmm(q, q.mT, beta=0)
bincount: t.bincount(k) ; k.bincount(minlength=7) ; t.bincount(k, k * 0.5) ; u.bincount()
bincount: k[:0].bincount() ; k.bincount(weights=k) ; t.bincount(k, (k * 0.5).float())
bmm: t.bmm(q, q.mT) ; q.mT.bmm(q) ; q[:0].bmm(q.mT[:0]) ; t.bmm(i[None], j.T[None])
broadcast_tensors: t.broadcast_tensors(x, v) ; t.broadcast_tensors(s, w[:, None], v)
broadcast_to: t.broadcast_to(v, (2, 3)) ; v.broadcast_to((2, 3)) ; s.broadcast_to((2, 2))
broadcast_to: e.broadcast_to((2, 0, 3))
cat: t.cat((x, y)) ; t.cat([x, y, x], 1) ; t.cat((x, y), dim=-1) ; t.cat((x, i)) ; t.cat((e, x))
cat: t.cat((x.T, y.T), 1) ; t.cat((i, n)) ; t.cat((c, i)) ; t.cat((x,)) ; t.cat((x, t.tensor([])))
ceil: t.ceil(x) ; i.ceil() ; ~hard.ceil() ; s.ceil() ; e.ceil()
chunk: t.chunk(x, 2, 1) ; q.chunk(3, 2) ; q.chunk(5, -1) ; e.chunk(2) ; odd.chunk(2, 2)
chunk: odd.chunk(3)
clamp: t.clamp(x, -0.5, 1) ; x.clamp(min=0) ; x.clamp(max=0.25) ; x.clamp(y - 1, y)
clamp: x.clamp(min=y) ; x.clamp(max=v) ; i.clamp(0, 2) ; i.clamp(0.5) ; i.clamp(j)
clamp: ~z.clamp(0, 1) ; ~hard.clamp(-1, 2) ; x.clamp(1, -1) ; e.clamp(0) ; u.clamp(5, 100)
clamp: x.T.clamp(w) ; s.clamp(max=1.0) ; i.clamp(max=s)
clamp_: x.clone().clamp_(-0.5, 1) ; x.clone().clamp_(min=y) ; x.clone().clamp_min_(0.1)
clamp_: x.clone().clamp_max_(0.1) ; i.clone().clamp_(0, 2) ; x.clone().tril_()
clamp_: x.clone().triu_(1)
clamp_max: t.clamp_max(x, 0.25) ; x.clamp_max(y) ; i.clamp_max(2)
clamp_min: t.clamp_min(x, 0.25) ; x.clamp_min(y) ; i.clamp_min(2) ; i.clamp_min(0.5)
clip: t.clip(x, 0.0, 1.0) ; x.clip(max=1)
clone: t.clone(x) ; x.T.clone() ; i.clone() ; s.clone() ; e.clone()
concat: t.concat((x, y), 1)
concatenate: t.concatenate((x, y), 1)
cos: t.cos(x) ; i.cos() ; s.cos() ; e.cos() ; c.cos() ; x.T.cos()
cosh: t.cosh(x) ; i.cosh() ; s.cosh() ; e.cosh()
count_nonzero: t.count_nonzero(z) ; z.count_nonzero(0) ; i.count_nonzero(dim=-1)
count_nonzero: e.count_nonzero() ; z.count_nonzero((0, 1)) ; c.count_nonzero() ; s.count_nonzero()
cumprod: t.cumprod(x, 0) ; x.cumprod(-1) ; z.cumprod(0) ; z.cumprod(1) ; s.cumprod(0)
cumprod: i.cumprod(1) ; e.cumprod(0) ; q.cumprod(1) ; x.T.cumprod(1) ; n.cumprod(0)
cumprod: i.cumprod(1, dtype=t.float32) ; c.cumprod(0) ; odd.cumprod(2)
cumsum: t.cumsum(x, 0) ; x.cumsum(-1) ; s.cumsum(0) ; i.cumsum(1) ; c.cumsum(0) ; u.cumsum(0)
cumsum: e.cumsum(1) ; q.cumsum(1) ; x.T.cumsum(0) ; n.cumsum(0) ; n.cumsum(1, dtype=t.float64)
diag: t.diag(v) ; v.diag(1) ; v.diag(-2) ; m.diag() ; x.diag(1) ; x.diag(-1) ; i.diag()
diag: one.diag() ; x.T.diag() ; v[:0].diag() ; x.diag(3)
diagonal: t.diagonal(m) ; x.diagonal(1) ; q.diagonal(0, 1, 2) ; q.diagonal(-1, 0, 2)
diagonal: q.diagonal(dim1=-1, dim2=0) ; x.diagonal(5) ; x.diagonal(-5) ; e.diagonal()
diagonal: i.T.diagonal() ; odd.diagonal(0, 2, 0)
diff: t.diff(x) ; x.diff(2) ; x.diff(dim=0) ; i.diff() ; c.diff() ; x.diff(1, 1, x, y)
diff: x.diff(n=0) ; x.diff(5) ; x.diff(prepend=y[:, :1]) ; x.T.diff(append=y.T)
div: t.div(x, y) ; x.div(2) ; i.div(j) ; i / 2 ; 1 / y ; x / w[:, None] ; e / v ; ~x / 0 ; c / 2
div: t.div(i, j, rounding_mode="trunc") ; t.div(i, j, rounding_mode="floor")
div: u.div(7, rounding_mode="trunc") ; t.div(x, y, rounding_mode="trunc")
div: x.div(y, rounding_mode="floor") ; x.div(0.3, rounding_mode="trunc")
dot: t.dot(v, v) ; v.dot(m[0]) ; k.dot(k) ; v[:0].dot(v[:0]) ; m[:, 0].dot(v)
dstack: t.dstack((x, y)) ; t.dstack((v, v)) ; t.dstack((s, s)) ; t.dstack((q, q))
dstack: t.dstack([i, n])
einsum: t.einsum("ij,jk->ik", x, m) ; t.einsum("ij->ji", x) ; t.einsum("bij,bkj->b", q, q)
einsum: t.einsum("ii", m) ; t.einsum("...j,j", x, v) ; t.einsum("ij,ij->", x, y)
einsum: t.einsum("i,j", v, w) ; t.einsum("ij,jk,k->i", x, m, v)
eq: t.eq(x, y) ; x.eq(0.53) ; i == j ; x == x ; i.eq(2.0) ; c == 1 ; s == s ; hard == hard
equal: t.equal(x, x) ; x.equal(y) ; t.equal(x, v) ; hard.equal(hard)
erf: t.erf(x) ; i.erf() ; s.erf() ; e.erf() ; ~hard.erf() ; x.T.erf()
erfc: t.erfc(x) ; (x * 3).erfc() ; i.erfc() ; e.erfc() ; ~hard.erfc()
exp: t.exp(x) ; i.exp() ; s.exp() ; e.exp() ; c.exp() ; ~hard.exp() ; x.T.exp()
exp2: t.exp2(x) ; i.exp2() ; s.exp2() ; c.exp2() ; ~hard.exp2()
exp_: x.clone().exp_() ; x.clone().exp2_() ; x.clone().expm1_() ; p.clone().log_()
exp_: p.clone().log2_() ; p.clone().log10_() ; p.clone().log1p_() ; p.clone().sqrt_()
exp_: p.clone().rsqrt_() ; x.clone().sin_() ; x.clone().cos_() ; x.clone().tan_()
exp_: f.clone().asin_() ; f.clone().acos_() ; x.clone().atan_() ; x.clone().sinh_()
exp_: x.clone().cosh_() ; x.clone().tanh_() ; x.clone().erf_() ; x.clone().erfc_()
exp_: x.clone().sigmoid_() ; x.clone().relu_() ; x.clone().abs_() ; x.clone().neg_()
exp_: x.clone().sign_() ; y.clone().reciprocal_() ; x.clone().square_() ; x.clone().floor_()
exp_: x.clone().ceil_() ; x.clone().trunc_() ; x.clone().round_() ; x.clone().frac_()
exp_: hard.clone().nan_to_num_() ; x.clone().cumsum_(1) ; x.clone().cumprod_(0)
expand: v.expand(2, 3) ; w[:, None].expand(-1, 3) ; s.expand(2) ; v.expand((2, 3))
expand: x.expand(2, -1, 3) ; i.expand(1, 2, 3)
expm1: t.expm1(x) ; i.expm1() ; (s * 1e-9).expm1() ; ~hard.expm1()
fill_: x.clone().fill_(2) ; x.clone().fill_(s) ; x.clone().zero_() ; x.clone().copy_(y)
fill_: x.clone().copy_(v) ; x.clone().masked_fill_(c, 0.5) ; x.clone().masked_fill_(cv, s)
fill_: m.clone().fill_diagonal_(3) ; x.clone().index_fill_(1, k, 0.5)
fill_: x.clone().index_copy_(1, k[1:3], y[:, :2]) ; m.clone().index_add_(0, k[:3], m, alpha=2)
fill_: x.clone().scatter_(1, k2, y) ; x.clone().scatter_(1, k2, 2.0)
fill_: x.clone().scatter_add_(1, k2, y)
fix: t.fix(x) ; x.fix()
flatten: t.flatten(q) ; q.flatten(1) ; q.flatten(0, 1) ; s.flatten() ; q.flatten(-2)
flatten: x.T.flatten() ; e.flatten()
flip: t.flip(x, (0,)) ; t.flip(x, [0, 1]) ; x.flip(0) ; x.flip(-1) ; q.flip((0, 2)) ; s.flip(())
flip: i.flip(0, 1) ; e.flip(0)
fliplr: t.fliplr(x) ; q.fliplr() ; i.fliplr()
flipud: t.flipud(x) ; v.flipud() ; i.flipud()
floor: t.floor(x) ; i.floor() ; ~hard.floor() ; s.floor() ; x.T.floor()
floor_divide: t.floor_divide(i, j) ; i // 2 ; u // 7 ; i // 0.7 ; 7 // j ; i.floor_divide(-3)
floor_divide: x.detach() // 0.5 ; t.floor_divide(x.detach(), y.detach()) ; hard.detach() // 0.5
fmod: t.fmod(x, y) ; x.fmod(0.7) ; i.fmod(j) ; i.fmod(-3) ; i.fmod(2.5) ; u.fmod(7)
fmod: x.fmod(w[:, None])
frac: t.frac(x) ; s.frac() ; e.frac() ; x.T.frac()
gather: t.gather(x, 1, k2) ; x.gather(0, k2 % 2) ; x.gather(1, k[:2, None])
gather: s.gather(0, t.tensor(0)) ; x.gather(-1, k2[:1]) ; i.gather(1, k2) ; x.T.gather(0, k2.T)
gather: x.gather(1, k2[:, :0]) ; odd.gather(2, k2[:, None, :])
ge: t.ge(x, y) ; x >= 0 ; i.ge(j) ; i >= 1.5 ; 1 >= x
gt: t.gt(x, y) ; x > v ; i.gt(2) ; c > c ; hard > 0
hstack: t.hstack((x, y)) ; t.hstack((v, w)) ; t.hstack((s, s)) ; t.hstack((q, q))
hstack: t.hstack([i, x])
index_add: t.index_add(m, 0, k, t.cat((m, v[None])))
index_add: x.index_add(1, k, t.cat((x, y[:, :1]), 1), alpha=2)
index_add: v.index_add(0, k, t.cat((v, one))) ; i.index_add(-1, k[:3], j)
index_add: x.index_add(0, k[:0], e)
index_copy: t.index_copy(m, 0, k[:3], x.T @ x) ; x.index_copy(1, k[1:3], y[:, :2])
index_copy: i.index_copy(0, k[1:3], j)
index_fill: t.index_fill(x, 1, k, 0.5) ; x.index_fill(0, k[1:3], s) ; i.index_fill(1, k[:1], 7)
index_fill: x.index_fill(-1, k[:0], 1)
index_select: t.index_select(x, 1, k) ; m.index_select(0, k) ; q.index_select(-1, k)
index_select: i.index_select(1, k) ; x.index_select(1, k[:0]) ; s.index_select(0, k[1:2])
index_select: x.T.index_select(0, k) ; x.index_select(1, k[0])
is_floating_point: t.is_floating_point(x) ; i.is_floating_point()
isclose: t.isclose(x, x + 1e-9) ; x.isclose(y, atol=1) ; hard.isclose(hard, equal_nan=True)
isclose: i.isclose(j) ; x.isclose(v)
isfinite: t.isfinite(hard) ; i.isfinite() ; c.isfinite()
isin: t.isin(i, k) ; t.isin(x, v) ; t.isin(i, 2) ; t.isin(i, k, invert=True) ; t.isin(e, v)
isin: t.isin(k, k, assume_unique=False)
isinf: t.isinf(hard) ; i.isinf()
isnan: t.isnan(hard) ; i.isnan() ; e.isnan()
le: t.le(x, y) ; x <= 0 ; i.le(j)
lerp: t.lerp(x, y, 0.3) ; x.lerp(y, p) ; x.lerp(v, 2.0) ; x.lerp(y, s)
log: t.log(p) ; s.log() ; i.abs().log() ; ~hard.log() ; e.log() ; p.T.log()
log10: t.log10(p) ; t.tensor([1.0, 10.0, 1000.0]).log10() ; i.abs().log10() ; ~hard.log10()
log1p: t.log1p(p) ; (s * 1e-9).log1p() ; i.abs().log1p() ; ~hard.log1p()
log2: t.log2(p) ; t.tensor([1.0, 2.0, 8.0]).log2() ; i.abs().log2() ; ~hard.log2()
log_softmax: t.log_softmax(x, 1) ; x.log_softmax(0) ; t.log_softmax(x, dim=-1) ; s.log_softmax(0)
log_softmax: i.log_softmax(1, dtype=t.float32) ; q.log_softmax(1)
logaddexp: t.logaddexp(x, y) ; x.logaddexp(v) ; (x * 500).logaddexp(y) ; ~z.logaddexp(z)
logaddexp: s.logaddexp(x)
logical_and: t.logical_and(i, c) ; x.logical_and(y) ; c.logical_and(cv) ; u.logical_and(u)
logical_not: t.logical_not(i) ; c.logical_not() ; x.logical_not()
logical_or: t.logical_or(i, c) ; x.logical_or(z[:2]) ; c.logical_or(cv)
logical_xor: t.logical_xor(i, c) ; x.logical_xor(z[:2]) ; c.logical_xor(cv)
logsumexp: t.logsumexp(x, 1) ; x.logsumexp((0, 1)) ; q.logsumexp(-1, True) ; i.logsumexp(0)
logsumexp: s.logsumexp(0) ; (x * 900).logsumexp(0) ; e.logsumexp(0)
lt: t.lt(x, y) ; x < 0 ; i.lt(j) ; i < 1.5
masked_fill: t.masked_fill(x, c, 0.5) ; x.masked_fill(cv, s) ; i.masked_fill(c, 9)
masked_fill: x.T.masked_fill(c.T, -1) ; v.masked_fill(c, 0) ; x.masked_fill(c, float("-inf"))
masked_fill: c.masked_fill(c, False)
masked_select: t.masked_select(x, c) ; x.masked_select(cv) ; v.masked_select(c)
masked_select: i.masked_select(c) ; x.masked_select(c & ~c)
matmul: t.matmul(x, m) ; m @ v ; v @ m ; v @ v ; q @ q.mT ; x @ e.T ; e @ m ; i @ j.T
matmul: m.matmul(q.mT[..., :3].mT) ; odd @ odd.mT
max: x.max() ; t.max(x, 1) ; x.max(0) ; x.max(-1, keepdim=True) ; t.max(x, y) ; x.max(y)
max: ~ties.max() ; ~ties.max(1) ; i.max() ; i.max(1) ; s.max() ; s.max(0) ; hard.detach().max()
max: ~hard.max(0) ; c.max() ; q.max(1) ; x.T.max(1)
maximum: t.maximum(x, y) ; x.maximum(v) ; ~ties.maximum(ties) ; i.maximum(j) ; i.maximum(x)
maximum: c.maximum(cv) ; x.maximum(s)
mean: t.mean(x) ; x.mean(1) ; x.mean((0, 1), keepdim=True) ; q.mean(-1) ; s.mean() ; e.mean()
mean: e.mean(0) ; e.mean(1) ; i.mean(dtype=t.float64) ; x.T.mean(0)
median: x.median() ; t.median(x) ; t.median(x, 1) ; x.median(0) ; x.median(-1, keepdim=True)
median: i.median() ; i.median(1) ; s.median() ; ~ties.median() ; q.median(2)
median: hard.detach().median() ; ~hard.median(0) ; odd.median(2) ; x.T.median(0) ; odd.median()
median: s.median(0)
meshgrid: t.meshgrid(v, w, indexing="ij") ; t.meshgrid(v, w, indexing="xy")
meshgrid: t.meshgrid([v, w, one], indexing="xy") ; t.meshgrid(k, indexing="xy")
meshgrid: t.meshgrid(s, v, indexing="ij")
min: x.min() ; t.min(x, 1) ; x.min(0) ; x.min(-1, keepdim=True) ; t.min(x, y) ; x.min(y)
min: ~ties.min() ; ~ties.min(1) ; i.min() ; s.min(0) ; hard.detach().min() ; q.min(1)
minimum: t.minimum(x, y) ; x.minimum(v) ; ~ties.minimum(ties) ; i.minimum(j) ; x.minimum(s)
mm: t.mm(x, m) ; m.mm(x.T) ; i.mm(j.T) ; e.mm(m) ; x.T.mm(x)
moveaxis: t.moveaxis(q, 0, 2) ; q.moveaxis((0, 1), (2, 0))
movedim: t.movedim(q, 0, 2) ; q.movedim((0, 1), (2, 0)) ; q.movedim(-1, 0)
movedim: q.movedim((0, -1), (-1, 0))
mul: t.mul(x, y) ; x.mul(2) ; i * 2.5 ; c * c ; c * 2 ; x * v ; 3 * x ; u * -2 ; e * v ; x * s
mul: i * n ; x.T * w
mv: t.mv(x, v) ; m.T.mv(v) ; i.mv(i[0]) ; e.mv(v)
nan_to_num: t.nan_to_num(hard) ; hard.nan_to_num(1.5, 2.5, -2.5) ; ~hard.nan_to_num(nan=3)
nan_to_num: x.nan_to_num() ; i.nan_to_num() ; hard.nan_to_num(posinf=7)
narrow: t.narrow(x, 1, 1, 2) ; x.narrow(1, -2, 1) ; q.narrow(-1, 0, 3) ; x.narrow(0, 0, 0)
narrow: i.narrow(0, 1, 1)
ne: t.ne(x, y) ; x != 0.53 ; i.ne(j) ; hard != hard
neg: t.neg(x) ; -x ; i.neg() ; -u ; s.neg() ; e.neg()
new_: x.new_zeros(2, 2) ; x.new_ones((3,)) ; i.new_full((2,), 7) ; x.new_tensor([1, 2])
new_: x.new_empty((0, 2)) ; x.new_zeros((2,), dtype=t.int64)
nonzero: t.nonzero(z) ; i.nonzero() ; c.nonzero() ; t.nonzero(z, as_tuple=True) ; s.nonzero()
nonzero: e.nonzero() ; (s * 0).nonzero() ; z.T.nonzero()
norm: x.norm() ; t.norm(x) ; x.norm(1) ; x.norm(3) ; x.norm(0.5, 1) ; x.norm(2, 1)
norm: x.norm(p=2, dim=0, keepdim=True) ; x.norm(float("inf"), 1) ; x.norm(-float("inf"), 0)
norm: x.norm("fro") ; x.norm(0, 1) ; x.norm(1.5, (0, 1)) ; q.norm(2, (0, 2)) ; ~z.norm(3, 1)
norm: ~(x * 0).norm() ; ~(x * 0).norm(3) ; ~z.norm(1, 0) ; s.norm() ; e.norm() ; x.norm(-1, 1)
norm: ~z.norm(1.5, 0) ; ~ties.norm(float("inf"), 1)
numel: t.numel(x) ; e.numel() ; s.numel()
outer: t.outer(v, w) ; v.outer(v) ; k.outer(k) ; v[:0].outer(w) ; k.outer(v)
permute: t.permute(q, (2, 0, 1)) ; q.permute(1, 0, 2) ; q.permute(-1, 0, 1) ; x.permute(1, 0)
permute: s.permute(())
pow: t.pow(x, 2) ; x**3 ; p**0.5 ; p**v ; 2**x ; t.pow(2.0, x) ; i**2 ; p.pow(-1.5) ; ~z**2
pow: ~z**0 ; 2 ** i.abs() ; i ** 2.0 ; x**0 ; x**1 ; p ** s ; c ** 2 ; t.pow(i, 2.5) ; u ** 2
pow: n ** n
prod: t.prod(x) ; x.prod(0) ; x.prod(1, keepdim=True) ; z.prod() ; z.prod(0) ; z.prod(1)
prod: i.prod() ; c.prod() ; e.prod() ; e.prod(0) ; s.prod() ; q.prod(1) ; n.prod(0) ; u.prod()
prod: i.prod(dtype=t.float64) ; x.T.prod(1) ; odd.prod(0)
ravel: x.T.ravel() ; s.ravel()
reciprocal: t.reciprocal(y) ; i.reciprocal() ; s.reciprocal() ; ~hard.reciprocal()
reciprocal: e.reciprocal()
relu: t.relu(x) ; x.relu() ; i.relu() ; ~z.relu() ; e.relu()
remainder: t.remainder(x, y) ; x % 0.7 ; i % 3 ; i.remainder(j) ; i % -3 ; t.remainder(7, j)
remainder: u % 7 ; x.remainder(-0.7) ; i % 2.5 ; 2.5 % y.detach()
repeat: x.repeat(2, 1) ; v.repeat(2, 2) ; s.repeat(3) ; x.repeat(1, 0) ; i.repeat((2, 1, 1))
repeat: x.T.repeat(1, 2)
repeat_interleave: t.repeat_interleave(x, 2) ; x.repeat_interleave(2, 0)
repeat_interleave: x.repeat_interleave(k[:3], 1) ; v.repeat_interleave(k[:3])
repeat_interleave: x.repeat_interleave(0, 1) ; i.repeat_interleave(2, -1) ; s.repeat_interleave(3)
repeat_interleave: x.repeat_interleave(k[:1], 0)
reshape: t.reshape(x, (3, 2)) ; x.reshape(-1) ; x.reshape(3, -1) ; x.T.reshape(2, 3)
reshape: s.reshape(1, 1) ; e.reshape(3, 0) ; i.reshape(6) ; x.reshape([6, 1])
roll: t.roll(x, 1) ; x.roll(1, 0) ; x.roll((1, -1), (0, 1)) ; x.roll(5, -1) ; e.roll(1, 0)
roll: i.roll(-1, 1) ; x.T.roll(1) ; x.roll((1, 2), (1, 1))
round: t.round(x) ; x.round(decimals=1) ; i.round() ; ~hard.round() ; (x * 100).round(decimals=-1)
round: ~t.tensor([0.5, 1.5, 2.5, -0.5]).round()
rsqrt: t.rsqrt(p) ; i.abs().rsqrt() ; s.rsqrt() ; ~hard.rsqrt()
scatter: t.scatter(x, 1, k2, y) ; x.scatter(1, k2[:, :2], y.detach())
scatter: x.scatter(1, k[:2, None], 9.0) ; x.scatter(0, k2[:1] * 0, y.detach())
scatter: i.scatter(1, k2, j) ; x.scatter(1, k2, value=2.5) ; x.scatter(1, k2[:, :0], y.detach())
scatter: x.scatter(-1, k2, 3) ; x.T.scatter(0, k2.T, y.T)
scatter_add: t.scatter_add(x, 1, k2, y) ; x.scatter_add(1, k2 * 0, y)
scatter_add: x.scatter_add(0, k2[:1] * 0, y.detach()) ; i.scatter_add(1, k2, j)
scatter_add: x.scatter_add(1, k2[:, :2], y.detach()) ; x.T.scatter_add(0, k2.T, y.T)
select: t.select(x, 1, 2) ; q.select(-1, -1) ; q.select(0, 1) ; i.select(0, 0)
sigmoid: t.sigmoid(x) ; i.sigmoid() ; s.sigmoid() ; e.sigmoid() ; ~hard.sigmoid()
sign: t.sign(x) ; i.sign() ; c.sign() ; u.sign() ; ~z.sign()
sin: t.sin(x) ; i.sin() ; s.sin() ; e.sin() ; x.T.sin()
sinh: t.sinh(x) ; i.sinh() ; s.sinh()
softmax: t.softmax(x, 1) ; x.softmax(0) ; x.softmax(dim=-1) ; s.softmax(0)
softmax: i.softmax(1, dtype=t.float32) ; q.softmax(1) ; e.softmax(1)
sort: t.sort(x) ; x.sort(0) ; x.sort(1, descending=True) ; i.sort() ; x.sort(dim=-1) ; s.sort()
sort: e.sort() ; ~t.sort(ties, dim=1, stable=True) ; q.sort(1) ; c.sort(stable=True)
split: t.split(x, 2, 1) ; x.split([1, 2], 1) ; q.split(3, -1) ; e.split(2) ; i.split(1)
split: odd.split(3, 2) ; odd.split((2, 3))
split_with_sizes: t.split_with_sizes(x, [1, 2], 1) ; odd.split_with_sizes((2, 3))
sqrt: t.sqrt(p) ; i.abs().sqrt() ; s.sqrt() ; ~hard.sqrt() ; e.sqrt()
square: t.square(x) ; i.square() ; s.square() ; u.square() ; x.T.square()
squeeze: t.squeeze(x[None, :, None]) ; odd.squeeze() ; odd.squeeze(1) ; x.squeeze(0)
squeeze: odd[None].squeeze((0, 2)) ; odd[None].squeeze((0, 1)) ; s.squeeze() ; odd.squeeze(-2)
squeeze: s.squeeze(0) ; one.squeeze(0)
stack: t.stack((x, y)) ; t.stack([x, y], 1) ; t.stack((x, y), -1) ; t.stack((s, s))
stack: t.stack((i, x)) ; t.stack((e, e)) ; t.stack((x.T, y.T), dim=2)
std: t.std(x) ; x.std(1) ; x.std(0, False) ; x.std(1, keepdim=True) ; x.std(1, correction=0)
std: q.std((0, 2)) ; x.std(False) ; x.std(dim=-1, unbiased=False) ; x.std(correction=2)
std: ~(x * 0).std(1) ; s.std(correction=0)
std_mean: t.std_mean(x) ; t.std_mean(x, 1) ; t.std_mean(x, dim=(0, 1), correction=0, keepdim=True)
std_mean: t.std_mean(x, 1, False) ; t.std_mean(x, False)
sub: t.sub(x, y) ; x.sub(v, alpha=2) ; 2 - x ; i - 1.5 ; u - 1 ; 300 - u ; x - s
sub: i.sub(j, alpha=2) ; e - v ; i - n
sum: t.sum(x) ; x.sum(0) ; x.sum(1, keepdim=True) ; q.sum((0, 2)) ; x.sum(dim=-1) ; s.sum()
sum: s.sum(0) ; e.sum() ; e.sum(0) ; e.sum(1) ; i.sum() ; c.sum() ; u.sum()
sum: i.sum(dtype=t.float32) ; n.sum(1) ; x.sum([]) ; x.T.sum(0) ; c.sum(1)
swapaxes: t.swapaxes(q, 0, 2) ; q.swapaxes(-1, 1)
swapdims: t.swapdims(q, 0, 2) ; q.swapdims(-1, 1)
t: t.t(x) ; x.t() ; v.t() ; s.t() ; i.t()
take_along_dim: t.take_along_dim(x, k2, 1) ; x.take_along_dim(k[None], 1) ; x.take_along_dim(k)
take_along_dim: i.take_along_dim(k2, dim=1) ; x.take_along_dim(k[:1, None] * 0, 0)
take_along_dim: x.take_along_dim(k2, -1)
tan: t.tan(x) ; i.tan() ; s.tan() ; e.tan()
tanh: t.tanh(x) ; i.tanh() ; s.tanh() ; ~hard.tanh() ; x.T.tanh()
tensordot: t.tensordot(x, m, 1) ; t.tensordot(q, q, ([0, 1], [0, 1])) ; t.tensordot(x, y)
tensordot: t.tensordot(v, w, 0) ; t.tensordot(q, x, ([1, 0], [1, 0]))
tensordot: t.tensordot(q, m, dims=([1], [0])) ; t.tensordot(i, j, 2)
tile: t.tile(x, (2,)) ; x.tile(2, 1, 2) ; s.tile(2) ; i.tile((2, 2)) ; x.T.tile((1, 2))
tile: s.tile(())
topk: t.topk(x, 2) ; x.topk(1, 0) ; x.topk(2, 1, False) ; i.topk(1, dim=0) ; q.topk(3, 1)
topk: x.topk(0) ; s.topk(1) ; x.topk(3, largest=True, sorted=True) ; x.T.topk(2)
trace: t.trace(m) ; x.trace() ; i.trace() ; m.T.trace()
transpose: t.transpose(x, 0, 1) ; q.transpose(-1, 0) ; s.transpose(0, -1) ; i.transpose(1, 0)
transpose: q.mT ; x.T
tril: t.tril(m) ; m.tril(-1) ; q.tril(1) ; i.tril() ; c.tril() ; x.T.tril() ; e.tril()
tril_indices: t.tril_indices(3, 3) ; t.tril_indices(3, 4, 1) ; t.tril_indices(4, 3, -1)
tril_indices: t.tril_indices(0, 3) ; t.tril_indices(2, 2, dtype=t.int32) ; t.tril_indices(2, 3, 9)
triu: t.triu(m) ; m.triu(1) ; q.triu(-1) ; i.triu() ; c.triu() ; x.T.triu()
triu_indices: t.triu_indices(3, 3) ; t.triu_indices(3, 4, 1) ; t.triu_indices(4, 3, -1)
triu_indices: t.triu_indices(3, 0) ; t.triu_indices(2, 2, dtype=t.int32)
trunc: t.trunc(x) ; i.trunc() ; ~hard.trunc() ; s.trunc()
unbind: t.unbind(x) ; q.unbind(1) ; q.unbind(-1) ; i.unbind() ; e.unbind()
unflatten: t.unflatten(q, 2, (2, 2)) ; q.unflatten(-1, (2, -1)) ; i.unflatten(1, (3, 1))
unflatten: v.unflatten(0, (1, 3))
unique: t.unique(ties.detach()) ; ties.detach().unique(return_inverse=True)
unique: i.unique(return_counts=True)
unique: t.unique(ties.detach(), return_inverse=True, return_counts=True) ; k.unique() ; c.unique()
unique: t.cat((i, i)).unique(dim=0) ; e.detach().unique()
unique: t.unique(t.cat((i, i)), dim=0, return_inverse=True, return_counts=True)
unique: ties.detach().unique(dim=1, return_counts=True) ; s.detach().unique()
unsqueeze: t.unsqueeze(x, 0) ; x.unsqueeze(-1) ; s.unsqueeze(0) ; x.unsqueeze(1)
unsqueeze: x.T.unsqueeze(-2)
var: t.var(x) ; x.var(1) ; x.var(0, False) ; x.var(1, correction=0) ; q.var((0, 2), keepdim=True)
var: x.var(False) ; x.var(dim=-1, unbiased=True) ; x.var(correction=2) ; s.var(correction=0)
var: x.T.var(0)
var_mean: t.var_mean(x) ; t.var_mean(x, 0) ; t.var_mean(x, dim=(0, 1), correction=0, keepdim=True)
var_mean: t.var_mean(x, 1, False) ; t.var_mean(x, False)
view: x.view(3, 2) ; x.view(-1) ; s.view(1) ; e.view(3, 0) ; i.view((6,))
view_as: x.view_as(m[:2].T.reshape(3, 2)) ; i.view_as(j)
vstack: t.vstack((x, y)) ; t.vstack((v, v)) ; t.vstack((s, s)) ; t.vstack([i, x])
vstack: t.vstack((v, x)) ; t.vstack((q, q))
where: t.where(c, x, y) ; t.where(c, x, 0.0) ; t.where(cv, 1.0, x) ; t.where(c)
where: t.where(x > 0, x, v) ; t.where(c, i, 7) ; t.where(c, 1, 2) ; t.where(c, s, x)
where: x.where(c, y) ; t.where(c, i, x) ; x.where(c, 0)
zeros_like: t.zeros_like(x) ; t.zeros_like(i) ; t.zeros_like(x, dtype=t.int64)
"""


def samples() -> Iterator[tuple[str, str]]:
    for line in TABLE.strip().splitlines():
        name, _, rest = line.partition(": ")
        for sample in rest.split(";"):
            yield name, sample.strip()


SAMPLES = list(samples())
NAMES = sorted({name for name, _ in SAMPLES})
FLOATING = [n for n, a in DATA.items() if a.dtype.kind == "f"]


def names_in(sample: str) -> list[str]:
    code = compile(sample.removeprefix("~"), sample, "eval")
    return [n for n in DATA if n in code.co_names]


def evaluate(t: Any, sample: str, dtype: str) -> tuple[list[Any], list[Any]]:
    """The results as a list, and the leaves."""
    used = {}
    for n in names_in(sample):
        floating = DATA[n].dtype.kind == "f"
        used[n] = t.tensor(DATA[n].astype(dtype) if floating else DATA[n])
        used[n].requires_grad_(floating)
    out = eval(sample.removeprefix("~"), {"t": t, **used})
    out = list(out) if isinstance(out, tuple | list) else [out]
    return out, [x for x in used.values() if x.requires_grad]


def tolerance(a: mg.Tensor) -> dict[str, Any]:
    """float32 also where integers become floating."""
    return {"rtol": 2e-4, "atol": 2e-5} if a.dtype == "float32" else {"rtol": 1e-7, "atol": 1e-9}


def check(sample: str, dtype: str) -> None:
    ours, leaves = evaluate(mg, sample, dtype)
    theirs, their_leaves = evaluate(torch, sample, dtype)
    assert len(ours) == len(theirs), f"{len(ours)} results, not {len(theirs)}"
    total, their_total = [], []
    draw = np.random.default_rng(1)
    for a, b in zip(ours, theirs, strict=True):
        if not isinstance(b, torch.Tensor):
            assert type(a) is type(b), f"{type(a)} is not {type(b)}"
            assert a == b, f"{a} is not {b}"
            continue
        assert isinstance(a, mg.Tensor)
        assert str(a.dtype) == str(b.dtype).removeprefix("torch."), f"{a.dtype} is not {b.dtype}"
        assert a.shape == tuple(b.shape), f"{a.shape} is not {tuple(b.shape)}"
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **tolerance(a))
        assert a.requires_grad == b.requires_grad, f"requires_grad is {a.requires_grad}"
        if b.requires_grad:
            cotangent = draw.standard_normal(a.shape)
            total.append((a * mg.tensor(cotangent, dtype=a.dtype)).sum())
            their_total.append((b * torch.tensor(cotangent, dtype=b.dtype)).sum())
    if total:
        # no nansum: inf and NaN must agree, too
        grads = mg.grad(sum(total[1:], total[0]), leaves, allow_unused=True)
        their_grads = torch.autograd.grad(
            sum(their_total[1:], their_total[0]), their_leaves, allow_unused=True
        )
        for a, b in zip(grads, their_grads, strict=True):
            if a is None or b is None:
                assert a is None or not a.array.any()
                assert b is None or not b.numpy().any()
            else:
                np.testing.assert_allclose(a.numpy(), b.numpy(), err_msg="gradient", **tolerance(a))


def failures(name: str, run: Any) -> list[str]:
    failed = []
    for own, sample in SAMPLES:
        if own == name:
            try:
                run(sample)
            except Exception as error:
                lines = [line for line in str(error).splitlines() if line.strip()]
                failed.append(f"{sample}: {type(error).__name__} {' '.join(lines[:9])}")
    return failed


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", NAMES)
def test_same_as_pytorch(name: str, dtype: str) -> None:
    failed = failures(name, lambda sample: check(sample, dtype))
    assert not failed, "\n".join(failed)


def second(sample: str) -> None:
    """Second derivatives against finite differences."""
    out, leaves = evaluate(mg, sample, "float64")
    if sample.startswith("~") or not any(isinstance(o, mg.Tensor) and o.requires_grad for o in out):
        return
    used = [n for n in names_in(sample) if n in FLOATING]
    rest = {n: mg.tensor(DATA[n]) for n in names_in(sample) if n not in FLOATING}

    def function(*values: Any) -> Any:
        found = eval(sample, {"t": mg, **rest, **dict(zip(used, values, strict=True))})
        found = found if isinstance(found, tuple | list) else [found]
        return tuple(o for o in found if isinstance(o, mg.Tensor) and o.requires_grad)

    if any(not np.isfinite(o.detach().numpy()).all() for o in function(*leaves)):
        return
    assert mg.gradgradcheck(function, leaves)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str) -> None:
    failed = failures(name, second)
    assert not failed, "\n".join(failed)


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
UNARY = """
t.abs(a) t.acos(a) t.asin(a) t.atan(a) t.ceil(a) t.cos(a) t.cosh(a) t.erf(a) t.erfc(a) t.exp(a)
t.exp2(a) t.expm1(a) t.floor(a) t.frac(a) t.isfinite(a) t.isinf(a) t.isnan(a) t.log(a) t.log10(a)
t.log1p(a) t.log2(a) t.logical_not(a) t.neg(a) t.nan_to_num(a) t.reciprocal(a) t.relu(a) t.round(a)
t.rsqrt(a) t.sigmoid(a) t.sign(a) t.sin(a) t.sinh(a) t.sqrt(a) t.square(a) t.tan(a) t.tanh(a)
t.trunc(a) t.sum(a) t.prod(a) t.mean(a) t.var(a,correction=0) t.amax(a) t.amin(a) t.max(a)
t.argmax(a) t.any(a) t.all(a) t.median(a) t.norm(a) t.count_nonzero(a) t.unique(a) t.nonzero(a)
t.cumsum(a,0) t.cumprod(a,0) t.softmax(a,0) t.logsumexp(a,0) t.sort(a)[0] t.argsort(a,stable=True)
t.diff(a) t.clamp(a,0,1) t.clamp(a,0.5) a+1 a*1.5 a/2 a//2 a%2 a**2 a==1 a>0.5
"""
BINARY = """
a+b a-b a*b a/b a//(b+1) a%(b+1) t.fmod(a,b+1) a**b t.atan2(a,b) t.maximum(a,b) t.logaddexp(a,b)
a==b a<b t.logical_and(a,b) t.isclose(a,b) t.where(a==a,a,b) t.lerp(a,b,0.5) t.cat((a,b))
"""


def sweep(sample: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """The dtype and the value of the result; and where PyTorch refuses, so do we (bool aside)."""
    values = np.resize([1, 0, 1, 1, 0, 1], shape)
    results: list[Any] = []
    for t in (torch, mg):
        names = {n: t.tensor(values).to(getattr(t, d)) for n, d in zip("ab", dtypes, strict=False)}
        try:
            results.append(eval(sample, {"t": t, **names}))
        except (RuntimeError, IndexError) as error:
            results.append(error)
    theirs, ours = results
    if isinstance(theirs, Exception):
        # PyTorch refuses some of uint8, too, and much of bool: docs/differences.md
        assert isinstance(ours, Exception) or "bool" in dtypes, f"{dtypes} gives {ours}"
        return
    assert isinstance(ours, mg.Tensor), f"{dtypes}: {ours}"
    assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch."), f"{dtypes}"
    assert ours.shape == tuple(theirs.shape)
    np.testing.assert_allclose(
        ours.numpy().astype(float), theirs.double().numpy(), rtol=1e-2, atol=1e-3
    )


@pytest.mark.parametrize("sample", UNARY.split())
def test_dtypes_of_one_operand(sample: str) -> None:
    for dtype in DTYPES:
        for shape in ((2, 3), ()):
            sweep(sample, (dtype,), shape)


@pytest.mark.parametrize("sample", BINARY.split())
def test_dtypes_of_two_operands(sample: str) -> None:
    for left in DTYPES:
        for right in DTYPES:
            sweep(sample, (left, right), (6,))


def test_every_public_function_has_a_row() -> None:
    public = {n for n in mg.__all__ if inspect.isfunction(vars(functions).get(n))} - {"is_tensor"}
    missing = public - set(NAMES)
    assert not missing, f"no samples of {sorted(missing)}"


def test_functions_and_methods_have_the_names_of_pytorch() -> None:
    for name in NAMES:
        assert name.endswith("_") or hasattr(torch, name) <= hasattr(mg, name), name
        assert hasattr(torch.Tensor, name) <= hasattr(mg.Tensor, name), name
    assert len(SAMPLES) > 600
