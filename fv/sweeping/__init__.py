"""Many runs of one config: seeds, variants, what they differ by."""
