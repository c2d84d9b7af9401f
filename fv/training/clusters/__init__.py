"""The workers of a run on several machines: who they are, whether all are there, and what is said when one is lost."""
