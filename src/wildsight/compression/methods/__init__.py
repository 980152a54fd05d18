"""The methods: `visual` chooses the tokens of a picture, `cache` what the cache keeps of them."""
