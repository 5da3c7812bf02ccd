"""Images: from the sources users really have to one on-disk form."""
