"""What a rank does alone: dying or never coming ends the job with an error, unpickling does not."""

from __future__ import annotations

from msrun import HERE, msrun

BOUND = 180  # seconds; a machine with nothing else to do needs 30


def test_a_rank_that_dies(tmp_path):
    job = msrun(HERE / "dies.py", 2, tmp_path, timeout=BOUND)
    assert job.returncode not in (0, -9), job
    assert "exit with exception. Error code: -9" in job.logs["msrun"], job
    # Of step 1 the dead rank may not have sent all.
    assert "step 0" in job.logs["worker_0"], job
    assert "step 2" not in job.logs["worker_0"], job


def test_a_rank_that_never_comes(tmp_path):
    job = msrun(HERE / "dies.py", 2, tmp_path, timeout=BOUND, cluster_timeout=5, started=1)
    assert job.returncode not in (0, -9), job
    assert "some processes in the cluster are not successfully spawned" in job.logs["worker_0"]


def test_a_rank_that_unpickles_a_layer_alone(tmp_path):
    """The group of the layer is created when all call it in training."""
    job = msrun(HERE / "unpickles.py", 2, tmp_path, timeout=BOUND)
    assert job.returncode == 0, job
    for rank in range(2):
        assert "moving mean [0.05 0.05]" in job.logs[f"worker_{rank}"], job
