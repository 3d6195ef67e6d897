"""What a person runs: parse, call, print."""
