"""Learning the mesh from a control plane such as istiod, over delta ADS (spec/control.md §4)."""
