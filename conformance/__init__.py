"""Hold every generated class to its specs: ``normspec conformance``, and the same clauses as tests."""
