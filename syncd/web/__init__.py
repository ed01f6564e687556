"""The page and the API: pages show rows, and what they ask for is a row."""
