"""The two stages: ``embed`` touches songs, ``head`` reads the store; neither imports the other."""
