"""What is computed, in canonical words: one module for each file in specs/operators/."""
