PATIENCE_S = 600  # a last guard against processes that hang
