"""Who is trained on, validated on and tested on: regimes, how they are dealt, and the splits that a store keeps."""
