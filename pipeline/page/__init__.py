"""The page of ``encore report --html``: templates, script, style, and what puts them together."""
