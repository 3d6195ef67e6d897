"""GraphSAGE with DropEdge."""

from __future__ import annotations

from stages.head.heads.gnn import Gnn


class DropEdge(Gnn):
    """GraphSAGE whose edges are removed at random, anew at every training step; scoring keeps all of them."""

    NAME = "dropedge"
    TITLE = "GraphSAGE with DropEdge"
    CITATION = "Rong, Huang, Xu and Huang, DropEdge: Towards Deep Graph Convolutional Networks, ICLR 2020"
    SETTINGS = Gnn.SETTINGS | {"drop_edge"}
