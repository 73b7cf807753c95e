"""Request and response bodies of OpenAI's API, and converters from answers to them."""
