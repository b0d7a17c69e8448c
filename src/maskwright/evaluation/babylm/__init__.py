"""The BabyLM challenge: submissions of each year in the form its organisers collect, with their checks of counts."""
