"""What a person looks at: the page about runs, tables, cards."""
