"""MindSpore's private names stand in one package, and none of them is needed to compute."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bn3d
from bn3d import mindspore_private
from bn3d.mindspore_private.names import ASKED

ROOT = Path(bn3d.__file__).parent

for module in pkgutil.iter_modules(mindspore_private.__path__):
    importlib.import_module(f"bn3d.mindspore_private.{module.name}")

# Attributes of MindSpore's objects, and keys that it reads, which its documents do not name.
PRIVATE = re.compile(
    r"_c_expression|mixed_precision_type|compile_cache\b(?!=)|phase_cache|__mindspore_signature__"
    r"|side_effect_mem|custom_aclop|acl_op_jit_compile|io_format|_keep_dtype|ms_ctx_param"
    r"|\bbn_train\b|isconstant|get_curr_amp_strategy"
    r"|\._(cells|params|primitives|recompute_cell|init_check|backbone|call_post_process|comm_helper)\b"
    r"|_pynative_executor|_cell_graph_executor|[\"']_(lazy_)?(forward|backward)_(pre_)?hook[\"']"
)

# Where a private name is made and not used: the child of a layer has what the stock one has, and a
# message names what the user set.
MADE = {"layers/child.py": {"bn_train"}}


def modules():
    return [
        path
        for path in sorted(ROOT.rglob("*.py"))
        if not {"mindspore_private", "_package"} & set(path.relative_to(ROOT).parts)
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_knows_them(path):
    code = ast.unparse(_without_docstrings(ast.parse(path.read_text())))
    found = {match.group() for match in PRIVATE.finditer(code)}
    assert found <= MADE.get(str(path.relative_to(ROOT)), set())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mindspore"):
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            assert not [name for name in names if name.startswith("_")]


def _without_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [
                each
                for each in node.body
                if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
            ] or [ast.Pass()]
    return tree


def test_each_is_asked_for_once():
    asked = [
        node
        for path in (ROOT / "mindspore_private").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ask"
    ]
    assert len(asked) == len(ASKED) > 5


# In a process forked off one that has loaded MindSpore, which takes seconds.
WITHOUT = """
import os, sys
import mindspore as ms, numpy as np

def without(path):
    from bn3d.mindspore_private import names

    def found(owner, name):
        if f"{owner.__name__}.{name}" == path:
            raise AttributeError(name)
        return getattr(owner, name)

    names.getattr = found
    import bn3d
    bn3d.info()
    for mode in (ms.PYNATIVE_MODE, ms.GRAPH_MODE):
        ms.set_context(mode=mode)
        layer = bn3d.BatchNorm3d(3).set_train()
        x = ms.Tensor(np.random.default_rng(0).normal(1, 2, (2, 3, 2, 2, 2)).astype(np.float32))
        dx, (dgamma, dbeta) = ms.grad(layer, 0, layer.trainable_params())(x)
        assert (dbeta.asnumpy() == 16).all(), dbeta
        net = ms.nn.SequentialCell(ms.nn.BatchNorm3d(3)).set_train()
        bn3d.swap(net)
        from bn3d import reference
        want = reference.forward_training(x.asnumpy(), *np.ones((2, 3)), *np.zeros((2, 3))).y - 1
        assert abs(net(x).asnumpy() - want).max() < 1e-5
        bn3d.restore(net)

for path in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        try:
            without(path)
            print("works without", path, flush=True)
        except BaseException as error:
            print("FAILS without", path, type(error).__name__, str(error)[:500], flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_everything_works_without_any_of_them(child_environment):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *ASKED],
        env={**child_environment, "BN3D_BACKEND": "auto"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    lines = [line for line in done.stdout.splitlines() if " without " in line]
    assert lines == [f"works without {path}" for path in ASKED], done.stdout + done.stderr
    for path, without in ASKED.items():
        assert f"has no {path}: {without}" in done.stderr
