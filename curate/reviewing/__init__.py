"""What `review` shows and takes: the sample, the reviewer's desk, other tools' formats, the page."""
