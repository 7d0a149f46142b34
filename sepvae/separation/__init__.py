"""What a `Separator` is made of: streams of stems, their quality and selection, the record of their making."""
