"""YAML that people write: `compose` reads it with limits, `checks` says what may stand in it.

Knows nothing of meshes and nodes; `ztunnel.settings` and `ztunnel.local.schema` say what they expect.
"""
