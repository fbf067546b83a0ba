"""Turn the YAML in specs/ into the Python, the schemas and the documents in generated/."""
