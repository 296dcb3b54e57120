"""Learning the mesh from a file: `schema` says what is right, `source` reads again when it changes."""
