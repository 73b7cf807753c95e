"""Measures, a file each: what is asked, how it is scored, and the columns it fills."""
