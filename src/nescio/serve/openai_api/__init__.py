"""OpenAI's bodies: what callers send, what they get, and the way from answers to them."""
