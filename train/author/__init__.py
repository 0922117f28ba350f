"""What stands behind the stages of the author: how a question that it wrote is read, judged and asked for."""
