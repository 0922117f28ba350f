"""What `audit` compares: two versions of the project, their records, causes and scores."""
