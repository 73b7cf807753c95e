"""The server: OpenAI's API with guidance and adapters by API key."""
