"""Fingerprints and decoys."""

from __future__ import annotations

from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from bn3d.networks.values import decoy, digest, fingerprint

DTYPES = [ms.float16, ms.bfloat16, ms.float32, ms.float64]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (2,), (3, 1), (5, 7, 11)])
def test_a_decoy_is_another_value_everywhere(dtype, shape):
    rng = np.random.default_rng(0)
    truth = Tensor(rng.normal(size=shape)).astype(dtype)
    fake = decoy(truth, rng)
    assert (fake.dtype, fake.shape) == (truth.dtype, truth.shape)
    want, got = (each.asnumpy().astype(np.float64) for each in (truth, fake))
    unknown = np.isnan(got)
    assert unknown.any() == (truth.size > 1)
    assert not unknown.flat[0]
    assert (np.sign(got) == -np.sign(want))[~unknown].all()
    assert np.isfinite(got[~unknown]).all()


def test_a_decoy_of_zeros_is_not_zero():
    fake = decoy(Tensor(np.zeros(100, np.float32)), np.random.default_rng(0)).asnumpy()
    known = fake[~np.isnan(fake)]
    assert (known > 0).any()
    assert (known < 0).any()


def test_two_decoys_differ():
    noise, truth = np.random.default_rng(0), Tensor(np.ones(4, np.float32))
    assert digest(decoy(truth, noise)) != digest(decoy(truth, noise))


@dataclass
class Holder:
    value: object


A, B = Tensor([1.0, 2.0]), Tensor([1.0, 3.0])
SAME_AGAIN = Tensor([1.0, 2.0])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x,),
        lambda x: {"a": [x]},
        Holder,
        lambda x: Holder({"a": (x, None)}),
        lambda x: x.asnumpy(),
        lambda x: x.reshape(2, 1),
        lambda x: float(x[1]),
        str,
    ],
)
def test_fingerprints_are_equal_for_equal_bits_only(wrap):
    assert fingerprint(wrap(A)) == fingerprint(wrap(SAME_AGAIN))
    assert fingerprint(wrap(A)) != fingerprint(wrap(B))


def test_fingerprints_tell_kinds_zeros_and_shapes():
    zero = np.zeros(2, np.float32)
    different = [[A], (A,), A, A.reshape(2, 1), A.astype(ms.float64), Tensor(zero), Tensor(-zero)]
    different += [1, 1.0, True, None, "1", b"1"]
    assert len({fingerprint(each) for each in different}) == len(different)


def test_a_value_that_holds_itself_ends():
    values = [1]
    values.append(values)
    assert fingerprint(values) == fingerprint(values)


def test_digests_that_count_as_others():
    assert fingerprint([B], {digest(B): digest(A)}) == fingerprint([A])
