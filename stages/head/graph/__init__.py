"""Relations between clips: the artist graph in closed form, nearest neighbours, homophily, and the same in DGL."""
