"""Many runs: from a study file to finished runs."""
