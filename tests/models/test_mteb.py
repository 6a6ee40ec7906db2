"""The encoder object for mteb: its protocol, and mteb itself where there is one."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained.mteb import MtebEncoder
from launch import bench
from tests.models.test_pretrained_encoders import make_encoder

ROOT = pathlib.Path(__file__).parents[2]


def test_batches_roles_and_empty_texts():
    encoder = make_encoder()
    own = MtebEncoder(encoder, prompts={"query": "a "})
    batches = [{"text": ["b", "c d"]}, {"text": [" ", "e"]}]
    with pytest.warns(UserWarning, match="1 of 4 texts are empty"):
        found = own.encode(batches, hf_split="test", batch_size=2)
    want = encoder.encode(encoder.params, ["b", "c d", "e"])
    np.testing.assert_array_equal(found[[0, 1, 3]], want)
    assert not found[2].any()
    asked = own.encode([{"text": ["b"]}], prompt_type="query")
    want = encoder.encode(encoder.params, ["a b"])
    np.testing.assert_array_equal(asked, want)
    cosines = own.similarity(found, found)
    np.testing.assert_allclose(np.diag(cosines), [1, 1, 0, 1], atol=1e-6)
    pairs = own.similarity_pairwise(found, found[::-1])
    np.testing.assert_allclose(pairs, np.diag(cosines[::-1]), atol=1e-6)


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"name: expected .owner/model., got 'x'"):
        MtebEncoder(make_encoder(), name="x")
    with pytest.raises(ValueError, match=r"prompts: expected keys .* got \['passage'"):
        MtebEncoder(make_encoder(), prompts={"passage": "p"})


@pytest.mark.slow
@pytest.mark.skipif("BENCH_PEER" not in os.environ, reason="no BENCH_PEER")
def test_mteb_evaluates_it(tmp_path):
    """By the interpreter that BENCH_PEER names."""
    pretrained.save_encoder(make_encoder(), tmp_path / "model")
    script = pathlib.Path(bench.__file__).with_name("mteb_peer.py")
    done = subprocess.run(
        [os.environ["BENCH_PEER"], str(script), str(tmp_path / "model")],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["OwnRetrieval"] == pytest.approx(1)
    assert found["OwnSTS"] == pytest.approx(found["ours"], abs=1e-6)
