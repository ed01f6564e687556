"""The pages. All of them work without JavaScript."""
