"""Tables, figures, and one HTML file."""
