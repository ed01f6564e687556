"""Archives of packs: append-only zstd frames that are one mbox for `zstdcat`, with an index beside them."""
