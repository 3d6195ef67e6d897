"""What trainings leave in a store, and how a stopped command goes on."""
