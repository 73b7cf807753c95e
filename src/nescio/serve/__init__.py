"""The server: guidance and adapters by source of traffic, in OpenAI's shapes."""
