"""What processes of Encore import in any case, imported once for all of them. See `tests.processes`."""

import stages.embed.encode
import stages.registry

for kind in ("head", "dataset"):
    stages.registry.load(kind)
