"""Several recipes, one budget, several seeds: what is asked, run, and concluded."""
