"""Stage two: reads the store, builds the artist graph, trains heads. Never touches a song."""
