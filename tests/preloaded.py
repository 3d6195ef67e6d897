"""What processes of Encore import in any case, and what its heads import later, once for all. See `tests.processes`."""

import contextlib
import gc
import importlib
import os
import pkgutil

import filelock  # noqa: F401
import pretty_midi  # noqa: F401
import sklearn.cluster  # noqa: F401
import torch_geometric.nn  # noqa: F401
from pydantic import TypeAdapter  # noqa: F401

import pipeline.cli
import pipeline.embed
import pipeline.head
import pipeline.results
import pipeline.train  # noqa: F401
import stages.embed.encode
import stages.embed.train
import stages.embed.train_backbone
import stages.head.heads
import stages.head.train
from stages import registry
from stages.head.graph import _dgl

os.fsync = lambda _descriptor: None  # as in `tests.conftest`
for _module in pkgutil.iter_modules(stages.head.heads.__path__, "stages.head.heads."):
    importlib.import_module(_module.name)
if _dgl.is_there():
    _dgl.load()
registry.load("dataset")
with contextlib.suppress(ImportError):  # an extra
    import distributed  # noqa: F401
gc.collect()
gc.freeze()  # what all share is not looked through, and so copied, by each
