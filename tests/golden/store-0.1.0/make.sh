#!/usr/bin/env bash
# The commands that made this store, run once with Encore 0.1.0 and never again: bash make.sh DIR
set -euo pipefail
mkdir -p "$1" && cd "$1"
export ENCORE_STORE=store OMP_NUM_THREADS=1

# Synthetic: 90 songs of 15 artists, one or two of three genres, three numbers that lean towards the genres.
python - > all.csv <<'PYTHON'
import numpy as np

rng = np.random.default_rng(0)
genres = ("folk", "jazz", "rock")
print("artist,album,title,labels,a,b,c")
for song in range(90):
    artist = int(15 * rng.random() ** 1.5)
    labels = {artist % 3, int(rng.integers(3))}
    numbers = rng.standard_normal(3) + 2 * np.array([label in labels for label in range(3)])
    name = f"artist {artist}" if song % 30 else ""
    print(name, f"album {song % 2}", f"song {song}", "|".join(genres[label] for label in sorted(labels)), sep=",", end="")
    print("", *(f"{number:.3f}" for number in numbers), sep=",")
PYTHON

# The collection grows: 70 songs; then all 90, of which song 7 has other numbers than before and is a new row.
head -71 all.csv | sed '/,song 7,/s/,[^,]*$/,9.999/' > songs.csv
encore embed table --table songs.csv --name tiny --quiet
mv all.csv songs.csv
encore embed table --table songs.csv --name tiny --quiet
encore embed tiny --set columns=c --quiet

abc=features-b84d048d83d7 c=features-09ff56a1db5f
quick=(--set epochs=3 --set hidden=4 --device cpu --quiet)
encore compare tiny --backbone $abc --modes song,artist,gnn,gated,label-propagation --regimes random,artist --seeds 1 "${quick[@]}"
encore head tiny --backbone $c --mode song --seeds 2 --members 2 --threshold tuned "${quick[@]}"

encore report tiny --backbone $abc --json > report-abc-random.json
encore report tiny --backbone $abc --regime artist --json > report-abc-artist.json
encore report tiny --backbone $c --json > report-c-random.json
