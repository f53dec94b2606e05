"""Published recipes, one YAML file each; a study names one with `recipe:`."""
