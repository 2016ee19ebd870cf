"""Which communication group a layer joins, and when it is created; MindSpore's part is made up."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace

import mindspore as ms
import pytest
from mindspore.communication import GlobalComm, _comm_helper

import bn3d
from bn3d.backends import process_groups


@pytest.fixture
def communication(monkeypatch):
    """Rank 0 of 4: the groups that exist, the names that MindSpore remembers, and the calls."""
    made_up = SimpleNamespace(existing={"world": [0, 1, 2, 3]}, remembered={}, created=[])

    def create_group(name, ranks):
        assert name not in made_up.remembered  # MindSpore would do nothing
        made_up.existing[name] = made_up.remembered[name] = ranks
        made_up.created.append(name)

    monkeypatch.setattr(GlobalComm, "INITED", True)
    monkeypatch.setattr(process_groups, "get_rank", lambda: 0)
    monkeypatch.setattr(process_groups, "get_group_size", lambda: 4)
    monkeypatch.setattr(process_groups, "create_group", create_group)
    monkeypatch.setattr(_comm_helper, "_get_group_map", lambda: made_up.existing)
    monkeypatch.setattr(_comm_helper._ExistingGroup, "ITEMS", made_up.remembered)
    monkeypatch.setattr(
        "bn3d.backends.synchronised.ops.AllReduce", lambda _operation, _group: lambda rows: rows
    )
    return made_up


def test_a_group_is_created_once(communication):
    found = [process_groups.find([[0, 1], [2, 3]]) for _ in range(2)]
    assert found[0] == found[1] and communication.created == [found[0].group]


def test_a_group_is_created_again_after_release(communication):
    """By another name: MindSpore remembers the first and would create nothing."""
    before = process_groups.find([[0, 1]])
    del communication.existing[before.group]
    after = process_groups.find([[0, 1]])
    assert communication.created == [before.group, after.group]
    assert after.group != before.group and after.group in communication.existing
    assert process_groups.find([[0, 1]]) == after


def test_a_group_that_was_destroyed_is_created_again(communication):
    before = process_groups.find([[0, 1]])
    del communication.existing[before.group], communication.remembered[before.group]
    assert process_groups.find([[0, 1]]) == before
    assert communication.created == [before.group] * 2


def of_another_process(communication, layer):
    """The layer's pickle, where its group does not exist."""
    data = pickle.dumps(layer)
    for name in communication.created:
        del communication.existing[name], communication.remembered[name]
    communication.created.clear()
    return data


@pytest.mark.parametrize("swapped", [True, False])
def test_unpickling_waits_for_nobody(communication, swapped):
    layer = ms.nn.BatchNorm3d(3) if swapped else bn3d.SyncBatchNorm3d(3, process_groups=[[0, 1]])
    if swapped:
        bn3d.swap(layer, sync=True, process_groups=[[0, 1]])
    x = ms.ops.ones((2, 3, 1, 2, 2))
    twin = pickle.loads(of_another_process(communication, layer))
    again = copy.deepcopy(pickle.loads(pickle.dumps(twin)))
    twin.set_train(False)(x)
    assert communication.created == []
    twin.set_train()(x)
    again.set_train()(x)
    assert len(communication.created) == 1


def test_unpickling_in_a_graph(communication):
    layer = bn3d.SyncBatchNorm3d(3, process_groups=[[0, 1]])
    twin = pickle.loads(of_another_process(communication, layer)).set_train(False)
    x = ms.ops.ones((2, 3, 1, 2, 2))
    assert ms.jit(twin.construct)(x).shape == x.shape
    assert communication.created == []


def test_a_layer_that_waits_can_be_restored(communication):
    layer = ms.nn.BatchNorm3d(3)
    bn3d.swap(layer, sync=True, process_groups=[[0, 1]])
    twin = pickle.loads(of_another_process(communication, layer))
    bn3d.restore(twin)
    assert type(twin) is ms.nn.BatchNorm3d
    assert communication.created == []


def test_a_copy_joins_the_group_that_is_there(communication):
    layer = bn3d.SyncBatchNorm3d(3, process_groups=[[0, 1]])
    twin = copy.deepcopy(layer)
    assert "_bn3d_forward_training" in vars(twin)
    assert len(communication.created) == 1


def test_wrong_arguments_create_no_group(communication):
    with pytest.raises(TypeError, match="'eps' must be a number"):
        bn3d.SyncBatchNorm3d(3, eps="1e-5", process_groups=[[0, 1]])
    assert communication.created == []
