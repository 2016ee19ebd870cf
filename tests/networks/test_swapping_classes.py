"""`bn3d.swap` of layers whose classes have habits: registries, metaclasses, refusals."""

from __future__ import annotations

import abc
import dataclasses
import functools
import typing
import warnings

import numpy as np
import pytest
from mindspore import Tensor, nn

import bn3d

REGISTRY: dict[str, type] = {}
T = typing.TypeVar("T")


def volume():
    return Tensor(np.random.default_rng(0).normal(1, 2, (2, 3, 4, 5, 6)).astype(np.float32))


class Registers(nn.BatchNorm3d):
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        REGISTRY[cls.__name__] = cls


class Registered(Registers):
    pass


class NeedsAName(nn.BatchNorm3d):
    def __init_subclass__(cls, name, **kwargs):
        super().__init_subclass__(**kwargs)


class Named(NeedsAName, name="named"):
    pass


class Meta(type(nn.Cell)):
    def __new__(mcs, name, bases, namespace):
        made = super().__new__(mcs, name, bases, namespace)
        REGISTRY[name] = made
        return made

    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        cls.times_made = vars(cls).get("times_made", 0) + 1

    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        made.made_by_meta = True
        return made


class OfMeta(nn.BatchNorm3d, metaclass=Meta):
    pass


class Abstract(nn.BatchNorm3d, abc.ABC):
    pass


class Generic(nn.BatchNorm3d, typing.Generic[T]):
    pass


class WithSlots(nn.BatchNorm3d):
    __slots__ = ("tag",)


@dataclasses.dataclass(eq=False, repr=False)
class Data(nn.BatchNorm3d):
    channels: int

    def __post_init__(self):
        super().__init__(self.channels)


class RefusesOurs(nn.BatchNorm3d):
    def __setattr__(self, name, value):
        if name.startswith("_bn3d_forward_training") or name == "__class__":
            raise AttributeError(f"refused {name}")
        super().__setattr__(name, value)


class Told:
    """A method that asks to be told of the class that it is in."""

    told: typing.ClassVar[list[type]] = []

    def __set_name__(self, owner, name):
        self.told.append(owner)

    def __get__(self, instance, owner):
        return nn.BatchNorm3d.construct.__get__(instance, owner)


class WithDescriptor(nn.BatchNorm3d):
    described = Told()
    half = functools.partialmethod(nn.BatchNorm3d.construct)


class NamesItsOwn(nn.BatchNorm3d):
    """Short names are the network's."""

    def __init__(self, channels):
        super().__init__(channels)
        self._backend = self._half = self._settings = "mine"

    def _construct_stock(self):
        return "mine"

    def own(self):
        return self._backend, self._half, self._settings, self._construct_stock()


CLASSES = [
    Registered,
    Named,
    OfMeta,
    Abstract,
    Generic,
    WithSlots,
    Data,
    RefusesOurs,
    WithDescriptor,
    NamesItsOwn,
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_swapped_and_restored(cls):
    net, twin = (nn.SequentialCell(nn.BatchNorm3d(3), cls(3)).set_train() for _ in range(2))
    registry, told = dict(REGISTRY), list(Told.told)
    assert bn3d.swap(net).changed == ["0", "1"]
    assert isinstance(net[1], cls) and isinstance(net[1], bn3d.BatchNorm3d)
    assert type(net[1]).__name__ == cls.__name__
    assert registry == REGISTRY and told == Told.told
    np.testing.assert_allclose(net(volume()).asnumpy(), twin(volume()).asnumpy(), atol=1e-5, rtol=0)
    bn3d.restore(net)
    assert type(net[1]) is cls


def test_attributes_of_the_network_stay_as_they_are():
    layer = NamesItsOwn(3)
    bn3d.swap(layer)
    assert layer.own() == ("mine",) * 4
    bn3d.restore(layer)
    assert layer.own() == ("mine",) * 4


def test_metaclasses_make_nothing_new_and_still_rule():
    layer = OfMeta(3)
    bn3d.swap(layer)
    assert type(type(layer)) is Meta
    assert OfMeta.times_made == 1 and "times_made" not in vars(type(layer))
    assert layer.made_by_meta


def test_abstract_classes_keep_registries_of_their_own():
    layer = Abstract(3)
    bn3d.swap(layer)

    class Virtual:
        pass

    type(layer).register(Virtual)
    assert issubclass(Virtual, type(layer))
    assert isinstance(layer, type(layer)) and not isinstance(Abstract(3), type(layer))
    assert not issubclass(type(layer), int)


@pytest.mark.parametrize("act", [bn3d.swap, bn3d.restore])
def test_what_fails_half_way_changes_nothing(act, monkeypatch):
    net = nn.SequentialCell(nn.BatchNorm3d(3), nn.BatchNorm3d(3), nn.BatchNorm3d(3)).set_train()
    if act is bn3d.restore:
        bn3d.swap(net)
    before = [(type(cell), set(vars(cell)), list(cell._primitives)) for cell in net]
    calls = []

    def fail_at_the_second(cell):
        calls.append(cell)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bn3d.mindspore_private.recompute, "follow_class", fail_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            act(net)
    assert [(type(cell), set(vars(cell)), list(cell._primitives)) for cell in net] == before
    assert net(volume()).shape == volume().shape
    assert act(net).changed == ["0", "1", "2"]


def test_no_class_is_made_in_part(monkeypatch):
    """A class that cannot be derived from is found before the first layer changes."""

    class Final(nn.BatchNorm3d):
        pass

    net = nn.SequentialCell(nn.BatchNorm3d(3), Final(3))
    make = bn3d.networks.swapped_class.swapped_class

    def refuse(stock, sync):
        if stock is Final:
            raise TypeError("final")
        return make(stock, sync)

    monkeypatch.setattr(bn3d.networks.swapping, "swapped_class", refuse)
    with pytest.raises(TypeError, match="final"):
        bn3d.swap(net)
    assert type(net[0]) is nn.BatchNorm3d


def test_a_warning_that_is_an_error_changes_nothing():
    class OwnConstruct(nn.BatchNorm3d):
        def construct(self, x):
            return x

    net = nn.SequentialCell(nn.BatchNorm3d(3), OwnConstruct(3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="construct of its own"):
            bn3d.swap(net)
    assert type(net[0]) is nn.BatchNorm3d
