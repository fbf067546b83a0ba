"""The YAML from which everything else is made."""
