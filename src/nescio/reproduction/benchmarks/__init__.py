"""Methods compared on a public benchmark: models that have learned it, unlearning, measurement, table and figure."""
