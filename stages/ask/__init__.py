"""Songs that people ask about: stage one hears them, stage two judges them. The stages never import each other."""
